//! The witnesses, and how far each of them has seen each log. One round a log at a time, at most about one a second.

use super::Discord;
use super::client::Client;
use super::cosigned;
use super::figures::{Figures, Whose};
use super::submit::{Outcome, View, submit};
use crate::config::WitnessSettings;
use crate::directory::Directory;
use crate::fault::Fault;
use crate::root::Log;
use crate::world::SystemWorld;
use holdfast_audit::key::{KeyKind, VerifierKey};
use holdfast_audit::note::Note;
use holdfast_audit::reader::LogReader;
use holdfast_core::port::World as _;
use holdfast_core::{TenantId, Timestamp};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How long the start waits for all of them together.
const START: Duration = Duration::from_secs(2);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// Rounds at once.
const ROUNDS: usize = 16;
/// A log's rounds begin at least so far apart.
const PERIOD: Duration = Duration::from_secs(1);
/// After so many seconds a log that rests is cosigned again, so that a cosignature's age means something.
const REFRESH: u64 = 3_600;
/// The first pause after a failure, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// One witness.
pub(super) struct Witness {
    pub(super) name: String,
    key: VerifierKey,
    client: Client,
    /// It does not answer at all.
    state: Mutex<Trouble>,
}

/// Something that failed, and when it is tried again.
#[derive(Debug, Clone, Default)]
pub(super) struct Trouble {
    /// Why, as long as it lasts.
    pub(super) why: Option<String>,
    pause: Duration,
    until: Option<Instant>,
}

impl Trouble {
    fn over(&mut self) {
        *self = Self::default();
    }

    /// Doubles the pause; somewhere between its half and its whole, so that many gateways don't come at once.
    fn again(&mut self, why: String, now: Instant) {
        let (first, longest) = PAUSES;
        self.pause = (self.pause * 2).clamp(first, longest);
        let mut dice = [0; 1];
        // Without entropy there is no jitter, and nothing else is lost.
        let _even = SystemWorld::new().fill(&mut dice);
        let [roll] = dice;
        self.until = Some(now + self.pause.mul_f32(0.5 + f32::from(roll) / 512.0));
        self.why = Some(why);
    }

    fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }
}

/// How far one witness has seen one log.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Entries under its newest cosignature.
    pub(super) size: u64,
    /// When that was made, POSIX seconds; 0 if there is none.
    pub(super) time: u64,
    /// Whether it has cosigned this log since this process started: until then nobody knows whether it has seen more.
    pub(super) is_compared: bool,
    /// Our own files did not give the proof that it was last to be shown.
    is_unproven: bool,
    /// It does not cosign this log.
    pub(super) trouble: Trouble,
}

/// One log.
#[derive(Debug, Clone)]
pub(super) struct LogState {
    /// Entries under the published checkpoint.
    pub(super) published: u64,
    /// When it was first looked at, POSIX seconds.
    pub(super) since: u64,
    is_under_way: bool,
    /// When its last round began.
    begun: Option<Instant>,
    /// In the order of the witnesses.
    pub(super) seen: Vec<Seen>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Witnesses {
    pub(super) all: Vec<Arc<Witness>>,
    figures: Figures,
    logs: Mutex<BTreeMap<TenantId, LogState>>,
}

/// What one round is about.
pub(super) struct Round {
    tenant: TenantId,
    dir: PathBuf,
    reach: u64,
    /// Which witnesses, by index.
    due: Vec<usize>,
    /// Nothing is served yet.
    is_start: bool,
}

impl Witnesses {
    pub(super) fn new(settings: &[WitnessSettings], figures: &Figures) -> Result<Self, Fault> {
        let mut all: Vec<Arc<Witness>> = Vec::with_capacity(settings.len());
        for settings in settings {
            let key: VerifierKey = settings.vkey.parse().map_err(|error: holdfast_audit::key::KeyError| {
                Fault::new(format!("`vkey` of the witness at `{}` is refused: {error}", settings.url))
                    .remedy("give the line that `holdfast witness init` printed, or that its operator published")
            })?;
            if key.kind() != KeyKind::Cosignature {
                return Err(Fault::new(format!("`{}` is a log's key, not a witness's", settings.vkey))
                    .remedy(
                        "give the line that `holdfast witness init` printed, or that its operator published",
                    ));
            }
            let name = if settings.name.is_empty() { key.name().to_owned() } else { settings.name.clone() };
            if all.iter().any(|other| other.name == name || other.key == key) {
                return Err(Fault::new(format!("the witness `{name}` is configured twice"))
                    .remedy("remove one `[[witness]]`, or give each a `name` of its own"));
            }
            let (client, state) = (Client::new(settings)?, Mutex::default());
            // So that it is shown from the beginning.
            let _zero = figures.failures.get_or_create(&Whose::of(&name));
            all.push(Arc::new(Witness { name, key, client, state }));
        }
        Ok(Self { all, figures: figures.clone(), logs: Mutex::default() })
    }

