//! AWS KMS as a store's clients sees it: what it asks, signed, and what its answers mean to who sets the store up.

use super::Store;
use crate::clock;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::xks_credential::XksCredential;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast_core::action::Action;
use holdfast_sdk::{Client, Secret};
use holdfast_wire::sigv4::Signer;
use holdfast_wire::xks::SERVICE;
use holdfast_wire::xks::format::integrity_value;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// What KMS would say of a request besides its id: the tests' own principal and KMS key. Policies see this.
pub(super) fn says(store: &Store, operation: &str) -> [(&'static str, String); 3] {
    let Store { region, account, .. } = store;
    let principal = format!("arn:{}:iam::{account}:role/holdfast-connect", partition(region));
    [
        ("kmsOperation", operation.to_owned()),
        ("awsPrincipalArn", principal),
        ("kmsKeyArn", store.kms_key("00000000-0000-0000-0000-000000000000")),
    ]
}

/// What KMS is asked for when it asks for this.
pub(super) const fn operation(action: Action) -> &'static str {
    if matches!(action, Action::Encrypt) {
        "GenerateDataKey"
    } else if matches!(action, Action::Decrypt) {
        "Decrypt"
    } else {
        "CreateKey"
    }
}

fn said(store: &Store, operation: &str) -> Value {
    let id = format!("holdfast-connect-{}", clock::now().micros());
    let all = says(store, operation).map(|(name, value)| (name.to_owned(), value.into()));
    Value::Object(all.into_iter().chain([("kmsRequestId".to_owned(), id.into())]).collect())
}

/// The partition of AWS that a region is in.
pub(super) fn partition(region: &str) -> &'static str {
    match region.split('-').next() {
        Some("cn") => "aws-cn",
        Some("us") if region.starts_with("us-gov-") => "aws-us-gov",
        Some(_) | None => "aws",
    }
}

/// KMS, with a store's credential.
pub(super) struct Kms<'a> {
    pub(super) client: &'a Client,
    pub(super) store: &'a Store,
    pub(super) credential: &'a XksCredential,
}

/// An answer of a store.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
    pub(super) took: Duration,
}

