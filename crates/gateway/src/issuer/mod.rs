//! Issuers of tokens (`[[issuer]]`): their keys, read ahead in the background, and tokens examined with them.
//!
//! A request never waits for a reading, with one exception: where a token's key is not known, it waits until its issuer has been asked once
//! more, two seconds at most and with few others, so that an issuer who changes keys refuses nobody. Such readings are ordered once a second at
//! most, whatever strangers show; and that is as long as strangers can put off the one that brings the new keys.

mod door;
mod fetch;
mod look;
mod readings;
mod said;
mod table;

pub(crate) use door::{Door, apart};
pub use look::{believed, look};
pub(crate) use said::{MS_DKE, NATIVE, is_verified, said, too_much};
pub use table::IssuerTable;
pub(crate) use table::check;

use crate::fault::Fault;
use crate::serve::Gateway;
use arc_swap::{ArcSwap, Guard};
use fetch::{Client, Fetched};
use holdfast_core::port::World as _;
use holdfast_identity::Reason;
use holdfast_identity::issued::{Claims, Expected, Issuer, Issuers, KeySet, Moment, Token};
use holdfast_wire::native::message::Part;
use readings::Readings;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use table::{Settings, read_file};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The shortest time that an issuer can ask for between two readings.
const SHORTEST: Duration = Duration::from_secs(60);
/// The longest time from a reading that failed to the next.
const RETRY: Duration = Duration::from_secs(60);

/// Everybody whose tokens are believed.
pub(crate) struct Believed {
    sources: Vec<Source>,
    /// As the tokens are examined with.
    current: ArcSwap<Issuers>,
    /// Held while that is made anew.
    making: Mutex<()>,
}

/// One issuer's keys, and where they come from.
struct Source {
    settings: Settings,
    /// Towards where they are read, if anywhere.
    client: Option<ArcSwap<Client>>,
    held: Mutex<Held>,
    readings: Readings,
}

/// What is known of an issuer's keys.
#[derive(Default)]
struct Held {
    /// In the file.
    file: Option<Arc<KeySet>>,
    /// Read, and when, in microseconds on the clock that never steps back.
    read: Option<(Arc<KeySet>, u64)>,
    /// Readings that have failed.
    failures: u64,
    /// Why the last one has.
    problem: Option<String>,
}

/// What an operator is told of an issuer's keys.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    pub(crate) issuer: String,
    /// How many are believed.
    pub(crate) keys: usize,
    /// Seconds since they were read; `None` if never, or from a file alone.
    pub(crate) age: Option<u64>,
    pub(crate) failures: u64,
    pub(crate) problem: Option<String>,
}

