//! The pool: members that hold the same keys, and a request that finds one of them.
//!
//! An operation goes to the member that has least to do. If that fails, the next one is asked; if it is slower than nearly all before it, another
//! is asked beside it where that helps, and the first answer counts. Whatever happens, there is an answer within the deadline.

mod allowance;
pub(super) mod breaker;
pub(super) mod latency;
mod race;
mod watched;

use super::member::{Condition, Launch, Member, NoReply, Report};
use super::message::{Refusal, Reply};
use crate::refusal;
use allowance::Allowance;
use holdfast_core::port::{Absence, Membership};
use holdfast_core::{Error, ErrorKind, MemberName, Stage};
use latency::Class;
pub use latency::Quantiles;
pub use race::Answered;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// So many operations go to one member before the next one is preferred: its caches are warm.
const IN_A_ROW: usize = 64;
/// The most members.
pub const MAX_MEMBERS: usize = 16;

/// How a key gets to every member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// The members are one replicated group: what one makes, the vendor brings to the others.
    Vendor,
    /// Each key travels under a trusted wrapping key that every member has, and can leave under no other.
    Wrapped,
}

/// Members, as one.
pub struct Pool {
    members: Box<[Member]>,
    distribution: Distribution,
    /// How many members must hold a new key before it is one.
    copies: usize,
    allowance: Allowance,
    /// So that those with equally little to do take turns.
    turn: AtomicUsize,
    hedged: AtomicU64,
    retried: AtomicU64,
}

/// Which members were asked already, a bit each.
#[derive(Debug, Clone, Copy, Default)]
struct Asked(u16);

impl Asked {
    const fn is_none(self) -> bool {
        self.0 == 0
    }

    const fn has(self, member: usize) -> bool {
        self.0 & 1 << member != 0
    }

    const fn add(&mut self, member: usize) {
        self.0 |= 1 << member;
    }
}

/// What becomes of a reply.
enum Judged<T> {
    /// The result.
    Done(T),
    /// The input's own fault: no other member that holds the same key will say anything else.
    Refused(Error),
    /// This member's fault.
    Failed(Error),
    /// This member does not hold the key.
    Lacking(Error),
    /// A wrong result.
    Wrong(Error),
}

fn judge<T>(reply: &Reply<'_>, read: impl FnOnce(&Reply<'_>) -> Result<T, Error>) -> Judged<T> {
    match reply {
        Reply::Refused(refused) => match refused {
            Refusal::Integrity => Judged::Refused(refusal::integrity()),
            Refusal::Malformed => Judged::Refused(refusal::malformed(
                "the token takes no input of this form",
                "check the input's length; AES key wrap takes whole blocks of 8 bytes, at least two of them",
            )),
            Refusal::Unsupported => Judged::Refused(
                refusal::unsupported("the token does not do this").remedy(
                    "choose an algorithm or padding that the token has; `pkcs11-tool -M` lists its mechanisms",
                ),
            ),
            Refusal::Gone => Judged::Failed(unavailable("the token failed", GONE.to_owned())),
            Refusal::Busy => {
                Judged::Failed(unavailable(BUSY, "something is being brought into it".to_owned()))
            }
            Refusal::NoSuchKey => Judged::Lacking(refusal::device(LACKING).remedy(
                "an operator must look whether it is the right token, and restore its objects from its own backup",
            )),
            Refusal::NotOne(ids) => Judged::Refused(not_one(ids)),
            Refusal::Pin(why) | Refusal::Fault(why) => {
                Judged::Failed(unavailable("the token failed", (*why).to_owned()))
            }
        },
        Reply::Done(_) | Reply::Made(_) | Reply::Existing(_) | Reply::Welcome(_) => match read(reply) {
            Ok(done) => Judged::Done(done),
            Err(error) => Judged::Wrong(error),
        },
    }
}

const LACKING: &str = "the token does not hold this key";

/// Whether a failure says that a member does not hold the key, and nothing else is wrong.
pub(super) fn is_lacking(error: &Error) -> bool {
    error.detail() == LACKING
}

const BUSY: &str = "the token removes nothing just now";

/// Whether a failure says that a member is to be asked again, and nothing is wrong.
pub(super) fn is_busy(error: &Error) -> bool {
    error.detail() == BUSY
}

/// No object is named so, or several are.
fn not_one(mut ids: &[u8]) -> Error {
    if ids.is_empty() {
        let detail = "the token has no such object";
        return Error::new(ErrorKind::NotFound, Stage::Perform, detail).remedy(
            "`pkcs11-tool --list-objects` lists them; a key pair is adopted by an algorithm of key pairs",
        );
    }
    let mut all = Vec::new();
    while let Some((length, rest)) = ids.split_first() {
        let Some((id, rest)) = rest.split_at_checked(usize::from(*length)) else { break };
        all.push(format!("`{}`", hex(id)));
        ids = rest;
    }
    let detail = format!("several objects of the token are named so; their ids are {}", all.join(", "));
    Error::new(ErrorKind::Conflict, Stage::Perform, detail)
        .remedy("name one of them by `--object-id`, and by `--object-label` too if ids are the same")
}

