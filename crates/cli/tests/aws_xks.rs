//! An external key store whose keys are in a token: the real binary, a real module, and `curl` that signs as AWS does.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "what fails here is a test"
)]

mod common;

use common::dev::environment;
use common::log::closing;
use common::softhsm::{MODULE, PIN, SoftHsm, start, workers};
use common::wait::{in_time, until};
use common::{Dev, code, stderr, stdout, tool};
use holdfast_core::{Secret, Timestamp};
use holdfast_sdk::Client;
use holdfast_wire::sigv4::Signer;
use holdfast_wire::xks::SERVICE;
use serde_json::{Value, json};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

const PLAIN: &str = "d3JhcCBtZTogMzItYnl0ZSBkYXRhIGtleSBoZXJlISE=";
const AAD: &str = "ZGVwdD1wYXlyb2xsLGVudj1wcm9k";
const POLICY: &str = r#"
@id("aws")
permit (principal == Holdfast::Caller::"aws", action in [Holdfast::Action::"encrypt", Holdfast::Action::"decrypt", Holdfast::Action::"read-key"], resource)
when { context.protocol == "aws-xks" };
"#;
const KMS_KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/9f0c1d2e-3b4a-4c5d-8e6f-708192a3b4c5";
const STORE: &str = "
[[aws_xks]]
prefix = \"/dev\"
tenant = \"dev\"
caller = \"aws\"
regions = [\"eu-central-1\"]
";

struct Store {
    dev: Dev,
    // Outlives the gateway.
    _token: SoftHsm,
    /// Requests for operations that were sent.
    asked: Cell<usize>,
}

impl Store {
    fn new() -> Self {
        let token = SoftHsm::new();
        let dev = start(TempDir::new().unwrap(), &format!("{}{STORE}", token.settings_of("hsm-a")));
        until("the token is there", || dev.server.admin("/metrics").contains("holdfast_ready 1"));
        dev.ok(&["key", "create", "payroll", "--algorithm", "aes-256-gcm"]);
        dev.ok(&["caller", "put", "aws"]);
        let policy = dev.ok(&["policy", "show"]) + POLICY;
        let policy = dev.file("policy.cedar", policy.as_bytes());
        dev.ok(&["policy", "set", &policy]);
        let issued = dev.ok(&["caller", "signing-token", "aws", "--json"]);
        let issued: Value = serde_json::from_str(&issued).unwrap();
        let of = |field: &str| issued[field].as_str().unwrap().to_owned();
        let user = format!("user = \"{}:{}\"\n", of("access_key_id"), of("secret_access_key"));
        dev.file("credential", user.as_bytes());
        Self { dev, _token: token, asked: Cell::new(0) }
    }

    /// Status and body of an answer.
    fn ask(&self, rest: &str, body: &Value) -> (u16, Value) {
        let environment = environment(&self.dev.data());
        let ca = environment.iter().find(|(name, _)| name == "HOLDFAST_CACERT").unwrap().1.clone();
        let url = format!("{}/dev/kms/xks/v1/{rest}", self.dev.server.url);
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--cacert", &ca, "--aws-sigv4", "aws:amz:eu-central-1:kms-xks-proxy", "--config"]);
        curl.arg(self.dev.path("credential")).args(["-H", "content-type: application/json"]);
        curl.args(["-w", "\n%{http_code}", "-d", &body.to_string(), &url]);
        let output = curl.output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let said = String::from_utf8(output.stdout).unwrap();
        let (body, status) = said.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), serde_json::from_str(body).unwrap())
    }

    fn health(&self) -> String {
        let said = json!({"kmsRequestId": "h", "kmsOperation": "KmsHealthCheck"});
        let (status, body) = in_time(|| self.ask("health", &json!({"requestMetadata": said})), is_late);
        assert_eq!(status, 200, "{body}");
        assert_eq!(body["ekmFleetDetails"][0]["id"], "hsm-a");
        body["ekmFleetDetails"][0]["healthStatus"].as_str().unwrap().to_owned()
    }

    fn encrypt(&self) -> (u16, Value) {
        in_time(|| self.encrypt_once(), is_late)
    }

    fn decrypt(&self, sealed: &Value) -> (u16, Value) {
        in_time(|| self.decrypt_once(sealed), is_late)
    }

    fn encrypt_once(&self) -> (u16, Value) {
        self.asked.set(self.asked.get() + 1);
        let body = json!({
            "requestMetadata": said("GenerateDataKey"), "plaintext": PLAIN, "additionalAuthenticatedData": AAD,
            "encryptionAlgorithm": "AES_GCM", "ciphertextDataIntegrityValueAlgorithm": "SHA_256",
        });
        self.ask("keys/payroll/encrypt", &body)
    }

    fn decrypt_once(&self, sealed: &Value) -> (u16, Value) {
        self.asked.set(self.asked.get() + 1);
        let mut body = sealed.clone();
        body["requestMetadata"] = said("Decrypt");
        body["additionalAuthenticatedData"] = AAD.into();
        body["encryptionAlgorithm"] = "AES_GCM".into();
        self.ask("keys/payroll/decrypt", &body)
    }
}