impl Held {
    /// The keys that count now, and until when.
    fn believed(&self, stale: Duration, ticks: u64) -> (Option<Arc<KeySet>>, Option<u64>) {
        let until = |read: u64| read.saturating_add(micros(stale));
        match (&self.read, &self.file) {
            (Some((keys, read)), _) if ticks < until(*read) => (Some(Arc::clone(keys)), Some(until(*read))),
            // Whoever puts keys in a file says that they are right until it is changed.
            (_, Some(file)) => (Some(Arc::clone(file)), None),
            (_, None) => (None, None),
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Source {
    fn of(table: &IssuerTable) -> Result<Self, Fault> {
        let settings = table.read()?;
        let file = settings.keys_file.as_ref().map(|path| read_file(&settings.issuer, path)).transpose()?;
        let client = match settings.place {
            Some(_) => Some(ArcSwap::from_pointee(Client::new(&settings)?)),
            None => None,
        };
        Ok(Self {
            settings,
            client,
            held: Mutex::new(Held { file, ..Held::default() }),
            readings: Readings::new(),
        })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn issuer(&self, ticks: u64) -> Issuer {
        let Settings { issuer, audiences, algorithms, stale, .. } = &self.settings;
        let (keys, believed_until) = self.held().believed(*stale, ticks);
        Issuer {
            name: issuer.clone(),
            audiences: Arc::clone(audiences),
            algorithms: algorithms.clone(),
            keys,
            believed_until,
        }
    }

    /// Asks for the keys, and takes them; when they are to be asked for the next time. They are believed from when they were asked for: the machine
    /// may be suspended while the answer is on its way.
    async fn read(
        &self,
        asking: impl Future<Output = Result<Fetched, String>>,
        ticks: impl Fn() -> u64,
        failed_before: u32,
    ) -> (Duration, u32) {
        let asked = ticks();
        self.take(asking.await, asked, failed_before)
    }

    /// Takes what a reading gave; when the next one is due.
    fn take(&self, fetched: Result<Fetched, String>, ticks: u64, failed_before: u32) -> (Duration, u32) {
        let Settings { issuer, refresh, .. } = &self.settings;
        let mut held = self.held();
        match fetched {
            Ok((keys, age)) => {
                held.read = Some((Arc::new(keys), ticks));
                if held.problem.take().is_some() {
                    tracing::info!(%issuer, "its keys were read again");
                }
                // Not more often than once a minute because the issuer says so, nor more rarely than we are told to.
                let next = age.map_or(*refresh, |age| age.clamp(SHORTEST.min(*refresh), *refresh));
                (next, 0)
            }
            Err(problem) => {
                held.failures = held.failures.saturating_add(1);
                if held.problem.as_ref() != Some(&problem) {
                    tracing::warn!(%issuer, problem, "its keys could not be read; it is tried again");
                }
                held.problem = Some(problem);
                let longer = Duration::from_secs(1).saturating_mul(1 << failed_before.min(6));
                (longer.min(RETRY).min(*refresh), failed_before.saturating_add(1))
            }
        }
    }

    fn condition(&self, ticks: u64) -> Condition {
        let held = self.held();
        let (keys, _) = held.believed(self.settings.stale, ticks);
        Condition {
            issuer: self.settings.issuer.to_string(),
            keys: keys.map_or(0, |keys| keys.len()),
            age: held.read.as_ref().map(|(_, read)| ticks.saturating_sub(*read) / 1_000_000),
            failures: held.failures,
            problem: held.problem.clone(),
        }
    }
}

impl Believed {
    /// As configured, with what lies in files.
    ///
    /// # Errors
    /// When a file or an authority cannot be read.
    pub(crate) fn of(tables: &[IssuerTable], ticks: u64) -> Result<Self, Fault> {
        let sources = tables.iter().map(Source::of).collect::<Result<Vec<_>, _>>()?;
        let believed = Self { sources, current: ArcSwap::default(), making: Mutex::new(()) };
        believed.renew(ticks);
        Ok(believed)
    }

    fn renew(&self, ticks: u64) {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        self.current.store(Arc::new(Issuers::new(self.sources.iter().map(|source| source.issuer(ticks)))));
    }

    /// Examines a token: in memory, unless its key is not known; then its issuer is asked for its keys once more.
    ///
    /// # Errors
    /// With the reason, for the log alone.
    pub(crate) async fn verify(
        &self,
        token: &str,
        expected: &Expected<'_>,
        at: Moment,
    ) -> Result<Claims, Reason> {
        self.examine(Token::parse(token)?, expected, at).await
    }

    /// The same of a token that has been taken apart, which is done once.
    ///
    /// # Errors
    /// As [`Believed::verify`].
    pub(crate) async fn examine(
        &self,
        token: Token<'_>,
        expected: &Expected<'_>,
        at: Moment,
    ) -> Result<Claims, Reason> {
        let tried = self.current.load();
        match token.verify(&tried, expected, at) {
            Ok(claims) => Ok(claims),
            Err((token, reason)) if may_be_new(reason) => {
                Box::pin(self.look_again(Guard::into_inner(tried), (token, reason), expected, at)).await
            }
            Err((_, reason)) => Err(reason),
        }
    }

    /// Examines a token whose key was not among these with whatever is in force instead, until its issuer has been asked once more.
    async fn look_again(
        &self,
        mut tried: Arc<Issuers>,
        (mut token, mut reason): (Token<'_>, Reason),
        expected: &Expected<'_>,
        at: Moment,
    ) -> Result<Claims, Reason> {
        let issuer = token.issuer();
        let source = self.sources.iter().find(|source| Some(&*source.settings.issuer) == issuer);
        // From here on no reading ends unnoticed. One that has ended just now is in force.
        let mut turn =
            source.filter(|source| source.client.is_some()).and_then(|source| source.readings.turn());
        let mut goes_on = true;
        loop {
            let current = self.current.load_full();
            if !Arc::ptr_eq(&current, &tried) {
                tried = current;
                (token, reason) = match token.verify(&tried, expected, at) {
                    Ok(claims) => return Ok(claims),
                    Err((_, reason)) if !may_be_new(reason) => return Err(reason),
                    Err(refused) => refused,
                };
            }
            if !goes_on {
                return Err(reason);
            }
            goes_on = match &mut turn {
                Some(turn) => turn.another().await,
                None => false,
            };
        }
    }

    /// Reads the files and authorities again, and orders that keys be read. What is in force stays where something is refused.
    ///
    /// # Errors
    /// For all that are refused; those that are not are in force.
    pub(crate) fn reload(&self, ticks: u64) -> Result<(), Fault> {
        let mut refused = vec![];
        for source in &self.sources {
            if let Some(path) = &source.settings.keys_file {
                match read_file(&source.settings.issuer, path) {
                    Ok(keys) => source.held().file = Some(keys),
                    Err(fault) => refused.push(fault),
                }
            }
            if let Some(client) = &source.client {
                match Client::new(&source.settings) {
                    Ok(new) => client.store(Arc::new(new)),
                    Err(fault) => refused.push(fault),
                }
                // With the authorities that are in force, whichever those are: its keys may have changed.
                source.readings.order();
            }
        }
        self.renew(ticks);
        Fault::all(refused)
    }

    /// How each does.
    pub(crate) fn conditions(&self, ticks: u64) -> Vec<Condition> {
        self.sources.iter().map(|source| source.condition(ticks)).collect()
    }

    /// Each as a part of the status.
    pub(crate) fn parts(&self, ticks: u64) -> Vec<Part> {
        self.conditions(ticks).into_iter().map(Condition::part).collect()
    }
}

impl Condition {
    fn part(self) -> Part {
        let Self { issuer, keys, age, failures: _, problem } = self;
        let mut detail = match (keys, age) {
            (0, Some(age)) => format!("its keys were read {age} s ago, too long to be believed"),
            (0, None) => "its keys have not been read".to_owned(),
            (keys, Some(age)) => format!("{keys} keys, read {age} s ago"),
            (keys, None) => format!("{keys} keys, from a file"),
        };
        if let Some(problem) = problem {
            detail = format!("{detail}: {problem}");
        }
        Part { name: format!("issuer {issuer}"), ready: keys > 0, detail: Some(detail) }
    }
}

/// Whether its issuer may have a key by now that lets the token in.
fn may_be_new(reason: Reason) -> bool {
    match reason {
        Reason::UnknownKey | Reason::NoKeys => true,
        Reason::NoProof
        | Reason::Unknown
        | Reason::Expired
        | Reason::Revoked
        | Reason::StatusUnknown
        | Reason::OtherPurpose
        | Reason::OtherAnchor
        | Reason::Ambiguous
        | Reason::Malformed
        | Reason::NotYetValid
        | Reason::OtherIssuer
        | Reason::OtherAudience
        | Reason::OtherAlgorithm
        | Reason::BadSignature => false,
    }
}

/// Reads every issuer's keys ahead, until the gateway stops.
pub(crate) async fn keep(gateway: Arc<Gateway>, stop: watch::Receiver<bool>) {
    let mut keeping = JoinSet::new();
    for at in 0..gateway.issuers.sources.len() {
        keeping.spawn(keep_one(Arc::clone(&gateway), at, stop.clone()));
    }
    while keeping.join_next().await.is_some() {}
}

async fn keep_one(gateway: Arc<Gateway>, at: usize, mut stop: watch::Receiver<bool>) {
    let Some(source) = gateway.issuers.sources.get(at) else { return };
    let (Some(client), Some(place)) = (&source.client, &source.settings.place) else { return };
    let (mut due, mut failed) = (Duration::ZERO, 0);
    let mut next_by_token = Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(due) => {}
            () = source.readings.ordered() => {}
            () = source.readings.ordered_by_token(&mut next_by_token) => {}
            () = crate::serve::stopped(&mut stop) => return,
        }
        source.readings.begin();
        let client = client.load_full();
        let ticks = || gateway.law.engines().world.ticks();
        (due, failed) = tokio::select! {
            next = source.read(client.keys(&source.settings.issuer, place), ticks, failed) => next,
            () = crate::serve::stopped(&mut stop) => return,
        };
        gateway.issuers.renew(ticks());
        source.readings.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use holdfast_core::Timestamp;

    const KEYS: &[u8] =
        br#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    fn keys() -> Arc<KeySet> {
        Arc::new(KeySet::parse(KEYS).unwrap())
    }

    fn source() -> Source {
        let text = "[[issuer]]\nissuer = \"i\"\nalgorithms = [\"EdDSA\"]\nkeys_url = \"https://idp/keys\"\nrefresh_seconds = 600\n";
        let settings = crate::config::Config::parse(text).unwrap().issuer[0].read().unwrap();
        Source { settings, client: None, held: Mutex::default(), readings: Readings::new() }
    }

    #[test]
    fn what_was_read_counts_for_its_time_and_then_the_file_or_nothing() {
        let (stale, file, read) = (Duration::from_secs(10), keys(), keys());
        let mut held = Held { read: Some((Arc::clone(&read), 5)), ..Held::default() };
        let is = |found: Option<Arc<KeySet>>, keys: &Arc<KeySet>| Arc::ptr_eq(&found.unwrap(), keys);
        let (found, until) = held.believed(stale, 10_000_004);
        assert!(is(found, &read) && until == Some(10_000_005));
        assert!(held.believed(stale, 10_000_005).0.is_none());
        held.file = Some(Arc::clone(&file));
        assert!(is(held.believed(stale, 10_000_004).0, &read));
        let (found, until) = held.believed(stale, 10_000_005);
        assert!(is(found, &file) && until.is_none());
    }

    #[tokio::test]
    async fn what_was_read_is_believed_from_when_it_was_asked_for_however_long_the_answer_was_on_its_way() {
        let (source, clock) = (source(), std::cell::Cell::new(5));
        let asking = async {
            clock.set(30_000_005);
            Ok((KeySet::parse(KEYS).unwrap(), None))
        };
        source.read(asking, || clock.get(), 0).await;
        assert_eq!(source.condition(clock.get()).age, Some(30));
    }

    #[test]
    fn the_next_reading_is_due_as_the_issuer_says_within_bounds_and_sooner_where_one_failed() {
        let source = source();
        let fetched = |age: Option<u64>| Ok((KeySet::parse(KEYS).unwrap(), age.map(Duration::from_secs)));
        for (age, next) in [(None, 600), (Some(0), 60), (Some(300), 300), (Some(86_400), 600)] {
            assert_eq!(source.take(fetched(age), 0, 3), (Duration::from_secs(next), 0), "{age:?}");
        }
        let mut failed = 0;
        let mut due = |_| {
            let (next, more) = source.take(Err("it is down".into()), 0, failed);
            failed = more;
            next.as_secs()
        };
        let due: Vec<u64> = (0..8).map(&mut due).collect();
        assert_eq!(due, [1, 2, 4, 8, 16, 32, 60, 60]);
        let condition = source.condition(30_000_000);
        assert_eq!((condition.keys, condition.age, condition.failures), (1, Some(30), 8));
        assert!(condition.part().detail.unwrap().contains("it is down"));
    }

    #[tokio::test]
    async fn what_came_into_force_meanwhile_is_tried_before_anybody_is_refused() {
        let claims = br#"{"iss":"i","aud":"a","exp":9999999999}"#;
        let token =
            format!("{}.{}.", URL_SAFE_NO_PAD.encode(br#"{"alg":"EdDSA"}"#), URL_SAFE_NO_PAD.encode(claims));
        let believed =
            Believed { sources: vec![source()], current: ArcSwap::default(), making: Mutex::new(()) };
        believed.renew(0);
        let at = Moment { now: Timestamp::from_micros(1_000_000), ticks: 0 };
        let tried = believed.current.load_full();
        let (expected, parsed) = (Expected::default(), || Token::parse(&token).unwrap());
        let refused = |tried: &Issuers| parsed().verify(tried, &expected, at).unwrap_err();
        assert_eq!(refused(&tried).1, Reason::NoKeys);
        believed.sources[0].take(Ok((KeySet::parse(KEYS).unwrap(), None)), 0, 0);
        believed.renew(0);
        // Nobody waits: there is nowhere to read from.
        let found = believed.look_again(Arc::clone(&tried), refused(&tried), &expected, at).await;
        assert_eq!(found.unwrap_err(), Reason::BadSignature, "by the keys that are there now");
        assert_eq!(believed.examine(parsed(), &expected, at).await.unwrap_err(), Reason::BadSignature);
    }
}