    fn logs(&self) -> MutexGuard<'_, BTreeMap<TenantId, LogState>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of each log, as it is now.
    pub(super) fn snapshot(&self) -> BTreeMap<TenantId, LogState> {
        self.logs().clone()
    }

    /// Takes note of a log that has grown.
    pub(super) fn grown(&self, directory: &Directory, tenant: &TenantId, size: u64, now: Timestamp) {
        if self.all.is_empty() {
            return;
        }
        let mut logs = self.logs();
        if let Some(state) = logs.get_mut(tenant) {
            state.published = state.published.max(size);
            return;
        }
        let dir = directory.log(tenant);
        let seen = |witness: &Arc<Witness>| match cosigned::known(&dir, &witness.key) {
            Some((size, time)) => Seen { size, time, ..Seen::default() },
            None => Seen::default(),
        };
        let seen = self.all.iter().map(seen).collect();
        let state =
            LogState { published: size, since: now.seconds(), is_under_way: false, begun: None, seen };
        logs.insert(tenant.clone(), state);
    }

    /// The rounds that are due, those first whose log waits longest.
    pub(super) fn due(
        &self,
        now: Timestamp,
        reach: impl Fn(&TenantId) -> u64,
        dir: impl Fn(&TenantId) -> PathBuf,
    ) -> VecDeque<Round> {
        let instant = Instant::now();
        let awake: Vec<bool> = self.all.iter().map(|witness| witness.state().is_over(instant)).collect();
        let mut rounds = Vec::new();
        for (tenant, state) in self.logs().iter() {
            let rests = state.begun.is_some_and(|begun| instant.duration_since(begun) < PERIOD);
            if state.is_under_way || rests || state.published == 0 {
                continue;
            }
            let is_due = |seen: &Seen| {
                let is_old = now.seconds().saturating_sub(seen.time) >= REFRESH;
                (!seen.is_compared || seen.size < state.published || is_old) && seen.trouble.is_over(instant)
            };
            let due = state.seen.iter().zip(&awake).enumerate();
            let due: Vec<usize> =
                due.filter(|(_, (seen, awake))| **awake && is_due(seen)).map(|(at, _)| at).collect();
            if !due.is_empty() {
                let round = Round {
                    tenant: tenant.clone(),
                    dir: dir(tenant),
                    reach: reach(tenant),
                    due,
                    is_start: false,
                };
                rounds.push((state.begun, round));
            }
        }
        rounds.sort_by_key(|(begun, _)| *begun);
        rounds.into_iter().map(|(_, round)| round).collect()
    }

    /// Begins as many of them as may be under way at once.
    pub(super) fn begin(
        self: &Arc<Self>,
        due: &mut VecDeque<Round>,
        rounds: &mut JoinSet<Result<(), Discord>>,
    ) {
        while rounds.len() < ROUNDS
            && let Some(round) = due.pop_front()
        {
            if let Some(state) = self.logs().get_mut(&round.tenant).filter(|state| !state.is_under_way) {
                (state.is_under_way, state.begun) = (true, Some(Instant::now()));
            } else {
                continue;
            }
            rounds.spawn(Arc::clone(self).round(round));
        }
    }

