//! From a matched request to a call of core.

use super::field::{Bounded, VersionNumber};
use super::message::{
    ActivateKey, AdoptKey, ApproveCopy, AskToSeal, BatchItems, BeginImport, CheckPolicy, ConfirmArchive,
    CreateKey, CreateTenant, DestroyKey, Empty, ExplainPolicy, FinishImport, GenerationNumber, GiveShare,
    IssueSigningToken, IssueToken, LabelKey, OrderSeal, PutAnchor, PutCaller, Random, RandomLength,
    RecordInventory, RequestCopy, RestorePolicy, ScheduleKey, SetPolicy, SetRetention, ShareNumber,
    TransitionVersion, UnarchiveKey, Verb, VerifyBackup, decode_items,
};
use super::query_string::QueryString;
use super::route::{BodyKind, Endpoint, OpenEndpoint};
use super::router::{Matched, RouteError, route};
use crate::json::{Fault, Read, Reader};
use core::str::FromStr;
use holdfast_core::caller::TokenForm;
use holdfast_core::command::Command;
use holdfast_core::lifecycle::Transition;
use holdfast_core::operation::Operation;
use holdfast_core::query::{AuditPath, MAX_PAGE, Query};
use holdfast_core::{CallerName, Epoch, Error, KeyName, KeyVersion, MemberName, TenantId, TokenId};

/// The rows of a page unless told.
const DEFAULT_PAGE: usize = 100;

/// A request, decoded.
#[derive(Debug)]
pub enum Call {
    /// Use a key.
    Use {
        /// Whose.
        tenant: TenantId,
        /// Which.
        key: KeyName,
        /// What for.
        operation: Operation,
    },
    /// Random bytes.
    Random {
        /// Whose key store gives them.
        tenant: TenantId,
        /// How many.
        length: usize,
    },
    /// Many uses at once.
    Batch {
        /// Whose keys.
        tenant: TenantId,
        /// Each item by itself: a malformed one is that item's error.
        items: Vec<Result<(KeyName, Operation), Error>>,
    },
    /// Change records.
    Command {
        /// Whose.
        tenant: TenantId,
        /// How.
        command: Command,
    },
    /// Read records.
    Query {
        /// Whose.
        tenant: TenantId,
        /// Which.
        query: Query,
    },
    /// Give a share of the root key: an age file.
    GiveShare(Vec<u8>),
    /// Ask for what orders a seal.
    AskToSeal {
        /// Of which generation the custodian's share is.
        generation: u32,
        /// Its number.
        share: u8,
    },
    /// Seal the gateway.
    OrderSeal {
        /// Of which generation the custodian's share is.
        generation: u32,
        /// Its number.
        share: u8,
        /// The answer to the challenge.
        answer: Vec<u8>,
    },
    /// What anybody may ask.
    Open(OpenEndpoint),
}

/// Why a request is no call.
#[derive(Debug)]
pub enum Refusal {
    /// There is no such endpoint.
    Route(RouteError),
    /// The endpoint does not take such a request.
    Decode(Error),
}

/// Routes and decodes: everything that a stranger's bytes reach. Pure, for fuzzing too.
///
/// # Errors
/// See [`route`] and [`decode`].
pub fn decode_any(method: &str, path: &str, query: &str, body: &[u8]) -> Result<Call, Refusal> {
    let matched = route(method, path).map_err(Refusal::Route)?;
    decode(&matched, query, body).map_err(Refusal::Decode)
}

/// Decodes a request: its path's parameters, its query string without `?`, its body.
///
/// # Errors
/// `malformed`, naming the field and what was expected there, and `too-large`. No error holds a value of the body.
pub fn decode(matched: &Matched<'_>, query: &str, body: &[u8]) -> Result<Call, Error> {
    call(matched, query, body).map_err(Fault::into_error)
}

