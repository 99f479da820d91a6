//! A key service of Google Workspace's client-side encryption in software custody: two tokens verified, policy, a durable record.

use crate::Turns;
use crate::gateway::{self, Gateway};
use crate::load::{self, Exchange};
use crate::report::{Report, Sum};
use anyhow::{Context as _, Result};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::path::Path;
use std::time::SystemTime;

const HOST: &str = "kacls.bench.example";
const URL: &str = "https://kacls.bench.example/cse";
const IDP: &str = "https://idp.bench.example";
const DRIVE: &str = "gsuitecse-tokenissuer-drive@system.gserviceaccount.com";
/// Wraps a second that a service is to bear.
const STEADY: u32 = 5000;
/// The test key that is published with the protocol's vectors, and the issuers' keys with it.
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/google-cse");
const POLICY: &str = r#"
@id("cse")
permit (principal == Holdfast::Caller::"cse", action in [Holdfast::Action::"encrypt", Holdfast::Action::"decrypt"], resource)
when { context.protocol == "google-cse" && context.request.hasTag("role") };
"#;

/// Measures wraps: in a closed loop, and at a steady rate.
pub(crate) async fn measure(
    holdfast: &Path,
    within: &Path,
    (connections, turns): (&[usize], Turns),
    report: &mut Report,
) -> Result<()> {
    let config = within.join("cse.toml");
    let issuer = |name| format!("[[issuer]]\nissuer = \"{name}\"\nkeys_file = \"{FIXTURES}/jwks.json\"\n");
    std::fs::write(
        &config,
        format!(
            "{}{}[[google_cse]]\nkacls_url = \"{URL}\"\ntenant = \"dev\"\ncaller = \"cse\"\nkey = \"workspace\"\n\
             owner_domains = [\"bench.example\"]\naudiences = [\"bench\"]\nproviders = [\"{IDP}\"]\nrequests_per_second = 0\nrequests_per_second_each = 0\nrequests_per_second_bulk = 0\n",
            issuer(IDP),
            issuer(DRIVE),
        ),
    )?;
    let config = config.canonicalize()?;
    let gateway = gateway::start_with(holdfast, &within.join("cse"), Some(&config)).await?;
    let exchange = exchange(&gateway).await?;
    let answer = load::ask(gateway.target, &exchange).await?;
    let answer: Value = serde_json::from_slice(&answer)?;
    answer.get("wrapped_key").with_context(|| format!("nothing was wrapped: {answer}"))?;
    for connections in connections.iter().copied() {
        let sum = gateway.closed(&exchange, connections, turns).await?;
        report.cse.push(sum.row("CSE wrap", connections));
    }
    let (measured, cpu) = gateway.steady(&exchange, (64, STEADY), turns.all()).await?;
    let mut sum = Sum::default();
    sum.add(measured, cpu);
    report.cse.push(sum.row(&format!("CSE wrap, {STEADY}/s"), 64));
    Ok(())
}

/// A key, the service's caller and a policy; then a wrap with tokens that are good for an hour.
async fn exchange(gateway: &Gateway) -> Result<Exchange> {
    gateway.ask("POST", "/keys", r#"{"name":"workspace","purpose":"encrypt"}"#).await?;
    let caller = json!({"kind": "application", "credentials": [format!("issuer:{IDP}")]});
    gateway.ask("PUT", "/callers/cse", &caller.to_string()).await?;
    let policy = gateway.ask("GET", "/policy", "").await?;
    let text = policy.get("text").and_then(|text| text.as_str()).context("no policy")?.to_owned() + POLICY;
    gateway.ask("PUT", "/policy", &json!({ "text": text }).to_string()).await?;
    let key = key()?;
    let (now, resource) = (now()?, "//googleapis.com/drive/files/1hyokExampleFile");
    let user =
        json!({"aud": "bench", "email": "ana@bench.example", "exp": now + 3600, "iat": now, "iss": IDP});
    let google = json!({"aud": "cse-authorization", "email": "ana@bench.example", "exp": now + 3600, "iat": now, "iss": DRIVE,
        "kacls_url": URL, "perimeter_id": "", "resource_name": resource, "role": "writer"});
    let body = json!({"authentication": token(&key, &user)?, "authorization": token(&key, &google)?,
        "key": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "reason": "{client:'drive' op:'create'}"});
    Ok(Exchange::with_headers("POST", "/cse/wrap", HOST, "", &body.to_string()))
}

fn key() -> Result<KeyPair> {
    let pem = std::fs::read_to_string(format!("{FIXTURES}/test-key.pem"))?;
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    Ok(KeyPair::from_pkcs8(&STANDARD.decode(body)?)?)
}

fn token(key: &KeyPair, claims: &Value) -> Result<String> {
    let header = json!({"alg": "RS256", "kid": "hyok-test-1", "typ": "JWT"});
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&header), part(claims));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

#[expect(clippy::disallowed_methods, reason = "a client has no request to take the time of")]
fn now() -> Result<u64> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs())
}
