//! Every check failing alone, and what a browser sees of it.

use super::{Refusals, recorded};
use crate::support;
use crate::support::api::{T, base64};
use crate::support::cse::{
    FILE, GUESTS, ORIGIN, URL, config, drive, gateway, gateway_of, google, now, post, request, send, signed,
    table, token, unsigned, unwrap, user, with, wrap,
};
use crate::support::log;
use holdfast_wire::cse::claim::Application;
use serde_json::{Value, json};
use std::collections::HashSet;

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
        // Whatever comes with it is taken in: the connection goes on.
        let preflight = request("OPTIONS", path, &headers, &" ".repeat(1 << 18));
        let answer = support::taken_in(async || gateway.stranger().await.send_unwanted(&preflight).await);
        let answer = answer.await.expect(204);
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
    let wrap = async || send(&mut peer, "POST", "/wrap", &limited, &right.to_string()).await;
    let throttled = support::throttled(wrap).await.told(429);
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