fn call(matched: &Matched<'_>, query: &str, body: &[u8]) -> Result<Call, Fault> {
    let route = matched.route;
    if body.len() > route.limit {
        return Err(match route.body {
            BodyKind::None => Fault::malformed("this endpoint takes no body"),
            BodyKind::OptionalJson | BodyKind::Json => {
                Fault::too_large(format!("the body has more than {} bytes", route.limit))
            }
        });
    }
    let query = QueryString::parse(query, route.query)?;
    let body = Body { bytes: body, kind: route.body };
    let [first, second, third] = matched.parameters();
    let tenant = || -> Result<TenantId, Fault> { segment("tenant", first, TenantId::GRAMMAR) };
    let key = || -> Result<KeyName, Fault> { segment("key", second, KeyName::GRAMMAR) };
    let caller = || -> Result<CallerName, Fault> { segment("caller", second, CallerName::GRAMMAR) };
    let command = |command| Ok(Call::Command { tenant: tenant()?, command });
    let read = |query| Ok(Call::Query { tenant: tenant()?, query });

    match route.endpoint {
        Endpoint::Use(Verb::PublicKey) => {
            let operation = Operation::PublicKey { version: version("version", query.version)? };
            Ok(Call::Use { tenant: tenant()?, key: key()?, operation })
        }
        Endpoint::Use(verb) => {
            Ok(Call::Use { tenant: tenant()?, key: key()?, operation: body.operation(verb)? })
        }
        Endpoint::Random => Ok(Call::Random { tenant: tenant()?, length: body.random()?.size() }),
        Endpoint::Batch => Ok(Call::Batch { tenant: tenant()?, items: body.items()? }),

        Endpoint::CreateKey => command(Command::CreateKey(body.json::<CreateKey>()?.into_new_key())),
        Endpoint::BeginImport => command(Command::BeginImport(body.json::<BeginImport>()?.into_begin())),
        Endpoint::FinishImport => {
            command(Command::FinishImport(body.json::<FinishImport>()?.into_finish(key()?)?))
        }
        Endpoint::ArchiveKey => {
            body.json::<Empty>()?;
            command(Command::ArchiveKey(key()?))
        }
        Endpoint::ConfirmArchive => {
            let code = body.json::<ConfirmArchive>()?.into_code()?;
            command(Command::ConfirmArchive { key: key()?, code })
        }
        Endpoint::UnarchiveKey => {
            command(Command::UnarchiveKey(body.json::<UnarchiveKey>()?.into_unarchive(key()?)))
        }
        Endpoint::AdoptKey => command(Command::AdoptKey(body.json::<AdoptKey>()?.into_adopt()?)),
        Endpoint::RotateKey => {
            body.json::<Empty>()?;
            command(Command::RotateKey(key()?))
        }
        Endpoint::RollBackKey => {
            body.json::<Empty>()?;
            command(Command::RollBackKey(key()?))
        }
        Endpoint::TransitionVersion(verb) => {
            let TransitionVersion { version: VersionNumber(version), without_inventory } = body.json()?;
            let without_inventory = without_inventory.unwrap_or(false);
            command(Command::TransitionVersion { key: key()?, version, verb, without_inventory })
        }
        Endpoint::ScheduleKey => {
            let period = body.json::<ScheduleKey>()?.into_period();
            command(Command::ScheduleKey { key: key()?, period })
        }
        Endpoint::RecordInventory => {
            let taken = body.json::<RecordInventory>()?.into_taken()?;
            command(Command::RecordInventory { key: key()?, taken })
        }
        Endpoint::TransitionKey(Transition::Activate) => {
            let ActivateKey { unprotected } = body.json()?;
            command(Command::ActivateKey { key: key()?, unprotected: unprotected.unwrap_or(false) })
        }
        Endpoint::TransitionKey(verb) => {
            let verb = match verb {
                Transition::Destroy(_) => Transition::Destroy(body.json::<DestroyKey>()?.into_period()),
                Transition::Activate
                | Transition::Suspend
                | Transition::Resume
                | Transition::Deactivate
                | Transition::Compromise
                | Transition::CancelDestruction => {
                    body.json::<Empty>()?;
                    verb
                }
            };
            command(Command::TransitionKey { key: key()?, verb })
        }
        Endpoint::LabelKey => {
            let LabelKey { labels, expected_epoch } = body.json()?;
            command(Command::LabelKey { key: key()?, labels: labels.0, expected: expected_epoch.map(Epoch) })
        }
        Endpoint::RequestCopy => {
            command(Command::RequestCopy(body.json::<RequestCopy>()?.into_request(key()?)))
        }
        Endpoint::ApproveCopy => {
            let ApproveCopy { shares } = body.json()?;
            command(Command::ApproveCopy { key: key()?, shares: shares.0.into() })
        }
        Endpoint::EndCopy => command(Command::EndCopy(key()?)),
        Endpoint::ReadCopy => read(Query::Copy(key()?)),
        Endpoint::CreateTenant => {
            let new = body.json::<CreateTenant>()?.into_new_tenant();
            // Nobody in a tenant that does not exist yet could allow it: the gateway itself does.
            Ok(Call::Command { tenant: TenantId::gateway(), command: Command::CreateTenant(new) })
        }
        Endpoint::BackUp => {
            body.json::<Empty>()?;
            Ok(Call::Command { tenant: TenantId::gateway(), command: Command::BackUp })
        }
        Endpoint::VerifyBackup => {
            let verified = body.json::<VerifyBackup>()?.into_verified()?;
            Ok(Call::Command { tenant: TenantId::gateway(), command: Command::VerifyBackup(verified) })
        }
        Endpoint::ConfirmClock => {
            body.json::<Empty>()?;
            Ok(Call::Command { tenant: TenantId::gateway(), command: Command::ConfirmClock })
        }
        Endpoint::MoveMember(to) => {
            body.json::<Empty>()?;
            let member = segment("member", first, MemberName::GRAMMAR)?;
            Ok(Call::Command { tenant: TenantId::gateway(), command: Command::MoveMember { member, to } })
        }
        Endpoint::SuspendTenant => {
            body.json::<Empty>()?;
            command(Command::SuspendTenant)
        }
        Endpoint::ResumeTenant => {
            body.json::<Empty>()?;
            command(Command::ResumeTenant)
        }
        Endpoint::SetRetention => {
            command(Command::SetRetention(body.json::<SetRetention>()?.into_retention()))
        }
        Endpoint::PutCaller => command(Command::PutCaller(body.json::<PutCaller>()?.into_record(caller()?))),
        Endpoint::RemoveCaller => command(Command::RemoveCaller(caller()?)),
        Endpoint::SuspendCaller => {
            body.json::<Empty>()?;
            command(Command::SuspendCaller(caller()?))
        }
        Endpoint::ResumeCaller => {
            body.json::<Empty>()?;
            command(Command::ResumeCaller(caller()?))
        }
        Endpoint::IssueToken => {
            let IssueToken { lifetime_seconds: Bounded(seconds) } = body.json()?;
            command(Command::IssueToken { caller: caller()?, seconds, form: TokenForm::Bearer })
        }
        Endpoint::IssueSigningToken => {
            let IssueSigningToken { lifetime_seconds: Bounded(seconds) } = body.json()?;
            command(Command::IssueToken { caller: caller()?, seconds, form: TokenForm::Signing })
        }
        Endpoint::RevokeToken => {
            let token: TokenId = segment("token", third, "26 characters of Crockford's base 32")?;
            command(Command::RevokeToken { caller: caller()?, token })
        }
        Endpoint::PutAnchor => {
            command(Command::PutAnchor(body.json::<PutAnchor>()?.into_anchor(anchor(second)?)))
        }
        Endpoint::RemoveAnchor => command(Command::RemoveAnchor(anchor(second)?)),
        Endpoint::SetPolicy => {
            let SetPolicy { text, expected_version } = body.json()?;
            command(Command::SetPolicy { text: text.0, expected: expected_version })
        }
        Endpoint::RestorePolicy => {
            let RestorePolicy { version, expected_version } = body.json()?;
            command(Command::RestorePolicy { version, expected: expected_version })
        }

        Endpoint::ListKeys => {
            let after = query.after.map(|text| segment("after", text, KeyName::GRAMMAR)).transpose()?;
            read(Query::Keys { after, limit: limit(query.limit)? })
        }
        Endpoint::ReadKey => read(Query::Key(key()?)),
        Endpoint::ListVersions => {
            let after = version("after", query.after)?;
            read(Query::Versions { key: key()?, after, limit: limit(query.limit)? })
        }
        Endpoint::ListCallers => read(Query::Callers),
        Endpoint::ReadPolicy => read(Query::Policy { version: None }),
        Endpoint::ReadPolicyVersion => {
            read(Query::Policy { version: Some(segment("version", second, "a whole number")?) })
        }
        Endpoint::CheckPolicy => read(Query::CheckPolicy { text: body.json::<CheckPolicy>()?.text.0 }),
        Endpoint::ExplainPolicy => {
            let ExplainPolicy { caller, action, key, context } = body.json()?;
            let (key, context) = (key.map(|name| name.0), context.unwrap_or_default().0);
            read(Query::ExplainPolicy { caller: caller.0, action: action.0, key, context })
        }
        Endpoint::ReadTenant => read(Query::Tenant),
        Endpoint::ReadAudit => match AuditPath::new(second) {
            Some(path) => read(Query::AuditFile(path)),
            None => {
                Err(Fault::malformed("expected `checkpoint`, `checkpoint.cosigned`, `log.vkey` or `tile/…`")
                    .within("file"))
            }
        },
        Endpoint::ReadPool => Ok(Call::Query { tenant: TenantId::gateway(), query: Query::Pool }),
        Endpoint::ReadStatus => Ok(Call::Query { tenant: TenantId::gateway(), query: Query::Status }),
        Endpoint::GiveShare => Ok(Call::GiveShare(body.json::<GiveShare>()?.share.0)),
        Endpoint::AskToSeal => {
            let AskToSeal { generation, share } = body.json()?;
            Ok(Call::AskToSeal { generation: generation_of(generation), share: number_of(share) })
        }
        Endpoint::OrderSeal => {
            let OrderSeal { generation, share, answer } = body.json()?;
            let (generation, share) = (generation_of(generation), number_of(share));
            Ok(Call::OrderSeal { generation, share, answer: answer.0 })
        }
        Endpoint::Open(endpoint) => Ok(Call::Open(endpoint)),
    }
}

