//! A key that lies in the token already: adopted as it is, neither changed nor copied.

use super::Pipeline;
use super::import::start_of;
use super::plan::{Planned, planned_key, version};
use super::proof::Intent;
use super::record::{Facts, NamedKey, Scene};
use crate::adoption::{AdoptKey, MAX_NAME, ObjectDigest, Sought};
use crate::error::{Error, ErrorKind, Stage};
use crate::id::{KeyId, KeyVersion};
use crate::import::Past;
use crate::key::Key;
use crate::lifecycle::KeyState;
use crate::port::{KeyStore, Ports, State, StateChange};
use std::sync::Arc;

/// How often one object can have been a key that was destroyed since.
const MOST_LIVES: u32 = 64;

impl<P: Ports> Pipeline<P> {
    /// A key whose first version is the object that was found.
    pub(super) async fn plan_adopt(
        &self,
        scene: &Scene<'_, P>,
        facts: &mut Facts,
        intent: &Intent,
        adopt: &AdoptKey,
    ) -> Result<Planned, Error> {
        let AdoptKey { new, label, id, past, accept_extractable } = adopt;
        check_names(label.as_deref(), id.as_deref())?;
        // Taken names are refused before a token is asked for anything.
        self.free_name(scene, &new.name).await?;
        let tenant = &scene.caller.tenant;
        let (number, algorithm) = (KeyVersion::FIRST, self.algorithm_of(new));
        let custody = self.engines.keys.custody(algorithm);
        let none_yet = KeyId::from_bytes([0; 16]);
        let planned = planned_key(tenant, none_yet, new, (algorithm, custody), scene.inbound.now)?;
        let state = start_of(&planned, *past)?;
        let sought = Sought {
            label: label.as_deref(),
            id: id.as_deref(),
            purpose: planned.purpose,
            accept_extractable: *accept_extractable,
        };
        let keys = &self.engines.keys;
        let object = keys.find_object(intent.permit(), tenant, algorithm, sought).await?;
        let key = self.unadopted(object).await?;
        let asked = self.new_version(scene, key, number, (algorithm, new.exportable), None)?;
        let made = keys.adopt(intent.permit(), asked, sought, object).await?;
        if let Past::Uses(uses) = *past {
            self.count_past(key, number, uses).await?;
        }
        let key = Key { id: key, state, custody: made.custody, ..planned };
        facts.key = Some(NamedKey::of(&key, Some(number)));
        facts.evidence = Some((made.evidence.clone(), made.commitment));
        let version = version(key.id, number, made, scene);
        let changes = vec![
            StateChange::Key { key: key.clone(), expected: None },
            StateChange::Version { tenant: key.tenant.clone(), version: version.clone() },
        ];
        Ok(Planned::key(changes, key, Arc::new(version)))
    }

    /// The id of the key that an object becomes. It is made of the object's own names, so that whoever adopts the same one, of whatever tenant,
    /// comes upon the key that it is already: two keys in one object would each count half of its invocations, and end both with one of them.
    async fn unadopted(&self, object: ObjectDigest) -> Result<KeyId, Error> {
        for life in 0..MOST_LIVES {
            let id = id_of(object, life);
            match self.engines.state.version(id, KeyVersion::FIRST).await? {
                None => return Ok(id),
                Some(version) if version.state != KeyState::Destroyed => break,
                // It is gone from everywhere; this is another one under the same names.
                Some(version) if version.handle.as_bytes().is_empty() => {}
                Some(_) => {
                    let detail = "the object is of a key that was destroyed, and not every member of the pool has erased it yet";
                    return Err(Error::new(ErrorKind::Conflict, Stage::Resolve, detail).remedy(
                        "adopt it once `holdfast key show` of that key names no member that is pending",
                    ));
                }
            }
        }
        let detail = "the object in the token is a key of this gateway already";
        Err(Error::new(ErrorKind::AlreadyExists, Stage::Resolve, detail)
            .remedy("use that key: `holdfast key list` shows it, if it is your tenant's"))
    }
}

fn id_of(ObjectDigest(digest): ObjectDigest, life: u32) -> KeyId {
    let parts = [b"holdfast/adopted-key/v1".as_slice(), &digest, &life.to_be_bytes()].concat();
    let whole = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &parts);
    let mut id = [0; 16];
    for (to, from) in id.iter_mut().zip(whole.as_ref()) {
        *to = *from;
    }
    KeyId::from_bytes(id)
}

fn check_names(label: Option<&str>, id: Option<&[u8]>) -> Result<(), Error> {
    let fits = |length: usize| (1..=MAX_NAME).contains(&length);
    let (label, id) = (label.map(str::len), id.map(<[u8]>::len));
    let detail = match (label, id) {
        (None, None) => "the object to be adopted is not named".to_owned(),
        (label, id) if label.is_none_or(fits) && id.is_none_or(fits) => return Ok(()),
        (Some(_) | None, Some(_) | None) => format!("an object's label or id has 1 to {MAX_NAME} bytes"),
    };
    Err(Error::new(ErrorKind::Malformed, Stage::Resolve, detail)
        .remedy("name it by its CKA_LABEL, its CKA_ID, or both: `pkcs11-tool --list-objects` shows them"))
}