fn is_late((_, body): &(u16, Value)) -> bool {
    body["errorName"] == "DependencyTimeoutException"
}

/// What KMS says of a request; each has an id of its own.
fn said(operation: &str) -> Value {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    json!({
        "kmsRequestId": format!("{operation} {number}"), "kmsOperation": operation,
        "awsPrincipalArn": "arn:aws:iam::111122223333:role/PayrollApp",
        "kmsKeyArn": KMS_KEY,
    })
}

#[test]
fn keys_in_a_token_serve_and_its_health_is_what_the_token_does() {
    if !tool("softhsm2-util") || !tool("curl") {
        return;
    }
    let store = Store::new();
    assert_eq!(store.health(), "ACTIVE");
    let (status, sealed) = store.encrypt();
    assert_eq!(status, 200, "{sealed}");
    let (status, opened) = store.decrypt(&sealed);
    assert_eq!((status, &opened), (200, &json!({"plaintext": PLAIN})));
    // Another version, and the older one goes on opening.
    store.dev.ok(&["key", "rotate", "payroll"]);
    let (status, newer) = store.encrypt();
    assert_eq!((status, &newer["ciphertextMetadata"]), (200, &json!("AQAAAAI=")));
    for sealed in [&sealed, &newer] {
        assert_eq!(store.decrypt(sealed).1["plaintext"], PLAIN);
    }

    // A token that hangs: the provider is told in time, and that it is so.
    let worker = workers(store.dev.server.pid())[0].to_string();
    let signal = |signal: &str| Command::new("kill").args([signal, &worker]).status().unwrap().success();
    assert!(signal("-STOP"));
    let (status, body) = store.encrypt_once();
    assert_eq!((status, &body["errorName"]), (503, &json!("DependencyTimeoutException")), "{body}");
    until("its health is told", || store.health() == "UNAVAILABLE");
    let (status, body) = store.decrypt_once(&sealed);
    assert_eq!((status, &body["errorName"]), (503, &json!("DependencyTimeoutException")), "{body}");
    // The gateway ends it and starts another one.
    until("it is healthy again", || store.health() == "ACTIVE");
    assert_eq!(store.decrypt(&sealed).1["plaintext"], PLAIN);

    // Stopped by a word.
    store.dev.ok(&["key", "suspend", "payroll"]);
    let (status, body) = store.decrypt(&sealed);
    assert_eq!((status, &body["errorName"]), (400, &json!("InvalidStateException")));
    // KMS goes on looking whether the store is well, and is refused that too.
    store.dev.ok(&["caller", "suspend", "aws"]);
    let check = json!({"requestMetadata": {"kmsRequestId": "h", "kmsOperation": "KmsHealthCheck"}});
    let (status, body) = store.ask("health", &check);
    assert_eq!((status, &body["errorName"]), (400, &json!("InvalidStateException")), "{body}");
    let log = store.dev.data().join("audit/dev");
    until("the refused health check is published", || {
        closing(&log).iter().any(|event| event["action"] == "read-status")
    });
    // CloudTrail knows of the same requests, and of one that never came here.
    let record = |id: &str, name: &str| {
        json!({
            "eventSource": "kms.amazonaws.com", "eventName": name, "eventTime": "2000-01-01T00:00:00Z", "requestID": id,
            "userIdentity": {"arn": "arn:aws:iam::111122223333:role/PayrollApp"}, "resources": [{"ARN": KMS_KEY}],
        })
    };
    let is_asked = |event: &Value| {
        event["protocol"]["name"] == "aws-xks"
            && event["protocol"]["request"].is_string()
            && event["action"] != "read-status"
    };
    let published = || closing(&log).into_iter().filter(is_asked).collect::<Vec<_>>();
    until("all of them are published", || published().len() == store.asked.get());
    let asked = published();
    let mut records: Vec<Value> = asked
        .iter()
        .map(|event| {
            let id = event["protocol"]["request"].as_str().unwrap();
            let mut record = record(id, id.split(' ').next().unwrap());
            if event["outcome"] != "success" {
                record["errorCode"] = "KMSInternalException".into();
            }
            record
        })
        .collect();
    let first = records[0].clone();
    let mut last = first.clone();
    last["eventTime"] = "2999-01-01T00:00:00Z".into();
    records.push(last);
    let file = |records: &[Value]| {
        store.dev.file("cloudtrail.json", json!({ "Records": records }).to_string().as_bytes())
    };
    let reconcile = ["audit", "reconcile", "--aws-cloudtrail"];
    let all = store.dev.run(&[&reconcile[..], &[&file(&records)]].concat());
    assert_eq!(code(all.status), 0, "{}{}", stdout(&all), stderr(&all));
    let words = "1 refused health checks in the log were left out";
    assert!(stderr(&all).contains(words), "{}", stderr(&all));
    records.push(record("never", "Decrypt"));
    let lacking =
        [&reconcile[..], &[&file(&records)]].concat().iter().map(|s| s.to_string()).collect::<Vec<_>>();
    let lacking: Vec<&str> = lacking.iter().map(String::as_str).collect();
    assert!(store.dev.fails(&lacking, 6).contains("1 requests do not fit"));
    records.truncate(2);
    records[1]["eventTime"] = "2999-01-01T00:00:00Z".into();
    let foreign = store.dev.run(&[&reconcile[..], &[&file(&records)]].concat());
    assert!(String::from_utf8_lossy(&foreign.stdout).contains("only here"));
    // Somebody else's request, under an id of hers.
    let mut stolen = first.clone();
    stolen["userIdentity"]["arn"] = "arn:aws:iam::999999999999:user/owner".into();
    let stolen = store.dev.run(&[&reconcile[..], &[&file(&[stolen])]].concat());
    assert!(String::from_utf8_lossy(&stolen.stdout).contains("for something else here"));
    // Refused by AWS itself, so that nobody of KMS's came here with its id.
    let mut denied = first.clone();
    denied["errorCode"] = "AccessDenied".into();
    denied["resources"] = Value::Null;
    let output = store.dev.run(&[&reconcile[..], &[&file(&[denied]), "--json"]].concat());
    assert_eq!(code(output.status), 6);
    let compared: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(compared["both"], 1);
    let [found] = &compared["found"].as_array().unwrap()[..] else { panic!("{compared}") };
    assert_eq!(
        (&found["found"], &found["error"]),
        (&json!("succeeded here, failed there"), &json!("AccessDenied"))
    );
    assert!(stderr(&output).contains("judge by AWS's error"), "{}", stderr(&output));
    // The time that the files speak of is said, and what lies outside it counted.
    let of_log = asked.len();
    let told = |records: &[Value], more: &[&str]| {
        let output = store.dev.run(&[&reconcile[..], &[&file(records)], more].concat());
        (code(output.status), stdout(&output), stderr(&output))
    };
    for (year, before, after) in [("1999", 0, of_log), ("2998", of_log, 0)] {
        let mut other = record("another's", "ListKeys");
        other["eventTime"] = format!("{year}-01-01T00:00:00Z").into();
        // Of a KMS key that the log does not know.
        let mut one = record("elsewhere", "Decrypt");
        one["resources"] = json!([{"ARN": "arn:aws:kms:eu-central-1:111122223333:key/other"}]);
        one["eventTime"] = format!("{year}-06-01T12:00:00Z").into();
        let (code, stdout, said) = told(&[other.clone(), one.clone()], &[]);
        let at = format!("{year}-06-01T12:00:00Z");
        assert_eq!((code, &*stdout), (0, ""), "{said}");
        assert!(said.contains(&format!("0 requests on both sides, from {at} to {at}")), "{said}");
        let words =
            format!("{before} records of the log before that time and {after} after it were not compared");
        assert!(said.contains(&words), "{said}");
        let (_, json, _) = told(&[other, one], &["--json"]);
        let json: Value = serde_json::from_str(&json).unwrap();
        let expected = json!({"from": at, "to": at, "both": 0, "before": before, "after": after, "health_checks": 1, "found": []});
        assert_eq!(json, expected);
    }
    // What both have is on both sides although it is outside, by our clock.
    let (code, _, said) = told(&[first], &[]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("1 requests on both sides"), "{said}");
    store.dev.fails(&["audit", "reconcile", "--aws-cloudtrail", &store.dev.file("no.json", b"[]")], 2);
}

