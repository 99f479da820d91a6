//! Google's client-side encryption, as a key service sees it: tokens, and whoever shows them.

use super::api::{Api, T};
use super::peer::Peer;
use super::{Answer, Dev, dev_with, settings};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use holdfast_gateway::config::Config;
use holdfast_gateway::google_cse::GoogleCseTable;
use holdfast_gateway::issuer::IssuerTable;
use holdfast_wire::cse::claim::Application;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

pub const HOST: &str = "kacls.hyok.example";
pub const URL: &str = "https://kacls.hyok.example/v1";
pub const PEER: &str = "https://old-kacls.corp.example/v1";
pub const IDP: &str = "https://idp.corp.example";
pub const GUESTS: &str = "https://guests.corp.example";
pub const ORIGIN: &str = "https://client-side-encryption.google.com";
pub const DEK: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
pub const FILE: &str = "//googleapis.com/drive/files/1hyokExampleFile";
pub const REASON: &str = "{client:'drive' op:'create'}";

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/google-cse").join(name)
}

pub fn test_key() -> KeyPair {
    let pem = std::fs::read_to_string(fixture("test-key.pem")).unwrap();
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    KeyPair::from_pkcs8(&STANDARD.decode(body).unwrap()).unwrap()
}

/// An issuer whose only key is the test key.
pub fn issuer(name: &str, audiences: &[&str]) -> IssuerTable {
    super::issuer::table(name, audiences, "RS256", &fixture("jwks.json"))
}

/// A service as the tests want it.
pub fn table() -> GoogleCseTable {
    let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<String>>();
    GoogleCseTable {
        kacls_url: URL.to_owned(),
        own_host: true,
        name: "eu-prod".to_owned(),
        tenant: "dev".to_owned(),
        caller: "cse".to_owned(),
        key: "workspace".to_owned(),
        owner_domains: list(&["corp.example"]),
        audiences: list(&["hyok-cse-client"]),
        providers: list(&[IDP]),
        guest_providers: vec![],
        admin_providers: list(&[IDP]),
        admins: list(&["admin@idp.corp.example"]),
        admin_audiences: list(&["hyok-cse-admin"]),
        signing_keys: list(&["workspace-signing"]),
        take_from: list(&[PEER]),
        give_to: list(&[PEER]),
        peers_ca_file: PathBuf::new(),
        origins: list(&[ORIGIN]),
        request_headers: list(&["Content-Type"]),
        claims: list(&["department"]),
        requests_per_second: 0,
        requests_per_second_each: 0,
        requests_per_second_bulk: 0,
        earlier_keys: vec![],
        perimeter_keys: [("eu-secret".to_owned(), "workspace-eu".to_owned())].into(),
    }
}

/// The settings of a gateway with this service.
pub fn config(directory: &Path, table: GoogleCseTable) -> Config {
    let mut config = settings(directory);
    config.issuer = [IDP, GUESTS, PEER].map(|name| issuer(name, &[])).to_vec();
    config.issuer.extend(Application::ALL.map(|application| issuer(application.issuer(), &[])));
    config.google_cse = vec![table];
    config
}

/// A dev gateway with this service, its caller, its keys and a policy about perimeters.
pub async fn gateway(directory: &Path, table: GoogleCseTable) -> (Dev, Api) {
    gateway_of(config(directory, table)).await
}

/// The same with this configuration.
pub async fn gateway_of(config: Config) -> (Dev, Api) {
    let issuers: Vec<String> = config
        .google_cse
        .iter()
        .flat_map(|table| {
            table
                .give_to
                .iter()
                .chain(&table.take_from)
                .chain([&table.kacls_url])
                .map(|url| url.trim_end_matches('/').to_owned())
                .collect::<Vec<_>>()
        })
        .collect();
    let gateway = dev_with(config).await;
    let mut api = Api::developer(&gateway).await;
    set_up(&mut api, &issuers).await;
    (gateway, api)
}

