//! A provider of the Secrets Store CSI driver, sans-IO: what the driver asks (package `v1alpha1`), and what it is answered.
//!
//! Source: `provider/v1alpha1/service.proto` of kubernetes-sigs/secrets-store-csi-driver, and what the driver requires of its values. In words:
//! `docs/protocols/kubernetes-csi.md`.

mod object;
mod reason;

pub use object::{Form, MAX_OBJECTS, SealedObject};
pub use reason::Reason;

use super::grpc::{self, Code};
use super::protobuf::{self, Fields};
use super::status::Refused;
use crate::json::{Fault, Reader};
use core::fmt;
use holdfast_core::TenantId;
use object::objects;
use zeroize::Zeroizing;

/// The paths of its calls.
pub mod path {
    /// Who is there.
    pub const VERSION: &str = "/v1alpha1.CSIDriverProvider/Version";
    /// What belongs into a volume.
    pub const MOUNT: &str = "/v1alpha1.CSIDriverProvider/Mount";
}

/// The version of the protocol.
pub const VERSION: &str = "v1alpha1";
/// The longest request: a SecretProviderClass is at most as large as what etcd takes, and its attributes are twice as long at worst.
pub const MAX_MESSAGE: usize = 4 << 20;
/// The longest answer that a driver takes unless told otherwise, with room for what stands around it.
pub const MAX_ANSWER: usize = (4 << 20) - 1024;
/// The most attributes of a request that are looked at.
const MAX_ATTRIBUTES: usize = 256;

/// What is asked.
#[derive(Debug)]
pub enum Call<'a> {
    /// Who is there.
    Version,
    /// What belongs into a volume: not yet looked at.
    Mount(Asked<'a>),
}

/// A request for a volume's files, as it came.
pub struct Asked<'a> {
    attributes: &'a str,
    permission: &'a str,
}

impl fmt::Debug for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The attributes hold the pod's token.
        f.write_str("Asked")
    }
}

/// Why a volume has no files: the driver hands the reason on, and the words stand in this process's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The reason.
    pub reason: Reason,
    /// What happened, and what to do next. Never a secret.
    pub words: String,
}

impl Failed {
    /// With its words.
    pub fn new(reason: Reason, words: impl Into<String>) -> Self {
        Self { reason, words: words.into() }
    }
}

/// What belongs into a volume.
pub struct Mount {
    /// Whose keys open it, if the class says so.
    pub tenant: Option<TenantId>,
    /// The pod's own token for this audience.
    pub token: Zeroizing<String>,
    /// Kubernetes' id of the pod; empty where the driver does not say it.
    pub pod: String,
    /// What is to be opened; one at least.
    pub objects: Vec<SealedObject>,
}

impl fmt::Debug for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mount({} objects for pod `{}`)", self.objects.len(), self.pod)
    }
}

/// Reads a request by its path and its body.
///
/// # Errors
/// `UNIMPLEMENTED` for another path; `INVALID_ARGUMENT` for what is no such message.
pub fn decode<'a>(of: &str, body: &'a [u8]) -> Result<Call<'a>, Refused> {
    match of {
        path::VERSION => {
            Fields::of(grpc::message(body)?).try_for_each(|field| field.map(drop))?;
            Ok(Call::Version)
        }
        path::MOUNT => {
            let mut asked = Asked { attributes: "", permission: "" };
            for field in Fields::of(grpc::message(body)?) {
                match field? {
                    (1, value) => asked.attributes = value.text()?,
                    (4, value) => asked.permission = value.text()?,
                    // Secrets that the class refers to, where the volume is, what is there now: nothing of it counts.
                    _ => {}
                }
            }
            Ok(Call::Mount(asked))
        }
        _ => Err(Refused::new(
            Code::Unimplemented,
            "there is no such method; this is a provider of the Secrets Store CSI driver, v1alpha1",
        )),
    }
}