/// KMS, over connections that stay open.
struct Kms {
    client: Client,
    id: String,
    secret: Secret,
}

impl Kms {
    fn of(dev: &Dev) -> Self {
        let issued: Value =
            serde_json::from_str(&dev.ok(&["caller", "signing-token", "aws", "--json"])).unwrap();
        let of = |field: &str| issued[field].as_str().unwrap().to_owned();
        let ca = std::fs::read(dev.data().join("tls/ca.pem")).unwrap();
        let client = Client::builder(&dev.server.url).ca_pem(ca).connect().unwrap();
        Self { client, id: of("access_key_id"), secret: Secret::new(of("secret_access_key").into_bytes()) }
    }

    /// Once more where a busy machine took longer than the protocol has patience.
    async fn ask(&self, rest: &str, body: &Value) -> (u16, Value) {
        let begun = Instant::now();
        loop {
            let answer = self.once(rest, body).await;
            if !is_late(&answer) || begun.elapsed() > Duration::from_secs(60) {
                return answer;
            }
        }
    }

    async fn once(&self, rest: &str, body: &Value) -> (u16, Value) {
        let (path, body) = (format!("/dev/kms/xks/v1/{rest}"), body.to_string().into_bytes());
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let signer = Signer {
            access_key_id: &self.id,
            secret_access_key: &self.secret,
            region: "eu-central-1",
            service: SERVICE,
            now: Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap()),
        };
        let (date, authorization) = signer.sign((self.client.authority(), &path), &body);
        let headers = [("x-amz-date", date.as_str()), ("authorization", authorization.as_str())];
        let reply = self.client.post(&path, &headers, body).await.unwrap();
        (reply.status, serde_json::from_slice(&reply.body).unwrap())
    }
}

