//! The schema in Cedar's terms, parsed once: entity types, actions, and what a closed attribute can be.

use cedar_policy::{Entity, EntityId, EntityTypeName, EntityUid, Schema, Validator};
use holdfast_core::action::{Action, Group};
use holdfast_core::algorithm::{Algorithm, Purpose};
use holdfast_core::caller::{CallerKind, CallerRecord};
use holdfast_core::key::Custody;
use holdfast_core::lifecycle::KeyState;
use holdfast_core::protocol::Protocol;
use holdfast_core::{Error, ErrorKind, Stage, TenantId};

/// The schema as text, for `holdfast policy schema` and for editors.
pub const SCHEMA: &str = include_str!("schema.cedarschema");

/// The schema, parsed, with everything that is made of it once.
pub(crate) struct Vocabulary {
    pub(crate) validator: Validator,
    /// One entity for each action with the groups it stands in, in the order of [`Action::ALL`]; `None` for those no policy is asked about.
    actions: Vec<Option<Entity>>,
    caller: EntityTypeName,
    group: EntityTypeName,
    key: EntityTypeName,
    tenant: EntityTypeName,
    encryption: EntityUid,
    request: EntityUid,
}

impl Vocabulary {
    pub(crate) fn new() -> Result<Self, Error> {
        let schema = Schema::from_cedarschema_str(SCHEMA).map_err(defect)?.0;
        let known = schema.action_entities().map_err(defect)?;
        let action_type = type_name("Action")?;
        let entity = |action: &Action| known.get(&uid(&action_type, action.name())).cloned();
        if let Some(missing) = asked().find(|action| entity(action).is_none()) {
            return Err(defect(format!("no action `{}`", missing.name())));
        }
        Ok(Self {
            actions: Action::ALL.iter().map(entity).collect(),
            caller: type_name("Caller")?,
            group: type_name("Group")?,
            key: type_name("Key")?,
            tenant: type_name("Tenant")?,
            encryption: EntityUid::from_type_name_and_id(
                type_name("EncryptionContext")?,
                EntityId::new("request"),
            ),
            request: EntityUid::from_type_name_and_id(
                type_name("ProtocolRequest")?,
                EntityId::new("request"),
            ),
            validator: Validator::new(schema),
        })
    }

    pub(crate) fn action(&self, action: Action) -> Option<&Entity> {
        self.actions.get(position(action))?.as_ref()
    }

    pub(crate) fn caller(&self, record: &CallerRecord) -> EntityUid {
        uid(&self.caller, record.name.as_str())
    }

    pub(crate) fn group(&self, name: &str) -> EntityUid {
        uid(&self.group, name)
    }

    pub(crate) fn key(&self, name: &str) -> EntityUid {
        uid(&self.key, name)
    }

    pub(crate) fn tenant(&self, tenant: &TenantId) -> EntityUid {
        uid(&self.tenant, tenant.as_str())
    }

    /// The entity whose tags are the encryption context.
    pub(crate) fn encryption(&self) -> &EntityUid {
        &self.encryption
    }

    /// The entity whose tags are what the protocol says of the request.
    pub(crate) fn request(&self) -> &EntityUid {
        &self.request
    }

    /// What kind of thing an entity in a policy is.
    pub(crate) fn sort(&self, uid: &EntityUid) -> Sort {
        let name = uid.type_name();
        if *name == self.caller {
            Sort::Caller
        } else if *name == self.group {
            Sort::Group
        } else if *name == self.key {
            Sort::Key
        } else if *name == self.tenant {
            Sort::Tenant
        } else {
            Sort::Other
        }
    }
}

/// What kind of thing an entity in a policy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    Caller,
    Group,
    Key,
    Tenant,
    Other,
}

/// A set of actions, one bit each by [`position`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Actions(u128);

impl Actions {
    pub(crate) const NONE: Self = Self(0);

    pub(crate) fn all() -> Self {
        asked().fold(Self::NONE, Self::with)
    }

    pub(crate) fn group(group: Group) -> Self {
        asked().filter(|action| action.group() == group).fold(Self::NONE, Self::with)
    }

    /// What a name in `action ==` or `action in` stands for: an action, or a group of them.
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "use" => Self::group(Group::Use),
            "administer" => Self::group(Group::Administer),
            "read" => Self::group(Group::Read),
            name => asked().filter(|action| action.name() == name).fold(Self::NONE, Self::with),
        }
    }

    pub(crate) fn with(self, action: Action) -> Self {
        Self(self.0 | (1 << position(action)))
    }

    pub(crate) fn has(self, action: Action) -> bool {
        self.0 & (1 << position(action)) != 0
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(crate) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Action> {
        asked().filter(move |action| self.has(*action))
    }
}

/// An action's place in [`Action::ALL`].
fn position(action: Action) -> usize {
    action as usize
}

/// What a policy can be asked about an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    /// One key.
    Key,
    /// The tenant.
    Tenant,
    /// Nothing: it stands in the log only, and in no policy.
    Nothing,
}

