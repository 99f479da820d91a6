//! A key service of Google Workspace's client-side encryption: every method, every check failing alone, and what nobody may do with it.

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
use holdfast_wire::cse::claim::Application;
use serde_json::{Value, json};
use std::collections::HashSet;
use support::api::{T, base64, bytes};
use support::cse::{
    DEK, FILE, GUESTS, HOST, IDP, ORIGIN, PEER, REASON, URL, admin, config, drive, gateway, gateway_of,
    google, now, post, send, signed, table, token, unsigned, unwrap, user, with, wrap,
};
use support::log;

/// Whom administrators' tokens are for.
const ADMINS: &str = "hyok-cse-admin";

/// What a refusal's record must say.
type Refusals = Vec<(String, &'static str, &'static str)>;

fn recorded(events: &[Value], refusals: &Refusals) {
    for (operation, what, check) in refusals {
        let event = log::closing(events, operation);
        assert_eq!(
            (&event["outcome"], &event["protocol"]["name"]),
            (&json!("refused"), &json!("google-cse")),
            "{what}"
        );
        assert!(event.to_string().contains(check), "{what}: {event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrapped_comes_back_and_the_log_says_for_whom() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let (gateway, _api) = gateway(&data, table()).await;
    let mut peer = gateway.stranger().await;
    let mut operations = vec![];
    for (perimeter, key) in [("eu-legal", "workspace"), ("", "workspace"), ("eu-secret", "workspace-eu")] {
        let said = with(drive("writer"), "perimeter_id", perimeter.into());
        let wrapped = post(&mut peer, "wrap", &wrap(&user(), &said)).await.expect(200);
        let blob = wrapped.text("wrapped_key");
        assert!(blob.len() <= 1024 && wrapped.json().as_object().unwrap().len() == 1);
        // A token without a perimeter opens it, too: the one that counts is in the blob.
        let reader = with(drive("reader"), "perimeter_id", Value::Null);
        let opened = post(&mut peer, "unwrap", &unwrap(&user(), &reader, &json!(blob))).await.expect(200);
        assert_eq!(opened.body, format!(r#"{{"key":"{DEK}"}}"#).into_bytes());
        operations.push((wrapped.operation(), "encrypt", perimeter, key));
        operations.push((opened.operation(), "decrypt", perimeter, key));
    }
    gateway.running.shut_down().await.unwrap();
    let events = log::events(&data, "dev");
    for (operation, action, perimeter, key) in &operations {
        let event = log::closing(&events, operation);
        assert_eq!((&event["outcome"], &event["action"]), (&json!("success"), &json!(action)));
        let says = &event["protocol"]["says"];
        assert_eq!(
            (&says["email"], &says["google_email"]),
            (&json!("Ana.Lopez@corp.example"), &json!("ana.lopez@corp.example"))
        );
        assert_eq!((&says["resource_name"], &says["reason"]), (&json!(FILE), &json!(REASON)));
        assert_eq!((&says["application"], &says["claim.department"]), (&json!("drive"), &json!("legal")));
        assert_eq!(says.get("perimeter_id").and_then(Value::as_str).unwrap_or_default(), *perimeter);
        assert_eq!(event["key"]["name"], *key);
        let caller = &event["caller"];
        assert_eq!(
            (&caller["name"], &caller["authentication"], &caller["issuer"]),
            (&json!("cse"), &json!("issued"), &json!(IDP))
        );
    }
    // Neither a key nor a token is in any file.
    let dek = STANDARD.decode(DEK).unwrap();
    for file in log::files(&data) {
        let text = std::fs::read(&file).unwrap();
        for hidden in [&dek[..], DEK.as_bytes(), b"eyJhbGciOi"] {
            assert!(!text.windows(hidden.len()).any(|window| window == hidden), "{}", file.display());
        }
    }
}

/// Sections 4, 5 and 13 of the digest: whatever is wrong alone is refused, and the log says which check it was.
#[tokio::test(flavor = "multi_thread")]
async fn every_check_fails_alone() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let (gateway, _api) = gateway(&data, table()).await;
    let mut peer = gateway.stranger().await;
    let blob = post(&mut peer, "wrap", &wrap(&user(), &drive("writer"))).await.expect(200).json();
    let blob = &blob["wrapped_key"];
    let gmail = |role| google(Application::Gmail, role);
    let migration = |role| google(Application::Migration, role);
    let room = "room7@corp.example";

    // Nobody is known by these; they look the same, and are in no tenant's log.
    let header = json!({"alg": "RS256", "kid": "hyok-test-1", "typ": "JWT"});
    let public = std::fs::read(support::cse::fixture("jwks.json")).unwrap();
    let hmac = {
        let header = json!({"alg": "HS256", "kid": "hyok-test-1", "typ": "JWT"});
        let text = unsigned(&header, &user(), b"");
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &public);
        unsigned(
            &header,
            &user(),
            aws_lc_rs::hmac::sign(&key, text.trim_end_matches('.').as_bytes()).as_ref(),
        )
    };
    let not_authentic = [
        ("token swap", token(&drive("writer"))),
        ("alg none", unsigned(&json!({"alg": "none", "kid": "hyok-test-1"}), &user(), b"")),
        ("HS256 with the public key", hmac),
        ("a bad signature", unsigned(&header, &user(), &[7; 256])),
        ("unknown kid", signed(&json!({"alg": "RS256", "kid": "other"}), &user())),
        ("another issuer", token(&with(user(), "iss", "https://evil.example".into()))),
        ("another audience", token(&with(user(), "aud", "other".into()))),
        ("expired", token(&with(user(), "exp", (now() - 61).into()))),
        ("not yet", token(&with(user(), "iat", (now() + 120).into()))),
        ("no end", token(&with(user(), "exp", Value::Null))),
        ("nobody", token(&with(with(user(), "email", Value::Null), "google_email", Value::Null))),
        ("no token", "x".to_owned()),
    ];
    let mut seen = HashSet::new();
    for (what, token) in &not_authentic {
        let body = with(wrap(&user(), &drive("writer")), "authentication", token.as_str().into());
        let answer = post(&mut peer, "wrap", &body).await;
        assert_eq!(answer.status, 401, "{what}: {}", answer.json());
        seen.insert(answer.told(401).text("message"));
    }

    // From here on somebody is: the log has them all.
    let mut refusals: Refusals = vec![];
    let own_user = user();
    let authorised = |what: &'static str, claims: Value| (what, "wrap", wrap(&own_user, &claims));
    let rows: Vec<(&'static str, &'static str, Value, u16, &'static str)> = {
        let row = |(what, method, body): (&'static str, &'static str, Value), status, check| {
            (what, method, body, status, check)
        };
        let other = |claims: &Value| wrap(claims, &drive("writer"));
        let opening = |claims: Value| unwrap(&own_user, &claims, blob);
        vec![
            row(authorised("a token swap", user()), 401, "other-issuer"),
            row(authorised("expired", with(drive("writer"), "exp", (now() - 61).into())), 401, "expired"),
            row(
                authorised("another audience", with(drive("writer"), "aud", "x".into())),
                401,
                "other-audience",
            ),
            row(authorised("no role", with(drive("writer"), "role", Value::Null)), 401, "`role`"),
            row(
                authorised("a long name", with(drive("writer"), "resource_name", "n".repeat(129).into())),
                401,
                "`resource_name`",
            ),
            row(
                ("other users", "wrap", other(&with(user(), "google_email", "eve@corp.example".into()))),
                403,
                "`same-user`",
            ),
            row(
                (
                    "google_email counts alone",
                    "wrap",
                    other(&with(
                        with(user(), "email", "ana.lopez@corp.example".into()),
                        "google_email",
                        "eve@corp.example".into(),
                    )),
                ),
                403,
                "`same-user`",
            ),
            row(
                (
                    "an address that nobody verified",
                    "wrap",
                    other(&with(
                        with(
                            with(user(), "email", "ana.lopez@corp.example".into()),
                            "google_email",
                            Value::Null,
                        ),
                        "email_verified",
                        false.into(),
                    )),
                ),
                403,
                "`same-user`",
            ),
            row(
                authorised("a visitor", with(drive("writer"), "email_type", "google-visitor".into())),
                403,
                "`guest`",
            ),
            row(
                authorised("a customer's", with(drive("writer"), "email_type", "customer-idp".into())),
                403,
                "`guest`",
            ),
            row(
                authorised("an unknown kind", with(drive("writer"), "email_type", "other".into())),
                403,
                "`guest`",
            ),
            row(("a guest's provider", "wrap", other(&with(user(), "iss", GUESTS.into()))), 401, ""),
            row(
                authorised("delegated to nobody", with(drive("writer"), "delegated_to", room.into())),
                403,
                "`delegation`",
            ),
            row(
                (
                    "delegated by nobody",
                    "wrap",
                    other(&with(with(user(), "delegated_to", room.into()), "resource_name", FILE.into())),
                ),
                403,
                "`delegation`",
            ),
            row(authorised("a reader wraps", drive("reader")), 403, "`role`"),
            row(("an upgrader unwraps", "unwrap", opening(drive("upgrader"))), 403, "`role`"),
            row(authorised("check is no role", drive("check")), 403, "`role`"),
            row(
                authorised(
                    "another service",
                    with(drive("writer"), "kacls_url", "https://kacls.evil.example/v1".into()),
                ),
                403,
                "`kacls-url`",
            ),
            row(
                authorised(
                    "another domain",
                    with(drive("writer"), "kacls_owner_domain", "evil.example".into()),
                ),
                403,
                "`owner-domain`",
            ),
            row(authorised("Gmail wraps", gmail("writer")), 403, "`issuer`"),
            row(("migration unwraps", "unwrap", opening(migration("reader"))), 403, "`issuer`"),
            row(
                ("perimeter", "wrap", other(&with(user(), "department", "sales".into()))),
                403,
                "eu-legal-is-for-lawyers",
            ),
            row(
                (
                    "perimeter of the blob",
                    "unwrap",
                    unwrap(
                        &with(user(), "department", Value::Null),
                        &with(drive("reader"), "perimeter_id", "".into()),
                        blob,
                    ),
                ),
                403,
                "eu-legal-is-for-lawyers",
            ),
            row(
                (
                    "another file",
                    "unwrap",
                    opening(with(drive("reader"), "resource_name", "//googleapis.com/drive/files/2".into())),
                ),
                400,
                "does not verify",
            ),
        ]
    };
    let mut messages = HashSet::new();
    for (what, method, body, status, check) in rows {
        let answer = post(&mut peer, method, &body).await;
        assert_eq!(answer.status, status, "{what}: {}", answer.json());
        if !check.is_empty() {
            refusals.push((answer.operation(), what, check));
        }
        messages.insert((status, answer.told(status).text("message")));
    }
    messages.extend(seen.into_iter().map(|message| (401, message)));
    assert_eq!(messages.len(), 3, "one message a status: {messages:?}");

    // And these pass: nothing of what differs matters.
    for (what, method, body) in [
        authorised("a slash", with(drive("writer"), "kacls_url", format!("{URL}/").into())),
        authorised("the owner", with(drive("writer"), "kacls_owner_domain", "Corp.example".into())),
        authorised("an account", with(drive("writer"), "email_type", "google".into())),
        authorised("text for numbers", with(drive("writer"), "exp", (now() + 60).to_string().into())),
        authorised("within the tolerance", with(drive("writer"), "exp", (now() - 50).into())),
        authorised("no perimeter", with(drive("upgrader"), "perimeter_id", Value::Null)),
        authorised("more fields", with(drive("writer"), "more", json!({"a": [1]}))),
        ("Meet", "wrap", wrap(&user(), &google(Application::Meet, "writer"))),
        ("Calendar", "wrap", wrap(&user(), &google(Application::Calendar, "writer"))),
        (
            "no google_email",
            "wrap",
            wrap(
                &with(with(user(), "google_email", Value::Null), "email", "ANA.lopez@corp.example".into()),
                &drive("writer"),
            ),
        ),
        (
            "Google's address, which the provider says",
            "wrap",
            wrap(&with(user(), "email_verified", false.into()), &drive("writer")),
        ),
        ("a reader", "unwrap", unwrap(&user(), &drive("reader"), blob)),
        ("a writer", "unwrap", unwrap(&user(), &drive("writer"), blob)),
    ] {
        let answer = post(&mut peer, method, &body).await;
        assert_eq!(answer.status, 200, "{what}: {}", answer.json());
    }
    gateway.running.shut_down().await.unwrap();
    recorded(&log::events(&data, "dev"), &refusals);
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_are_let_in_by_their_own_provider_alone() {
    let directory = tempfile::tempdir().unwrap();
    let mut table = table();
    table.guest_providers = vec![GUESTS.to_owned()];
    let (gateway, _api) = gateway(&directory.path().join("data"), table).await;
    let mut peer = gateway.stranger().await;
    let guest = with(user(), "iss", GUESTS.into());
    for (user, kind, status) in [
        (&guest, "google-visitor", 200),
        (&guest, "customer-idp", 200),
        (&guest, "google", 403),
        (&guest, "other", 403),
        (&user(), "google-visitor", 403),
        (&user(), "google", 200),
    ] {
        let body = wrap(user, &with(drive("writer"), "email_type", kind.into()));
        let answer = post(&mut peer, "wrap", &body).await;
        assert_eq!(answer.status, status, "{kind}: {}", answer.json());
    }
    gateway.running.shut_down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_of_a_blob_is_changed_is_one_and_the_same_refusal() {
    let directory = tempfile::tempdir().unwrap();
    let (gateway, _api) = gateway(&directory.path().join("data"), table()).await;
    let mut peer = gateway.stranger().await;
    let said = with(drive("writer"), "perimeter_id", Value::Null);
    let wrapped = post(&mut peer, "wrap", &wrap(&user(), &said)).await.expect(200);
    let blob = bytes(&wrapped.json()["wrapped_key"]);
    // Once made, tokens are shown with every blob.
    let [right, other] = [&said, &with(said.clone(), "resource_name", "other".into())]
        .map(|google| unwrap(&user(), google, &Value::Null));
    let mut wrong: Vec<Vec<u8>> = (0..blob.len()).map(|length| blob[..length].to_vec()).collect();
    wrong.remove(0);
    for bit in 0..8 * blob.len() {
        let mut changed = blob.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        wrong.push(changed);
    }
    wrong.push([&blob[..], &[0]].concat());
    let mut seen = HashSet::new();
    for blob in &wrong {
        let answer =
            post(&mut peer, "unwrap", &with(right.clone(), "wrapped_key", base64(blob).into())).await;
        seen.insert(answer.told(400).text("message"));
    }
    let answer = post(&mut peer, "unwrap", &with(other, "wrapped_key", base64(&blob).into())).await;
    seen.insert(answer.told(400).text("message"));
    assert!(wrong.len() > 500 && seen.len() == 1, "{} {seen:?}", wrong.len());
    post(&mut peer, "unwrap", &with(right, "wrapped_key", base64(&blob).into())).await.expect(200);
    gateway.running.shut_down().await.unwrap();
}

/// The digest's section 12, and what a stranger may send.
#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_has_its_status_and_browsers_may_read_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(&directory.path().join("data"), table());
    let mut limited = table();
    limited.kacls_url = "https://limited.hyok.example".to_owned();
    limited.requests_per_second = 1;
    config.google_cse.push(limited);
    let (gateway, mut api) = gateway_of(config).await;
    let right = wrap(&user(), &drive("writer"));
    let sized = |bytes: usize| with(right.clone(), "key", base64(&vec![7; bytes]).into());
    let reason = |reason: String| with(right.clone(), "reason", reason.into());
    let twice = right.to_string().replacen('{', r#"{"key":"AAAA","#, 1);
    for (what, verb, path, headers, body, status) in [
        ("no JSON", "POST", "/v1/wrap", vec![], "{".to_owned(), 400),
        ("a list", "POST", "/v1/wrap", vec![], "[]".to_owned(), 400),
        ("nothing", "POST", "/v1/wrap", vec![], String::new(), 400),
        ("no tokens", "POST", "/v1/wrap", vec![], "{}".to_owned(), 400),
        ("twice", "POST", "/v1/wrap", vec![], twice, 400),
        ("no key", "POST", "/v1/wrap", vec![], with(right.clone(), "key", Value::Null).to_string(), 400),
        ("no base64", "POST", "/v1/wrap", vec![], with(right.clone(), "key", "é".into()).to_string(), 400),
        ("129 bytes", "POST", "/v1/wrap", vec![], sized(129).to_string(), 400),
        ("128 bytes", "POST", "/v1/wrap", vec![], sized(128).to_string(), 200),
        ("a long reason", "POST", "/v1/wrap", vec![], reason("r".repeat(1025)).to_string(), 400),
        (
            "orders in a reason",
            "POST",
            "/v1/wrap",
            vec![],
            reason("{client:'d'\u{1b}[2J\u{0}".into()).to_string(),
            200,
        ),
        ("1 MB", "POST", "/v1/wrap", vec![("content-length", "1048576")], String::new(), 413),
        ("a form", "POST", "/v1/wrap", vec![("content-type", "text/plain")], right.to_string(), 415),
        ("to read", "GET", "/v1/wrap", vec![], String::new(), 405),
        ("to write", "POST", "/v1/status", vec![], String::new(), 405),
        ("no method", "POST", "/v1/encrypt", vec![], right.to_string(), 404),
        ("a segment", "POST", "/v1/wrap/", vec![], right.to_string(), 404),
        ("a query", "POST", "/v1/wrap?a=b", vec![], right.to_string(), 404),
        ("dots", "POST", "/v1/../v1/wrap", vec![], right.to_string(), 404),
        ("a slash", "POST", "/v1/%2fwrap", vec![], right.to_string(), 404),
        ("the native API", "GET", "/v1/tenants/dev/keys", vec![], String::new(), 404),
    ] {
        for origin in [None, Some(ORIGIN), Some("https://evil.example")] {
            if status == 200 && origin.is_some() {
                continue;
            }
            let mut peer = gateway.stranger().await;
            let mut headers = headers.clone();
            headers.extend(origin.map(|origin| ("origin", origin)));
            let answer = send(&mut peer, verb, path, &headers, &body).await;
            assert_eq!(answer.status, status, "{what}: {}", String::from_utf8_lossy(&answer.body));
            let allowed = origin.filter(|origin| *origin == ORIGIN);
            assert_eq!(answer.header("access-control-allow-origin"), allowed, "{what}");
            assert_eq!(answer.header("vary"), Some("origin"), "{what}");
            assert_eq!(answer.header("access-control-allow-credentials"), None);
            if status != 200 {
                answer.told(status);
            }
        }
    }
    // Under another host the service is not there, and the native API is.
    let mut peer = gateway.stranger().await;
    let native = send(&mut peer, "GET", "/v1/status", &[("host", "gateway")], "").await;
    assert_eq!(native.header("vary"), None);
    native.refused(401, "unauthenticated");

    // A preflight needs nobody, whatever the path below the service's.
    for (path, origin, is_let_in) in
        [("/v1/wrap", ORIGIN, true), ("/v1/none", ORIGIN, true), ("/v1/wrap", "https://evil.example", false)]
    {
        let headers = [("origin", origin), ("access-control-request-method", "POST")];
        let answer = send(&mut peer, "OPTIONS", path, &headers, "").await.expect(204);
        let header = |name| answer.header(name).map(str::to_owned);
        let given = |value: &str| is_let_in.then(|| value.to_owned());
        assert_eq!(header("access-control-allow-origin"), given(ORIGIN));
        assert_eq!(header("access-control-allow-methods"), given("get, post, options"));
        assert_eq!(header("access-control-allow-headers"), given("content-type"));
        assert_eq!(header("access-control-max-age"), given("3600"));
    }
    // The second within the second is more than that service may have; and what the tenant has stopped.
    let limited = [("host", "limited.hyok.example")];
    send(&mut peer, "POST", "/wrap", &limited, &right.to_string()).await.told(403);
    let throttled = send(&mut peer, "POST", "/wrap", &limited, &right.to_string()).await.told(429);
    assert!(throttled.header("retry-after").is_some());
    api.post(&format!("{T}/keys/workspace/suspend"), &json!({})).await.expect(200);
    post(&mut peer, "wrap", &right).await.told(403);
    api.post(&format!("{T}/keys/workspace/resume"), &json!({})).await.expect(200);
    api.post(&format!("{T}/callers/cse/suspend"), &json!({})).await.expect(200);
    post(&mut peer, "wrap", &right).await.told(403);
    api.post(&format!("{T}/callers/cse/resume"), &json!({})).await.expect(200);
    post(&mut peer, "wrap", &right).await.expect(200);
    gateway.running.shut_down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_tells_everybody_what_it_can_do_and_nothing_more() {
    let directory = tempfile::tempdir().unwrap();
    let (gateway, mut api) = gateway(&directory.path().join("data"), table()).await;
    let mut peer = gateway.stranger().await;
    let status = send(&mut peer, "GET", "/v1/status", &[], "").await.expect(200).json();
    assert_eq!((&status["server_type"], &status["name"]), (&json!("KACLS"), &json!("eu-prod")));
    let operations = status["operations_supported"].as_array().unwrap();
    assert_eq!(operations.len(), 13, "{status}");
    let certs = send(&mut peer, "GET", "/v1/certs", &[], "").await.expect(200).json();
    let key = &certs["keys"][0];
    assert_eq!((&key["kty"], &key["use"], &key["alg"]), (&json!("RSA"), &json!("sig"), &json!("RS256")));
    // A rotation publishes the next one, and keeps the one before.
    api.post(&format!("{T}/keys/workspace-signing/rotate"), &json!({})).await.expect(200);
    let rotated = send(&mut peer, "GET", "/v1/certs", &[], "").await.expect(200).json();
    let ids: Vec<_> = rotated["keys"].as_array().unwrap().iter().map(|key| key["kid"].clone()).collect();
    assert!(ids.len() == 2 && ids.contains(&key["kid"]), "{ids:?}");
    gateway.running.shut_down().await.unwrap();

    // What is not set up is not there.
    let mut bare = table();
    bare.admins = vec![];
    bare.admin_providers = vec![];
    bare.admin_audiences = vec![];
    bare.take_from = vec![];
    bare.give_to = vec![];
    bare.signing_keys = vec![];
    let (gateway, _api) = support::cse::gateway(&directory.path().join("other"), bare).await;
    let mut peer = gateway.stranger().await;
    let status = send(&mut peer, "GET", "/v1/status", &[], "").await.expect(200).json();
    let operations: Vec<_> = status["operations_supported"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    assert_eq!(
        operations,
        ["status", "certs", "wrap", "unwrap", "digest", "privatekeysign", "privatekeydecrypt"]
    );
    for method in
        ["privilegedunwrap", "takeout_unwrap", "privilegedwrap", "rewrap", "delegate", "wrapprivatekey"]
    {
        post(&mut peer, method, &json!({"authentication": token(&admin())})).await.told(404);
    }
    assert_eq!(send(&mut peer, "GET", "/v1/certs", &[], "").await.expect(200).json(), json!({"keys": []}));
    gateway.running.shut_down().await.unwrap();
}

/// Whatever the settings say later, an object opens with the key that wrapped it, while that is named.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_opens_with_its_own_key_when_another_wraps() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut before = table();
    before.perimeter_keys.clear();
    let (gateway, _api) = support::cse::gateway(&data, before.clone()).await;
    let said = with(drive("writer"), "perimeter_id", "eu-secret".into());
    let mut peer = gateway.stranger().await;
    let blob = post(&mut peer, "wrap", &wrap(&user(), &said)).await.expect(200).json()["wrapped_key"].clone();
    gateway.running.shut_down().await.unwrap();
    let changed = |key: &str, earlier: &[&str], perimeters: bool| {
        let mut table = if perimeters { table() } else { before.clone() };
        table.key = key.to_owned();
        table.earlier_keys = earlier.iter().map(|&key| key.to_owned()).collect();
        table
    };
    let opening = unwrap(&user(), &said, &blob);
    let mut opened = vec![];
    for (table, status) in [
        (changed("workspace", &[], true), 200),
        (changed("workspace-eu", &["workspace"], false), 200),
        (changed("workspace-eu", &["workspace-eu", "nothing", "workspace"], true), 200),
        (changed("workspace-eu", &[], false), 400),
    ] {
        let gateway = support::dev_with(config(&data, table)).await;
        let mut peer = gateway.stranger().await;
        let answer = post(&mut peer, "unwrap", &opening).await;
        assert_eq!(answer.status, status, "{}", answer.json());
        opened.extend((status == 200).then(|| answer.operation()));
        // What is wrapped anew opens as well, with the key of now.
        let anew =
            post(&mut peer, "wrap", &wrap(&user(), &said)).await.expect(200).json()["wrapped_key"].clone();
        post(&mut peer, "unwrap", &unwrap(&user(), &said, &anew)).await.expect(200);
        gateway.running.shut_down().await.unwrap();
    }
    let events = log::events(&data, "dev");
    for operation in opened {
        assert_eq!(log::closing(&events, &operation)["key"]["name"], "workspace");
    }
}

/// However often the key was rotated, the version that signs is published.
#[tokio::test(flavor = "multi_thread")]
async fn after_many_rotations_the_version_that_signs_is_published() {
    let directory = tempfile::tempdir().unwrap();
    let (gateway, mut api) = gateway(&directory.path().join("data"), table()).await;
    for _ in 0..64 {
        api.post(&format!("{T}/keys/workspace-signing/rotate"), &json!({})).await.expect(200);
    }
    let mut peer = gateway.stranger().await;
    let room = with(google(Application::Meet, "writer"), "delegated_to", "room7@corp.example".into());
    let body = json!({"authentication": token(&user()), "authorization": token(&room), "reason": "r"});
    let delegated = post(&mut peer, "delegate", &body).await.expect(200).text("delegated_authentication");
    let certs = send(&mut peer, "GET", "/v1/certs", &[], "").await.expect(200).json();
    let header =
        base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(delegated.split('.').next().unwrap());
    let header: Value = serde_json::from_slice(&header.unwrap()).unwrap();
    let published = certs["keys"].as_array().unwrap();
    assert_eq!(published.iter().filter(|key| key["kid"] == header["kid"]).count(), 1);
    let acting =
        json!({"authentication": delegated, "authorization": token(&room), "key": DEK, "reason": "r"});
    post(&mut peer, "wrap", &acting).await.expect(200);
    gateway.running.shut_down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn administrators_and_peers_unwrap_and_nobody_else_does() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut config = config(&data, table());
    // With a slash at the end or without: it is the same service.
    config.google_cse[0].give_to = vec![format!("{PEER}/")];
    let (gateway, _api) = gateway_of(config).await;
    let mut peer = gateway.stranger().await;
    let admin = admin();
    let wrapping = json!({"authentication": token(&admin), "key": DEK, "perimeter_id": "eu-legal",
        "reason": "bulk import", "resource_name": FILE});
    let wrapped = post(&mut peer, "privilegedwrap", &wrapping).await.expect(200).json();
    let blob = &wrapped["wrapped_key"];
    // What it wraps, users unwrap.
    post(&mut peer, "unwrap", &unwrap(&user(), &drive("reader"), blob)).await.expect(200);
    let opening = |token: String, resource: &str| json!({"authentication": token, "reason": "takeout", "resource_name": resource, "wrapped_key": blob});
    for method in ["privilegedunwrap", "takeout_unwrap"] {
        let opened = post(&mut peer, method, &opening(token(&admin), FILE)).await.expect(200);
        assert_eq!(opened.text("key"), DEK);
    }
    let migration = json!({"iss": PEER, "aud": "kacls-migration", "kacls_url": URL, "resource_name": FILE,
        "iat": now(), "exp": now() + 300});
    // To another service the policy shows the perimeter as to anybody.
    let answer = post(&mut peer, "privilegedunwrap", &opening(token(&migration), FILE)).await;
    answer.told(403);
    let plain = with(wrapping.clone(), "perimeter_id", Value::Null);
    let plain = post(&mut peer, "privilegedwrap", &plain).await.expect(200).json();
    let blob = &plain["wrapped_key"];
    let opening = |token: String, resource: &str| json!({"authentication": token, "reason": "takeout", "resource_name": resource, "wrapped_key": blob});
    let opened = post(&mut peer, "privilegedunwrap", &opening(token(&migration), FILE)).await.expect(200);
    assert_eq!(opened.text("key"), DEK);
    let mut refusals: Refusals = vec![];
    let other = |claims: &Value, name: &str, value: Value| token(&with(claims.clone(), name, value));
    for (what, method, body, status, check) in [
        (
            "a user",
            "privilegedunwrap",
            opening(other(&user(), "aud", ADMINS.into()), FILE),
            403,
            "`privilege`",
        ),
        (
            "an address that nobody verified",
            "privilegedunwrap",
            opening(other(&admin, "email_verified", false.into()), FILE),
            403,
            "`privilege`",
        ),
        (
            "an address that is said to be verified",
            "privilegedunwrap",
            opening(other(&admin, "email_verified", "yes".into()), FILE),
            403,
            "`privilege`",
        ),
        // What an administrator has from an everyday session.
        (
            "an everyday token",
            "privilegedunwrap",
            opening(other(&admin, "aud", "hyok-cse-client".into()), FILE),
            401,
            "",
        ),
        (
            "an everyday token wraps",
            "privilegedwrap",
            with(wrapping.clone(), "authentication", other(&admin, "aud", "hyok-cse-client".into()).into()),
            401,
            "",
        ),
        (
            "a delegated token",
            "privilegedunwrap",
            opening(other(&admin, "delegated_to", "r@corp.example".into()), FILE),
            403,
            "`privilege`",
        ),
        ("another file", "privilegedunwrap", opening(token(&admin), "other"), 400, "does not verify"),
        ("a peer's for another", "privilegedunwrap", opening(token(&migration), "other"), 403, "`resource`"),
        (
            "a peer's to another",
            "privilegedunwrap",
            opening(other(&migration, "kacls_url", PEER.into()), FILE),
            403,
            "`kacls-url`",
        ),
        (
            "an unknown peer",
            "privilegedunwrap",
            opening(other(&migration, "iss", "https://169.254.169.254/v1".into()), FILE),
            401,
            "",
        ),
        (
            "a peer as a user",
            "privilegedunwrap",
            opening(other(&migration, "aud", "hyok-cse-client".into()), FILE),
            401,
            "",
        ),
        (
            "a peer wraps",
            "privilegedwrap",
            with(wrapping.clone(), "authentication", token(&migration).into()),
            401,
            "",
        ),
        (
            "a user wraps",
            "privilegedwrap",
            with(wrapping.clone(), "authentication", other(&user(), "aud", ADMINS.into()).into()),
            403,
            "`privilege`",
        ),
        ("Google's", "privilegedunwrap", opening(token(&drive("reader")), FILE), 401, ""),
    ] {
        let answer = post(&mut peer, method, &body).await;
        assert_eq!(answer.status, status, "{what}: {}", answer.json());
        if !check.is_empty() {
            refusals.push((answer.operation(), what, check));
        }
        answer.told(status);
    }
    post(&mut peer, "privilegedunwrap", &opening(other(&admin, "email_verified", true.into()), FILE))
        .await
        .expect(200);
    // Nor does an administrator's token stand for a user.
    let as_user = with(admin.clone(), "google_email", "ana.lopez@corp.example".into());
    post(&mut peer, "wrap", &wrap(&as_user, &drive("writer"))).await.told(401);
    // Nor does a peer's.
    let body = with(wrap(&user(), &drive("writer")), "authentication", token(&migration).into());
    post(&mut peer, "wrap", &body).await.told(401);
    gateway.running.shut_down().await.unwrap();
    recorded(&log::events(&data, "dev"), &refusals);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_delegated_to_acts_with_that_object_alone() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let (gateway, mut api) = gateway(&data, table()).await;
    let mut peer = gateway.stranger().await;
    let meet = with(google(Application::Meet, "writer"), "perimeter_id", Value::Null);
    let room = with(meet.clone(), "delegated_to", "room7@corp.example".into());
    let body = json!({"authentication": token(&user()), "authorization": token(&room), "reason": "r"});
    let delegated = post(&mut peer, "delegate", &body).await.expect(200);
    let operation = delegated.operation();
    let delegated = delegated.text("delegated_authentication");
    let by = |google: &Value, delegated: &str| json!({"authentication": delegated, "authorization": token(google), "key": DEK, "reason": "r"});
    let wrapped = post(&mut peer, "wrap", &by(&room, &delegated)).await.expect(200);
    assert_eq!(wrapped.json().as_object().unwrap().len(), 1);
    // The policy sees of whoever acts for a user what it sees of the user, and nobody can leave it out.
    let legal = |delegated: &str| by(&with(room.clone(), "perimeter_id", "eu-legal".into()), delegated);
    let acted = post(&mut peer, "wrap", &legal(&delegated)).await.expect(200).operation();
    let sales =
        with(body.clone(), "authentication", token(&with(user(), "department", "sales".into())).into());
    let sales = post(&mut peer, "delegate", &sales).await.expect(200).text("delegated_authentication");
    let answer = post(&mut peer, "wrap", &legal(&sales)).await;
    let forbidden = answer.told(403).operation();
    // What has no text for a policy is refused, not left out.
    for odd in [json!({"a": 1}), json!(["legal", 1]), json!(["legal,sales"])] {
        let odd = with(body.clone(), "authentication", token(&with(user(), "department", odd)).into());
        post(&mut peer, "delegate", &odd).await.told(400);
    }
    // Rotated, the key has still signed it.
    api.post(&format!("{T}/keys/workspace-signing/rotate"), &json!({})).await.expect(200);
    post(&mut peer, "wrap", &by(&room, &delegated)).await.expect(200);
    let mut refusals: Refusals = vec![];
    for (what, method, body, status) in [
        ("another object", "wrap", by(&with(room.clone(), "resource_name", "other".into()), &delegated), 403),
        (
            "another room",
            "wrap",
            by(&with(room.clone(), "delegated_to", "room8@corp.example".into()), &delegated),
            403,
        ),
        ("undelegated", "wrap", by(&meet, &delegated), 403),
        (
            "another user",
            "wrap",
            by(&with(room.clone(), "email", "eve@corp.example".into()), &delegated),
            403,
        ),
        ("delegated on", "delegate", by(&room, &delegated), 403),
        ("to nobody", "delegate", with(body.clone(), "authorization", token(&meet).into()), 403),
        ("changed", "wrap", by(&room, &format!("{}x", &delegated[..delegated.len() - 2])), 401),
        (
            "a self-made one",
            "wrap",
            by(
                &room,
                &token(&with(
                    with(with(user(), "iss", URL.into()), "aud", "kacls-delegation".into()),
                    "delegated_to",
                    "room7@corp.example".into(),
                )),
            ),
            401,
        ),
    ] {
        let answer = post(&mut peer, method, &body).await;
        assert_eq!(answer.status, status, "{what}: {}", answer.json());
        if status == 403 {
            refusals.push((answer.operation(), what, "the check `"));
        }
    }
    api.post(&format!("{T}/keys/workspace-signing/compromise"), &json!({})).await.expect(200);
    post(&mut peer, "wrap", &by(&room, &delegated)).await.told(503);
    post(&mut peer, "delegate", &body).await.told(403);
    gateway.running.shut_down().await.unwrap();
    let events = log::events(&data, "dev");
    recorded(&events, &refusals);
    recorded(&events, &vec![(forbidden, "what its user may not", "eu-legal-is-for-lawyers")]);
    let says = &log::closing(&events, &acted)["protocol"]["says"];
    assert_eq!((&says["authentication_issuer"], &says["claim.department"]), (&json!(IDP), &json!("legal")));
    let event = log::closing(&events, &operation);
    assert_eq!((&event["action"], &event["key"]["name"]), (&json!("sign"), &json!("workspace-signing")));
    assert_eq!(event["protocol"]["says"]["delegated_to"], "room7@corp.example");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_tells_which_key_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let mut table = table();
    // As on a service that peers ask.
    table.claims = vec![];
    let (gateway, _api) = gateway(&directory.path().join("data"), table).await;
    let mut peer = gateway.stranger().await;
    let wrapped = |perimeter: &str| wrap(&user(), &with(drive("writer"), "perimeter_id", perimeter.into()));
    let verifier = google(Application::Migration, "verifier");
    for (perimeter, hash) in [("", "FPYZdJCQU/sy/ENA4+FTesaDmnKo4UpT7NYtpJ4qQz0="), ("eu-secret", "")] {
        let blob = post(&mut peer, "wrap", &wrapped(perimeter)).await.expect(200).json();
        let asking = |google: &Value| json!({"authorization": token(google), "reason": "", "wrapped_key": blob["wrapped_key"]});
        let told = post(&mut peer, "digest", &asking(&verifier)).await.expect(200).text("resource_key_hash");
        assert!(hash.is_empty() || told == hash, "{told}");
        post(&mut peer, "digest", &asking(&with(verifier.clone(), "resource_name", "other".into())))
            .await
            .told(400);
        post(&mut peer, "digest", &asking(&google(Application::Migration, "migrator"))).await.told(403);
        post(&mut peer, "digest", &asking(&drive("reader"))).await.told(401);
        post(&mut peer, "digest", &asking(&user())).await.told(401);
    }
    gateway.running.shut_down().await.unwrap();
}

/// The vectors of the digest's section 10, and what may not be done with a user's private key.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_signs_and_decrypts_with_a_key_that_nobody_sees() {
    const SPKI: &str = "3bj9JRTGYXmBlnkuf78/Xqb+BDYbO5ooABHvMZPebSc=";
    const DIGEST: &str = "HnV1M6heJQQXQ+01TkPj4VU4VLIGJnjXs8G/ghKQ//M=";
    const SIGNATURE: &str = "fgaX15MSGnLPyreabyzJgx+tlT8dFZczFyDZfEMTo5r5nIJ8vEYrbSu/99Xt29H1BL/EMOK5B6R0Y6XIMuYPKn5Adfg5XGSyhJEwCS5o0MIVwz/RUkwTK4D3IlEujGxTOifAzlOAOx/9dwrobx4pWtepW0GGFfbRmS5LAunpiEMTsp3g9sYddvLfwdWbl7f7P0LGvbQ0XArDveu5W+1aqk5TVPZKEqBCRHMmbclmYcqhosqP58IExyq0yESgYNXrKEzEnhPQIV/Ki2U/OlQc1jVqRyPENr8TNXhFKbXpQyegYiKiVAroFuWp7Ml0O4ZGAHadmjb4l6uEaIaJdb5+Gw==";
    const CIPHERTEXT: &str = "f4bquuc8VEiy78j1s0ZufJ1VwMEjCHhHpWM5YUhh2gy6/33UdVn8rwiRImCU97Y4IoHh/57h7zQwX86LwCsQ08aQBuxs9p9S739afrFhlXbc8OG0KBpoknvSzMrjx0PFDw5BMCvVzui4qmO9JwAsw4eyQsjjaISiK42reWG5GYp6qD94udCJX2Jwz9ofCFU65DQiTCR651qtgiIigbIgxFgjWNkVLqQUz09NNxEP4lJHMavdo/48bg4Mo91MIPyD3BwueZCQJgmXY7FQWnzj0skgt1Ffo/nEsNzmWM9tePVTlMNcPYp5yWtG1xk4MnPEEyhUTN7TznIdEQSn1F8eVg==";
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let (gateway, _api) = gateway(&data, table()).await;
    let mut peer = gateway.stranger().await;
    let pem = std::fs::read_to_string(support::cse::fixture("test-key.pem")).unwrap();
    let wrapping = json!({"authentication": token(&admin()), "perimeter_id": "eu-legal", "private_key": pem});
    let wrapped = post(&mut peer, "wrapprivatekey", &wrapping).await.expect(200).json();
    let blob = &wrapped["wrapped_private_key"];
    assert!(blob.as_str().unwrap().len() < 8192);
    let gmail = |role| {
        let said = with(google(Application::Gmail, role), "message_id", "<m@corp.example>".into());
        with(with(said, "spki_hash", SPKI.into()), "spki_hash_algorithm", "SHA-256".into())
    };
    let asking = |google: &Value, algorithm: &str, name: &str, value: &str| {
        json!({"authentication": token(&user()), "authorization": token(google), "algorithm": algorithm,
            name: value, "reason": "{client:'gmail'}", "wrapped_private_key": blob})
    };
    let sign = |google: &Value, algorithm: &str| asking(google, algorithm, "digest", DIGEST);
    let decrypt = |google: &Value, algorithm: &str, ciphertext: &str| {
        asking(google, algorithm, "encrypted_data_encryption_key", ciphertext)
    };
    let (signer, decrypter) = (gmail("signer"), gmail("decrypter"));
    let signed = post(&mut peer, "privatekeysign", &sign(&signer, "SHA256withRSA")).await.expect(200);
    assert_eq!(signed.body, format!(r#"{{"signature":"{SIGNATURE}"}}"#).into_bytes());
    let salted = with(sign(&signer, "SHA256withRSA/PSS"), "rsa_pss_salt_length", 32.into());
    post(&mut peer, "privatekeysign", &salted).await.expect(200);
    let pkcs1 = "RSA/ECB/PKCS1Padding";
    let opened =
        post(&mut peer, "privatekeydecrypt", &decrypt(&decrypter, pkcs1, CIPHERTEXT)).await.expect(200);
    assert_eq!(opened.text("data_encryption_key"), DEK);
    let privileged = json!({"authentication": token(&admin()), "algorithm": pkcs1, "reason": "takeout",
        "encrypted_data_encryption_key": CIPHERTEXT, "spki_hash": SPKI.trim_end_matches('='),
        "spki_hash_algorithm": "SHA-256", "wrapped_private_key": blob});
    let taken = post(&mut peer, "privilegedprivatekeydecrypt", &privileged).await.expect(200);
    assert_eq!(taken.text("data_encryption_key"), DEK);

    // A padding that is wrong is an answer like others, and the same one each time.
    let mut changed = STANDARD.decode(CIPHERTEXT).unwrap();
    changed[255] ^= 1;
    let wrong = decrypt(&decrypter, pkcs1, &base64(&changed));
    let first = post(&mut peer, "privatekeydecrypt", &wrong).await.expect(200);
    assert_eq!(post(&mut peer, "privatekeydecrypt", &wrong).await.expect(200).body, first.body);
    assert_ne!(first.text("data_encryption_key"), DEK);

    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let mut unfit = STANDARD.decode(body).unwrap();
    unfit[100] ^= 1;
    let oaep = "RSA/ECB/OAEPwithSHA-256andMGF1Padding";
    let sales = token(&with(user(), "department", "sales".into()));
    let refused = [
        (
            "another key",
            "privatekeysign",
            sign(&with(signer.clone(), "spki_hash", DEK.into()), "SHA256withRSA"),
            403,
            "`spki`",
        ),
        (
            "no key named",
            "privatekeysign",
            sign(&with(signer.clone(), "spki_hash", Value::Null), "SHA256withRSA"),
            403,
            "`spki`",
        ),
        ("to decrypt", "privatekeysign", sign(&decrypter, "SHA256withRSA"), 403, "`role`"),
        ("to sign", "privatekeydecrypt", decrypt(&signer, pkcs1, CIPHERTEXT), 403, "`role`"),
        ("Drive", "privatekeysign", sign(&drive("signer"), "SHA256withRSA"), 403, "`issuer`"),
        ("another hash", "privatekeysign", sign(&signer, "SHA512withRSA"), 400, "`digest`"),
        ("SHA-1", "privatekeysign", sign(&signer, "SHA1withRSA"), 400, "`algorithm`"),
        (
            "another salt",
            "privatekeysign",
            with(salted, "rsa_pss_salt_length", 20.into()),
            400,
            "`rsa_pss_salt_length`",
        ),
        ("unknown", "privatekeydecrypt", decrypt(&decrypter, "RSA", CIPHERTEXT), 400, "`algorithm`"),
        // Whom the policy does not let in learns nothing of that.
        (
            "SHA-1 and not a lawyer's",
            "privatekeysign",
            with(sign(&signer, "SHA1withRSA"), "authentication", sales.as_str().into()),
            403,
            "eu-legal-is-for-lawyers",
        ),
        (
            "unknown and not a lawyer's",
            "privatekeydecrypt",
            with(decrypt(&decrypter, "RSA", CIPHERTEXT), "authentication", sales.as_str().into()),
            403,
            "eu-legal-is-for-lawyers",
        ),
        (
            "no administrator",
            "wrapprivatekey",
            with(wrapping.clone(), "authentication", token(&with(user(), "aud", ADMINS.into())).into()),
            403,
            "`privilege`",
        ),
        (
            "no administrator",
            "privilegedprivatekeydecrypt",
            with(privileged.clone(), "authentication", token(&with(user(), "aud", ADMINS.into())).into()),
            403,
            "`privilege`",
        ),
        (
            "another key",
            "privilegedprivatekeydecrypt",
            with(privileged.clone(), "spki_hash", DEK.into()),
            403,
            "`spki`",
        ),
        (
            "no key at all",
            "wrapprivatekey",
            with(wrapping.clone(), "private_key", base64(&[0x30; 64]).into()),
            400,
            "`private_key`",
        ),
        // The form is right, and the numbers do not fit together: nobody looks for whom the policy does not let in.
        (
            "no key that works, and nobody's",
            "wrapprivatekey",
            with(
                with(wrapping.clone(), "private_key", base64(&unfit).into()),
                "authentication",
                token(&with(admin(), "department", "sales".into())).into(),
            ),
            403,
            "eu-legal-is-for-lawyers",
        ),
    ];
    let mut refusals: Refusals = vec![];
    for (what, method, body, status, check) in refused {
        let answer = post(&mut peer, method, &body).await;
        assert_eq!(answer.status, status, "{what}: {}", answer.json());
        refusals.push((answer.operation(), what, check));
        answer.told(status);
    }
    // What was decided before nothing came of it is recorded as done, and that nothing came of it as well.
    let failed = post(&mut peer, "privatekeydecrypt", &decrypt(&decrypter, oaep, CIPHERTEXT)).await;
    let failed = failed.told(400).operation();
    let unfit = with(wrapping.clone(), "private_key", base64(&unfit).into());
    let unfit = post(&mut peer, "wrapprivatekey", &unfit).await.told(400).operation();
    // A key is no private key, and the other way round.
    let swapped = with(unwrap(&user(), &drive("reader"), blob), "wrapped_key", blob.clone());
    post(&mut peer, "unwrap", &swapped).await.told(400);
    gateway.running.shut_down().await.unwrap();
    let events = log::events(&data, "dev");
    recorded(&events, &refusals);
    let event = log::closing(&events, &signed.operation());
    assert_eq!(
        (&event["action"], &event["protocol"]["says"]["method"]),
        (&json!("decrypt"), &json!("privatekeysign"))
    );
    assert_eq!(event["protocol"]["says"]["message_id"], "<m@corp.example>");
    let says = &event["protocol"]["says"];
    assert_eq!(
        (&says["spki_hash"], &says["algorithm"], &says["digest"]),
        (&json!(SPKI), &json!("SHA256withRSA"), &json!(DIGEST))
    );
    assert_eq!(log::closing(&events, &opened.operation())["protocol"]["says"]["algorithm"], pkcs1);
    for (failed, why) in [(&failed, "does not verify"), (&unfit, "no RSA private key")] {
        assert_eq!(log::closing(&events, failed)["outcome"], "success");
        let parts: Vec<_> = events
            .iter()
            .filter(|event| {
                event["protocol"]["request"].as_str().is_some_and(|id| id.eq_ignore_ascii_case(failed))
            })
            .collect();
        assert_eq!((parts.len(), &parts[0]["outcome"]), (1, &json!("refused")));
        assert!(parts[0]["detail"].as_str().unwrap().contains(why), "{}", parts[0]);
    }
    let secret = pem.lines().nth(5).unwrap();
    for file in log::files(&data) {
        let text = std::fs::read(&file).unwrap();
        assert!(!text.windows(secret.len()).any(|window| window == secret.as_bytes()), "{}", file.display());
    }
}

/// A port that nobody has.
fn port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What the old service has wrapped the new one takes over, and nobody is asked whom the configuration does not name.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_taken_over_from_another_service() {
    let directory = tempfile::tempdir().unwrap();
    let [old_data, new_data] = ["old", "new"].map(|name| directory.path().join(name));
    let [old_port, new_port] = [port(), port()];
    let [old_url, new_url] = [old_port, new_port].map(|port| format!("https://127.0.0.1:{port}/v1"));
    // Each has to have its certificates before the other can be told of them.
    for data in [&old_data, &new_data] {
        support::dev(data).await.running.shut_down().await.unwrap();
    }
    let authorities = directory.path().join("peers.pem");
    std::fs::copy(new_data.join("tls/ca.pem"), &authorities).unwrap();
    let settings = |data: &std::path::Path, port: u16, url: &str, other: (&str, &std::path::Path)| {
        let mut table = table();
        table.kacls_url = url.to_owned();
        // From the old one to the new one, and not back.
        let (take_from, give_to) =
            if port == old_port { (vec![], vec![other.0]) } else { (vec![other.0], vec![]) };
        table.take_from = take_from.into_iter().map(str::to_owned).collect();
        table.give_to = give_to.into_iter().map(str::to_owned).collect();
        table.peers_ca_file = if port == new_port { authorities.clone() } else { other.1.join("tls/ca.pem") };
        let mut config = config(data, table);
        config.listen.address.set_port(port);
        config.issuer.retain(|issuer| issuer.issuer != PEER);
        if port == new_port {
            // Even where its tokens are believed and its registration is there.
            config.issuer.push(support::cse::issuer(other.0, &[]));
        }
        config
    };
    let (old, _) = gateway_of(settings(&old_data, old_port, &old_url, (&new_url, &new_data))).await;
    let (new, mut api) = gateway_of(settings(&new_data, new_port, &new_url, (&old_url, &old_data))).await;
    let hosts = [old_port, new_port].map(|port| format!("127.0.0.1:{port}"));
    let mut peers = [old.stranger().await, new.stranger().await];
    let at = |side: usize| [("host", hosts[side].as_str())];
    let plain =
        |google: Value, url: &str| with(with(google, "perimeter_id", Value::Null), "kacls_url", url.into());
    let wrapping = wrap(&user(), &plain(drive("writer"), &old_url)).to_string();
    let wrapped = send(&mut peers[0], "POST", "/v1/wrap", &at(0), &wrapping).await.expect(200).json();
    let blob = &wrapped["wrapped_key"];
    let migrator = plain(google(Application::Migration, "migrator"), &new_url);
    let asking = |google: &Value, original: &str| {
        json!({"authorization": token(google), "original_kacls_url": original, "reason": "r", "wrapped_key": blob})
            .to_string()
    };
    // The old one's authority is none that the new one believes, until it is put in the file and that is read again.
    let unknown = send(&mut peers[1], "POST", "/v1/rewrap", &at(1), &asking(&migrator, &old_url)).await;
    unknown.told(502);
    std::fs::copy(old_data.join("tls/ca.pem"), &authorities).unwrap();
    new.running.reload().unwrap();
    let taken =
        send(&mut peers[1], "POST", "/v1/rewrap", &at(1), &asking(&migrator, &old_url)).await.expect(200);
    assert_eq!(taken.text("resource_key_hash"), "FPYZdJCQU/sy/ENA4+FTesaDmnKo4UpT7NYtpJ4qQz0=");
    let verifier = plain(google(Application::Migration, "verifier"), &old_url);
    let digest = json!({"authorization": token(&verifier), "reason": "", "wrapped_key": blob}).to_string();
    let digest = send(&mut peers[0], "POST", "/v1/digest", &at(0), &digest).await.expect(200);
    assert_eq!(digest.text("resource_key_hash"), taken.text("resource_key_hash"));
    let reader = plain(drive("reader"), &new_url);
    let opening = unwrap(&user(), &reader, &taken.json()["wrapped_key"]).to_string();
    assert_eq!(
        send(&mut peers[1], "POST", "/v1/unwrap", &at(1), &opening).await.expect(200).text("key"),
        DEK
    );

    // Whom keys are taken from is given none: its token is nobody's there.
    let claims = json!({"iss": old_url, "aud": "kacls-migration", "kacls_url": new_url, "resource_name": FILE,
        "iat": now(), "exp": now() + 300});
    let body = json!({"authentication": token(&claims), "reason": "r", "resource_name": FILE,
        "wrapped_key": taken.json()["wrapped_key"]});
    send(&mut peers[1], "POST", "/v1/privilegedunwrap", &at(1), &body.to_string()).await.told(401);

    let mut refusals: Refusals = vec![];
    for (original, status, check) in [
        ("https://169.254.169.254/latest/meta-data", 403, "`peer`"),
        ("http://127.0.0.1/v1", 403, "`peer`"),
        ("https://127.0.0.1/v1", 403, "`peer`"),
        ("file:///etc/passwd", 403, "`peer`"),
        (&*new_url, 403, "`peer`"),
        (&*format!("{old_url}/x"), 403, "`peer`"),
    ] {
        let answer = send(&mut peers[1], "POST", "/v1/rewrap", &at(1), &asking(&migrator, original)).await;
        assert_eq!(answer.status, status, "{original}: {}", answer.json());
        refusals.push((answer.operation(), "another address", check));
    }
    let other = with(migrator.clone(), "resource_name", "other".into());
    let answer = send(&mut peers[1], "POST", "/v1/rewrap", &at(1), &asking(&other, &old_url)).await;
    refusals.push((answer.told(502).operation(), "another object", "it answered 400"));
    api.post(&format!("{T}/keys/workspace-signing/suspend"), &json!({})).await.expect(200);
    let answer = send(&mut peers[1], "POST", "/v1/rewrap", &at(1), &asking(&migrator, &old_url)).await;
    refusals.push((answer.told(403).operation(), "nothing to sign with", "can sign its tokens"));
    api.post(&format!("{T}/keys/workspace-signing/resume"), &json!({})).await.expect(200);
    old.running.shut_down().await.unwrap();
    let answer = send(&mut peers[1], "POST", "/v1/rewrap", &at(1), &asking(&migrator, &old_url)).await;
    refusals.push((answer.told(502).operation(), "nobody there", "gave no key"));
    new.running.shut_down().await.unwrap();
    let events = log::events(&new_data, "dev");
    recorded(&events, &refusals);
    // Two acts, one request: the token that was signed stands beside the key that was wrapped.
    let of = |event: &&Value| {
        event["protocol"]["request"].as_str().is_some_and(|id| id.eq_ignore_ascii_case(&taken.operation()))
    };
    let parts: Vec<_> = events.iter().filter(of).collect();
    assert_eq!((parts.len(), &parts[0]["action"]), (1, &json!("sign")));
    assert_eq!(log::closing(&events, &taken.operation())["action"], "encrypt");
    assert_eq!(log::closing(&events, &taken.operation())["protocol"]["says"]["original_kacls_url"], old_url);
    let events = log::events(&old_data, "dev");
    let by_peer = events.iter().filter(|event| event["protocol"]["says"]["peer"] == new_url.as_str());
    assert_eq!(by_peer.filter(|event| event["outcome"] == "success").count(), 1);
}

/// What one protocol encrypts opens through no other, with whatever is shown to it.
#[tokio::test(flavor = "multi_thread")]
async fn ciphertexts_stay_in_their_protocol() {
    let directory = tempfile::tempdir().unwrap();
    let (gateway, mut api) = gateway(&directory.path().join("data"), table()).await;
    let mut peer = gateway.stranger().await;
    let said = with(drive("writer"), "perimeter_id", Value::Null);
    let blob = bytes(&post(&mut peer, "wrap", &wrap(&user(), &said)).await.expect(200).json()["wrapped_key"]);
    let ours = api.use_key("workspace", "encrypt", &json!({"plaintext": DEK})).await;
    let ours = bytes(&ours["ciphertext"]);
    let (header, body) = ours.split_at(58);
    // Theirs as ours: as it is, and behind a header of ours.
    for ciphertext in [blob.clone(), [header, &blob[11..]].concat()] {
        for verb in ["decrypt", "rewrap"] {
            let asked = json!({"ciphertext": base64(&ciphertext)});
            api.try_key("workspace", verb, &asked).await.refused(422, "integrity");
        }
    }
    // Ours as theirs: as it is, and behind a header of theirs.
    for blob in [ours.clone(), [&blob[..11], body].concat()] {
        let asked =
            unwrap(&user(), &with(drive("reader"), "perimeter_id", Value::Null), &base64(&blob).into());
        post(&mut peer, "unwrap", &asked).await.told(400);
    }
    gateway.running.shut_down().await.unwrap();
}

/// The service's caller is that through the service alone, where the rest is checked.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_shown_to_the_service_is_worth_nothing_to_the_native_api() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(&directory.path().join("data"), table());
    // The native API takes tokens of every one of them, for an audience of its own.
    config.issuer.iter_mut().for_each(|issuer| issuer.audiences = vec!["holdfast".to_owned()]);
    let (gateway, _api) = gateway_of(config).await;
    for claims in [user(), admin(), drive("writer"), google(Application::Migration, "migrator")] {
        let mut peer = gateway.stranger().await;
        let bearer = format!("Bearer {}", token(&claims));
        let headers = [("host", "gateway"), ("authorization", &*bearer)];
        let path = format!("{T}/keys/workspace/encrypt");
        let body = json!({"plaintext": DEK}).to_string();
        send(&mut peer, "POST", &path, &headers, &body).await.refused(401, "unauthenticated");
    }
    gateway.running.shut_down().await.unwrap();
}

/// A host that is written otherwise is the same one, and without one there is no service.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_found_by_its_host() {
    let directory = tempfile::tempdir().unwrap();
    let (gateway, _api) = gateway(&directory.path().join("data"), table()).await;
    for (host, status) in [
        (HOST, 200),
        ("KACLS.hyok.example:443", 200),
        ("kacls.hyok.example:8443", 401),
        ("kacls.hyok.example.evil.example", 401),
        ("127.0.0.1", 401),
    ] {
        let mut peer = gateway.stranger().await;
        assert_eq!(
            send(&mut peer, "GET", "/v1/status", &[("host", host)], "").await.status,
            status,
            "{host}"
        );
    }
    gateway.running.shut_down().await.unwrap();
}

/// One user who asks too often is refused alone, also where somebody acts for them, and the log has it in sum.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_uses_up_the_service_and_what_is_refused_stands_in_the_log_in_sum() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut table = table();
    table.requests_per_second = 1000;
    table.requests_per_second_each = 2;
    let (gateway, _api) = gateway(&data, table).await;
    let mut peer = gateway.stranger().await;
    let room = with(google(Application::Meet, "writer"), "delegated_to", "room7@corp.example".into());
    let body = json!({"authentication": token(&user()), "authorization": token(&room), "reason": "r"});
    let delegated = post(&mut peer, "delegate", &body).await.expect(200).text("delegated_authentication");
    let acting =
        json!({"authentication": delegated, "authorization": token(&room), "key": DEK, "reason": "r"});
    let own = wrap(&user(), &drive("writer"));
    let (began, mut refused) = (std::time::Instant::now(), [0_u64; 2]);
    for _ in 0..60 {
        for (asked, refused) in [&own, &acting].into_iter().zip(&mut refused) {
            match post(&mut peer, "wrap", asked).await.status {
                200 => {}
                429 => *refused += 1,
                other => panic!("{other}"),
            }
        }
    }
    assert!(refused.iter().all(|refused| *refused > 20), "{refused:?}");
    // Both have one share together: two a second, and two to begin with.
    let (let_in, took) = (120 - refused.iter().sum::<u64>(), began.elapsed());
    assert!(1000 * u128::from(let_in) <= 2000 + 2 * (took.as_millis() + 1), "{let_in} {took:?}");
    let other =
        with(with(user(), "email", "eve@idp.corp.example".into()), "google_email", "eve@corp.example".into());
    let other = wrap(&other, &with(drive("writer"), "email", "eve@corp.example".into()));
    post(&mut peer, "wrap", &other).await.expect(200);
    gateway.running.shut_down().await.unwrap();
    let events = log::events(&data, "dev");
    let throttled: Vec<_> = events.iter().filter(|event| event["reason"] == "throttled").collect();
    let count = |event: &&Value| match event["action"].as_str().unwrap() {
        "throttled" => event["context"]["count"].as_str().unwrap().parse().unwrap(),
        "encrypt" => 1,
        other => panic!("{other}"),
    };
    assert_eq!(throttled.iter().map(count).sum::<u64>(), refused.iter().sum::<u64>());
    assert!(throttled.len() < 16, "{}", throttled.len());
    assert!(throttled.iter().all(|event| event["caller"]["name"] == "cse" && event["outcome"] == "refused"));
}

/// A migration and an administrator's export are no person's work.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_in_bulk_takes_no_persons_share() {
    let directory = tempfile::tempdir().unwrap();
    let mut table = table();
    table.requests_per_second_each = 1;
    let (gateway, _api) = gateway(&directory.path().join("data"), table).await;
    let mut peer = gateway.stranger().await;
    let plain = |role: &str| with(drive(role), "perimeter_id", "".into());
    let wrapped = post(&mut peer, "wrap", &wrap(&user(), &plain("writer"))).await.expect(200).json();
    let blob = &wrapped["wrapped_key"];
    let opening = |token: String| json!({"authentication": token, "reason": "takeout", "resource_name": FILE, "wrapped_key": blob});
    let service = json!({"iss": PEER, "aud": "kacls-migration", "kacls_url": URL, "resource_name": FILE,
        "iat": now(), "exp": now() + 300});
    let verifier = token(&google(Application::Migration, "verifier"));
    for (whose, method, body) in [
        ("an administrator's", "privilegedunwrap", opening(token(&admin()))),
        ("another service's", "privilegedunwrap", opening(token(&service))),
        ("Google's", "digest", json!({"authorization": verifier, "reason": "", "wrapped_key": blob})),
    ] {
        for number in 0..20 {
            let answer = post(&mut peer, method, &body).await;
            assert_eq!(answer.status, 200, "{whose} {number}: {}", answer.json());
        }
    }
    // An administrator's everyday requests are a user's, and so is what a user tries with the privileged methods.
    for (whose, method, body) in [
        ("a user's", "unwrap", unwrap(&user(), &plain("reader"), blob)),
        (
            "a user's as an administrator",
            "privilegedunwrap",
            opening(token(&with(user(), "aud", ADMINS.into()))),
        ),
    ] {
        let (began, mut let_in) = (std::time::Instant::now(), 0_u128);
        for _ in 0..20 {
            let answer = post(&mut peer, method, &body).await;
            let_in += u128::from(answer.status != 429);
        }
        assert!(1000 * let_in <= 1000 + began.elapsed().as_millis() + 1, "{whose}: {let_in}");
    }
    gateway.running.shut_down().await.unwrap();
}