impl Asked<'_> {
    /// Reads what is asked for; the token is the one for this audience.
    ///
    /// # Errors
    /// When it cannot be meant.
    pub fn read(&self, audience: &str) -> Result<Mount, Failed> {
        let Attributes { tenant, tokens, pod, objects: listed } = attributes(self.attributes)?;
        let mode = match self.permission {
            "" => DEFAULT_MODE,
            decimal => decimal
                .parse()
                .ok()
                .filter(|mode| *mode <= object::MAX_MODE)
                .ok_or_else(|| Failed::new(Reason::InvalidRequest, "`permission` is no mode of a file"))?,
        };
        let token = tokens.as_deref().map(|tokens| token(tokens, audience)).transpose()?.flatten();
        let token = token.ok_or_else(|| {
            Failed::new(
                Reason::NoToken,
                format!("the pod's token for the audience `{audience}` is not there; name it in `tokenRequests` of the CSIDriver `secrets-store.csi.k8s.io`"),
            )
        })?;
        let tenant = tenant.map(|tenant| {
            tenant.parse::<TenantId>().map_err(|_| {
                Failed::new(Reason::InvalidObjects, "`tenant` of the SecretProviderClass is no name of one")
            })
        });
        let Some(listed) = listed else {
            return Err(Failed::new(Reason::InvalidObjects, "the SecretProviderClass has no `objects`"));
        };
        Ok(Mount { tenant: tenant.transpose()?, token, pod, objects: objects(&listed, mode)? })
    }
}

/// What a file's mode is unless somebody says: readable by its owner and group.
const DEFAULT_MODE: u32 = 0o640;

struct Attributes {
    tenant: Option<String>,
    tokens: Option<Zeroizing<String>>,
    pod: String,
    objects: Option<Zeroizing<String>>,
}

fn attributes(json: &str) -> Result<Attributes, Failed> {
    let mut found = Attributes { tenant: None, tokens: None, pod: String::new(), objects: None };
    let mut names: Vec<Box<str>> = vec![];
    let read = Reader::new(json.as_bytes()).and_then(|mut reader| {
        reader.object(|reader, name| {
            if names.iter().any(|known| **known == *name) || names.len() == MAX_ATTRIBUTES {
                return Err(Fault::malformed("a name stands there twice, or there are too many"));
            }
            names.push(name.into());
            let value = reader.text()?;
            match name {
                "tenant" => found.tenant = Some(value.to_owned()),
                "objects" => found.objects = Some(Zeroizing::new(value.to_owned())),
                "csi.storage.k8s.io/pod.uid" if value.len() <= 64 => found.pod = value.to_owned(),
                "csi.storage.k8s.io/serviceAccount.tokens" => {
                    found.tokens = Some(Zeroizing::new(value.to_owned()));
                }
                _ => {}
            }
            Ok(())
        })?;
        reader.finish()
    });
    read.map(|()| found).map_err(|fault| {
        Failed::new(Reason::InvalidRequest, format!("`attributes`: {}", fault.into_error().detail()))
    })
}

/// The token for an audience: an object from audiences to `{token, expirationTimestamp}`.
fn token(json: &str, audience: &str) -> Result<Option<Zeroizing<String>>, Failed> {
    let mut found = None;
    let read = Reader::new(json.as_bytes()).and_then(|mut reader| {
        reader.object(|reader, name| {
            if name != audience {
                return reader.skip().map(drop);
            }
            let mut token = None;
            reader.object(|reader, name| match name {
                "token" if token.is_none() => {
                    token = Some(Zeroizing::new(reader.text()?.to_owned()));
                    Ok(())
                }
                "token" => Err(Fault::malformed("stands there twice")),
                _ => reader.skip().map(drop),
            })?;
            match found.is_some() {
                true => Err(Fault::malformed("stands there twice")),
                false => {
                    found = token;
                    Ok(())
                }
            }
        })?;
        reader.finish()
    });
    read.map(|()| found).map_err(|_| {
        Failed::new(
            Reason::InvalidRequest,
            "`csi.storage.k8s.io/serviceAccount.tokens` is not as Kubernetes writes it",
        )
    })
}

