//! AWS KMS, as an external key store sees it.

use super::api::{Api, T};
use super::peer::Peer;
use super::{Answer, Dev, dev_with, in_time, settings};
use holdfast_core::{Secret, Timestamp};
use holdfast_gateway::external_store::AwsXksTable;
use holdfast_wire::sigv4::Signer;
use holdfast_wire::xks::SERVICE;
use serde_json::{Value, json};
use std::path::Path;

pub const REGION: &str = "eu-central-1";
pub const ARN: &str = "arn:aws:iam::111122223333:role/PayrollApp";

/// A store that is to be, under this prefix, of this caller.
pub fn table(prefix: &str, caller: &str) -> AwsXksTable {
    AwsXksTable {
        prefix: prefix.to_owned(),
        tenant: "dev".to_owned(),
        caller: caller.to_owned(),
        regions: vec![REGION.to_owned(), "us-east-1".to_owned()],
        keys: vec![],
        encrypt_only: vec![],
        decrypt_only: vec![],
        requests_per_second: 0,
        server_name: String::new(),
        client_ca_file: std::path::PathBuf::new(),
        client_names: vec![],
    }
}

/// A dev gateway with these stores, whose callers may use keys of the name `payroll…`.
pub async fn gateway(directory: &Path, stores: Vec<AwsXksTable>) -> (Dev, Api) {
    let mut config = settings(directory);
    config.aws_xks = stores;
    let gateway = dev_with(config).await;
    let mut api = Api::developer(&gateway).await;
    for caller in ["aws", "other"] {
        api.put(&format!("{T}/callers/{caller}"), &json!({"kind": "application"})).await.expect(200);
    }
    let policy = api.get(&format!("{T}/policy")).await.expect(200).text("text")
        + r#"
@id("aws-uses")
permit (
  principal,
  action in [Holdfast::Action::"encrypt", Holdfast::Action::"decrypt"],
  resource
)
when { principal.kind == "application" && resource.name like "payroll*" && context.protocol == "aws-xks" && context.authentication == "signature" };

@id("aws-looks")
permit (principal, action == Holdfast::Action::"read-key", resource)
when { principal.kind == "application" && context.protocol == "aws-xks" };

@id("not-secret")
forbid (principal, action, resource == Holdfast::Key::"secret")
when { principal.kind == "application" };

@id("not-for-mallory")
forbid (principal, action in [Holdfast::Action::"encrypt", Holdfast::Action::"decrypt"], resource)
when { context.request.hasTag("awsPrincipalArn") && context.request.getTag("awsPrincipalArn") like "*:role/Mallory" };
"#;
    api.put(&format!("{T}/policy"), &json!({"text": policy})).await.expect(200);
    (gateway, api)
}

/// A credential of a store.
#[derive(Clone)]
pub struct Kms {
    pub id: String,
    pub secret: String,
    pub region: &'static str,
    pub service: &'static str,
    pub prefix: String,
    pub token: String,
}

/// The request as it goes out.
pub struct Signed {
    pub method: &'static str,
    pub path: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl Signed {
    pub fn set(&mut self, name: &str, value: &str) {
        let header = self.headers.iter_mut().find(|(known, _)| *known == name).unwrap();
        value.clone_into(&mut header.1);
    }

    pub async fn send(&self, peer: &mut Peer) -> Answer {
        in_time(async || self.send_once(peer).await).await
    }

    /// The same, whether or not the answer is in time.
    pub async fn send_once(&self, peer: &mut Peer) -> Answer {
        self.announce(peer, self.body.len()).await;
        peer.send(&self.body).await.unwrap();
        peer.answer().await.expect("an answer")
    }

    /// Sends the head alone, for a body of so many bytes.
    pub async fn announce(&self, peer: &mut Peer, length: usize) {
        self.announce_as(peer, &format!("content-length: {length}")).await;
    }

    /// Sends the head alone, for a body that does not say how long it is.
    pub async fn announce_chunked(&self, peer: &mut Peer) {
        self.announce_as(peer, "transfer-encoding: chunked").await;
    }

    async fn announce_as(&self, peer: &mut Peer, length: &str) {
        let Self { method, path, headers, body: _ } = self;
        let mut request = format!("{method} {path} HTTP/1.1\r\n{length}\r\n");
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += "content-type: application/json\r\n\r\n";
        peer.send(request.as_bytes()).await.unwrap();
    }
}

impl Kms {
    /// Has a credential issued for a caller.
    pub async fn of(api: &mut Api, caller: &str, prefix: &str) -> Self {
        let path = format!("{T}/callers/{caller}/signing-tokens");
        let issued = api.post(&path, &json!({"lifetime_seconds": 86_400})).await.expect(201);
        Self {
            id: issued.text("access_key_id"),
            secret: issued.text("secret_access_key"),
            region: REGION,
            service: SERVICE,
            prefix: prefix.to_owned(),
            token: issued.text("id"),
        }
    }

