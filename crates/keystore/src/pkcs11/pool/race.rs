//! One operation, asked of as many members as it takes.

use super::watched::Watched;
use super::{Asked, Class, Distribution, Judged, Pool, judge, no_reply};
use crate::pkcs11::member::{Member, NoReply};
use crate::pkcs11::message::{Reply, Request};
use holdfast_core::{Error, ErrorKind};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;

/// Nobody is hedged before that: what is quicker costs less than a second operation.
const SOONEST: Duration = Duration::from_millis(5);
/// How often at least, within its deadline, a look is taken at what has become of a slow one.
const LOOKS: u32 = 6;

impl Pool {
    /// Asks for something and gives what `read` makes of it; what `read` does not take is a wrong result, and its member is out.
    ///
    /// A request that can be repeated without harm is asked of another member if the first one fails or is slow. Where nobody has compared what the
    /// members hold, a second one is asked too before something is said not to verify: the first may hold another key under that id.
    ///
    /// The result is the last failure, when no member gave one by then.
    pub async fn ask<T>(
        &self,
        request: &Request<'_>,
        patience: Duration,
        read: impl Fn(&Reply<'_>) -> Result<T, Error>,
    ) -> Answered<'_, T> {
        let (mut lacking, mut differ) = (None, false);
        let result = self.run(request, patience, read, (&mut lacking, &mut differ)).await;
        Answered { result, lacking, differ }
    }

    async fn run<'s, T>(
        &'s self,
        request: &Request<'_>,
        patience: Duration,
        read: impl Fn(&Reply<'_>) -> Result<T, Error>,
        (lacking, differ): (&mut Option<&'s Member>, &mut bool),
    ) -> Result<T, Error> {
        let begun = Instant::now();
        let mut asked = Asked::default();
        let first = self.choose(asked).ok_or_else(|| self.nobody())?;
        asked.add(first);
        let Some(member) = self.members.get(first) else { return Err(self.nobody()) };
        let deadline = begun + patience;
        let mut sleep = pin!(member.sleep_until(deadline));
        let mut lead = pin!(attempt(member, request, &read));
        let class = match self.members.len() {
            1 => None,
            _ => Class::of(request),
        };
        let Some(class) = class else {
            return tokio::select! {
                biased;
                judged = lead => settle(member, judged, lacking),
                () = sleep => Err(no_reply(NoReply::Late)),
            };
        };
        self.allowance.earn();
        let (hedge_at, late_at) = schedule(begun, patience, member.quantiles(class).p95);
        sleep.as_mut().reset(hedge_at);
        let mut look_every = hedge_at - begun;
        let mut watched = Watched::begin(&self.members, first, begun, look_every);
        let mut leads = true;
        let begin = |member| (member, Box::pin(attempt(member, request, &read)));
        // None yet; a value, so that its type is known.
        let mut other = false.then(|| begin(member));
        let mut last = no_reply(NoReply::Late);
        // That it does not verify, as one of them says.
        let mut doubted = None;
        loop {
            let event = poll_fn(|context| {
                if leads && let Poll::Ready(judged) = lead.as_mut().poll(context) {
                    return Poll::Ready(Event::Judged(member, judged, true));
                }
                if let Some((member, attempt)) = &mut other
                    && let Poll::Ready(judged) = attempt.as_mut().poll(context)
                {
                    return Poll::Ready(Event::Judged(member, judged, false));
                }
                sleep.as_mut().poll(context).map(|()| Event::Time)
            });
            let next = match event.await {
                Event::Judged(by, judged, was_lead) => {
                    match judged {
                        Judged::Done(done) => {
                            *differ = doubted.is_some();
                            return Ok(done);
                        }
                        Judged::Refused(error) if doubted.is_none() && self.doubts(&error) => {
                            doubted = Some(error);
                        }
                        Judged::Refused(error) => return Err(doubted.unwrap_or(error)),
                        judged @ (Judged::Failed(_) | Judged::Wrong(_) | Judged::Lacking(_)) => {
                            last = settle(by, judged, lacking).err().unwrap_or(last);
                        }
                    }
                    match was_lead {
                        true => leads = false,
                        false => other = None,
                    }
                    if other.is_some() {
                        continue;
                    }
                    self.retried.fetch_add(1, Ordering::Relaxed);
                    self.choose(asked)
                }
                Event::Time if Instant::now() >= deadline => return Err(doubted.unwrap_or(last)),
                Event::Time => {
                    let now = Instant::now();
                    let grounds = watched.look(&self.members, first, now);
                    if other.is_some() {
                        sleep.as_mut().reset(deadline);
                        continue;
                    }
                    let is_late = now >= late_at;
                    look_every = (look_every * 2).min(patience / LOOKS);
                    sleep.as_mut().reset(if is_late { deadline } else { late_at }.min(now + look_every));
                    let Some(next) = self.choose(asked) else { continue };
                    let helps = grounds.of(&self.members, next, is_late);
                    let (may, counted) = match is_late {
                        true => (helps || self.allowance.spend(), &self.retried),
                        false => (helps && self.allowance.spend(), &self.hedged),
                    };
                    if !may {
                        continue;
                    }
                    counted.fetch_add(1, Ordering::Relaxed);
                    Some(next)
                }
            };
            match next.and_then(|next| Some((next, self.members.get(next)?))) {
                Some((place, member)) => {
                    asked.add(place);
                    other = Some(begin(member));
                }
                // The first one may answer yet.
                None if leads => {}
                None => return Err(doubted.unwrap_or(last)),
            }
        }
    }

    /// Whether another member might say otherwise.
    fn doubts(&self, error: &Error) -> bool {
        self.distribution == Distribution::Vendor && error.kind() == ErrorKind::Integrity
    }

    /// The same of one member alone.
    ///
    /// # Errors
    /// The failure.
    pub(in crate::pkcs11) async fn ask_of<T>(
        &self,
        member: &Member,
        request: &Request<'_>,
        patience: Duration,
        read: impl Fn(&Reply<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let sleep = member.sleep_until(Instant::now() + patience);
        tokio::select! {
            biased;
            judged = attempt(member, request, &read) => settle(member, judged, &mut None),
            () = sleep => Err(no_reply(NoReply::Late)),
        }
    }
}

/// What a member's answer comes to, for it and for who asked; notes one that does not hold the key.
fn settle<'a, T>(
    member: &'a Member,
    judged: Judged<T>,
    lacking: &mut Option<&'a Member>,
) -> Result<T, Error> {
    match judged {
        Judged::Done(done) => Ok(done),
        Judged::Refused(error) | Judged::Failed(error) => Err(error),
        Judged::Lacking(error) => {
            *lacking = Some(member);
            Err(error)
        }
        Judged::Wrong(error) => {
            member.eject(&error.to_string());
            Err(error)
        }
    }
}

/// What became of a request.
pub struct Answered<'a, T> {
    /// The result, or the last failure.
    pub result: Result<T, Error>,
    /// A member that does not hold the key.
    pub lacking: Option<&'a Member>,
    /// One member said that the input does not verify, and another one that it does: one of them holds another key under that id.
    pub differ: bool,
}

