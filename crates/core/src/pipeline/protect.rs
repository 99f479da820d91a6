//! New versions that wait: they are put into use when a verified backup holds them, so that nothing comes to depend on a key that one disk
//! can take along.

use super::command::own_inbound;
use super::found::{not_loaded, own_caller};
use super::plan::Planned;
use super::record::{Facts, NamedKey, Scene};
use super::{NO_CONTEXT, Pipeline};
use crate::action::Action;
use crate::command::Command;
use crate::error::{Error, ErrorKind, Stage};
use crate::id::{KeyName, KeyVersion, TenantId};
use crate::key::{Custody, Key, Version};
use crate::lifecycle::KeyState;
use crate::port::{Archive, KeyEntry, KeyStore, Ports, State, StateChange, World};
use crate::sync::Mutex;
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

/// How many are put into use before other things that wait have their turn.
const AT_ONCE: usize = 16;
/// The most keys that are remembered.
const MAX_REMEMBERED: usize = 100_000;
/// How many members of a pool are as good as a backup.
const ENOUGH_COPIES: usize = 2;
/// Where somebody took it on themselves.
pub(super) const UNPROTECTED: &str = "unprotected";

type Name = (TenantId, KeyName);

/// Keys whose newest version waits, as far as they were seen. What stands here is a hint: the key's record decides.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// To be looked at.
    fresh: BTreeSet<Name>,
    /// Looked at, and not in the newest verified backup.
    waiting: BTreeSet<Name>,
    /// The commit of that backup.
    verified: Option<u64>,
    /// Whether some had no room, so that all keys must be looked at again when there is another backup.
    forgot: bool,
}

impl Waiting {
    fn seen<T>(&self, with: impl FnOnce(&mut Seen) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes note of a key whose record was written or found.
    pub(super) fn note(&self, key: &Key) {
        if !key.waits {
            let of = (key.tenant.clone(), key.name.clone());
            return self.seen(|seen| {
                seen.fresh.remove(&of);
                seen.waiting.remove(&of);
            });
        }
        self.seen(|seen| {
            if seen.fresh.len() + seen.waiting.len() >= MAX_REMEMBERED {
                seen.forgot = true;
            } else {
                seen.fresh.insert((key.tenant.clone(), key.name.clone()));
            }
        });
    }

    /// What is to be looked at, and whether all keys must be looked at again.
    fn take(&self, verified: Option<u64>) -> (Vec<Name>, bool) {
        self.seen(|seen| {
            let mut again = false;
            if seen.verified != verified {
                seen.verified = verified;
                let waiting = core::mem::take(&mut seen.waiting);
                seen.fresh.extend(waiting);
                again = core::mem::take(&mut seen.forgot);
            }
            let taken = core::iter::from_fn(|| seen.fresh.pop_first()).take(AT_ONCE).collect();
            (taken, again)
        })
    }

    fn keep(&self, name: Name, is_fresh: bool) {
        self.seen(|seen| if is_fresh { seen.fresh.insert(name) } else { seen.waiting.insert(name) });
    }
}

impl<P: Ports> Pipeline<P> {
    /// How many keys have a newest version that waits until a verified backup holds it, as far as they were seen since the start.
    pub fn waiting_for_backup(&self) -> usize {
        self.agenda.waiting.seen(|seen| seen.fresh.len() + seen.waiting.len())
    }

    /// Whether what is made in this custody waits.
    pub(super) fn holds_back(&self, custody: Custody) -> bool {
        !self.is_dev && self.engines.archive.holds_back() && self.engines.keys.copies(custody) < ENOUGH_COPIES
    }

    /// Whether a verified backup holds its newest version. Members that a pool has got since say nothing: what waits is not with them yet.
    fn is_protected(&self, key: &Key, newest: &Version) -> bool {
        let custody = self.engines.keys.custody_of(&newest.handle);
        Key { custody, ..key.clone() }.is_protected(self.verified())
    }