/// What Version is answered, with the version of the program.
pub fn version_response(runtime: &str) -> Vec<u8> {
    let mut message = vec![];
    protobuf::put(&mut message, 1, VERSION.as_bytes());
    protobuf::put(&mut message, 2, b"holdfast");
    protobuf::put(&mut message, 3, runtime.as_bytes());
    message
}

/// What Mount is answered when there are no files.
pub fn failure_response(reason: Reason) -> Vec<u8> {
    let (mut error, mut message) = (vec![], vec![]);
    protobuf::put(&mut error, 1, reason.code().as_bytes());
    protobuf::put(&mut message, 2, &error);
    message
}

/// What Mount is answered, file by file, in memory that is wiped.
pub struct Volume {
    message: Zeroizing<Vec<u8>>,
}

impl Default for Volume {
    fn default() -> Self {
        // All that there can be, so that it never moves and leaves something behind; untouched, it costs no memory.
        Self { message: Zeroizing::new(Vec::with_capacity(MAX_ANSWER)) }
    }
}

impl Volume {
    /// Adds a file.
    ///
    /// # Errors
    /// When the driver would not take the answer any more.
    pub fn put(&mut self, object: &SealedObject, contents: &[u8]) -> Result<(), Failed> {
        let (version, path) = (object.version(), object.path.as_bytes());
        let mut of = vec![];
        protobuf::put(&mut of, 1, object.name.as_bytes());
        protobuf::put(&mut of, 2, version.as_bytes());
        let mut mode = vec![];
        protobuf::put_number(&mut mode, 2, u64::from(object.mode));
        // The last is for what stands before the file as a whole.
        let lengths = [&of[..], path, &mode, contents, &[]].map(protobuf::length);
        let length = lengths.iter().fold(self.message.len(), |all, length| all.saturating_add(*length));
        if length > MAX_ANSWER {
            return Err(Failed::new(
                Reason::TooLarge,
                format!("all files together have more than {MAX_ANSWER} bytes"),
            ));
        }
        protobuf::put(&mut self.message, 1, &of);
        let mut head = vec![];
        protobuf::put(&mut head, 1, path);
        head.extend_from_slice(&mode);
        protobuf::open(&mut self.message, 3, head.len().saturating_add(protobuf::put_length(contents)));
        self.message.extend_from_slice(&head);
        protobuf::put(&mut self.message, 3, contents);
        Ok(())
    }

