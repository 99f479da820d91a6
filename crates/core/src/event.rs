//! Events: one JSON object for each outcome, written once, straight into the log's buffer. Field by field in `docs/events.md`.

mod commitment;
mod json;

pub use commitment::{Committed, Committer, verify_opened};

use crate::action::Action;
use crate::algorithm::Algorithm;
use crate::caller::{Authentication, Caller};
use crate::context::Context;
use crate::error::{ErrorKind, Stage};
use crate::frame::Commitment;
use crate::id::{KeyId, KeyName, KeyVersion, OperationId, PolicyId, TenantId};
use crate::key::{Custody, Evidence, TokenEvidence, TokenOrigin};
use crate::port;
use crate::protocol::Protocol;
use crate::time::Timestamp;
use core::net::IpAddr;
use json::Object;

/// What an event says of the operation's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending<'a> {
    /// A command is about to be carried out; another event of the same operation closes it.
    Intent,
    /// It was done.
    Success,
    /// It was done, as recovery found after an interruption.
    Recovered,
    /// It was not done: by decision (a refusal) or by a fault, as the kind tells.
    Refused {
        /// What the peer was told.
        kind: ErrorKind,
        /// Where it ended.
        stage: Stage,
        /// What the peer was not told.
        detail: &'a str,
    },
}

/// The key that an operation was about, as far as it is known.
#[derive(Debug, Clone, Copy)]
pub struct KeyFacts<'a> {
    /// The name that was asked for.
    pub name: &'a KeyName,
    /// Its record, if there is one: id, algorithm, custody.
    pub known: Option<(KeyId, Algorithm, Custody)>,
    /// The protocol that it was created for, if it was for one.
    pub protocol: Option<Protocol>,
    /// The version that was used or made.
    pub version: Option<KeyVersion>,
}

/// Everything that the record of one operation says. No plaintext, key or token ever.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// The operation.
    pub operation: OperationId,
    /// When it was received.
    pub time: Timestamp,
    /// In whose log it stands.
    pub tenant: &'a TenantId,
    /// Who asked.
    pub caller: &'a Caller,
    /// For what.
    pub action: Action,
    /// Of which key.
    pub key: Option<KeyFacts<'a>>,
    /// The other key of a rewrap.
    pub target: Option<KeyFacts<'a>>,
    /// What else it was about: a caller's, an anchor's or a file's name.
    pub subject: Option<&'a str>,
    /// The policy's version.
    pub policy: u64,
    /// The policies that decided.
    pub deciding: &'a [PolicyId],
    /// How it ended.
    pub ending: Ending<'a>,
    /// Whether an emergency copy did it, since no device could.
    pub by_copy: bool,
    /// Through which protocol.
    pub protocol: &'a str,
    /// The protocol's own request id.
    pub protocol_request: Option<&'a str>,
    /// What the protocol says of the request.
    pub request: &'a Context,
    /// W3C trace id, 32 hexadecimal digits.
    pub trace: Option<&'a str>,
    /// From where.
    pub source: Option<IpAddr>,
    /// Microseconds from the request's receipt to this record.
    pub latency_micros: u64,
    /// A commitment to the input.
    pub input: Option<Committed>,
    /// A commitment to the output.
    pub output: Option<Committed>,
    /// A commitment to what the caller brought for a ciphertext of the protocol's own form to be bound to.
    pub associated: Option<Committed>,
    /// The encryption context.
    pub context: ContextFacts<'a>,
    /// Where the state stands after a command.
    pub state: Option<port::Committed>,
    /// Where a key version was made, if one was, and the value that ties what it makes to that.
    pub evidence: Option<(&'a Evidence, &'a Commitment)>,
    /// Whether somebody should look at it: a policy change that reaches its author, a budget that runs out.
    pub alarm: Option<&'a str>,
}

/// How the encryption context stands in the event.
#[derive(Debug, Clone, Copy)]
pub enum ContextFacts<'a> {
    /// In clear.
    Clear(&'a Context),
    /// As a commitment, since a label of the key hides it.
    Hidden(Committed),
}

/// The most bytes of an event for what the protocol says of its request: more than a well-meant request ever has.
const MAX_SAYS: usize = 5120;
/// The most policies that one event names; more are counted.
const MAX_POLICIES: usize = 16;
/// The most bytes of a free text in an event, which is cut there: keeps every event below the log's 65,535 bytes.
pub const MAX_TEXT: usize = 256;