    async fn newest(&self, key: &Key) -> Result<Arc<Version>, Error> {
        self.engines.state.version(key.id, key.newest).await?.ok_or_else(|| {
            let detail = format!("version {} of key `{}` is not there", key.newest, key.name);
            Error::new(ErrorKind::StateUnavailable, Stage::Resolve, detail)
        })
    }

    /// Puts a newest version into use that waits, or a prepared key; none where the order is about something else. What no verified backup
    /// holds only by somebody's own decision.
    pub(super) async fn plan_use(
        &self,
        facts: &mut Facts,
        entry: &KeyEntry,
        unprotected: bool,
    ) -> Result<Option<Planned>, Error> {
        let before = &entry.key;
        let is_prepared = before.state == KeyState::PreActivation && self.holds_back(before.custody);
        if !before.waits && !is_prepared {
            return Ok(None);
        }
        let version = self.newest(before).await?;
        if !self.is_protected(before, &version) && !unprotected {
            return Err(unheld(&before.name, before.newest));
        }
        let (true, KeyState::PreActivation | KeyState::Active) = (before.waits, before.state) else {
            return Ok(None);
        };
        let key = Key {
            state: KeyState::Active,
            resumes_to: KeyState::Active,
            current: before.newest,
            custody: self.engines.keys.custody_of(&version.handle),
            waits: false,
            epoch: before.epoch.next(),
            ..before.clone()
        };
        facts.key = Some(NamedKey::of(&key, Some(key.newest)));
        let change = StateChange::Key { key: key.clone(), expected: Some(before.epoch) };
        Ok(Some(Planned::key(vec![change], key, version)))
    }

    /// Puts into use what a verified backup holds by now; whatever fails is tried again.
    pub(super) async fn use_protected(&self) -> Result<(), Error> {
        let (names, again) = self.agenda.waiting.take(self.verified());
        if again {
            self.agenda.look_again();
        }
        let mut failed = Ok(());
        for (tenant, name) in names {
            match self.use_if_protected(&tenant, &name).await {
                Ok(true) => {}
                Ok(false) => self.agenda.waiting.keep((tenant, name), false),
                Err(error) => {
                    self.agenda.waiting.keep((tenant, name), true);
                    failed = Err(error);
                }
            }
        }
        failed
    }

    /// Whether nothing more is to be done.
    async fn use_if_protected(&self, tenant: &TenantId, name: &KeyName) -> Result<bool, Error> {
        let Some(entry) = self.engines.state.key(tenant, name).await? else { return Ok(true) };
        // One that is stopped is looked at again when its record changes, as it does when somebody resumes it.
        let (true, KeyState::PreActivation | KeyState::Active) = (entry.key.waits, entry.key.state) else {
            return Ok(true);
        };
        if !self.is_protected(&entry.key, &*self.newest(&entry.key).await?) {
            return Ok(false);
        }
        let own = own_caller(tenant)?;
        let view = self.tenant(tenant).ok_or_else(not_loaded)?;
        let operation = self.new_operation()?;
        let inbound = own_inbound(operation, tenant, self.engines.world.now(), self.engines.world.ticks());
        let scene = Scene { view: &view, caller: &own, inbound: &inbound, context: &NO_CONTEXT };
        let mut facts = Facts::new(operation, Action::ActivateKey);
        facts.key = Some(NamedKey::of(&entry.key, Some(entry.key.newest)));
        facts.subject = Some("protected".into());
        let intent = self.own_intent(&scene, &facts).await?;
        let order = Command::ActivateKey { key: name.clone(), unprotected: false };
        let (_done, _receipt) = self.carry_out_and_close(&scene, &mut facts, &intent, &order).await?;
        Ok(true)
    }
}

fn unheld(name: &KeyName, version: KeyVersion) -> Error {
    let detail = format!("version {version} of key `{name}` is in no verified backup yet");
    Error::new(ErrorKind::KeyState, Stage::Resolve, detail).remedy(format!(
        "have an operator run `holdfast backup` and its custodians `holdfast backup verify`: then it is put into use by itself; or run \
         `holdfast key activate {name} --unprotected`, which stands in the log"
    ))
}