impl Answer {
    /// A field's text; empty where there is none.
    pub(super) fn text(&self, field: &str) -> &str {
        self.body.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    /// A field's list; empty where there is none.
    pub(super) fn list(&self, field: &str) -> &[Value] {
        self.body.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    }

    /// The error's name; none where it is no answer of this protocol's.
    pub(super) fn error(&self) -> Option<&str> {
        Some(self.text("errorName")).filter(|name| !name.is_empty())
    }

    fn bytes(&self, field: &str) -> Option<Vec<u8>> {
        STANDARD.decode(self.body.get(field)?.as_str()?).ok()
    }
}

/// Asks without a signature.
pub(super) async fn unsigned(client: &Client, store: &Store) -> Result<Answer, Failure> {
    let body = json!({ "requestMetadata": said(store, "KmsHealthCheck") }).to_string();
    send(client, &store.path("health"), &[], body).await
}

async fn send(
    client: &Client,
    path: &str,
    signed: &[(&'static str, &str)],
    body: String,
) -> Result<Answer, Failure> {
    let headers: Vec<_> =
        [("content-type", "application/json")].into_iter().chain(signed.iter().copied()).collect();
    let begun = Instant::now();
    let reply = client.post(path, &headers, body.into_bytes()).await?;
    let took = begun.elapsed();
    // What is no JSON is no answer of this protocol's either.
    let body = serde_json::from_slice(&reply.body).unwrap_or(Value::Null);
    Ok(Answer { status: reply.status, body, took })
}

impl Kms<'_> {
    /// Asks, signed with this secret.
    async fn ask_with(&self, secret: &Secret, rest: &str, body: &Value) -> Result<Answer, Failure> {
        let Self { client, store, credential } = self;
        let (path, body) = (store.path(rest), body.to_string());
        let signer = Signer {
            access_key_id: &credential.id,
            secret_access_key: secret,
            region: &store.region,
            service: SERVICE,
            now: clock::now(),
        };
        let (date, authorization) = signer.sign((client.authority(), &path), body.as_bytes());
        let signed = [("x-amz-date", date.as_str()), ("authorization", authorization.as_str())];
        send(client, &path, &signed, body).await
    }

    pub(super) async fn ask(&self, rest: &str, body: &Value) -> Result<Answer, Failure> {
        self.ask_with(&self.credential.secret, rest, body).await
    }

    pub(super) async fn health(&self) -> Result<Answer, Failure> {
        self.ask("health", &json!({ "requestMetadata": said(self.store, "KmsHealthCheck") })).await
    }

    /// The same, signed with another secret.
    pub(super) async fn forged(&self) -> Result<Answer, Failure> {
        let mut secret = Secret::from(self.credential.secret.expose());
        if let Some(first) = secret.expose_mut().first_mut() {
            *first = if *first == b'A' { b'B' } else { b'A' };
        }
        self.ask_with(&secret, "health", &json!({ "requestMetadata": said(self.store, "KmsHealthCheck") }))
            .await
    }

    pub(super) async fn metadata(&self) -> Result<Answer, Failure> {
        let rest = format!("keys/{}/metadata", self.store.key);
        self.ask(&rest, &json!({ "requestMetadata": said(self.store, operation(Action::ReadKey)) })).await
    }

    /// Encrypts, with an integrity value if that is wanted.
    pub(super) async fn encrypt(&self, plain: &[u8], aad: &[u8], checked: bool) -> Result<Answer, Failure> {
        let mut body = json!({
            "requestMetadata": said(self.store, operation(Action::Encrypt)),
            "plaintext": STANDARD.encode(plain),
            "additionalAuthenticatedData": STANDARD.encode(aad),
            "encryptionAlgorithm": "AES_GCM",
        });
        if let (true, Some(body)) = (checked, body.as_object_mut()) {
            body.insert("ciphertextDataIntegrityValueAlgorithm".to_owned(), "SHA_256".into());
        }
        self.ask(&format!("keys/{}/encrypt", self.store.key), &body).await
    }

    /// Decrypts what an encryption was answered.
    pub(super) async fn decrypt(&self, sealed: &Answer, aad: &[u8]) -> Result<Answer, Failure> {
        let body = json!({
            "requestMetadata": said(self.store, operation(Action::Decrypt)),
            "ciphertext": sealed.text("ciphertext"),
            "initializationVector": sealed.text("initializationVector"),
            "authenticationTag": sealed.text("authenticationTag"),
            "ciphertextMetadata": sealed.text("ciphertextMetadata"),
            "additionalAuthenticatedData": STANDARD.encode(aad),
            "encryptionAlgorithm": "AES_GCM",
        });
        self.ask(&format!("keys/{}/decrypt", self.store.key), &body).await
    }
}

/// Whether the integrity value of an encryption is the one of its own parts.
pub(super) fn is_whole(sealed: &Answer, aad: &[u8]) -> bool {
    let parts = ["ciphertextMetadata", "initializationVector", "ciphertext", "authenticationTag"];
    let [Some(metadata), Some(iv), Some(ciphertext), Some(tag)] = parts.map(|part| sealed.bytes(part)) else {
        return false;
    };
    let value = integrity_value(aad, &metadata, &iv, &ciphertext, &tag);
    sealed.bytes("ciphertextDataIntegrityValue").as_deref() == Some(&value)
}

/// Whether this is the plaintext.
pub(super) fn is_plaintext(opened: &Answer, plain: &[u8]) -> bool {
    opened.bytes("plaintext").as_deref() == Some(plain)
}

/// What an answer other than 200 means, with what to do.
pub(super) fn refusal(store: &Store, answer: &Answer, doing: &str) -> Failure {
    let Store { prefix, key, caller, region, .. } = store;
    let Some(name) = answer.error() else {
        let problem = format!(
            "whoever answers `{}` (status {}) is no external key store",
            store.path(""),
            answer.status
        );
        return Failure::new(Exit::State, problem).remedy(
            "add the `[[aws_xks]]` that is shown to the gateway's configuration and restart it; if it is there, look whether `--endpoint` leads to this gateway",
        );
    };
    let message = answer.text("errorMessage");
    let (exit, remedy) = match name {
        "AuthenticationFailedException" => (
            Exit::Unauthenticated,
            format!(
                "which of these it is is told nobody: the store's `regions` must have `{region}`, its `caller` must be `{caller}`, the clocks must agree, and nothing on the way may change host, path or body"
            ),
        ),
        "InvalidUriPathException" => (
            Exit::State,
            format!(
                "give its `[[aws_xks]]` the `prefix` \"{prefix}\", or name the one that it has with `--prefix`; a store with a `server_name` is there for AWS alone"
            ),
        ),
        "AccessDeniedException" => (
            Exit::Denied,
            format!(
                "let the policy permit it to `{caller}`: `holdfast connect aws-xks … --set-policy`, and `holdfast audit search --outcome refused` says what decided"
            ),
        ),
        "KeyNotFoundException" => (
            Exit::State,
            format!(
                "add `{key}` to the `keys` of the store's `[[aws_xks]]` and restart the gateway; or create it"
            ),
        ),
        "InvalidStateException" => (
            Exit::State,
            format!(
                "look at it with `holdfast key show {key}`: key, caller or tenant is stopped, or the gateway sealed"
            ),
        ),
        "InvalidKeyUsageException" => {
            (Exit::Usage, "name a key with `--key` that was made as aes-256-gcm to encrypt".to_owned())
        }
        "DependencyTimeoutException" => {
            (Exit::Unavailable, "have an operator look at the devices: `holdfast pool status`".to_owned())
        }
        "ThrottlingException" => (
            Exit::Unavailable,
            "try again, or have an operator raise `requests_per_second` of the store".to_owned(),
        ),
        "InvalidCiphertextException" => {
            (Exit::Integrity, "report it: what was encrypted a moment ago is not taken back".to_owned())
        }
        _ => (Exit::Failure, "look at the gateway's log".to_owned()),
    };
    let (status, said) = (answer.status, if message.is_empty() { "" } else { ": " });
    Failure::new(exit, format!("{doing}: {status} `{name}`{said}{message}")).remedy(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_has_its_partition() {
        for (region, of) in [
            ("eu-central-1", "aws"),
            ("us-east-1", "aws"),
            ("us-gov-west-1", "aws-us-gov"),
            ("cn-north-1", "aws-cn"),
        ] {
            assert_eq!(partition(region), of, "{region}");
        }
    }

    /// An integrity value of other parts than those that came is none.
    #[test]
    fn a_changed_part_is_not_whole() {
        let mut body = json!({
            "ciphertextMetadata": "a2V5X3ZlcnNpb249MQ==", "initializationVector": "HMrlRw85cAJUd5Ax",
            "ciphertext": "ghxkK1txeDNn3q8Y", "authenticationTag": "vBxN2ncH1oEkR8WVXpmyYQ==",
            "ciphertextDataIntegrityValue": "qHA/ImC9h5HsLRXqCyPmWgYx7tzyoTplzILbP0fPXsc=",
        });
        let aad = b"project=nile,department=marketing";
        let answer = |body: &Value| Answer { status: 200, body: body.clone(), took: Duration::ZERO };
        assert!(is_whole(&answer(&body), aad));
        assert!(!is_whole(&answer(&body), b"project=nile"));
        body["ciphertext"] = "gxxkK1txeDNn3q8Y".into();
        assert!(!is_whole(&answer(&body), aad));
    }
}