/// What an action is about.
pub(crate) const fn about(action: Action) -> About {
    match action {
        Action::Encrypt
        | Action::Decrypt
        | Action::Wrap
        | Action::Unwrap
        | Action::DataKey
        | Action::RewrapFrom
        | Action::RewrapTo
        | Action::Sign
        | Action::Verify
        | Action::Mac
        | Action::VerifyMac
        | Action::Agree
        | Action::Encapsulate
        | Action::Decapsulate
        | Action::PublicKey
        | Action::CreateKey
        | Action::BeginImport
        | Action::ImportKey
        | Action::AdoptKey
        | Action::ArchiveKey
        | Action::ConfirmArchive
        | Action::UnarchiveKey
        | Action::RotateKey
        | Action::RollBackKey
        | Action::ActivateVersion
        | Action::DeactivateVersion
        | Action::DestroyVersion
        | Action::RecordInventory
        | Action::ScheduleKey
        | Action::LabelKey
        | Action::ActivateKey
        | Action::SuspendKey
        | Action::ResumeKey
        | Action::DeactivateKey
        | Action::CompromiseKey
        | Action::DestroyKey
        | Action::CancelDestruction
        | Action::RequestCopy
        | Action::ApproveCopy
        | Action::EndCopy
        | Action::ReadKey => About::Key,
        Action::Random
        | Action::PutCaller
        | Action::SuspendCaller
        | Action::ResumeCaller
        | Action::RemoveCaller
        | Action::IssueToken
        | Action::RevokeToken
        | Action::PutAnchor
        | Action::RemoveAnchor
        | Action::SetPolicy
        | Action::SuspendTenant
        | Action::ResumeTenant
        | Action::SetRetention
        | Action::CreateTenant
        | Action::BackUp
        | Action::VerifyBackup
        | Action::ConfirmClock
        | Action::DrainMember
        | Action::JoinMember
        | Action::ListKeys
        | Action::ReadCallers
        | Action::ReadPolicy
        | Action::ReadTenant
        | Action::ReadAudit
        | Action::ReadStatus => About::Tenant,
        Action::Undecoded
        | Action::Found
        | Action::Restore
        | Action::PruneAudit
        | Action::Noise
        | Action::Throttled
        | Action::Recover
        | Action::Unseal
        | Action::Seal
        | Action::ShareRoot
        | Action::RotateRoot
        | Action::HoldClock
        | Action::EjectMember
        | Action::NoteMembers
        | Action::SweepPool
        | Action::CompleteDestruction
        | Action::EraseKey
        | Action::CountUptime
        | Action::ChangeSealingKey
        | Action::ResealVersions
        | Action::RetireSealingKey => About::Nothing,
    }
}

/// Every action that stands in policies.
pub(crate) fn asked() -> impl Iterator<Item = Action> {
    Action::ALL.iter().copied().filter(|action| about(*action) != About::Nothing)
}

/// What a closed attribute can be; `None` for an open one.
pub(crate) fn vocabulary(variable: &str, attribute: &str) -> Option<Vec<&'static str>> {
    match (variable, attribute) {
        ("principal", "kind") => Some(CallerKind::ALL.iter().map(|kind| kind.name()).collect()),
        ("resource", "algorithm") => Some(Algorithm::ALL.iter().map(|it| it.name()).collect()),
        ("resource", "purpose") => Some(PURPOSES.iter().map(|purpose| purpose.name()).collect()),
        ("resource", "state") => Some(KeyState::ALL.iter().map(|state| state.name()).collect()),
        ("resource", "custody") => Some(Custody::ALL.iter().map(|custody| custody.name()).collect()),
        ("resource", "protocol") => {
            Some(Protocol::OF_KEYS.iter().map(|protocol| protocol.name()).chain(["any"]).collect())
        }
        ("context", "protocol") => Some(Protocol::ALL.iter().map(|protocol| protocol.name()).collect()),
        ("context", "authentication") => {
            Some(vec!["mtls", "bearer", "signature", "issued", "open", "gateway"])
        }
        (_, _) => None,
    }
}

/// Every purpose of a key.
pub(crate) const PURPOSES: [Purpose; 6] =
    [Purpose::Encrypt, Purpose::Wrap, Purpose::Sign, Purpose::Mac, Purpose::Agree, Purpose::Encapsulate];

fn uid(name: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(name.clone(), EntityId::new(id))
}

fn type_name(name: &str) -> Result<EntityTypeName, Error> {
    format!("Holdfast::{name}").parse().map_err(defect)
}

/// The schema is ours: what is wrong with it is our defect.
fn defect(source: impl Into<Box<dyn core::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Internal, Stage::Start, "the policy schema cannot be read").because(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_has_every_action_in_its_group_on_its_resource_and_no_other() {
        let vocabulary = Vocabulary::new().unwrap();
        let schema = vocabulary.validator.schema();
        let groups = schema.action_groups().count();
        assert_eq!((schema.actions().count(), groups), (asked().count() + groups, 3));
        for action in &asked().collect::<Vec<_>>() {
            let entity = vocabulary.action(*action).unwrap();
            assert_eq!(entity.uid().id().unescaped(), action.name());
            let group = match action.group() {
                Group::Use => "use",
                Group::Administer => "administer",
                Group::Read => "read",
            };
            let parents: Vec<_> =
                schema.action_entities().unwrap().ancestors(&entity.uid()).unwrap().cloned().collect();
            assert_eq!(parents.len(), 1, "{}", action.name());
            assert_eq!(parents[0].id().unescaped(), group, "{}", action.name());
            let resources: Vec<_> =
                schema.resources_for_action(&entity.uid()).unwrap().map(|name| name.basename()).collect();
            let expected = match about(*action) {
                About::Key => "Key",
                About::Tenant => "Tenant",
                About::Nothing => unreachable!(),
            };
            assert_eq!(resources, [expected], "{}", action.name());
        }
    }

    #[test]
    fn actions_are_told_apart_and_groups_hold_their_members() {
        assert_eq!(Actions::all().iter().count(), asked().count());
        for action in asked() {
            let one = Actions::named(action.name());
            assert_eq!(one.iter().collect::<Vec<_>>(), [action]);
            assert!(Actions::group(action.group()).has(action));
        }
        assert!(Actions::named("frobnicate").is_empty());
    }

    #[test]
    fn every_purpose_of_an_algorithm_is_listed() {
        for algorithm in Algorithm::ALL {
            for purpose in algorithm.purposes() {
                assert!(PURPOSES.contains(purpose));
            }
        }
    }
}