/// Bytes as people write them.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is said of a token that had a key.
pub(super) const GONE: &str = "it does not hold a key any more that it held";

fn unavailable(detail: &'static str, why: String) -> Error {
    Error::new(ErrorKind::KeyStoreUnavailable, Stage::Perform, detail).because(why)
}

/// Why there is no result, where no member gave one.
fn no_reply(why: NoReply) -> Error {
    match why {
        NoReply::Down(why) => unavailable("the token cannot be reached", why.to_string()),
        NoReply::Late => {
            unavailable("the token does not answer in time", "the deadline has passed".to_owned())
        }
        NoReply::TooLong => {
            let detail = "the input is larger than a token's worker takes";
            Error::new(ErrorKind::TooLarge, Stage::Perform, detail)
        }
        NoReply::Full => {
            Error::new(ErrorKind::Throttled, Stage::Perform, "more requests than the token can queue")
        }
    }
}

impl Pool {
    /// Starts the members, on the runtime that this is called from. `copies` of them must hold a new key before it is one.
    ///
    /// # Errors
    /// `malformed` for no members, or more than [`MAX_MEMBERS`].
    pub fn start(launches: Vec<Launch>, distribution: Distribution, copies: usize) -> Result<Self, Error> {
        Self::of(launches.into_iter().map(Member::start).collect(), distribution, copies)
    }