impl Event<'_> {
    /// Appends the event's JSON to `out`, without a line end.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let Self {
            operation,
            time,
            tenant,
            caller,
            action,
            key,
            target,
            subject,
            policy,
            deciding,
            ending,
            by_copy,
            protocol,
            protocol_request,
            request,
            trace,
            source,
            latency_micros,
            input,
            output,
            associated,
            context,
            state,
            evidence,
            alarm,
        } = self;
        let mut event = Object::begin(out);
        event.number("v", 1);
        event.ascii("operation", &operation.text());
        event.ascii("time", &time.text());
        event.ascii("tenant", tenant.as_str().as_bytes());
        event.object("caller", |object| encode_caller(object, caller));
        event.ascii("action", action.name().as_bytes());
        if let Some(key) = key {
            event.object("key", |object| encode_key(object, key));
        }
        if let Some(target) = target {
            event.object("target", |object| encode_key(object, target));
        }
        if let Some(subject) = subject {
            event.text("subject", subject, MAX_TEXT);
        }
        event.object("policy", |object| {
            object.number("version", *policy);
            object.names("deciding", deciding.iter().take(MAX_POLICIES).map(PolicyId::as_str));
            if deciding.len() > MAX_POLICIES {
                object.number("more", u64::try_from(deciding.len() - MAX_POLICIES).unwrap_or(u64::MAX));
            }
        });
        encode_ending(&mut event, ending);
        if *by_copy {
            event.ascii("performed_by", b"emergency-copy");
        }
        event.object("protocol", |object| {
            object.ascii("name", protocol.as_bytes());
            if let Some(request) = protocol_request {
                object.text("request", request, MAX_TEXT);
            }
            if let Some(trace) = trace {
                object.text("trace", trace, MAX_TEXT);
            }
            if !request.is_empty() {
                object.object("says", |says| says.free_within(request.pairs(), MAX_SAYS));
            }
        });
        if let Some(source) = source {
            event.display("source", source);
        }
        event.number("latency_us", *latency_micros);
        for (name, committed) in [("input", input), ("output", output), ("associated", associated)] {
            if let Some(committed) = committed {
                event.object(name, |object| committed.encode(object));
            }
        }
        match context {
            ContextFacts::Clear(context) if context.is_empty() => {}
            ContextFacts::Clear(context) => event.object("context", |object| {
                for (name, value) in context.pairs() {
                    object.free(name, value);
                }
            }),
            ContextFacts::Hidden(committed) => {
                event.object("context_hidden", |object| committed.encode(object))
            }
        }
        if let Some(port::Committed { sequence, digest }) = state {
            event.object("state", |object| {
                object.number("sequence", *sequence);
                object.hex("digest", digest);
            });
        }
        if let Some((evidence, commitment)) = evidence {
            event.object("evidence", |object| encode_evidence(object, evidence, commitment));
        }
        if let Some(alarm) = alarm {
            event.text("alarm", alarm, MAX_TEXT);
        }
        event.end();
    }
}

fn encode_caller(object: &mut Object<'_>, caller: &Caller) {
    object.ascii("name", caller.name().as_str().as_bytes());
    object.ascii("kind", caller.kind().name().as_bytes());
    object.ascii("authentication", caller.authentication.name().as_bytes());
    match &caller.authentication {
        Authentication::MutualTls { key_hash, matched } => {
            if let Some(key_hash) = key_hash {
                object.hex("certificate_key_sha256", key_hash);
            }
            object.text("matched", matched, MAX_TEXT);
        }
        Authentication::Bearer(token) | Authentication::Signature(token) => {
            object.ascii("token", &token.text());
        }
        Authentication::Issued { issuer, subject } => {
            object.text("issuer", issuer, MAX_TEXT);
            if let Some(subject) = subject {
                object.text("subject", subject, MAX_TEXT);
            }
        }
        Authentication::Open | Authentication::Gateway => {}
    }
}

fn encode_key(object: &mut Object<'_>, key: &KeyFacts<'_>) {
    let KeyFacts { name, known, protocol, version } = key;
    object.ascii("name", name.as_str().as_bytes());
    if let Some((id, algorithm, custody)) = known {
        object.ascii("id", &id.text());
        object.ascii("algorithm", algorithm.name().as_bytes());
        object.ascii("custody", custody.name().as_bytes());
    }
    if let Some(protocol) = protocol {
        object.ascii("protocol", protocol.name().as_bytes());
    }
    if let Some(version) = version {
        object.number("version", u64::from(version.get()));
    }
}

