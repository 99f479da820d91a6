//! Who may order a seal: whoever opens what is encrypted to a custodian of the root key.

use crate::directory::Directory;
use crate::shares::{Attempts, Custodian, RootKey, Roster, Wait, seal_text};
use crate::world::SystemWorld;
use age::armor::Format;
use holdfast_core::{CallerName, Error, ErrorKind, Stage};
use holdfast_keystore::root::order::OrderChallenge;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use tokio::sync::watch;

const MINUTE: u64 = 60_000_000;
/// For how long the same challenge is handed out to whoever asks: asking costs nothing, and nobody can make another's void.
const HANDED_OUT: u64 = 5 * MINUTE;
/// For how long it can be answered: an answer that was kept back on its way seals nothing later.
const ANSWERED: u64 = 2 * HANDED_OUT;

/// Takes orders to seal the gateway.
pub(crate) struct Desk {
    inner: Mutex<Inner>,
    ordered: watch::Sender<bool>,
}

struct Inner {
    /// Who has a share; nobody where the root key is in one piece.
    roster: Option<Roster>,
    /// What each custodian is asked, by the number of their share; the newest last.
    asked: BTreeMap<u8, Vec<Asked>>,
    attempts: Attempts,
    /// The generation that stands in the log.
    told: u32,
    /// The list as it was looked at last: when it was changed, and which file it is.
    seen: Option<(SystemTime, u64)>,
}

struct Asked {
    since: u64,
    challenge: OrderChallenge,
    /// The same, encrypted to the custodian.
    sealed: Vec<u8>,
}

/// Whose order it says to be, and the proof of that.
#[derive(Debug)]
pub(crate) struct Order<'a> {
    pub(crate) generation: u32,
    pub(crate) share: u8,
    pub(crate) answer: &'a [u8],
    pub(crate) source: Option<IpAddr>,
}

/// Why an order was not taken.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) error: Error,
    /// For how long to wait.
    pub(crate) wait: Option<Wait>,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, wait: None }
    }
}