    /// One round: the log's newest checkpoint to each of these witnesses, then what they signed to the disk.
    pub(super) async fn round(self: Arc<Self>, round: Round) -> Result<(), Discord> {
        let tenant = round.tenant.clone();
        let ended = self.run(round).await;
        if let Some(state) = self.logs().get_mut(&tenant) {
            state.is_under_way = false;
        }
        ended
    }

    async fn run(&self, round: Round) -> Result<(), Discord> {
        let Round { tenant, dir, reach, due, is_start } = round;
        let place = dir.clone();
        let view = tokio::task::spawn_blocking(move || {
            let reader = LogReader::open(&place).map_err(|refusal| refusal.to_string())?;
            let note = Note::parse(reader.note().as_bytes()).map_err(|error| error.to_string())?;
            let reach = reach.max(reader.checkpoint().size);
            Ok::<_, String>(Arc::new(View { reader, note, reach }))
        });
        let view = match view.await.map_err(|error| error.to_string()) {
            Ok(Ok(view)) => view,
            Ok(Err(why)) | Err(why) => {
                self.each(&tenant, &due, |seen| seen.trouble.again(why.clone(), Instant::now()));
                return Ok(());
            }
        };
        let known: Vec<u64> = self
            .logs()
            .get(&tenant)
            .map_or_else(Vec::new, |state| state.seen.iter().map(|seen| seen.size).collect());
        let mut submissions = JoinSet::new();
        for at in due {
            let Some(witness) = self.all.get(at).map(Arc::clone) else { continue };
            let (view, known) = (Arc::clone(&view), known.get(at).copied().unwrap_or(0));
            submissions.spawn(async move {
                (at, submit(&witness.client, &witness.key, &view, known, ANSWER).await)
            });
        }
        let size = view.reader.checkpoint().size;
        let (mut lines, mut discord) = (Vec::new(), None);
        while let Some(ended) = submissions.join_next().await {
            let Ok((at, outcome)) = ended else { continue };
            let Some(witness) = self.all.get(at) else { continue };
            match outcome {
                Outcome::Cosigned(line, time) => {
                    witness.state().over();
                    self.each(&tenant, &[at], |seen| {
                        *seen = Seen { size, time, is_compared: true, ..Seen::default() };
                    });
                    lines.push(line);
                }
                Outcome::Early => witness.state().over(),
                Outcome::Contradicts(what) => {
                    let problem = format!(
                        "the witness `{}` contradicts the log in `{}`: {what}",
                        witness.name,
                        dir.display()
                    );
                    self.failed(at, &tenant, false, &problem);
                    discord = Some(Discord::contradicts(problem));
                }
                Outcome::Unproven(why) => {
                    let problem = format!(
                        "the log in `{}` cannot be shown to continue what the witness `{}` cosigned: {why}",
                        dir.display(),
                        witness.name
                    );
                    self.failed(at, &tenant, false, &problem);
                    // While it serves it is read once more: one disk that stumbles once must not raise an alarm that stays.
                    if self.is_unproven_again(at, &tenant) || is_start {
                        discord = Some(Discord::unproven(problem));
                    }
                }
                Outcome::Refused(why) => self.failed(at, &tenant, false, &why),
                Outcome::Unreachable(why) => self.failed(at, &tenant, true, &why),
            }
        }
        if !lines.is_empty() {
            let put = tokio::task::spawn_blocking(move || cosigned::put(&dir, &view.note, lines)).await;
            if let Ok(Err(fault)) = put {
                tracing::warn!(%tenant, %fault, "cosignatures could not be kept");
            }
        }
        discord.map_or(Ok(()), Err)
    }