/// What another program's key has behind it when it is adopted: so much less than half of its random nonces (NIST SP 800-38D §8.3).
const LEFT: u64 = 200;
/// Half of them: from there on a version is rotated.
const HALF: u64 = 1 << 31;

/// Keys whose past is declared come to the end of their budget in a moment; no setting of the gateway's makes one smaller.
#[test]
fn a_budget_that_is_spent_rotates_keys_under_load_and_no_request_fails() {
    if !tool("softhsm2-util") || !tool("pkcs11-tool") {
        return;
    }
    const KEYS: [&str; 2] = ["payroll-a", "payroll-b"];
    let token = SoftHsm::new();
    for (place, key) in KEYS.iter().enumerate() {
        let made = Command::new("pkcs11-tool")
            .args(["--module", MODULE, "--login", "--pin", PIN, "--keygen", "--key-type", "AES:32"])
            .args(["--label", key, "--id", &format!("0{place}")])
            .env("SOFTHSM2_CONF", token.path("conf"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", stderr(&made));
    }
    let store = STORE.replace("regions", "requests_per_second = 0\nregions");
    let settings = format!("[pool]\nadopters = [\"dev\"]\n{}{store}", token.settings_of("hsm-a"));
    let dev = start(TempDir::new().unwrap(), &settings);
    until("the token is there", || dev.server.admin("/metrics").contains("holdfast_ready 1"));
    let past = (HALF - LEFT).to_string();
    for key in KEYS {
        let adopt = ["key", "adopt", key, "--algorithm", "aes-256-gcm", "--object-label", key];
        dev.ok(&[&adopt[..], &["--prior-uses", &past, "--accept-extractable"]].concat());
    }
    dev.ok(&["caller", "put", "aws"]);
    let policy = dev.ok(&["policy", "show"]) + POLICY;
    let policy = dev.file("policy.cedar", policy.as_bytes());
    dev.ok(&["policy", "set", &policy]);

    let kms = Arc::new(Kms::of(&dev));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let encrypt = json!({
        "requestMetadata": said("GenerateDataKey"), "plaintext": PLAIN, "additionalAuthenticatedData": AAD,
        "encryptionAlgorithm": "AES_GCM", "ciphertextDataIntegrityValueAlgorithm": "SHA_256",
    });
    // Four a key, each asking again as soon as it is answered, until it has had an answer under the next version and then some.
    let asks = |key: &'static str| {
        let (kms, encrypt) = (Arc::clone(&kms), encrypt.clone());
        async move {
            let begun = Instant::now();
            let (mut sealed, mut after) = (BTreeMap::<String, (usize, Value)>::new(), 0);
            while after < 50 {
                assert!(begun.elapsed() < Duration::from_secs(120), "never rotated");
                let (status, body) = kms.ask(&format!("keys/{key}/encrypt"), &encrypt).await;
                assert_eq!(status, 200, "{key}: {body}");
                let version = body["ciphertextMetadata"].as_str().unwrap().to_owned();
                after += usize::from(version == "AQAAAAI=");
                sealed.entry(version).or_insert((0, body)).0 += 1;
            }
            (key, sealed)
        }
    };
    let all: Vec<_> = runtime.block_on(async {
        let all: Vec<_> =
            KEYS.into_iter().flat_map(|key| [key; 4]).map(|key| tokio::spawn(asks(key))).collect();
        let mut done = vec![];
        for one in all {
            done.push(one.await.unwrap());
        }
        done
    });
    for key in KEYS {
        // Not before its time, and only once: the next version has a budget of its own.
        let of: Vec<_> = all.iter().filter(|(of, _)| *of == key).collect();
        let under = |version: &str| -> usize {
            of.iter().filter_map(|(_, sealed)| sealed.get(version)).map(|(count, _)| count).sum()
        };
        assert!(under("AQAAAAE=") >= usize::try_from(LEFT).unwrap() - 1, "{}", under("AQAAAAE="));
        assert!(under("AQAAAAI=") >= 200);
        let shown: Value = serde_json::from_str(&dev.ok(&["key", "show", key, "--json"])).unwrap();
        assert_eq!((&shown["newest_version"], &shown["state"]), (&json!(2), &json!("active")), "{shown}");
        for (version, (_, body)) in of.iter().flat_map(|(_, sealed)| sealed) {
            let mut decrypt = body.clone();
            decrypt["requestMetadata"] = said("Decrypt");
            decrypt["additionalAuthenticatedData"] = AAD.into();
            decrypt["encryptionAlgorithm"] = "AES_GCM".into();
            let (status, opened) = runtime.block_on(kms.ask(&format!("keys/{key}/decrypt"), &decrypt));
            assert_eq!((status, &opened["plaintext"]), (200, &json!(PLAIN)), "{key} {version}");
        }
    }
    // It stands in the log that the gateway did it, and why.
    let log = dev.data().join("audit/dev");
    until("both rotations are published", || {
        let events = closing(&log);
        let rotated = events.iter().filter(|event| {
            event["action"] == "rotate-key"
                && event["outcome"] == "success"
                && event["caller"]["kind"] == "operator"
        });
        rotated.filter(|event| event["alarm"].is_string()).count() == 2
    });
}
