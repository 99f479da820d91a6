//! An external key store of AWS KMS: the four operations, every error, and what nobody may do with it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::large_futures,
    reason = "what fails here is a test"
)]

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast_gateway::external_store::AwsXksTable;
use serde_json::{Value, json};
use std::process::{Command, Stdio};
use std::time::Duration;
use support::api::{T, base64, bytes};
use support::authority::{Authority, Leaf};
use support::peer::{PATIENCE, Peer};
use support::xks::{Kms, decrypt, encrypt, gateway, now, said, table};
use support::{Answer, in_time, log, taken_in, throttled, trust};
use tokio::io::AsyncWriteExt as _;

const AAD: &[u8] = b"dept=payroll,env=prod";
const PLAIN: &[u8] = b"wrap me: 32-byte data key here!!";
const GCM: &str = "aes-256-gcm";

fn sha256(parts: &[&[u8]]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &parts.concat()).as_ref().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_provider_encrypts_it_gets_back_and_the_log_says_for_whom() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let (gateway, mut api) = gateway(&data, vec![table("/acme", "aws")]).await;
    api.create(&json!({"name": "payroll.kek-01", "algorithm": GCM})).await;
    let kms = Kms::of(&mut api, "aws", "/acme").await;
    let mut peer = gateway.stranger().await;

    let metadata = json!({"requestMetadata": said("CreateKey")});
    let answer = kms.ask(&mut peer, "keys/payroll.kek-01/metadata", &metadata).await.expect(200);
    assert_eq!(
        answer.body,
        br#"{"keySpec":"AES_256","keyUsage":["ENCRYPT","DECRYPT"],"keyStatus":"ENABLED"}"#
    );
    let mut operations = vec![];
    for (plain, aad, integrity) in [
        (PLAIN, Some(AAD), true),
        (PLAIN, Some(AAD), false),
        (PLAIN, None, true),
        (b"", None, false),
        (&[7; 4300], Some(&[8; 8192]), true),
    ] {
        let sealed = kms.ask(&mut peer, "keys/payroll.kek-01/encrypt", &encrypt(plain, aad, integrity)).await;
        let sealed = sealed.expect(200);
        operations.push(sealed.operation());
        let sealed = sealed.json();
        let [ciphertext, iv, tag, metadata] =
            ["ciphertext", "initializationVector", "authenticationTag", "ciphertextMetadata"]
                .map(|field| bytes(&sealed[field]));
        assert_eq!((ciphertext.len(), iv.len(), tag.len()), (plain.len(), 12, 16));
        assert_eq!(metadata, [1, 0, 0, 0, 1]);
        let value = integrity.then(|| sha256(&[aad.unwrap_or_default(), &metadata, &iv, &ciphertext, &tag]));
        assert_eq!(sealed.get("ciphertextDataIntegrityValue").map(bytes), value);
        let opened = kms.ask(&mut peer, "keys/payroll.kek-01/decrypt", &decrypt(&sealed, aad)).await;
        let opened = opened.expect(200);
        assert_eq!(bytes(&opened.json()["plaintext"]), plain);
        operations.push(opened.operation());
    }
    gateway.running.shut_down().await.unwrap();

    let events = log::events(&data, "dev");
    for operation in &operations {
        let event = log::closing(&events, operation);
        assert_eq!((&event["outcome"], &event["protocol"]["name"]), (&json!("success"), &json!("aws-xks")));
        assert_eq!(event["protocol"]["request"], "b7c1a0d4-2f65-4f0e-9f0c-0a6f9e1d3b58");
        assert_eq!(event["protocol"]["says"]["awsPrincipalArn"], support::xks::ARN);
        assert_eq!(event["protocol"]["says"]["kmsViaService"], "s3.eu-central-1.amazonaws.com");
        assert!(event["protocol"]["says"].get("somethingNew").is_none());
        assert_eq!(
            (&event["caller"]["authentication"], &event["caller"]["token"]),
            (&json!("signature"), &json!(kms.token))
        );
        assert_eq!((&event["key"]["name"], &event["key"]["version"]), (&json!("payroll.kek-01"), &json!(1)));
        let associated = event["associated"].as_object().unwrap();
        assert!(associated.contains_key("hmac_sha256") && associated.contains_key("bytes"));
    }
    let first = log::closing(&events, &operations[0]);
    assert_eq!((&first["associated"]["bytes"], &first["input"]["bytes"]), (&json!(21), &json!(32)));
    for file in log::files(&data) {
        let text = std::fs::read(&file).unwrap();
        let secret = kms.secret.as_bytes();
        for hidden in [AAD, PLAIN, secret, &STANDARD.decode(&kms.secret).unwrap()] {
            assert!(!text.windows(hidden.len()).any(|window| window == hidden), "{}", file.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_of_a_ciphertext_is_changed_is_one_and_the_same_refusal() {
    let directory = tempfile::tempdir().unwrap();
    let (gateway, mut api) = gateway(&directory.path().join("data"), vec![table("", "aws")]).await;
    for key in ["payroll", "payroll-2"] {
        api.create(&json!({"name": key, "algorithm": GCM})).await;
    }
    let kms = Kms::of(&mut api, "aws", "").await;
    let mut peer = gateway.stranger().await;
    let sealed = kms.ask(&mut peer, "keys/payroll/encrypt", &encrypt(PLAIN, Some(AAD), false)).await;
    let sealed = sealed.expect(200).json();
    let mut wrong = vec![
        ("payroll", decrypt(&sealed, None)),
        ("payroll", decrypt(&sealed, Some(b"dept=payroll,env=test"))),
        ("payroll-2", decrypt(&sealed, Some(AAD))),
    ];
    // Bytes moved from the end of the AAD to the beginning of the metadata, and back.
    let moved = |aad: &[u8], metadata: &[u8]| {
        let mut body = decrypt(&sealed, Some(aad));
        body["ciphertextMetadata"] = base64(metadata).into();
        body
    };
    wrong.push(("payroll", moved(&AAD[..20], &[b'd', 1, 0, 0, 0, 1])));
    wrong.push(("payroll", moved(&[AAD, &[1]].concat(), &[0, 0, 0, 1])));
    for field in ["ciphertext", "initializationVector", "authenticationTag", "ciphertextMetadata"] {
        let right = bytes(&sealed[field]);
        for changed in [&right[..right.len() - 1], &[&right[..], &[0]].concat(), &[], &[7; 4000]] {
            let mut body = decrypt(&sealed, Some(AAD));
            body[field] = base64(changed).into();
            wrong.push(("payroll", body));
        }
        for bit in 0..8 * right.len() {
            let mut changed = right.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let mut body = decrypt(&sealed, Some(AAD));
            body[field] = base64(&changed).into();
            wrong.push(("payroll", body));
        }
    }
    let mut without = decrypt(&sealed, Some(AAD));
    without.as_object_mut().unwrap().remove("ciphertextMetadata");
    wrong.push(("payroll", without));
    let mut seen = std::collections::HashSet::new();
    for (key, body) in &wrong {
        let answer = kms.ask(&mut peer, &format!("keys/{key}/decrypt"), body).await;
        seen.insert(answer.error(400, "InvalidCiphertextException").body);
    }
    assert!(wrong.len() > 500 && seen.len() == 1, "{} {seen:?}", wrong.len());
    kms.ask(&mut peer, "keys/payroll/decrypt", &decrypt(&sealed, Some(AAD))).await.expect(200);
    gateway.running.shut_down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_not_signed_as_it_must_be_is_nobodys() {
    let directory = tempfile::tempdir().unwrap();
    let stores = vec![table("/acme", "aws"), table("/other", "other")];
    let (gateway, mut api) = gateway(&directory.path().join("data"), stores).await;
    api.create(&json!({"name": "payroll", "algorithm": GCM})).await;
    let kms = Kms::of(&mut api, "aws", "/acme").await;
    let others = Kms::of(&mut api, "other", "/acme").await;
    let mut peer = gateway.stranger().await;
    let body = json!({"requestMetadata": said("KmsHealthCheck")});
    kms.ask(&mut peer, "health", &body).await.expect(200);
    let elsewhere = Kms { region: "us-east-1", ..kms.clone() };
    elsewhere.ask(&mut peer, "health", &body).await.expect(200);

    let text = body.to_string();
    let path = kms.path("health");
    let mut wrong = vec![];
    let mut change = |what: &'static str, change: &dyn Fn(&mut support::xks::Signed)| {
        let mut signed = kms.sign("health", &body);
        change(&mut signed);
        wrong.push((what, signed));
    };
    change("a byte of the body", &|signed| *signed.body.last_mut().unwrap() = b' ');
    change("the host", &|signed| signed.set("host", "gatewax"));
    change("the date", &|signed| {
        let date = signed.headers[1].1.clone();
        let last = if date.ends_with("0Z") { "1Z" } else { "0Z" };
        signed.set("x-amz-date", &(date[..14].to_owned() + last));
    });
    change("no authorization", &|signed| {
        signed.headers.pop();
    });
    change("two of them", &|signed| signed.headers.push(signed.headers[2].clone()));
    change("a bearer token", &|signed| signed.set("authorization", "Bearer abc"));
    change("the date not signed", &|signed| {
        let changed = signed.headers[2].1.replace("host;x-amz-date", "host");
        signed.set("authorization", &changed);
    });
    change("another path", &|signed| signed.path = "/acme/kms/xks/v1/keys/payroll/metadata".into());
    change("another store", &|signed| signed.path = "/other/kms/xks/v1/health".into());
    let id = &kms.id;
    let invalid = [
        ("id in small letters", Kms { id: id.to_lowercase(), ..kms.clone() }),
        ("Invalid before the id", Kms { id: format!("Invalid{id}"), ..kms.clone() }),
        ("another id", Kms { id: "A".repeat(26), ..kms.clone() }),
        ("Invalid before the secret", Kms { secret: format!("Invalid{}", kms.secret), ..kms.clone() }),
        ("service", Kms { service: "kms", ..kms.clone() }),
        ("region", Kms { region: "eu-west-1", ..kms.clone() }),
        ("another store's credential", others.clone()),
    ];
    for (what, kms) in &invalid {
        wrong.push((what, kms.sign("health", &body)));
    }
    for (what, seconds) in [("too old", -301), ("too new", 310)] {
        let at = i64::try_from(now().micros()).unwrap() + seconds * 1_000_000;
        let at = holdfast_core::Timestamp::from_micros(u64::try_from(at).unwrap());
        wrong.push((what, kms.sign_at(&path, text.as_bytes(), at)));
    }
    let mut seen = std::collections::HashSet::new();
    for (what, signed) in &wrong {
        let answer: Answer = signed.send(&mut peer).await;
        assert_eq!(answer.status, 401, "{what}: {}", answer.json());
        seen.insert(answer.error(401, "AuthenticationFailedException").body);
    }
    assert_eq!(seen.len(), 1, "one and the same: {seen:?}");
    // Nor does the native API take what is no bearer token.
    let mut signed = kms.sign("health", &body);
    signed.path = format!("{T}/keys/payroll");
    signed.method = "GET";
    signed.body.clear();
    signed.send(&mut peer).await.refused(401, "unauthenticated");

    // Inside the five minutes the same request again is taken, and both are recorded.
    let twice = kms.sign("keys/payroll/encrypt", &encrypt(PLAIN, None, false));
    let [first, second] = [twice.send(&mut peer).await.expect(200), twice.send(&mut peer).await.expect(200)];
    let (first, second) = (first.operation(), second.operation());
    assert_ne!(first, second);
    gateway.running.shut_down().await.unwrap();
    let events = log::events(&directory.path().join("data"), "dev");
    for operation in [first, second] {
        assert_eq!(log::closing(&events, &operation)["outcome"], "success");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_change_while_both_serve_and_end_when_they_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let (gateway, mut api) = gateway(&directory.path().join("data"), vec![table("/acme", "aws")]).await;
    let body = json!({"requestMetadata": said("KmsHealthCheck")});
    let old = Kms::of(&mut api, "aws", "/acme").await;
    let new = Kms::of(&mut api, "aws", "/acme").await;
    for kms in [&old, &new] {
        assert!(
            (20..=30).contains(&kms.id.len())
                && kms.id.bytes().all(|b| b.is_ascii_uppercase() || (b'2'..=b'7').contains(&b))
        );
        assert!((43..=64).contains(&kms.secret.len()));
    }
    let mut peer = gateway.stranger().await;
    for kms in [&old, &new] {
        kms.ask(&mut peer, "health", &body).await.expect(200);
    }
    api.ask("DELETE", &format!("{T}/callers/aws/tokens/{}", old.token), "").await.expect(200);
    old.ask(&mut peer, "health", &body).await.error(401, "AuthenticationFailedException");
    new.ask(&mut peer, "health", &body).await.expect(200);
    api.post(&format!("{T}/callers/aws/suspend"), &json!({})).await.expect(200);
    new.ask(&mut peer, "health", &body).await.error(400, "InvalidStateException");
    api.post(&format!("{T}/callers/aws/resume"), &json!({})).await.expect(200);
    api.post(&format!("{T}/suspend"), &json!({})).await.expect(200);
    new.ask(&mut peer, "health", &body).await.error(400, "InvalidStateException");
    let metadata = json!({"requestMetadata": said("CreateKey")});
    let told = new.ask(&mut peer, "keys/payroll/metadata", &metadata).await;
    told.error(400, "InvalidStateException");
    api.post(&format!("{T}/resume"), &json!({})).await.expect(200);
    new.ask(&mut peer, "health", &body).await.expect(200);
    // They outlast a restart, kept nowhere.
    gateway.running.shut_down().await.unwrap();
    let mut config = support::settings(&directory.path().join("data"));
    config.aws_xks = vec![table("/acme", "aws")];
    let gateway = support::dev_with(config).await;
    let mut peer = gateway.stranger().await;
    let health = new.ask(&mut peer, "health", &body).await.expect(200).json();
    assert_eq!(health["xksProxyFleetSize"], 1);
    assert_eq!(health["ekmFleetDetails"][0]["healthStatus"], "ACTIVE");
    gateway.running.shut_down().await.unwrap();
}

/// The digest's table of errors, row by row, but for those that a device or a limit has to bring about.
#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_has_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut limited = table("/limited", "other");
    limited.requests_per_second = 1;
    limited.keys = vec!["payroll".into()];
    let few = AwsXksTable { keys: limited.keys.clone(), ..table("/few", "few") };
    let (gateway, mut api) = gateway(&data, vec![table("/acme", "aws"), limited, few]).await;
    for (name, algorithm, purpose) in [
        ("payroll", GCM, "encrypt"),
        ("payroll-off", GCM, "encrypt"),
        ("payroll-old", GCM, "encrypt"),
        ("payroll-bad", GCM, "encrypt"),
        ("payroll-x", "xaes-256-gcm", "encrypt"),
        ("payroll-w", GCM, "wrap"),
        ("secret", GCM, "encrypt"),
    ] {
        api.create(&json!({"name": name, "algorithm": algorithm, "purpose": purpose})).await;
    }
    let kms = Kms::of(&mut api, "aws", "/acme").await;
    let mut peer = gateway.stranger().await;
    let sealed =
        kms.ask(&mut peer, "keys/payroll/encrypt", &encrypt(PLAIN, None, false)).await.expect(200).json();
    let retired =
        kms.ask(&mut peer, "keys/payroll-old/encrypt", &encrypt(PLAIN, None, false)).await.expect(200);
    api.post(&format!("{T}/keys/payroll-off/suspend"), &json!({})).await.expect(200);
    api.post(&format!("{T}/keys/payroll-old/deactivate"), &json!({})).await.expect(200);
    api.post(&format!("{T}/keys/payroll-bad/compromise"), &json!({})).await.expect(200);

    let change = |mut body: Value, field: &str, value: Value| {
        *body.pointer_mut(field).unwrap() = value;
        body
    };
    let without = |mut body: Value, object: &str, field: &str| {
        body.pointer_mut(object).unwrap().as_object_mut().unwrap().remove(field).unwrap();
        body
    };
    let sealing = encrypt(PLAIN, Some(AAD), true);
    let opening = decrypt(&sealed, None);
    let metadata = json!({"requestMetadata": said("DescribeKey")});
    let too_long = |bytes: usize| Value::from(base64(&vec![7; bytes]));
    let rows = [
        ("health", json!({}), 400, "ValidationException"),
        ("health", json!({"requestMetadata": {}}), 400, "ValidationException"),
        ("health", json!([]), 400, "ValidationException"),
        ("keys/payroll/metadata", json!({}), 400, "ValidationException"),
        ("keys/payroll/metadata", json!({"requestMetadata": {}}), 400, "ValidationException"),
        (
            "keys/payroll/metadata",
            without(metadata.clone(), "/requestMetadata", "awsPrincipalArn"),
            400,
            "ValidationException",
        ),
        ("keys/payroll/encrypt", without(sealing.clone(), "", "plaintext"), 400, "ValidationException"),
        (
            "keys/payroll/encrypt",
            without(sealing.clone(), "", "encryptionAlgorithm"),
            400,
            "ValidationException",
        ),
        (
            "keys/payroll/encrypt",
            without(sealing.clone(), "/requestMetadata", "kmsKeyArn"),
            400,
            "ValidationException",
        ),
        (
            "keys/payroll/encrypt",
            change(sealing.clone(), "/encryptionAlgorithm", "AES_CBC".into()),
            400,
            "ValidationException",
        ),
        (
            "keys/payroll/encrypt",
            change(sealing.clone(), "/encryptionAlgorithm", "aes_gcm".into()),
            400,
            "ValidationException",
        ),
        (
            "keys/payroll/encrypt",
            change(sealing.clone(), "/ciphertextDataIntegrityValueAlgorithm", "SHA_1".into()),
            400,
            "ValidationException",
        ),
        (
            "keys/payroll/encrypt",
            change(sealing.clone(), "/plaintext", "d3Jh-_==".into()),
            400,
            "ValidationException",
        ),
        (
            "keys/payroll/encrypt",
            change(sealing.clone(), "/plaintext", "d3JhcA".into()),
            400,
            "ValidationException",
        ),
        ("keys/payroll/encrypt", change(sealing.clone(), "/plaintext", 7.into()), 400, "ValidationException"),
        (
            "keys/payroll/encrypt",
            change(sealing.clone(), "/plaintext", too_long(4304)),
            501,
            "UnsupportedOperationException",
        ),
        (
            "keys/payroll/encrypt",
            change(sealing.clone(), "/additionalAuthenticatedData", too_long(8196)),
            501,
            "UnsupportedOperationException",
        ),
        (
            "keys/payroll/decrypt",
            without(opening.clone(), "", "authenticationTag"),
            400,
            "ValidationException",
        ),
        (
            "keys/payroll/decrypt",
            change(opening.clone(), "/initializationVector", "*".into()),
            400,
            "ValidationException",
        ),
        ("keys/payroll-off/encrypt", sealing.clone(), 400, "InvalidStateException"),
        ("keys/payroll-off/decrypt", opening.clone(), 400, "InvalidStateException"),
        ("keys/payroll-old/encrypt", sealing.clone(), 400, "InvalidStateException"),
        ("keys/payroll-x/encrypt", sealing.clone(), 400, "InvalidKeyUsageException"),
        ("keys/payroll-w/encrypt", sealing.clone(), 400, "InvalidKeyUsageException"),
        ("keys/payroll-w/decrypt", opening.clone(), 400, "InvalidKeyUsageException"),
        ("keys/secret/encrypt", sealing.clone(), 403, "AccessDeniedException"),
        ("keys/secret/metadata", metadata.clone(), 403, "AccessDeniedException"),
        (
            "keys/payroll/encrypt",
            change(sealing.clone(), "/requestMetadata/awsPrincipalArn", "arn:aws:iam::1:role/Mallory".into()),
            403,
            "AccessDeniedException",
        ),
        ("keys/payroll-none/encrypt", sealing.clone(), 404, "KeyNotFoundException"),
        ("keys/payroll-none/metadata", metadata.clone(), 404, "KeyNotFoundException"),
        ("keys/payroll~/encrypt", sealing.clone(), 404, "KeyNotFoundException"),
    ];
    let mut refused = vec![];
    for (rest, body, status, name) in &rows {
        let answer = kms.ask(&mut peer, rest, body).await;
        assert_eq!(answer.status, *status, "{rest} {body}: {}", answer.json());
        refused.push((answer.operation(), rest.to_string()));
        answer.error(*status, name);
    }
    // Unknown operations and principals that are no ARN pass, as does a missing field that is optional.
    let odd = change(sealing.clone(), "/requestMetadata/kmsOperation", "SomethingNew".into());
    let odd = change(odd, "/requestMetadata/awsPrincipalArn", "AWS Internal".into());
    kms.ask(&mut peer, "keys/payroll/encrypt", &without(odd, "/requestMetadata", "kmsViaService"))
        .await
        .expect(200);
    let null = change(sealing.clone(), "/additionalAuthenticatedData", Value::Null);
    kms.ask(&mut peer, "keys/payroll/encrypt", &null).await.expect(200);
    // What is deactivated still decrypts, and says so.
    let old = decrypt(&retired.json(), None);
    kms.ask(&mut peer, "keys/payroll-old/decrypt", &old).await.expect(200);
    for (key, expected) in [
        ("payroll-off", r#"{"keySpec":"AES_256","keyUsage":["ENCRYPT","DECRYPT"],"keyStatus":"DISABLED"}"#),
        ("payroll-old", r#"{"keySpec":"AES_256","keyUsage":["DECRYPT"],"keyStatus":"ENABLED"}"#),
        ("payroll-bad", r#"{"keySpec":"AES_256","keyUsage":["ENCRYPT","DECRYPT"],"keyStatus":"DISABLED"}"#),
        (
            "payroll-w",
            r#"{"keySpec":"aes-256-gcm to wrap","keyUsage":["ENCRYPT","DECRYPT"],"keyStatus":"ENABLED"}"#,
        ),
    ] {
        let told = kms.ask(&mut peer, &format!("keys/{key}/metadata"), &metadata).await.expect(200);
        assert_eq!(String::from_utf8(told.body).unwrap(), expected);
    }
    // Two members of one name, and what is beyond the bound.
    let twice = sealing.to_string().replacen("{", r#"{"plaintext":"AAAA","#, 1);
    let path = kms.path("keys/payroll/encrypt");
    kms.sign_at(&path, twice.as_bytes(), now()).send(&mut peer).await.error(400, "ValidationException");
    let too_long = in_time(async || {
        let mut peer = gateway.stranger().await;
        kms.sign_at(&path, b"", now()).announce(&mut peer, 1 << 20).await;
        peer.answer().await.unwrap()
    });
    too_long.await.error(400, "ValidationException");

    // What is refused by its head ends no connection.
    let mut peer = gateway.stranger().await;
    for path in [
        "/acme/invalid/kms/xks/v1/health",
        "/nobody/kms/xks/v1/health",
        "/acme/kms/xks/v1/keys/payroll/sign",
        "/acme/kms/xks/v1/keys/payroll/encrypt/more",
        "/acme/kms/xks/v1/health?a=b",
        "/acme/../acme/kms/xks/v1/health",
        "/acme//kms/xks/v1/health",
        "/acme%2fkms/xks/v1/health",
        "/acme/kms/xks/v1/keys/..%2fpayroll/encrypt",
        "/acme/kms/xks/v2/health",
    ] {
        kms.sign_at(path, b"{}", now()).send(&mut peer).await.error(404, "InvalidUriPathException");
    }
    for method in ["GET", "PUT", "DELETE"] {
        let mut signed = kms.sign("health", &json!({}));
        signed.method = method;
        let mut peer = gateway.stranger().await;
        let answer = signed.send(&mut peer).await.error(405, "InvalidUriPathException");
        assert_eq!(answer.header("allow"), Some("post"));
    }

    // Only a store's own keys are there; and the second within the second is more than it may have.
    api.put(&format!("{T}/callers/few"), &json!({"kind": "application"})).await.expect(200);
    let few = Kms::of(&mut api, "few", "/few").await;
    let mut peer = gateway.stranger().await;
    few.ask(&mut peer, "keys/payroll-x/metadata", &metadata).await.error(404, "KeyNotFoundException");
    let limited = Kms::of(&mut api, "other", "/limited").await;
    let mut encrypt = async || limited.sign("keys/payroll/encrypt", &sealing).send_once(&mut peer).await;
    assert_ne!(encrypt().await.status, 429);
    let throttled = throttled(encrypt).await;
    refused.push((throttled.operation(), "keys/payroll/encrypt".into()));
    throttled.error(429, "ThrottlingException");

    // Everybody's refusal stands in the tenant's log, with the provider's id wherever it could be read.
    gateway.running.shut_down().await.unwrap();
    let events = log::events(&data, "dev");
    for (operation, rest) in &refused {
        let event = log::closing(&events, operation);
        let named = rest.strip_prefix("keys/").and_then(|rest| rest.split_once('/')).map(|(key, _)| key);
        assert_eq!(event["key"]["name"].as_str(), named.filter(|key| !key.contains('~')), "{rest}");
        assert_eq!(
            (&event["outcome"], &event["protocol"]["name"]),
            (&json!("refused"), &json!("aws-xks")),
            "{rest}"
        );
    }
    // Five have none, and of one the type of a field is another.
    let with_id = refused
        .iter()
        .filter(|(operation, _)| log::closing(&events, operation)["protocol"].get("request").is_some());
    assert_eq!(with_id.count(), refused.len() - 6);
}

/// After the digest's section 9.1: who may not use a key, or has none, learns that and nothing of what else is wrong; a use that was refused stands as that use.
#[tokio::test(flavor = "multi_thread")]
async fn checks_come_in_their_order() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let store = AwsXksTable {
        encrypt_only: vec!["payroll-in".to_owned(), "secret-in".to_owned()],
        ..table("/acme", "aws")
    };
    let (gateway, mut api) = gateway(&data, vec![store]).await;
    for name in ["payroll", "payroll-off", "payroll-in", "secret", "secret-in"] {
        api.create(&json!({"name": name, "algorithm": GCM})).await;
    }
    api.create(&json!({"name": "payroll-w", "algorithm": GCM, "purpose": "wrap"})).await;
    let kms = Kms::of(&mut api, "aws", "/acme").await;
    let mut peer = gateway.stranger().await;
    let sealed =
        kms.ask(&mut peer, "keys/payroll/encrypt", &encrypt(PLAIN, None, false)).await.expect(200).json();
    api.post(&format!("{T}/keys/payroll-off/suspend"), &json!({})).await.expect(200);
    let with = |body: &Value, fields: &[(&str, Value)]| {
        let mut body = body.clone();
        for (field, value) in fields {
            body[*field] = value.clone();
        }
        body
    };
    let (sealing, opening) = (encrypt(PLAIN, Some(AAD), false), decrypt(&sealed, None));
    let long = |bytes: usize| Value::from(base64(&vec![7; bytes]));
    let short_iv = with(&opening, &[("initializationVector", long(11))]);
    let large = with(&sealing, &[("plaintext", long(4301))]);
    let large_and_odd = with(&large, &[("additionalAuthenticatedData", "*".into())]);
    let odd = with(&opening, &[("ciphertext", "*".into())]);
    let lacking = with(&odd, &[("authenticationTag", Value::Null)]);
    let rows = [
        // Fields that must be there, before the key.
        ("payroll-none", "decrypt", &lacking, "ValidationException"),
        // The key, and the policy, before what fields hold.
        ("payroll~", "decrypt", &short_iv, "KeyNotFoundException"),
        ("payroll~", "encrypt", &large, "KeyNotFoundException"),
        ("payroll-none", "decrypt", &short_iv, "KeyNotFoundException"),
        ("payroll-none", "decrypt", &odd, "KeyNotFoundException"),
        ("payroll-none", "encrypt", &large, "KeyNotFoundException"),
        ("secret", "decrypt", &short_iv, "AccessDeniedException"),
        ("secret", "decrypt", &odd, "AccessDeniedException"),
        ("secret", "encrypt", &large, "AccessDeniedException"),
        ("secret-in", "decrypt", &opening, "AccessDeniedException"),
        // What the key is, and its state.
        ("payroll-off", "decrypt", &short_iv, "InvalidStateException"),
        ("payroll-off", "encrypt", &large, "InvalidStateException"),
        ("payroll-w", "decrypt", &short_iv, "InvalidKeyUsageException"),
        ("payroll-w", "encrypt", &large, "InvalidKeyUsageException"),
        // Sizes before base64, and both before what the store has the key for.
        ("payroll", "encrypt", &large_and_odd, "UnsupportedOperationException"),
        ("payroll-in", "decrypt", &odd, "ValidationException"),
        // And that before lengths.
        ("payroll-in", "decrypt", &short_iv, "InvalidKeyUsageException"),
        ("payroll", "decrypt", &short_iv, "InvalidCiphertextException"),
    ];
    let mut refused = vec![];
    for (key, action, body, name) in rows {
        let answer = kms.ask(&mut peer, &format!("keys/{key}/{action}"), body).await;
        assert_eq!(answer.json()["errorName"], name, "{key} {action}");
        refused.push((answer.operation(), if body == &lacking { "undecoded" } else { action }));
    }
    gateway.running.shut_down().await.unwrap();
    let events = log::events(&data, "dev");
    for ((operation, action), row) in refused.iter().zip(rows) {
        let event = log::closing(&events, operation);
        assert_eq!(
            (&event["action"], &event["outcome"]),
            (&json!(action), &json!("refused")),
            "{} {}",
            row.0,
            row.3
        );
    }
}

/// However long it goes on coming, what is too large is told apart from what is late.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_refused_as_such_before_it_has_come() {
    let directory = tempfile::tempdir().unwrap();
    let (gateway, mut api) = gateway(&directory.path().join("data"), vec![table("/acme", "aws")]).await;
    let kms = Kms::of(&mut api, "aws", "/acme").await;
    let signed = kms.sign("health", &json!({}));
    for (announced, first) in [(1 << 20, 0), (64 << 10, 0), (1 << 20, 65 << 10)] {
        let mut peer = gateway.stranger().await;
        if first == 0 {
            signed.announce(&mut peer, announced).await;
        } else {
            signed.announce_chunked(&mut peer).await;
            peer.send(format!("{first:x}\r\n{}\r\n", " ".repeat(first)).as_bytes()).await.unwrap();
        }
        // A piece now and then, until there is an answer.
        let answer = loop {
            match tokio::time::timeout(Duration::from_millis(20), peer.answer()).await {
                Ok(answer) => break answer.unwrap(),
                Err(_elapsed) if first == 0 => peer.send(b" ").await.unwrap(),
                Err(_elapsed) => peer.send(b"1\r\n \r\n").await.unwrap(),
            }
        };
        match announced > 64 << 10 {
            true => answer.error(400, "ValidationException"),
            // What is not too large is merely late.
            false => answer.error(503, "DependencyTimeoutException"),
        };
    }
    gateway.running.shut_down().await.unwrap();
}

/// Some clients read no answer once they are cut off while they send.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_refused_by_the_head_may_send_a_megabyte_and_reads_why() {
    let directory = tempfile::tempdir().unwrap();
    let (gateway, _api) = gateway(&directory.path().join("data"), vec![table("/acme", "aws")]).await;
    let body = " ".repeat(1 << 20);
    for version in ["--http1.1", "--http2"] {
        let flags = [version, "--header", "expect:"].map(str::to_owned);
        for _ in 0..5 {
            for (path, status, name) in [
                ("/acme/invalid/kms/xks/v1/health", 404, "InvalidUriPathException"),
                ("/acme/kms/xks/v1/health", 400, "ValidationException"),
            ] {
                taken_in(async || gateway.curl_unwanted(&flags, "POST", path, &body).await)
                    .await
                    .error(status, name);
            }
        }
        taken_in(async || gateway.curl_unwanted(&flags, "PUT", "/acme/kms/xks/v1/health", &body).await)
            .await
            .error(405, "InvalidUriPathException");
        taken_in(async || gateway.curl_unwanted(&flags, "POST", "/v1/nothing", &body).await)
            .await
            .refused(404, "not-found");
    }
    gateway.running.shut_down().await.unwrap();
}

/// The rows that the provider's published test client adds with `-a`, and what it is told beforehand.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_does_what_the_store_has_it_for() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let store = holdfast_gateway::external_store::AwsXksTable {
        encrypt_only: vec!["payroll-in".to_owned()],
        decrypt_only: vec!["payroll-out".to_owned()],
        ..table("/acme", "aws")
    };
    // The same keys without a limit, as another store has them.
    let (gateway, mut api) = gateway(&data, vec![store, table("/all", "other")]).await;
    for key in ["payroll-in", "payroll-out"] {
        api.create(&json!({"name": key, "algorithm": GCM})).await;
    }
    api.create(&json!({"name": "payroll-none", "algorithm": "aes-256-kwp"})).await;
    let kms = Kms::of(&mut api, "aws", "/acme").await;
    let all = Kms::of(&mut api, "other", "/all").await;
    let mut peer = gateway.stranger().await;
    let mut sealed = vec![];
    for key in ["payroll-in", "payroll-out"] {
        let made = all.ask(&mut peer, &format!("keys/{key}/encrypt"), &encrypt(PLAIN, Some(AAD), true)).await;
        sealed.push(made.expect(200).json());
    }
    let [to_in, to_out] = &sealed[..] else { panic!() };
    const REFUSED: u16 = 400;
    let both = [(Some(AAD), false), (None, false), (Some(AAD), true), (None, true)];
    let mut refused = vec![];
    for (key, plain_works) in [("payroll-in", true), ("payroll-out", false), ("payroll-none", false)] {
        for (aad, integrity) in both {
            let answer =
                kms.ask(&mut peer, &format!("keys/{key}/encrypt"), &encrypt(PLAIN, aad, integrity)).await;
            // The value is made by decrypting.
            let works = plain_works && !integrity;
            assert_eq!(answer.status, if works { 200 } else { REFUSED }, "{key} {integrity}");
            if !works {
                assert_eq!(answer.json()["errorName"], "InvalidKeyUsageException", "{key} {integrity}");
                refused.push(answer.operation());
            }
        }
    }
    let answer =
        kms.ask(&mut peer, "keys/payroll-in/decrypt", &decrypt(to_in, Some(AAD))).await.expect(REFUSED);
    assert_eq!(answer.json()["errorName"], "InvalidKeyUsageException");
    refused.push(answer.operation());
    let opened =
        kms.ask(&mut peer, "keys/payroll-out/decrypt", &decrypt(to_out, Some(AAD))).await.expect(200);
    assert_eq!(bytes(&opened.json()["plaintext"]), PLAIN);
    let mut metadata = async |key: &str| {
        let body = json!({"requestMetadata": said("CreateKey")});
        kms.ask(&mut peer, &format!("keys/{key}/metadata"), &body).await.expect(200).json()
    };
    assert_eq!(metadata("payroll-in").await["keyUsage"], json!(["ENCRYPT"]));
    let out = metadata("payroll-out").await;
    assert_eq!((&out["keyUsage"], &out["keyStatus"]), (&json!(["DECRYPT"]), &json!("ENABLED")));
    // What its state takes away besides leaves nothing, or the rest.
    api.post(&format!("{T}/keys/payroll-in/deactivate"), &json!({})).await.expect(200);
    api.post(&format!("{T}/keys/payroll-out/deactivate"), &json!({})).await.expect(200);
    let state = metadata("payroll-in").await;
    assert_eq!((&state["keyUsage"], &state["keyStatus"]), (&json!(["ENCRYPT"]), &json!("DISABLED")));
    assert_eq!(metadata("payroll-out").await["keyStatus"], "ENABLED");
    gateway.running.shut_down().await.unwrap();
    // Each of these is a refusal in the tenant's log, with what KMS said of it.
    let events = log::events(&data, "dev");
    for operation in &refused {
        let event = log::closing(&events, operation);
        assert_eq!(
            (&event["outcome"], &event["protocol"]["says"]["awsPrincipalArn"]),
            (&json!("refused"), &json!(support::xks::ARN))
        );
    }
}

/// A stop works before it stands in the key's record, and so where that cannot be written.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_disabled_from_the_moment_of_a_stop_on() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let (gateway, mut api) = gateway(&data, vec![table("/acme", "aws")]).await;
    api.create(&json!({"name": "payroll", "algorithm": GCM})).await;
    let kms = Kms::of(&mut api, "aws", "/acme").await;
    let mut peer = gateway.stranger().await;
    let metadata = json!({"requestMetadata": said("DescribeKey")});
    let status = async |peer: &mut Peer| {
        let answer = kms.ask(peer, "keys/payroll/metadata", &metadata).await;
        match answer.status {
            200 => answer.text("keyStatus"),
            // The order came while it was being answered.
            _ => answer.expect(400).text("errorName"),
        }
    };
    assert_eq!(status(&mut peer).await, "ENABLED");
    let state = rusqlite::Connection::open(data.join("state/holdfast.db")).unwrap();
    state.execute_batch("BEGIN IMMEDIATE").unwrap();
    let suspended = tokio::spawn(async move {
        api.post(&format!("{T}/keys/payroll/suspend"), &json!({})).await.expect(200);
    });
    let disabled = async { while status(&mut peer).await != "DISABLED" {} };
    tokio::time::timeout(PATIENCE, disabled).await.expect("the stop is in force");
    state.execute_batch("ROLLBACK").unwrap();
    suspended.await.unwrap();
    assert_eq!(status(&mut peer).await, "DISABLED");
    gateway.running.shut_down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn ciphertexts_stay_in_their_protocol() {
    let directory = tempfile::tempdir().unwrap();
    let (gateway, mut api) = gateway(&directory.path().join("data"), vec![table("/acme", "aws")]).await;
    api.create(&json!({"name": "payroll", "algorithm": GCM})).await;
    let kms = Kms::of(&mut api, "aws", "/acme").await;
    let mut peer = gateway.stranger().await;

    // Ours, cut into the provider's pieces: header, nonce, ciphertext, tag.
    let context = json!({"purpose": "payroll"});
    let native =
        api.use_key("payroll", "encrypt", &json!({"plaintext": base64(PLAIN), "context": context})).await;
    let frame = bytes(&native["ciphertext"]);
    let body = &frame[frame.len() - (12 + PLAIN.len() + 16)..];
    let pieces = json!({
        "initializationVector": base64(&body[..12]),
        "ciphertext": base64(&body[12..12 + PLAIN.len()]),
        "authenticationTag": base64(&body[12 + PLAIN.len()..]),
        "ciphertextMetadata": base64(&[1, 0, 0, 0, 1]),
    });
    for aad in [None, Some(b"holdfast/binding/v1\0".as_slice())] {
        let answer = kms.ask(&mut peer, "keys/payroll/decrypt", &decrypt(&pieces, aad)).await;
        answer.error(400, "InvalidCiphertextException");
    }

    // The provider's, put together behind a header of ours.
    let sealed =
        kms.ask(&mut peer, "keys/payroll/encrypt", &encrypt(PLAIN, None, false)).await.expect(200).json();
    let header = &frame[..frame.len() - body.len()];
    let [iv, ciphertext, tag] =
        ["initializationVector", "ciphertext", "authenticationTag"].map(|field| bytes(&sealed[field]));
    let forged = base64(&[header, &iv, &ciphertext, &tag].concat());
    for verb in ["decrypt", "rewrap"] {
        for context in [json!({}), context.clone()] {
            let body = json!({"ciphertext": forged, "context": context});
            api.try_key("payroll", verb, &body).await.refused(422, "integrity");
        }
    }
    let bare = json!({"ciphertext": base64(&[iv, ciphertext, tag].concat())});
    api.try_key("payroll", "decrypt", &bare).await.refused(422, "integrity");
    gateway.running.shut_down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rotation_leaves_what_was_encrypted_before_readable() {
    let directory = tempfile::tempdir().unwrap();
    let (gateway, mut api) = gateway(&directory.path().join("data"), vec![table("/acme", "aws")]).await;
    api.create(&json!({"name": "payroll", "algorithm": GCM})).await;
    let kms = Kms::of(&mut api, "aws", "/acme").await;
    let mut peer = gateway.stranger().await;
    let old =
        kms.ask(&mut peer, "keys/payroll/encrypt", &encrypt(PLAIN, Some(AAD), true)).await.expect(200).json();
    api.post(&format!("{T}/keys/payroll/rotate"), &json!({})).await.expect(200);
    let new =
        kms.ask(&mut peer, "keys/payroll/encrypt", &encrypt(PLAIN, Some(AAD), true)).await.expect(200).json();
    assert_eq!(bytes(&new["ciphertextMetadata"]), [1, 0, 0, 0, 2]);
    for sealed in [&old, &new] {
        let opened =
            kms.ask(&mut peer, "keys/payroll/decrypt", &decrypt(sealed, Some(AAD))).await.expect(200);
        assert_eq!(bytes(&opened.json()["plaintext"]), PLAIN);
    }
    // The version is part of what is authenticated.
    let mut swapped = decrypt(&old, Some(AAD));
    swapped["ciphertextMetadata"] = new["ciphertextMetadata"].clone();
    kms.ask(&mut peer, "keys/payroll/decrypt", &swapped).await.error(400, "InvalidCiphertextException");
    gateway.running.shut_down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_signs_what_is_taken_over_both_versions_of_http() {
    let directory = tempfile::tempdir().unwrap();
    let (gateway, mut api) = gateway(&directory.path().join("data"), vec![table("/acme", "aws")]).await;
    api.create(&json!({"name": "payroll", "algorithm": GCM})).await;
    let kms = Kms::of(&mut api, "aws", "/acme").await;
    let config = directory.path().join("credential");
    std::fs::write(&config, format!("user = \"{}:{}\"\n", kms.id, kms.secret)).unwrap();
    for version in ["--http1.1", "--http2"] {
        let signing = [
            "--config",
            config.to_str().unwrap(),
            "--aws-sigv4",
            "aws:amz:eu-central-1:kms-xks-proxy",
            version,
        ];
        let signing = signing.map(str::to_owned);
        let body = json!({"requestMetadata": said("KmsHealthCheck")}).to_string();
        let ask = async |rest: &str, body: String| {
            let path = kms.path(rest);
            in_time(async || gateway.curl(&signing, "POST", &path, &body).await).await.expect(200).json()
        };
        assert!(ask("health", body).await["ekmFleetDetails"].is_array());
        let sealed = ask("keys/payroll/encrypt", encrypt(PLAIN, Some(AAD), true).to_string()).await;
        let opened = ask("keys/payroll/decrypt", decrypt(&sealed, Some(AAD)).to_string()).await;
        assert_eq!(bytes(&opened["plaintext"]), PLAIN);
    }
    gateway.running.shut_down().await.unwrap();
}

/// Nothing of it is there unless it is configured.
#[tokio::test(flavor = "multi_thread")]
async fn it_is_off_unless_configured() {
    let directory = tempfile::tempdir().unwrap();
    let (gateway, mut api) = gateway(&directory.path().join("data"), vec![]).await;
    let kms = Kms::of(&mut api, "aws", "/acme").await;
    let mut peer = gateway.stranger().await;
    let body = json!({"requestMetadata": said("KmsHealthCheck")});
    let answer = kms.ask(&mut peer, "health", &body).await;
    answer.refused(404, "not-found");
    gateway.running.shut_down().await.unwrap();
}

/// The signer of AWS's own programs.
#[tokio::test(flavor = "multi_thread")]
async fn botocore_signs_what_is_taken() {
    // Debian's, whose package the tests install.
    let python = std::path::Path::new("/usr/bin/python3");
    let has = |module| Command::new(python).args(["-c", module]).status().is_ok_and(|done| done.success());
    if !has("import botocore") {
        assert!(std::env::var_os("HOLDFAST_REQUIRE_TOOLS").is_none(), "`python3-botocore` is not installed");
        eprintln!(
            "SKIPPED: `python3-botocore` is not installed; HOLDFAST_REQUIRE_TOOLS=1 makes that a failure"
        );
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (gateway, mut api) = gateway(&directory.path().join("data"), vec![table("/acme", "aws")]).await;
    api.create(&json!({"name": "payroll", "algorithm": GCM})).await;
    let kms = Kms::of(&mut api, "aws", "/acme").await;
    let mut decrypt = json!({"requestMetadata": said("Decrypt"), "encryptionAlgorithm": "AES_GCM"});
    decrypt["additionalAuthenticatedData"] = base64(AAD).into();
    let given = json!({
        "id": kms.id,
        "secret": kms.secret,
        "region": kms.region,
        "ca": gateway.environment["HOLDFAST_CACERT"],
        "url": format!("{}/acme/kms/xks/v1/", gateway.environment["HOLDFAST_URL"]),
        "requests": [
            ["health", {"requestMetadata": said("KmsHealthCheck")}],
            ["keys/nobodys/metadata", {"requestMetadata": said("CreateKey")}],
            ["keys/payroll/encrypt", encrypt(PLAIN, Some(AAD), true)],
        ],
        "decrypt_at": "keys/payroll/decrypt",
        "decrypt": decrypt,
    });
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/aws-xks/client.py");
    let mut client = tokio::process::Command::new(python);
    client.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut client = client.spawn().unwrap();
    client.stdin.take().unwrap().write_all(given.to_string().as_bytes()).await.unwrap();
    let output = client.wait_with_output().await.unwrap();
    let answers: Value = serde_json::from_slice(&output.stdout).unwrap();
    let statuses: Vec<_> = (0..4).map(|n| answers[n][0].as_u64().unwrap()).collect();
    assert_eq!(statuses, [200, 404, 200, 200], "{answers:#}");
    assert_eq!(answers[1][1]["errorName"], "KeyNotFoundException");
    assert_eq!(bytes(&answers[3][1]["plaintext"]), PLAIN);
    gateway.running.shut_down().await.unwrap();
}

/// Who shows no certificate of the provider's gets no handshake under the store's name, and no store under another.
#[tokio::test(flavor = "multi_thread")]
async fn mutual_tls_lets_the_provider_in_by_its_name_and_nobody_else() {
    const KMS: &str = "cks.kms.eu-central-1.amazonaws.com";
    let directory = tempfile::tempdir().unwrap();
    let (amazon, another) = (Authority::new("Amazon"), Authority::new("another"));
    let ca = directory.path().join("amazon.pem");
    std::fs::write(&ca, &amazon.pem).unwrap();
    let mut guarded = table("/acme", "aws");
    guarded.server_name = "Localhost".into();
    guarded.client_ca_file = ca;
    guarded.client_names = vec![KMS.into()];
    let data = directory.path().join("data");
    let (gateway, mut api) = gateway(&data, vec![guarded, table("/open", "other")]).await;
    api.create(&json!({"name": "payroll", "algorithm": GCM})).await;
    let kms = Kms::of(&mut api, "aws", "/acme").await;
    let open = Kms::of(&mut api, "other", "/open").await;
    let body = json!({"requestMetadata": said("KmsHealthCheck")});
    let as_leaf =
        |leaf: &Leaf| trust(&data).name("localhost").identity(leaf.certificate.clone(), leaf.key.clone());

    let beside = |namesakes: usize| {
        let leaf = amazon.issue_named(Some(KMS), "other", 5);
        trust(&data).name("localhost").identity(leaf.certificate + &another.pem.repeat(namesakes), leaf.key)
    };
    let mut peer = Peer::connect(gateway.running.address, &beside(2)).await.unwrap();
    kms.ask(&mut peer, "health", &body).await.expect(200);
    for leaf in [amazon.issue_named(Some(KMS), "other", 5), amazon.issue_named(None, KMS, 5)] {
        let mut peer = Peer::connect(gateway.running.address, &as_leaf(&leaf)).await.unwrap();
        kms.ask(&mut peer, "health", &body).await.expect(200);
        // A certificate is no signature.
        let mut unsigned = kms.sign("health", &body);
        unsigned.headers.pop();
        unsigned.send(&mut peer).await.error(401, "AuthenticationFailedException");
        // The name is this store's alone.
        let mut peer = Peer::connect(gateway.running.address, &as_leaf(&leaf)).await.unwrap();
        open.ask(&mut peer, "health", &body).await.error(404, "InvalidUriPathException");
    }
    let refused = [
        trust(&data).name("localhost"),
        as_leaf(&amazon.issue_named(Some("cks.kms.eu-west-1.amazonaws.com"), "x", 5)),
        as_leaf(&amazon.issue_named(Some("cks.kms.eu-west-1.amazonaws.com"), KMS, 5)),
        as_leaf(&amazon.issue_named(Some(KMS), KMS, -1)),
        as_leaf(&another.issue_named(Some(KMS), KMS, 5)),
        // More paths than are looked for.
        beside(3),
    ];
    for (number, settings) in refused.iter().enumerate() {
        // In TLS 1.3 a client learns of it with the first answer.
        let mut peer = Peer::connect(gateway.running.address, settings).await.unwrap();
        let head = peer.head("GET", "/health/live", 0);
        let _ = peer.send(head.as_bytes()).await;
        let mut byte = [0];
        let read = tokio::io::AsyncReadExt::read(&mut peer.stream, &mut byte).await;
        let alert = read.expect_err("served without a certificate").to_string();
        let expected = if number == 0 { "CertificateRequired" } else { "HandshakeFailure" };
        assert!(alert.contains(expected), "{number}: {alert}");
    }
    // Under no name, and under another, everything else is as it was; the store is not there.
    let mut peer = gateway.stranger().await;
    open.ask(&mut peer, "health", &body).await.expect(200);
    kms.ask(&mut peer, "health", &body).await.error(404, "InvalidUriPathException");
    gateway.running.shut_down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_is_taken_away_vouches_for_nobody_who_is_there() {
    const KMS: &str = "cks.kms.eu-central-1.amazonaws.com";
    let directory = tempfile::tempdir().unwrap();
    let (amazon, next) = (Authority::new("Amazon"), Authority::new("the next"));
    let (data, ca) = (directory.path().join("data"), directory.path().join("amazon.pem"));
    std::fs::write(&ca, &amazon.pem).unwrap();
    let guarded = AwsXksTable {
        server_name: "localhost".into(),
        client_ca_file: ca.clone(),
        client_names: vec![KMS.into()],
        ..table("/acme", "aws")
    };
    let (gateway, mut api) = gateway(&data, vec![guarded, table("/open", "other")]).await;
    api.create(&json!({"name": "payroll", "algorithm": GCM})).await;
    let kms = Kms::of(&mut api, "aws", "/acme").await;
    let open = Kms::of(&mut api, "other", "/open").await;
    let as_leaf = |authority: &Authority| {
        let leaf = authority.issue_named(Some(KMS), "x", 5);
        trust(&data).name("localhost").identity(leaf.certificate, leaf.key)
    };
    let mut peer = Peer::connect(gateway.running.address, &as_leaf(&amazon)).await.unwrap();
    let mut elsewhere = gateway.stranger().await;
    let encrypt = encrypt(PLAIN, None, false);
    kms.ask(&mut peer, "keys/payroll/encrypt", &encrypt).await.expect(200);
    // Whoever is vouched for still, stays.
    std::fs::write(&ca, amazon.pem.clone() + &next.pem).unwrap();
    gateway.running.reload().unwrap();
    kms.ask(&mut peer, "keys/payroll/encrypt", &encrypt).await.expect(200);
    std::fs::write(&ca, &next.pem).unwrap();
    gateway.running.reload().unwrap();
    let refused = kms.ask(&mut peer, "keys/payroll/encrypt", &encrypt).await;
    let refused = refused.error(401, "AuthenticationFailedException");
    assert_eq!(refused.header("connection"), Some("close"));
    peer.closed().await;
    let mut peer = Peer::connect(gateway.running.address, &as_leaf(&next)).await.unwrap();
    kms.ask(&mut peer, "keys/payroll/encrypt", &encrypt).await.expect(200);
    // A store without authorities has lost none.
    open.ask(&mut elsewhere, "health", &json!({"requestMetadata": said("KmsHealthCheck")})).await.expect(200);
    gateway.running.shut_down().await.unwrap();
}