    fn each(&self, tenant: &TenantId, which: &[usize], mut change: impl FnMut(&mut Seen)) {
        let mut logs = self.logs();
        let Some(state) = logs.get_mut(tenant) else { return };
        which.iter().for_each(|at| {
            if let Some(seen) = state.seen.get_mut(*at) {
                change(seen);
            }
        });
    }

    /// Notes that a proof could not be made; gives whether that was so the last time.
    fn is_unproven_again(&self, at: usize, tenant: &TenantId) -> bool {
        let mut before = false;
        self.each(tenant, &[at], |seen| before = std::mem::replace(&mut seen.is_unproven, true));
        before
    }

    fn failed(&self, at: usize, tenant: &TenantId, all_logs: bool, why: &str) {
        let Some(witness) = self.all.get(at) else { return };
        self.figures.failures.get_or_create(&Whose::of(&witness.name)).inc();
        let now = Instant::now();
        if all_logs {
            let mut state = witness.state();
            if state.why.is_none() {
                tracing::warn!(witness = witness.name, "a witness does not answer: {why}");
            }
            // Rounds that were under way together count once.
            if state.is_over(now) {
                state.again(why.to_owned(), now);
            }
            return;
        }
        witness.state().over();
        self.each(tenant, &[at], |seen| {
            if seen.trouble.why.is_none() {
                tracing::warn!(witness = witness.name, %tenant, "a witness does not cosign: {why}");
            }
            seen.trouble.again(why.to_owned(), now);
        });
    }

    /// Asks each witness about each log, for as long as the start waits.
    pub(super) async fn compare(
        self: &Arc<Self>,
        directory: &Directory,
        log: &Log,
        tenants: &[TenantId],
        now: Timestamp,
    ) -> Result<(), Fault> {
        if self.all.is_empty() {
            return Ok(());
        }
        let mut reach = BTreeMap::new();
        for tenant in tenants {
            let size = log.reach(tenant)?;
            reach.insert(tenant.clone(), size);
            self.grown(directory, tenant, size, now);
        }
        let all = async {
            let mut rounds = JoinSet::new();
            // Every log once, though it was cosigned a moment ago: the witness may have seen more since.
            for (tenant, size) in &reach {
                if *size == 0 {
                    continue;
                }
                while rounds.len() >= ROUNDS {
                    heard(rounds.join_next().await)?;
                }
                let due = (0..self.all.len()).collect();
                let round = Round {
                    tenant: tenant.clone(),
                    dir: directory.log(tenant),
                    reach: *size,
                    due,
                    is_start: true,
                };
                rounds.spawn(Arc::clone(self).round(round));
            }
            while let Some(ended) = rounds.join_next().await {
                heard(Some(ended))?;
            }
            Ok(())
        };
        // What is left when the time is over is submitted while the gateway serves, and raises the alarm then.
        if let Ok(Err(discord)) = tokio::time::timeout(START, all).await {
            return Err(Discord::fault(discord));
        }
        Ok(())
    }
}

impl Witness {
    pub(super) fn state(&self) -> MutexGuard<'_, Trouble> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A round's end; one that panicked has found nothing.
fn heard(ended: Option<Result<Result<(), Discord>, tokio::task::JoinError>>) -> Result<(), Discord> {
    match ended {
        Some(Ok(ended)) => ended,
        Some(Err(_)) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute_and_end_with_the_first_success() {
        let (mut trouble, mut now) = (Trouble::default(), Instant::now());
        let mut last = Duration::ZERO;
        for _ in 0..12 {
            trouble.again("down".to_owned(), now);
            let pause = trouble.until.unwrap() - now;
            assert!(pause >= last / 2 && pause <= PAUSES.1, "{pause:?} after {last:?}");
            assert!(!trouble.is_over(now));
            now += pause;
            assert!(trouble.is_over(now));
            last = pause;
        }
        assert!(last >= PAUSES.1 / 2);
        trouble.over();
        trouble.again("down".to_owned(), now);
        assert!(trouble.until.unwrap() - now <= PAUSES.0);
    }
}
