//! What a provider is told of a key and of the gateway without using either: only what is so under every stop that is in force.

use super::ready;
use crate::root::Embedded;
use crate::serve::Gateway;
use holdfast_core::action::Action;
use holdfast_core::key::{Key, Version};
use holdfast_core::pipeline::Recognised;
use holdfast_core::port::{AuditLog as _, State as _};
use holdfast_core::query::{Found, Query};
use holdfast_core::{Error, ErrorKind, KeyName, Stage};
use std::sync::Arc;

/// A key, as its record has it and as the stops have it.
pub(super) struct Described {
    pub(super) key: Box<Key>,
    /// The version that new work takes.
    pub(super) current: Arc<Version>,
    /// Why it serves nobody now, whatever its record says: a stop works before its own record is written.
    pub(super) standing: Result<(), Error>,
}

/// A key's record, read as the law lets it be read.
///
/// # Errors
/// `stopped`, for a caller or a tenant that is: a record of a stopped tenant may be read, but that its keys serve would be no true word. Whatever the
/// law refuses, after that has been recorded.
pub(super) async fn described(
    gateway: &Gateway,
    recognised: &Recognised<'_, Embedded>,
    name: &KeyName,
) -> Result<Described, Error> {
    let law = &gateway.law;
    if let Err(error) = law.standing(recognised, &[]) {
        return Err(law.turn_away(recognised, (Action::ReadKey, Some(name)), error).await);
    }
    let (found, _receipt, _departing) =
        law.query_as(recognised, Query::Key(name.clone())).await?.into_parts();
    let Found::Key(key, current, ..) = found else {
        return Err(Error::new(ErrorKind::Internal, Stage::Answer, "another record than the one asked for"));
    };
    let standing = law.standing(recognised, &[key.id]);
    Ok(Described { key, current, standing })
}

/// Whether the gateway serves this caller: nothing is told where nothing could be decided or recorded.
///
/// # Errors
/// `stopped`, after that has been recorded; `state-unavailable`, `audit-unavailable`.
pub(super) async fn serves(gateway: &Gateway, recognised: &Recognised<'_, Embedded>) -> Result<(), Error> {
    let law = &gateway.law;
    if let Err(error) = law.standing(recognised, &[]) {
        return Err(law.turn_away(recognised, (Action::ReadStatus, None), error).await);
    }
    let unready = |kind| move |why: String| Error::new(kind, Stage::Answer, why);
    let engines = law.engines();
    ready(engines.state.health()).map_err(unready(ErrorKind::StateUnavailable))?;
    ready(engines.log.health()).map_err(unready(ErrorKind::AuditUnavailable))
}