    /// From members that were started.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn of(members: Vec<Member>, distribution: Distribution, copies: usize) -> Result<Self, Error> {
        if members.is_empty() || members.len() > MAX_MEMBERS {
            let detail = format!("a pool has 1 to {MAX_MEMBERS} members");
            return Err(Error::new(ErrorKind::Malformed, Stage::Start, detail));
        }
        Ok(Self {
            copies: copies.clamp(1, members.len()),
            members: members.into(),
            distribution,
            allowance: Allowance::default(),
            turn: AtomicUsize::new(0),
            hedged: AtomicU64::new(0),
            retried: AtomicU64::new(0),
        })
    }

    /// How a key gets to every member.
    pub fn distribution(&self) -> Distribution {
        self.distribution
    }

    /// A member's place among the others.
    pub(super) fn place(&self, member: &Member) -> usize {
        self.members.iter().position(|other| other.name() == member.name()).unwrap_or(0)
    }

    /// The members, in the order in which they were given.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// What each member has done and how it fares.
    pub fn reports(&self) -> Vec<Report> {
        self.members.iter().map(Member::report).collect()
    }

    /// Operations that were asked of a second member because the first was slow, and because it failed.
    pub fn repeats(&self) -> (u64, u64) {
        (self.hedged.load(Ordering::Relaxed), self.retried.load(Ordering::Relaxed))
    }

    /// Whether it can work: one member can.
    ///
    /// # Errors
    /// Why none can.
    pub fn check(&self) -> Result<(), Arc<str>> {
        if self.members.iter().any(|member| member.condition() == Condition::Up) {
            return Ok(());
        }
        let words = |member: &Member| match member.condition() {
            Condition::Up => String::from("up"),
            Condition::Drained => String::from("an operator took it out: run `holdfast pool join`"),
            Condition::Down(why) | Condition::Open(why) => why.to_string(),
            Condition::Ejected(why) => {
                format!("{why}; it is out until an operator runs `holdfast pool join`")
            }
        };
        match &*self.members {
            [one] => Err(words(one).into()),
            several => {
                let each = several.iter().map(|member| format!("{}: {}", member.name(), words(member)));
                Err(each.collect::<Vec<_>>().join("; ").into())
            }
        }
    }

    /// Takes a member out, or lets it in again.
    ///
    /// # Errors
    /// `not-found` where there is no such member, `conflict` for the last one that works.
    pub fn move_member(&self, name: &MemberName, to: Membership) -> Result<(), Error> {
        let member = self.members.iter().find(|member| member.name() == name.as_str());
        let member = member.ok_or_else(|| refusal::no_member(format!("the pool has no member `{name}`")))?;
        match to {
            Membership::Joined => member.join(),
            Membership::Drained => {
                let is_up = |other: &Member| other.condition() == Condition::Up;
                if is_up(member)
                    && !self.members.iter().any(|other| other.name() != member.name() && is_up(other))
                {
                    let detail = format!("`{name}` is the last member that works");
                    return Err(Error::new(ErrorKind::Conflict, Stage::Perform, detail)
                        .remedy("let another one in first; or suspend the tenants, if all keys shall stop"));
                }
                member.drain();
            }
        }
        Ok(())
    }

    /// Members that gave a wrong result, and what was wrong.
    pub fn ejected(&self) -> Vec<(MemberName, String)> {
        let members = self.members.iter();
        members
            .filter_map(|member| Some((member.name().parse().ok()?, member.ejected()?.to_string())))
            .collect()
    }

    /// A member is out since an earlier process, and why.
    pub fn keep_out(&self, name: &MemberName, absence: Absence) {
        let Some(member) = self.members.iter().find(|member| member.name() == name.as_str()) else { return };
        match absence {
            Absence::Drained => member.drain(),
            Absence::Ejected => member.eject("it gave a wrong result before the gateway was started again"),
        }
    }

    /// How often a member has come or come back; 0 for one that is alone.
    pub fn arrivals(&self) -> u64 {
        match &*self.members {
            [_] => 0,
            several => several.iter().map(Member::arrivals).sum(),
        }
    }

    /// The names of all members.
    ///
    /// # Errors
    /// `internal` for a name that is none: the configuration takes no such one.
    pub(super) fn names(&self) -> Result<Vec<MemberName>, Error> {
        let named = |member: &Member| {
            let name = member.name().parse();
            name.map_err(|_| refusal::defect("a member of the pool has a name that is none"))
        };
        self.members.iter().map(named).collect()
    }

    /// A member that can be asked whatever the keys are that it holds, by its name.
    pub(super) fn can_ask(&self, member: &Member) -> Option<MemberName> {
        if member.condition() == Condition::Up { member.name().parse().ok() } else { None }
    }

    /// How many members must hold a new key.
    pub fn copies(&self) -> usize {
        self.copies
    }

    /// Members that can work, those with least to do first.
    pub(super) fn by_load(&self) -> Vec<&Member> {
        let mut able: Vec<_> =
            self.members.iter().filter_map(|member| Some((member.load()?, member))).collect();
        able.sort_by_key(|(load, _)| *load);
        able.into_iter().map(|(_, member)| member).collect()
    }

    /// Whether there are as many members as a new key must be held by.
    ///
    /// # Errors
    /// `key-store-unavailable`, naming who is missing.
    pub(super) fn can_copy(&self) -> Result<(), Error> {
        let able = self.members.iter().filter(|member| member.load().is_some()).count();
        if able >= self.copies {
            return Ok(());
        }
        let missing = self.members.iter().filter(|member| member.load().is_none());
        let missing = missing.map(|member| format!("`{}`", member.name())).collect::<Vec<_>>().join(", ");
        let detail =
            format!("a new key must be held by {} members of the pool, and {able} can work", self.copies);
        Err(Error::new(ErrorKind::KeyStoreUnavailable, Stage::Perform, detail).remedy(format!(
            "an operator must bring {missing} back, or lower `pool.copies`; keys that exist work meanwhile"
        )))
    }

    /// The same, waiting for so long.
    ///
    /// # Errors
    /// As [`Self::can_copy`].
    pub(super) async fn await_copies(&self, patience: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + patience;
        loop {
            match self.can_copy() {
                Err(_) if Instant::now() < deadline => self.sleep(patience / 64).await,
                done => return done,
            }
        }
    }

    /// Whoever polls this need not be a thread of the runtime.
    pub(super) async fn sleep(&self, time: Duration) {
        if let Some(member) = self.members.first() {
            member.sleep_until(Instant::now() + time).await;
        }
    }

    /// The member with least to do that was not asked yet.
    fn choose(&self, asked: Asked) -> Option<usize> {
        let turn = match self.members.len() {
            1 => 0,
            members => self.turn.fetch_add(1, Ordering::Relaxed) / IN_A_ROW % members,
        };
        let in_turn = (turn..self.members.len()).chain(0..turn).filter(|place| !asked.has(*place));
        let mut able = 0;
        let ranks = in_turn.filter_map(|place| {
            let member = self.members.get(place)?;
            let rank = member.rank()?;
            able += 1;
            Some((rank, place, member))
        });
        let (_, place, member) = ranks.min_by_key(|(rank, ..)| *rank)?;
        // Of those that were asked already it is not known.
        if asked.is_none() {
            member.shares_with(able);
        }
        Some(place)
    }

    /// Why a member is not asked, when none is left: the first one's own words.
    pub(super) fn nobody(&self) -> Error {
        let why = self.check().err().unwrap_or_else(|| Arc::from("every member was asked"));
        no_reply(NoReply::Down(why))
    }
}