impl Desk {
    /// `recorded` is the newest generation that the log has: one that came into force while nobody served is recorded now.
    pub(crate) fn new(roster: Option<Roster>, recorded: Option<u32>) -> Self {
        let told = recorded.unwrap_or_default();
        let inner = Inner { roster, asked: BTreeMap::new(), attempts: Attempts::default(), told, seen: None };
        Self { inner: Mutex::new(inner), ordered: watch::Sender::new(false) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the custodian of that share is asked, encrypted to them. `now` on a clock that never steps back, in microseconds.
    ///
    /// # Errors
    /// `conflict` where the root key is in no shares; `malformed` for a share that is not of the generation in force.
    pub(crate) fn ask(
        &self,
        (generation, share): (u32, u8),
        now: u64,
        world: &SystemWorld,
    ) -> Result<Vec<u8>, Error> {
        let mut inner = self.inner();
        let Inner { roster, asked, .. } = &mut *inner;
        let (roster, holder) = holder(roster.as_ref(), generation, share)?;
        let asked = asked.entry(share).or_default();
        asked.retain(|asked| now < asked.since.saturating_add(ANSWERED));
        if let Some(newest) = asked.last().filter(|newest| now < newest.since.saturating_add(HANDED_OUT)) {
            return Ok(newest.sealed.clone());
        }
        let challenge = OrderChallenge::new(world)?;
        let sealed = seal_text(&challenge.to_text(&roster.of, share), &holder.recipient, Format::Binary)
            .map_err(|fault| {
                Error::new(ErrorKind::Internal, Stage::Start, "a challenge cannot be encrypted")
                    .because(fault)
            })?;
        asked.push(Asked { since: now, challenge, sealed: sealed.clone() });
        Ok(sealed)
    }

    /// Whose order it is. A right answer never waits; of wrong ones so many are looked at.
    ///
    /// # Errors
    /// As [`Desk::ask`]; `malformed` for a wrong answer; `throttled` after too many of them.
    pub(crate) fn take(&self, order: &Order<'_>, now: u64) -> Result<CallerName, Refused> {
        let Order { generation, share, answer, source } = order;
        let mut inner = self.inner();
        let Inner { roster, asked, attempts, .. } = &mut *inner;
        let whose = holder(roster.as_ref(), *generation, *share);
        if let Ok((roster, Custodian { name, commitment, .. })) = whose {
            let of_it = asked.get(share).into_iter().flatten();
            let mut standing = of_it.filter(|asked| now < asked.since.saturating_add(ANSWERED));
            if standing.any(|asked| asked.challenge.is_answered(&roster.of, *share, commitment, answer)) {
                return Ok(name.clone());
            }
        }
        attempts.admit(*source, now).map_err(|wait| Refused {
            error: Error::new(ErrorKind::Throttled, Stage::Start, "too many orders to seal were wrong")
                .remedy(format!("wait {} seconds, then order it again", wait.seconds)),
            wait: Some(wait),
        })?;
        attempts.was_wrong(*source, now);
        let error = match whose {
            Ok((_, Custodian { name, .. })) => {
                let detail = format!("the answer is not that of `{name}`, to whom share {share} was given");
                Error::new(ErrorKind::Malformed, Stage::Start, detail)
                    .remedy("run `holdfast seal` again, with your own share and your own identity")
            }
            Err(error) => error,
        };
        tracing::warn!(
            source = source.map(tracing::field::display),
            error = error.chain(),
            "an order to seal was refused"
        );
        Err(Refused { error, wait: None })
    }

    /// Looks whether another generation of shares of the same root key has been handed out, and takes orders of its custodians from then on.
    /// Gives the one in force while no log has it. Only who has the root key writes such a list.
    pub(super) fn follow(&self, directory: &Directory, root: &RootKey) -> Option<Roster> {
        let mut inner = self.inner();
        let Inner { roster, asked, told, seen, .. } = &mut *inner;
        let known = roster.as_mut()?;
        let now = std::fs::metadata(directory.root_shares());
        let now = now.ok().and_then(|file| Some((file.modified().ok()?, file.ino())));
        if now != *seen {
            *seen = now;
            match directory.roster() {
                Ok(Some(found)) if found == *known => {}
                Ok(Some(found))
                    if found.of.instance == known.of.instance
                        && found.of.root == known.of.root
                        && found.of.generation > known.of.generation =>
                {
                    match found.must_be_of(root) {
                        Ok(()) => {
                            asked.clear();
                            *known = found;
                        }
                        Err(fault) => tracing::error!(
                            %fault,
                            remedy = fault.remedy_text(),
                            "`root.shares` is not followed"
                        ),
                    }
                }
                Ok(_) => {
                    tracing::error!("`root.shares` is not the list of a later generation: it is not followed")
                }
                Err(fault) => tracing::error!(%fault, "`root.shares` is not followed"),
            }
        }
        (known.of.generation != *told).then(|| known.clone())
    }

    /// Takes orders by this list from now on, without the root key: what whoever wrote it can do is keep the gateway sealed.
    pub(crate) fn renew(&self, found: Roster) {
        let mut inner = self.inner();
        let Inner { roster, asked, .. } = &mut *inner;
        if roster.as_ref() != Some(&found) {
            asked.clear();
            *roster = Some(found);
        }
    }

    /// A log has this generation.
    pub(super) fn has_told(&self, generation: u32) {
        self.inner().told = generation;
    }

    /// It is in force.
    pub(super) fn is_ordered(&self) {
        self.ordered.send_replace(true);
    }

    /// Resolves when it is ordered.
    pub(super) async fn ordered(&self) {
        let mut ordered = self.ordered.subscribe();
        crate::serve::stopped(&mut ordered).await;
    }
}

fn holder(roster: Option<&Roster>, generation: u32, share: u8) -> Result<(&Roster, &Custodian), Error> {
    let Some(roster) = roster else {
        let detail =
            "the root key of this gateway is in one piece: sealed, it would wait for shares that nobody has";
        return Err(Error::new(ErrorKind::Conflict, Stage::Start, detail).remedy(
            "suspend its tenants with `holdfast tenant suspend`, or end its process on its machine (`systemctl stop holdfast`)",
        ));
    };
    let in_force = roster.of.generation;
    let refused = |detail| Error::new(ErrorKind::Malformed, Stage::Start, detail);
    if generation != in_force {
        let detail =
            format!("share {share} is of generation {generation}, and generation {in_force} is in force");
        return Err(refused(detail).remedy("use the file that the newest `holdfast share rotate` wrote"));
    }
    let holder = roster.custodians.iter().find(|custodian| custodian.number == share);
    let holder = holder.ok_or_else(|| {
        refused(format!("there is no share {share} in generation {in_force}"))
            .remedy("use the share that was proven at the ceremony")
    })?;
    Ok((roster, holder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shares::tests::{People, instance, root};

    const STRANGER: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)));

    fn order(share: u8, answer: &[u8]) -> Order<'_> {
        Order { generation: 1, share, answer, source: STRANGER }
    }