enum Event<'a, T> {
    Judged(&'a Member, Judged<T>, bool),
    Time,
}

async fn attempt<T>(
    member: &Member,
    request: &Request<'_>,
    read: &impl Fn(&Reply<'_>) -> Result<T, Error>,
) -> Judged<T> {
    match member.ask_patiently(request, |reply| judge(&reply, read)).await {
        Ok(judged) => judged,
        Err(NoReply::TooLong) => Judged::Refused(no_reply(NoReply::TooLong)),
        Err(why @ (NoReply::Down(_) | NoReply::Late | NoReply::Full)) => Judged::Failed(no_reply(why)),
    }
}

/// When another member is asked beside a slow one, if that is allowed, and when in any case.
fn schedule(begun: Instant, patience: Duration, p95: u32) -> (Instant, Instant) {
    let usual = Duration::from_micros(p95.into());
    let late = (patience / 3).max(usual * 2).min(patience * 2 / 3);
    let hedge = SOONEST.max(usual + usual / 4).min(late);
    (begun + hedge, begun + late)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_time_left_for_the_other_one() {
        let (begun, patience) = (Instant::now(), Duration::from_millis(120));
        for p95 in [0, 100, 3_000, 20_000, 70_000, 1_000_000, u32::MAX] {
            let (hedge, late) = schedule(begun, patience, p95);
            assert!(hedge > begun && hedge <= late && late <= begun + patience * 2 / 3, "{p95}");
        }
        let (hedge, late) = schedule(begun, patience, 100);
        assert_eq!((hedge - begun, late - begun), (SOONEST, patience / 3));
    }
}