fn encode_evidence(object: &mut Object<'_>, evidence: &Evidence, commitment: &Commitment) {
    match evidence {
        Evidence::Software => {
            object.ascii("level", b"software");
            object.ascii("origin", b"generated");
        }
        Evidence::Imported => {
            object.ascii("level", b"software");
            object.ascii("origin", b"imported");
        }
        Evidence::Token(TokenEvidence {
            origin,
            manufacturer,
            model,
            serial,
            firmware,
            attributes,
            wrapping_key,
        }) => {
            object.ascii("level", b"token");
            match origin {
                TokenOrigin::Generated => object.ascii("origin", b"generated"),
                TokenOrigin::Imported => object.ascii("origin", b"imported"),
                TokenOrigin::Copied { custodians, threshold } => {
                    object.ascii("origin", b"copied");
                    object.object("emergency_copy", |object| {
                        object.number("threshold", u64::from(*threshold));
                        object.names("custodians", custodians.iter().map(|name| &**name));
                    });
                }
                TokenOrigin::Adopted { id, label } => {
                    object.ascii("origin", b"adopted");
                    object.object("object", |object| {
                        object.text("id", id, MAX_TEXT);
                        object.text("label", label, MAX_TEXT);
                    });
                }
            }
            object.object("token", |object| {
                let said = [
                    ("manufacturer", manufacturer),
                    ("model", model),
                    ("serial", serial),
                    ("firmware", firmware),
                ];
                for (name, text) in said {
                    object.text(name, text, MAX_TEXT);
                }
            });
            object.names("attributes", attributes.iter().copied());
            if let Some(wrapping_key) = wrapping_key {
                object.text("wrapping_key", wrapping_key, MAX_TEXT);
            }
        }
    }
    object.hex("commitment", &commitment.0);
}