    /// The message.
    pub fn into_message(self) -> Zeroizing<Vec<u8>> {
        self.message
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::grpc::framed;

    fn put(fields: &[(u8, &[u8])]) -> Vec<u8> {
        let mut message = vec![];
        for (number, value) in fields {
            protobuf::put(&mut message, *number, value);
        }
        message
    }

    fn read(attributes: &str, permission: &str) -> Result<Mount, Failed> {
        let message = put(&[(1, attributes.as_bytes()), (2, b"{}"), (3, b"/t"), (4, permission.as_bytes())]);
        let body = framed(&message);
        let Ok(Call::Mount(asked)) = decode("/v1alpha1.CSIDriverProvider/Mount", &body) else { panic!() };
        asked.read("holdfast")
    }

    const TOKENS: &str = r#""csi.storage.k8s.io/serviceAccount.tokens":"{\"other\":{\"token\":\"no\"},\"holdfast\":{\"token\":\"a.b.c\",\"expirationTimestamp\":\"2026-01-01T00:00:00Z\"}}""#;
    const OBJECTS: &str = r#""objects":"[{\"name\":\"db\",\"key\":\"payroll\",\"ciphertext\":\"AAEC\"}]""#;

    #[test]
    fn a_request_is_read_as_the_driver_writes_it() {
        let attributes = format!(
            r#"{{"tenant":"acme","secretProviderClass":"x","csi.storage.k8s.io/pod.uid":"u-1",{TOKENS},{OBJECTS}}}"#
        );
        let mount = read(&attributes, "420").unwrap();
        assert_eq!((mount.tenant.unwrap().as_str(), &**mount.token, &*mount.pod), ("acme", "a.b.c", "u-1"));
        let [object] = &mount.objects[..] else { panic!() };
        assert_eq!((&*object.name, &*object.path, object.mode), ("db", "db", 0o644));
        assert_eq!(read(&attributes, "").unwrap().objects[0].mode, DEFAULT_MODE);
        let told = format!("{:?}", read(&attributes, "420").unwrap());
        assert!(!told.contains("a.b.c"), "{told}");
    }

    #[test]
    fn what_is_wrong_has_a_reason_and_no_value_in_its_words() {
        for (attributes, permission, reason) in [
            (format!("{{{TOKENS},{OBJECTS}}}"), "512", Reason::InvalidRequest),
            (format!("{{{TOKENS},{OBJECTS}}}"), "0x1", Reason::InvalidRequest),
            (format!("{{{TOKENS},{OBJECTS},{OBJECTS}}}"), "420", Reason::InvalidRequest),
            (format!("{{{OBJECTS}}}"), "420", Reason::NoToken),
            (format!("{{{},{OBJECTS}}}", TOKENS.replace("holdfast", "else")), "420", Reason::NoToken),
            (format!("{{{},{OBJECTS}}}", TOKENS.replace("other", "holdfast")), "420", Reason::InvalidRequest),
            (format!("{{{TOKENS}}}"), "420", Reason::InvalidObjects),
            (format!("{{{TOKENS},\"objects\":\"[]\"}}"), "420", Reason::InvalidObjects),
            (format!("{{\"tenant\":\"No\",{TOKENS},{OBJECTS}}}"), "420", Reason::InvalidObjects),
            ("null".into(), "420", Reason::InvalidRequest),
            ("{\"a\":1}".into(), "420", Reason::InvalidRequest),
        ] {
            let failed = read(&attributes, permission).unwrap_err();
            assert_eq!(failed.reason, reason, "{attributes}: {failed:?}");
            assert!(!failed.words.contains("a.b.c") && !failed.words.contains("AAEC"), "{failed:?}");
        }
        assert_eq!(
            decode("/v1alpha1.CSIDriverProvider/Else", &framed(b"")).unwrap_err().code,
            Code::Unimplemented
        );
    }

    #[test]
    fn answers_are_these_bytes() {
        assert_eq!(version_response("1"), b"\x0a\x08v1alpha1\x12\x08holdfast\x1a\x011");
        assert_eq!(failure_response(Reason::NoToken), b"\x12\x09\x0a\x07NoToken");
        let attributes = format!("{{{TOKENS},{OBJECTS}}}");
        let mount = read(&attributes, "420").unwrap();
        let mut volume = Volume::default();
        volume.put(&mount.objects[0], b"secret").unwrap();
        let message = volume.into_message();
        let version = mount.objects[0].version();
        assert_eq!(version.len(), 32);
        let expected = [
            b"\x0a\x26\x0a\x02db\x12\x20".as_slice(),
            version.as_bytes(),
            b"\x1a\x0f\x0a\x02db\x10\xa4\x03\x1a\x06secret",
        ]
        .concat();
        assert_eq!(*message, expected);
        let mut full = Volume::default();
        let half = vec![0; MAX_ANSWER / 2];
        full.put(&mount.objects[0], &half).unwrap();
        assert_eq!(full.put(&mount.objects[0], &half).unwrap_err().reason, Reason::TooLarge);
        assert!(full.message.capacity() == MAX_ANSWER, "it has not moved");
    }
}