    #[test]
    fn a_challenge_is_answered_by_its_custodian_alone_and_for_ten_minutes() {
        let (people, world) = (People::new(), SystemWorld::new());
        let desk = Desk::new(Some(people.shared(&root(), instance('0'), 1)), Some(1));
        let first = desk.ask((1, 1), 0, &world).unwrap();
        assert_eq!(desk.ask((1, 1), HANDED_OUT - 1, &world).unwrap(), first, "nobody makes another's void");
        let of_alice = people.order("alice", 1, &first).unwrap();
        assert!(people.order("bob", 1, &first).is_err());
        assert_eq!(desk.take(&order(1, &of_alice), ANSWERED - 1).unwrap().as_str(), "alice");
        let second = desk.ask((1, 1), HANDED_OUT, &world).unwrap();
        assert_ne!(second, first);
        assert!(desk.take(&order(1, &of_alice), ANSWERED - 1).is_ok());
        assert!(desk.take(&order(1, &of_alice), ANSWERED).is_err());
        let of_alice = people.order("alice", 1, &second).unwrap();
        assert!(desk.take(&order(2, &of_alice), ANSWERED).is_err(), "bob's share");
        assert!(desk.take(&order(1, &of_alice), ANSWERED).is_ok());
    }

    #[test]
    fn wrong_answers_are_named_and_limited_and_a_right_one_never_waits() {
        let (people, world) = (People::new(), SystemWorld::new());
        let desk = Desk::new(Some(people.shared(&root(), instance('0'), 1)), Some(1));
        let asked = desk.ask((1, 2), 0, &world).unwrap();
        let answer = people.order("bob", 1, &asked).unwrap();
        for _ in 0..5 {
            let Refused { error, wait } = desk.take(&order(2, &[0; 32]), 1).unwrap_err();
            assert_eq!((error.kind(), wait), (ErrorKind::Malformed, None));
            assert_eq!(error.detail(), "the answer is not that of `bob`, to whom share 2 was given");
        }
        let Refused { error, wait } = desk.take(&order(2, &[0; 32]), 1).unwrap_err();
        assert_eq!((error.kind(), wait), (ErrorKind::Throttled, Some(Wait { seconds: 60 })));
        assert_eq!(desk.take(&order(2, &answer), 1).unwrap().as_str(), "bob");
    }

    #[test]
    fn what_is_no_share_in_force_is_asked_nothing() {
        let (people, world) = (People::new(), SystemWorld::new());
        let desk = Desk::new(Some(people.shared(&root(), instance('0'), 1)), Some(1));
        let error = desk.ask((2, 1), 0, &world).unwrap_err();
        assert_eq!(error.detail(), "share 1 is of generation 2, and generation 1 is in force");
        let error = desk.ask((1, 9), 0, &world).unwrap_err();
        assert_eq!(error.detail(), "there is no share 9 in generation 1");
        let error = Desk::new(None, None).ask((1, 1), 0, &world).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(desk.take(&order(1, &[]), 0).is_err(), "nobody asked");
    }

    #[test]
    fn a_later_list_is_followed_if_who_wrote_it_had_the_root_key() {
        let (people, dir, of) = (People::new(), tempfile::tempdir().unwrap(), root());
        let directory = Directory::at(dir.path());
        let first = people.shared(&of, instance('0'), 1);
        let desk = Desk::new(Some(first), Some(1));
        let later = people.shared(&of, instance('0'), 2);
        let forged = people.shared(&root(), instance('0'), 2);
        let follows = |roster: &Roster| {
            let new = directory.path().join("new");
            std::fs::write(&new, roster.to_text().unwrap()).unwrap();
            std::fs::rename(new, directory.root_shares()).unwrap();
            desk.follow(&directory, &of)
        };
        for bad in [
            Roster { mac: None, ..later.clone() },
            Roster { mac: forged.mac, ..later.clone() },
            Roster { shared_by: vec!["mallory".parse().unwrap()], ..later.clone() },
        ] {
            assert_eq!(follows(&bad), None);
            assert!(desk.ask((2, 1), 0, &SystemWorld::new()).is_err(), "its custodians order nothing");
        }
        assert_eq!(follows(&later), Some(later.clone()));
        desk.has_told(2);
        assert_eq!(follows(&later), None);
        assert!(desk.ask((2, 1), 0, &SystemWorld::new()).is_ok());
        // What came into force while nobody served is told at the start.
        let desk = Desk::new(Some(later.clone()), Some(1));
        assert_eq!(desk.follow(&directory, &of), Some(later));
    }
}