    pub fn path(&self, rest: &str) -> String {
        format!("{}/kms/xks/v1/{rest}", self.prefix)
    }

    pub fn sign_at(&self, path: &str, body: &[u8], now: Timestamp) -> Signed {
        let secret = Secret::new(self.secret.clone().into_bytes());
        let Self { id, region, service, .. } = self;
        let signer = Signer { access_key_id: id, secret_access_key: &secret, region, service, now };
        let (date, authorization) = signer.sign(("gateway", path), body);
        let headers =
            vec![("host", "gateway".to_owned()), ("x-amz-date", date), ("authorization", authorization)];
        Signed { method: "POST", path: path.to_owned(), headers, body: body.to_vec() }
    }

    pub fn sign(&self, rest: &str, body: &Value) -> Signed {
        self.sign_at(&self.path(rest), body.to_string().as_bytes(), now())
    }

    pub async fn ask(&self, peer: &mut Peer, rest: &str, body: &Value) -> Answer {
        self.sign(rest, body).send(peer).await
    }
}

pub fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap())
}

/// What a request says of itself.
pub fn said(operation: &str) -> Value {
    json!({
        "kmsRequestId": "b7c1a0d4-2f65-4f0e-9f0c-0a6f9e1d3b58",
        "kmsOperation": operation,
        "awsPrincipalArn": ARN,
        "kmsKeyArn": "arn:aws:kms:eu-central-1:111122223333:key/9f0c1d2e-3b4a-4c5d-8e6f-708192a3b4c5",
        "kmsViaService": "s3.eu-central-1.amazonaws.com",
        "somethingNew": {"nested": [1, null]},
    })
}

pub fn encrypt(plaintext: &[u8], aad: Option<&[u8]>, integrity: bool) -> Value {
    let mut body = json!({
        "requestMetadata": said("GenerateDataKey"),
        "plaintext": super::api::base64(plaintext),
        "encryptionAlgorithm": "AES_GCM",
    });
    if let Some(aad) = aad {
        body["additionalAuthenticatedData"] = super::api::base64(aad).into();
    }
    if integrity {
        body["ciphertextDataIntegrityValueAlgorithm"] = "SHA_256".into();
    }
    body
}

/// What decrypts an answer.
pub fn decrypt(sealed: &Value, aad: Option<&[u8]>) -> Value {
    let mut body = json!({
        "requestMetadata": said("Decrypt"),
        "encryptionAlgorithm": "AES_GCM",
        "ciphertext": sealed["ciphertext"],
        "initializationVector": sealed["initializationVector"],
        "authenticationTag": sealed["authenticationTag"],
        "ciphertextMetadata": sealed["ciphertextMetadata"],
    });
    if let Some(aad) = aad {
        body["additionalAuthenticatedData"] = super::api::base64(aad).into();
    }
    body
}

impl Answer {
    /// Checks that it is an error of this name, in the protocol's own form.
    #[track_caller]
    pub fn error(self, status: u16, name: &str) -> Self {
        let answer = self.expect(status);
        assert_eq!(answer.header("content-type"), Some("application/json"), "{}", answer.headers);
        assert_eq!(answer.text("errorName"), name, "{}", answer.json());
        let message = answer.json()["errorMessage"].as_str().unwrap_or_default().to_owned();
        assert!(message.len() < 512 && message.bytes().all(|b| (0x20..0x7f).contains(&b)), "{message}");
        assert!(!answer.body.contains(&b'\n'));
        answer
    }
}
