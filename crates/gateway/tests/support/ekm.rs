//! Azure Managed HSM, as a proxy of its external keys sees it.

use super::api::{Api, T};
use super::authority::{Authority, Leaf};
use super::peer::{Peer, Settings};
use super::{Answer, Dev, in_time, trust};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use holdfast_gateway::azure_ekm::AzureEkmTable;
use serde_json::{Value, json};
use std::path::Path;

pub const HOST: &str = "localhost";
pub const POOL: &str = "contoso.managedhsmclient.azure.net";
pub const QUERY: &str = "?api-version=0.1-preview";
/// A data encryption key.
pub const DEK: [u8; 32] = [0x5a; 32];

/// A proxy that is to be, under this prefix, of this caller; the authority's certificate is written where it says.
pub fn table(directory: &Path, authority: &Authority, prefix: &str, caller: &str) -> AzureEkmTable {
    let ca = directory.join("managed-hsm.pem");
    std::fs::create_dir_all(directory).unwrap();
    std::fs::write(&ca, &authority.pem).unwrap();
    AzureEkmTable {
        server_name: HOST.to_owned(),
        prefix: prefix.to_owned(),
        tenant: "dev".to_owned(),
        caller: caller.to_owned(),
        client_ca_file: ca,
        client_common_names: vec![POOL.to_owned()],
        keys: None,
        requests_per_second: 0,
        deadline_milliseconds: 250,
    }
}

pub const POLICY: &str = r#"
@id("azure-wraps")
permit (
  principal == Holdfast::Caller::"azure-ekm",
  action in [Holdfast::Action::"wrap", Holdfast::Action::"unwrap", Holdfast::Action::"read-key"],
  resource
)
when { context.protocol == "azure-ekm" && context.authentication == "mtls" };

@id("not-secret")
forbid (principal, action, resource == Holdfast::Key::"secret")
when { principal.kind == "application" };

@id("not-for-that-pool")
forbid (principal, action in [Holdfast::Action::"wrap", Holdfast::Action::"unwrap"], resource)
when { context.request.hasTag("pool_name") && context.request.getTag("pool_name") == "stolen" };
"#;

/// Registers the callers, with the policy above.
pub async fn register(api: &mut Api, callers: &[&str]) {
    for caller in callers {
        api.put(&format!("{T}/callers/{caller}"), &json!({"kind": "application"})).await.expect(200);
    }
    let policy = api.get(&format!("{T}/policy")).await.expect(200).text("text") + POLICY;
    api.put(&format!("{T}/policy"), &json!({"text": policy})).await.expect(200);
}

/// A key of the protocol.
pub async fn create(api: &mut Api, name: &str, algorithm: &str, legacy: &[&str]) {
    let new = json!({"name": name, "algorithm": algorithm, "purpose": "wrap", "protocol": "azure-ekm", "legacy": legacy});
    api.create(&new).await;
}

/// Who shows this certificate, and asks for the proxy's name.
pub fn as_leaf(directory: &Path, leaf: &Leaf) -> Settings {
    trust(directory).name(HOST).identity(leaf.certificate.clone(), leaf.key.clone())
}

/// A connection of Managed HSM's.
pub async fn connect(gateway: &Dev, leaf: &Leaf) -> Peer {
    Peer::connect(gateway.running.address, &as_leaf(&gateway.directory, leaf)).await.unwrap()
}

pub fn context() -> Value {
    json!({
        "request_id": "6476b291-7c15-4d0b-aef9-03688390cb8e",
        "correlation_id": "aa9a3cb4-82b4-11f0-afc6-5ffd3bdade85",
        "pool_name": "mhsm-pool-name",
        "something_new": {"nested": [1, null]},
    })
}

pub fn about() -> Value {
    json!({"request_context": context()})
}

pub fn value(alg: &str, bytes: &[u8]) -> Value {
    json!({"request_context": context(), "alg": alg, "value": URL_SAFE_NO_PAD.encode(bytes)})
}

pub fn bytes(answer: Answer) -> Vec<u8> {
    let answer = answer.expect(200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    URL_SAFE_NO_PAD.decode(answer.text("value")).unwrap()
}

pub async fn ask(peer: &mut Peer, path: &str, body: &Value) -> Answer {
    in_time(async || peer.post(&format!("{path}{QUERY}"), body).await).await
}

impl Answer {
    /// Checks that it is an error with this code, in the protocol's own form.
    #[track_caller]
    pub fn ekm_error(self, status: u16, code: &str) -> Self {
        let answer = self.expect(status);
        assert_eq!(answer.header("content-type"), Some("application/json"), "{}", answer.headers);
        let told = answer.json();
        assert_eq!(told["code"], code, "{told}");
        assert!(
            !told["message"].as_str().unwrap().is_empty() && told.as_object().unwrap().len() == 2,
            "{told}"
        );
        assert_eq!(answer.header("retry-after").is_some(), matches!(status, 429 | 503), "{}", answer.headers);
        answer
    }
}
