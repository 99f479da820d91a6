//! Office, as a key service of Microsoft's Double Key Encryption sees it.

use super::api::{Api, T};
use super::peer::Peer;
use holdfast_gateway::ms_dke::MsDkeTable;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};

pub const ISSUER: &str = "https://sts.windows.net/3f0e1c52-6b1d-4a7e-8c55-0d9b7a614e21/";
pub const HOST: &str = "dke.example.org";

/// A service that is to be, with these keys.
pub fn table(keys: &[&str]) -> MsDkeTable {
    MsDkeTable {
        public_url: format!("https://{HOST}"),
        tenant: "dev".to_owned(),
        caller: "ms-dke".to_owned(),
        keys: keys.iter().map(|&key| key.to_owned()).collect(),
        issuers: vec![ISSUER.to_owned()],
        audiences: vec![],
        scope: String::new(),
        authorization: "https://login.windows.net/common/oauth2/authorize".to_owned(),
        cache_days: 1,
        unknown_key_status: 404,
        requests_per_second: 0,
        requests_per_second_each: 0,
    }
}

/// A key of the protocol.
pub async fn create(api: &mut Api, name: &str) {
    let new = json!({"name": name, "algorithm": "rsa-2048", "purpose": "encrypt", "protocol": "ms-dke"});
    assert_eq!(api.create(&new).await["protocol"], "ms-dke");
}

/// Registers the caller for anybody of the issuer.
pub async fn register(api: &mut Api) {
    let caller = json!({"kind": "application", "credentials": [format!("issuer:{ISSUER}")]});
    api.put(&format!("{T}/callers/ms-dke"), &caller).await.expect(200);
}

/// Where the version decrypts whose document is this.
pub fn place(document: &Value) -> String {
    let kid = document["key"]["kid"].as_str().unwrap();
    format!("{}/decrypt", kid.strip_prefix(&format!("https://{HOST}")).unwrap())
}

pub async fn send(peer: &mut Peer, (method, path): (&str, &str), authorization: Option<&str>, body: &[u8]) {
    let shown = authorization.map(|it| format!("authorization: {it}\r\n")).unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {HOST}\r\n{shown}content-type: application/json; charset=utf-8\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    peer.send(head.as_bytes()).await.unwrap();
    // What is too long is refused by its length, whatever it is.
    if body.len() <= 1 << 20 {
        peer.send(body).await.unwrap();
    }
}

/// What openssl makes of something, with a public half and these hashes.
pub fn seal(directory: &Path, public: &[u8], (hash, mgf1): (&str, &str), plain: &[u8]) -> Vec<u8> {
    std::fs::write(directory.join("public.der"), public).unwrap();
    std::fs::write(directory.join("plain"), plain).unwrap();
    let mut command = Command::new("openssl");
    command.current_dir(directory);
    command.args([
        "pkeyutl",
        "-encrypt",
        "-pubin",
        "-keyform",
        "DER",
        "-inkey",
        "public.der",
        "-in",
        "plain",
    ]);
    command.args(["-pkeyopt", "rsa_padding_mode:oaep"]);
    command.args(["-pkeyopt", &format!("rsa_oaep_md:{hash}"), "-pkeyopt", &format!("rsa_mgf1_md:{mgf1}")]);
    let done = command.stdin(Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}
