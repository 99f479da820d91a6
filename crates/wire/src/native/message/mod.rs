//! The bodies of requests and answers, shared by gateway and clients.
//!
//! A request is written by serde and read by our own strict reader ([`request!`] makes both from one definition). An answer is written
//! by serde and read by serde, which passes over fields that an older client does not know.

mod administer;
mod adopt;
mod answer;
mod archive;
mod batch;
mod destruction;
mod emergency;
mod import;
mod records;
mod use_key;
mod versions;

pub use administer::{
    ActivateKey, AskToSeal, CheckPolicy, CreateKey, CreateTenant, ExplainPolicy, GenerationNumber, GiveShare,
    IssueSigningToken, IssueToken, LabelKey, NewAnchor, NewCaller, OrderSeal, PutAnchor, PutCaller,
    RestorePolicy, SetPolicy, SetRetention, ShareNumber, VerifyBackup,
};
pub use adopt::AdoptKey;
pub use answer::{
    AgreeAnswer, AnswerBody, CiphertextAnswer, DataKeyAnswer, EncapsulateAnswer, MacAnswer, PlaintextAnswer,
    PublicKeyAnswer, RandomAnswer, SignAnswer, VerifyAnswer,
};
pub use archive::{Archive, ArchivedVersion, ConfirmArchive, KeyArchived, UnarchiveKey};
pub use batch::{Batch, BatchAnswer, BatchItem, BatchResult, OperationResult, UseRequest, Verb};
pub(crate) use batch::{BatchItems, decode_items};
pub use destruction::{DestroyKey, Destruction, Erasure, HeldBy, SealingKey, WaitingDays};
pub use emergency::{ApproveCopy, CopyInForce, CopyRequest, CopyShare, EmergencyCopy, RequestCopy};
pub use import::{BeginImport, FinishImport, ImportBegun};
pub use records::{
    Anchor, Backup, Backups, Caller, Callers, Change, Explanation, Finding, Findings, Health, Key, Keys,
    Member, MemberLatency, Part, Policy, PolicyDone, Pool, Seal, SealChallenge, SealDone, SigningTokenIssued,
    Status, Sweep, Tenant, TenantDone, Token, TokenIssued, Version, Versions,
};
pub use use_key::{
    Agree, DataKey, Decapsulate, Decrypt, Empty, Encapsulate, Encrypt, Mac, PublicKey, Random, RandomLength,
    Rewrap, Sign, Unwrap, Verify, VerifyMac, Wrap,
};

pub use versions::{Inventory, PeriodDays, RecordInventory, Schedule, ScheduleKey, TransitionVersion};

use crate::json::{Fault, Reader};

/// A message whose fields can be read from an object that holds others beside them.
pub(crate) trait Fields: Sized {
    /// Reads them, passing over those in `beside`.
    fn read_beside(reader: &mut Reader<'_>, beside: &[&str]) -> Result<Self, Fault>;
}

/// A required field's value.
fn required<T>(slot: Option<T>, name: &str) -> Result<T, Fault> {
    slot.ok_or_else(|| Fault::malformed(format!("required field `{name}` is missing")))
}

/// Defines a request: its fields, how it is written, its schema and its strict reader.
macro_rules! request {
    (
        $(#[$doc:meta])*
        pub struct $name:ident {
            required { $($(#[$rdoc:meta])* $rfield:ident: $rtype:ty,)* }
            optional { $($(#[$odoc:meta])* $ofield:ident: $otype:ty,)* }
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, serde::Serialize, schemars::JsonSchema)]
        #[schemars(deny_unknown_fields)]
        pub struct $name {
            $($(#[$rdoc])* pub $rfield: $rtype,)*
            $($(#[$odoc])* #[serde(skip_serializing_if = "Option::is_none")] pub $ofield: Option<$otype>,)*
        }

        impl $crate::native::message::Fields for $name {
            fn read_beside(reader: &mut $crate::json::Reader<'_>, beside: &[&str]) -> Result<Self, $crate::json::Fault> {
                const KNOWN: &[&str] = &[$(stringify!($rfield),)* $(stringify!($ofield),)*];
                $(let mut $rfield: Option<$rtype> = None;)*
                $(let mut $ofield: Option<$otype> = None;)*
                reader.object(|reader, name| match name {
                    $(stringify!($rfield) => reader.field(stringify!($rfield), &mut $rfield),)*
                    $(stringify!($ofield) => reader.field(stringify!($ofield), &mut $ofield),)*
                    _ if beside.contains(&name) => reader.skip().map(drop),
                    _ => Err($crate::json::Fault::unknown(name, KNOWN)),
                })?;
                Ok(Self {
                    $($rfield: $crate::native::message::required($rfield, stringify!($rfield))?,)*
                    $($ofield,)*
                })
            }
        }

        impl $crate::json::Read for $name {
            fn read(reader: &mut $crate::json::Reader<'_>) -> Result<Self, $crate::json::Fault> {
                <Self as $crate::native::message::Fields>::read_beside(reader, &[])
            }
        }
    };
}
use request;