async fn set_up(api: &mut Api, issuers: &[String]) {
    let mut issuers: Vec<String> = issuers.iter().map(|issuer| format!("issuer:{issuer}")).collect();
    issuers.extend([IDP, GUESTS].map(|issuer| format!("issuer:{issuer}")));
    issuers.push(format!("issuer:{}", Application::Migration.issuer()));
    let caller = json!({"kind": "application", "credentials": issuers});
    api.put(&format!("{T}/callers/cse"), &caller).await.expect(200);
    for key in ["workspace", "workspace-eu"] {
        api.create(&json!({"name": key, "purpose": "encrypt"})).await;
    }
    api.create(&json!({"name": "workspace-signing", "algorithm": "rsa-2048", "purpose": "sign"})).await;
    let policy = api.get(&format!("{T}/policy")).await.expect(200).text("text")
        + r#"
@id("cse-uses")
permit (
  principal == Holdfast::Caller::"cse",
  action in [Holdfast::Action::"encrypt", Holdfast::Action::"decrypt", Holdfast::Action::"sign"],
  resource
)
when { context.protocol == "google-cse" && context.authentication == "issued" };

@id("eu-legal-is-for-lawyers")
forbid (principal, action, resource)
when { context.request.hasTag("perimeter_id") && context.request.getTag("perimeter_id") == "eu-legal" }
unless { context.request.hasTag("claim.department") && context.request.getTag("claim.department") == "legal" };
"#;
    api.put(&format!("{T}/policy"), &json!({"text": policy})).await.expect(200);
}

pub fn now() -> u64 {
    super::xks::now().micros() / 1_000_000
}

fn jws(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

/// A token that is signed as it must be.
pub fn token(claims: &Value) -> String {
    signed(&json!({"alg": "RS256", "kid": "hyok-test-1", "typ": "JWT"}), claims)
}

/// A token with this header, signed by the test key.
pub fn signed(header: &Value, claims: &Value) -> String {
    let input = jws(header, claims);
    let key = test_key();
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), input.as_bytes(), &mut signature).unwrap();
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// A token with anything for a signature.
pub fn unsigned(header: &Value, claims: &Value, signature: &[u8]) -> String {
    format!("{}.{}", jws(header, claims), URL_SAFE_NO_PAD.encode(signature))
}

/// The claims of digest section 11, for now.
pub fn user() -> Value {
    json!({"aud": "hyok-cse-client", "email": "alopez@idp.corp.example", "google_email": "ana.lopez@corp.example",
        "exp": now() + 3600, "iat": now(), "iss": IDP, "department": "legal"})
}

pub fn google(application: Application, role: &str) -> Value {
    json!({"aud": "cse-authorization", "email": "Ana.Lopez@corp.example", "exp": now() + 3600, "iat": now(),
        "iss": application.issuer(), "kacls_url": URL, "perimeter_id": "eu-legal", "resource_name": FILE, "role": role})
}

pub fn drive(role: &str) -> Value {
    google(Application::Drive, role)
}

pub fn admin() -> Value {
    let mut claims = user();
    claims["email"] = "Admin@idp.corp.example".into();
    claims["aud"] = "hyok-cse-admin".into();
    claims.as_object_mut().unwrap().remove("google_email");
    claims
}

/// With another value, or with none for null.
pub fn with(mut object: Value, name: &str, value: Value) -> Value {
    match value.is_null() {
        true => drop(object.as_object_mut().unwrap().remove(name)),
        false => object[name] = value,
    }
    object
}

pub fn wrap(user: &Value, google: &Value) -> Value {
    json!({"authentication": token(user), "authorization": token(google), "key": DEK, "reason": REASON})
}

pub fn unwrap(user: &Value, google: &Value, wrapped: &Value) -> Value {
    json!({"authentication": token(user), "authorization": token(google), "reason": REASON, "wrapped_key": wrapped})
}

/// Posts to a method of the service.
pub async fn post(peer: &mut Peer, method: &str, body: &Value) -> Answer {
    send(peer, "POST", &format!("/v1/{method}"), &[], &body.to_string()).await
}

pub async fn send(peer: &mut Peer, verb: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    peer.send(request(verb, path, headers, body).as_bytes()).await.unwrap();
    peer.answer().await.expect("an answer")
}

/// A request as it goes out.
pub fn request(verb: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut request = format!("{verb} {path} HTTP/1.1\r\n");
    let has = |name: &str| headers.iter().any(|(known, _)| *known == name);
    if !has("content-length") {
        request += &format!("content-length: {}\r\n", body.len());
    }
    if !has("host") {
        request += &format!("host: {HOST}\r\n");
    }
    if !has("content-type") {
        request += "content-type: application/json; charset=UTF-8\r\n";
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request + "\r\n" + body
}

impl Answer {
    /// Checks that it is an error in the protocol's own form.
    #[track_caller]
    pub fn told(self, status: u16) -> Self {
        let operation = self.operation();
        let answer = self.expect(status);
        assert_eq!(answer.header("content-type"), Some("application/json"), "{}", answer.headers);
        let body = answer.json();
        assert_eq!(body["code"], status, "{body}");
        assert!(!answer.text("message").is_empty());
        assert_eq!(answer.text("details").to_uppercase(), format!("REQUEST {operation}"));
        assert_eq!(body.as_object().unwrap().len(), 3);
        answer
    }
}
