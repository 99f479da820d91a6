//! Administrators, peers, and those to whom an object is delegated.

use super::{ADMINS, Refusals, recorded};
use crate::support::api::T;
use crate::support::cse::{
    DEK, FILE, IDP, PEER, URL, admin, config, drive, gateway, gateway_of, google, now, post, table, token,
    unwrap, user, with, wrap,
};
use crate::support::log;
use holdfast_wire::cse::claim::Application;
use serde_json::{Value, json};

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