fn encode_ending(event: &mut Object<'_>, ending: &Ending<'_>) {
    match ending {
        Ending::Intent => event.ascii("outcome", b"intent"),
        Ending::Success => event.ascii("outcome", b"success"),
        Ending::Recovered => {
            event.ascii("outcome", b"success");
            event.ascii("reason", b"recovered");
        }
        Ending::Refused { kind, stage, detail } => {
            event.ascii("outcome", b"refused");
            event.ascii("reason", kind.code().as_bytes());
            event.ascii("stage", stage.name().as_bytes());
            event.text("detail", detail, MAX_TEXT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::{CallerKind, CallerRecord};
    use std::sync::Arc;

    fn caller(tenant: &TenantId) -> Caller {
        let record = CallerRecord {
            name: "payroll".parse().unwrap(),
            kind: CallerKind::Application,
            groups: vec![],
            credentials: vec![],
            tokens: vec![],
            suspended: false,
        };
        let authentication = Authentication::MutualTls {
            key_hash: Some([0xab; 32]),
            matched: "uri:spiffe://acme/payroll".into(),
        };
        Caller { tenant: tenant.clone(), record: Arc::new(record), authentication, own: None }
    }

    /// Golden: whoever changes an event's bytes changes what the tenants' tools read.
    #[test]
    fn an_event_byte_for_byte() {
        let tenant: TenantId = "acme".parse().unwrap();
        let caller = caller(&tenant);
        let name: KeyName = "payroll-kek".parse().unwrap();
        let context = Context::new(vec![("purpose".into(), "a \"quoted\"\n\u{1}line".into())]).unwrap();
        let deciding = ["payroll-may-encrypt".parse().unwrap()];
        let event = Event {
            operation: OperationId::from_bytes([0; 16]),
            time: Timestamp::from_micros(1_795_460_597_123_456),
            tenant: &tenant,
            caller: &caller,
            action: Action::Encrypt,
            key: Some(KeyFacts {
                name: &name,
                known: Some((KeyId::from_bytes([1; 16]), Algorithm::Xaes256Gcm, Custody::Software)),
                protocol: None,
                version: Some(KeyVersion::FIRST),
            }),
            target: None,
            subject: None,
            policy: 3,
            deciding: &deciding,
            ending: Ending::Refused {
                kind: ErrorKind::KeyState,
                stage: Stage::Resolve,
                detail: "key is `suspended`",
            },
            by_copy: false,
            protocol: "native",
            protocol_request: None,
            request: &Context::EMPTY,
            trace: None,
            source: Some("192.0.2.7".parse().unwrap()),
            latency_micros: 87,
            input: Some(Committed::Sha256 { digest: [2; 32], bytes: 33 }),
            output: None,
            associated: None,
            context: ContextFacts::Clear(&context),
            state: None,
            evidence: None,
            alarm: None,
        };
        let mut out = Vec::new();
        event.encode(&mut out);
        let expected = concat!(
            r#"{"v":1,"operation":"00000000000000000000000000","time":"2026-11-23T19:03:17.123456Z","tenant":"acme","#,
            r#""caller":{"name":"payroll","kind":"application","authentication":"mtls","#,
            r#""certificate_key_sha256":"abababababababababababababababababababababababababababababababab","#,
            r#""matched":"uri:spiffe://acme/payroll"},"action":"encrypt","key":{"name":"payroll-kek","#,
            r#""id":"01041040G20820G4108410G210","algorithm":"xaes-256-gcm","custody":"software","version":1},"#,
            r#""policy":{"version":3,"deciding":["payroll-may-encrypt"]},"outcome":"refused","reason":"key-state","#,
            r#""stage":"resolve","detail":"key is `suspended`","protocol":{"name":"native"},"source":"192.0.2.7","#,
            r#""latency_us":87,"input":{"sha256":"0202020202020202020202020202020202020202020202020202020202020202","#,
            r#""bytes":33},"context":{"purpose":"a \"quoted\"\u000a\u0001line"}}"#,
        );
        let got = String::from_utf8(out).unwrap();
        assert_eq!(got.split(r#""id":""#).next(), expected.split(r#""id":""#).next());
        assert_eq!(got.split(r#""algorithm""#).nth(1), expected.split(r#""algorithm""#).nth(1));
    }

    #[test]
    fn the_largest_event_fits_an_entry() {
        let tenant: TenantId = "a".repeat(63).parse().unwrap();
        let caller = caller(&tenant);
        let name: KeyName = "k".repeat(128).parse().unwrap();
        let value = "\u{1}".repeat((Context::MAX_BYTES - 64) / 64);
        let pairs = (0..64).map(|i| (Box::from(char::from(b'0' + i).to_string()), Box::from(value.as_str())));
        let context = Context::new(pairs.collect()).unwrap();
        let long = "\u{1}".repeat(100_000);
        let deciding = vec!["p".repeat(128).parse().unwrap(); 100];
        let facts = KeyFacts {
            name: &name,
            known: Some((KeyId::from_bytes([1; 16]), Algorithm::Xaes256Gcm, Custody::VendorAttested)),
            protocol: Some(Protocol::GoogleCse),
            version: KeyVersion::new(u32::MAX),
        };
        let committed = Some(Committed::Hmac { tag: [2; 32], bytes: 33 });
        let event = Event {
            operation: OperationId::from_bytes([0xff; 16]),
            time: Timestamp::from_micros(u64::MAX),
            tenant: &tenant,
            caller: &caller,
            action: Action::SuspendTenant,
            key: Some(facts),
            target: Some(facts),
            subject: Some(&long),
            policy: u64::MAX,
            deciding: &deciding,
            ending: Ending::Refused {
                kind: ErrorKind::KeyStoreUnavailable,
                stage: Stage::Perform,
                detail: &long,
            },
            by_copy: true,
            protocol: "native",
            protocol_request: Some(&long),
            request: &context,
            trace: Some(&long),
            source: Some("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap()),
            latency_micros: u64::MAX,
            input: committed,
            output: committed,
            associated: committed,
            context: ContextFacts::Clear(&context),
            state: Some(port::Committed { sequence: u64::MAX, digest: [0; 32] }),
            evidence: None,
            alarm: Some(&long),
        };
        let mut out = Vec::new();
        event.encode(&mut out);
        assert!(out.len() <= 65_535, "{}", out.len());
        let text = std::str::from_utf8(&out).unwrap();
        // As many names as fit, and how many more there were.
        assert!(text.contains(&format!(r#""{}"],"more":84}}"#, "p".repeat(128))));
    }
}