/// Its type has no larger ones.
fn generation_of(number: GenerationNumber) -> u32 {
    u32::try_from(number.0).unwrap_or(u32::MAX)
}

/// Its type has no larger ones.
fn number_of(number: ShareNumber) -> u8 {
    u8::try_from(number.0).unwrap_or(u8::MAX)
}

/// Parses a parameter of the path or the query string.
fn segment<T: FromStr>(name: &str, text: &str, grammar: &str) -> Result<T, Fault> {
    text.parse().map_err(|_| Fault::malformed(format!("expected {grammar}")).within(name))
}

fn anchor(text: &str) -> Result<CallerName, Fault> {
    segment("anchor", text, CallerName::GRAMMAR)
}

fn version(name: &str, text: Option<&str>) -> Result<Option<KeyVersion>, Fault> {
    let expected = || Fault::malformed("expected a key version, from 1 to 4294967295").within(name);
    text.map(|text| {
        decimal(text).and_then(|number| KeyVersion::new(u32::try_from(number).ok()?)).ok_or_else(expected)
    })
    .transpose()
}

fn limit(text: Option<&str>) -> Result<usize, Fault> {
    let expected =
        || Fault::malformed(format!("expected a whole number from 1 to {MAX_PAGE}")).within("limit");
    let Some(text) = text else { return Ok(DEFAULT_PAGE) };
    let number = decimal(text).and_then(|number| usize::try_from(number).ok());
    number.filter(|number| (1..=MAX_PAGE).contains(number)).ok_or_else(expected)
}

/// Digits alone: `parse` would take a sign.
fn decimal(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()))
}

#[derive(Clone, Copy)]
struct Body<'b> {
    bytes: &'b [u8],
    kind: BodyKind,
}

impl Body<'_> {
    /// Where it may be left out, an empty body is an empty object.
    fn text(&self) -> &[u8] {
        match self.kind {
            BodyKind::OptionalJson if self.bytes.is_empty() => b"{}",
            BodyKind::OptionalJson | BodyKind::Json | BodyKind::None => self.bytes,
        }
    }

    fn json<T: Read>(&self) -> Result<T, Fault> {
        Reader::whole(self.text())
    }

    fn operation(&self, verb: Verb) -> Result<Operation, Fault> {
        let mut reader = Reader::new(self.text())?;
        let operation = verb.read(&mut reader, &[])?;
        reader.finish()?;
        Ok(operation)
    }

    fn random(&self) -> Result<RandomLength, Fault> {
        self.json::<Random>().map(|random| random.length)
    }

    fn items(&self) -> Result<BatchItems, Fault> {
        decode_items(self.text())
    }
}
