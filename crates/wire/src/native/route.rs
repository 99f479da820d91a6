//! What the table says of an endpoint.

use super::message::Verb;
use holdfast_core::lifecycle::{Transition, VersionVerb};
use holdfast_core::port::Membership;
use schemars::{JsonSchema, Schema, SchemaGenerator};

/// An HTTP method that some endpoint takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Does something.
    Post,
    /// Replaces.
    Put,
    /// Removes.
    Delete,
}

impl Method {
    /// Its name (RFC 9110 §9.1).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// What an endpoint's request decodes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// Use a key.
    Use(Verb),
    /// Random bytes.
    Random,
    /// Many uses at once.
    Batch,
    /// Create a key.
    CreateKey,
    /// Make the import key of a key whose material will come from outside.
    BeginImport,
    /// Take the material.
    FinishImport,
    /// Write an archive of a key.
    ArchiveKey,
    /// Leave a key's material to its archive.
    ConfirmArchive,
    /// Take it back.
    UnarchiveKey,
    /// Take a key that another program made in the token.
    AdoptKey,
    /// List keys.
    ListKeys,
    /// Read a key.
    ReadKey,
    /// List a key's versions.
    ListVersions,
    /// Replace a key's labels.
    LabelKey,
    /// Make a new version of a key.
    RotateKey,
    /// Give new work back to an earlier version.
    RollBackKey,
    /// Move a version to another state.
    TransitionVersion(VersionVerb),
    /// Record what of a key's versions is still needed.
    RecordInventory,
    /// Say how often a key is rotated by itself.
    ScheduleKey,
    /// Move a key to another state.
    TransitionKey(Transition),
    /// Ask custodians to allow the use of a key's emergency copies.
    RequestCopy,
    /// Give a custodian's shares for that.
    ApproveCopy,
    /// End it before its time.
    EndCopy,
    /// Read how it stands.
    ReadCopy,
    /// Create a tenant.
    CreateTenant,
    /// Write a backup.
    BackUp,
    /// Record that one opens.
    VerifyBackup,
    /// Confirm the clock.
    ConfirmClock,
    /// Read a tenant.
    ReadTenant,
    /// Stop a tenant.
    SuspendTenant,
    /// Lift that.
    ResumeTenant,
    /// Say for how long the log is kept.
    SetRetention,
    /// List callers and anchors.
    ListCallers,
    /// Register a caller.
    PutCaller,
    /// Remove a caller.
    RemoveCaller,
    /// Stop a caller.
    SuspendCaller,
    /// Lift that.
    ResumeCaller,
    /// Issue a token.
    IssueToken,
    /// `issue-signing-token`.
    IssueSigningToken,
    /// Revoke a token.
    RevokeToken,
    /// Trust an anchor.
    PutAnchor,
    /// Trust it no longer.
    RemoveAnchor,
    /// Read the policy in force.
    ReadPolicy,
    /// Read an earlier policy.
    ReadPolicyVersion,
    /// Replace the policy.
    SetPolicy,
    /// Put an earlier policy in force again.
    RestorePolicy,
    /// Check a policy.
    CheckPolicy,
    /// Ask how the policy decides.
    ExplainPolicy,
    /// Read a file of the log.
    ReadAudit,
    /// Read the gateway's status.
    ReadStatus,
    /// Look at the members of the key store's pool.
    ReadPool,
    /// Take a member of the pool out, or let it in again.
    MoveMember(Membership),
    /// Give a share of the root key.
    GiveShare,
    /// Ask for what orders a seal.
    AskToSeal,
    /// Seal the gateway.
    OrderSeal,
    /// What anybody may ask.
    Open(OpenEndpoint),
}

/// What anybody may ask; the closed list of requests that are not recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenEndpoint {
    /// The API document.
    OpenApi,
    /// Whether the process lives.
    Live,
    /// Whether it can work.
    Ready,
    /// Whether it waits for its root key.
    Seal,
}

/// Who may ask at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A caller who has proved who they are.
    Authenticated,
    /// Anybody.
    Open,
}

/// What body a request has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// None.
    None,
    /// A JSON object; an empty body counts as an empty object.
    OptionalJson,
    /// A JSON object.
    Json,
}

/// A parameter of the query string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parameter {
    /// Rows after this one.
    After,
    /// At most so many rows.
    Limit,
    /// Which version of a key.
    Version,
}

impl Parameter {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::After => "after",
            Self::Limit => "limit",
            Self::Version => "version",
        }
    }
}

/// How a body is described in the API document.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// One endpoint.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// Its name: `operationId` in the API document, label in metrics.
    pub name: &'static str,
    /// Its method.
    pub method: Method,
    /// Its path, with `{parameter}` for one segment and `{+parameter}` for all that remain.
    pub path: &'static str,
    /// What it decodes to.
    pub endpoint: Endpoint,
    /// What it does, one line.
    pub summary: &'static str,
    /// Who may ask.
    pub access: Access,
    /// The most bytes of a request's body.
    pub limit: usize,
    /// What body a request has.
    pub body: BodyKind,
    /// What a query string can hold.
    pub query: &'static [Parameter],
    /// The request's schema.
    pub request: Option<SchemaOf>,
    /// A request's body that decodes.
    pub example: Option<&'static str>,
    /// The answer's schema; none for files, which are bytes.
    pub answer: Option<SchemaOf>,
    /// The status of success.
    pub status: u16,
}

fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// How the table's rows are written.
impl Route {
    const fn new(
        method: Method,
        name: &'static str,
        path: &'static str,
        endpoint: Endpoint,
        summary: &'static str,
    ) -> Self {
        Self {
            name,
            method,
            path,
            endpoint,
            summary,
            access: Access::Authenticated,
            limit: 0,
            body: BodyKind::None,
            query: &[],
            request: None,
            example: None,
            answer: None,
            status: 200,
        }
    }

    pub(super) const fn get(
        name: &'static str,
        path: &'static str,
        endpoint: Endpoint,
        summary: &'static str,
    ) -> Self {
        Self::new(Method::Get, name, path, endpoint, summary)
    }

    pub(super) const fn post(
        name: &'static str,
        path: &'static str,
        endpoint: Endpoint,
        summary: &'static str,
    ) -> Self {
        Self::new(Method::Post, name, path, endpoint, summary)
    }

    pub(super) const fn put(
        name: &'static str,
        path: &'static str,
        endpoint: Endpoint,
        summary: &'static str,
    ) -> Self {
        Self::new(Method::Put, name, path, endpoint, summary)
    }

    pub(super) const fn delete(
        name: &'static str,
        path: &'static str,
        endpoint: Endpoint,
        summary: &'static str,
    ) -> Self {
        Self::new(Method::Delete, name, path, endpoint, summary)
    }

    /// Takes a JSON body of at most `limit` bytes, such as `example`.
    pub(super) const fn takes<T: JsonSchema>(self, limit: usize, example: &'static str) -> Self {
        Self { body: BodyKind::Json, limit, request: Some(schema_of::<T>), example: Some(example), ..self }
    }

    /// Takes an empty body as an empty object.
    pub(super) const fn or_nothing(self) -> Self {
        Self { body: BodyKind::OptionalJson, ..self }
    }

    pub(super) const fn with_query(self, query: &'static [Parameter]) -> Self {
        Self { query, ..self }
    }

    pub(super) const fn gives<T: JsonSchema>(self) -> Self {
        Self { answer: Some(schema_of::<T>), ..self }
    }

    pub(super) const fn created(self) -> Self {
        Self { status: 201, ..self }
    }

    pub(super) const fn open(self) -> Self {
        Self { access: Access::Open, ..self }
    }
}
