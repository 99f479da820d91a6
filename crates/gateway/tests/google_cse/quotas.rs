//! Quotas: a person's, and those of what comes in bulk.

use super::ADMINS;
use crate::support::cse::{
    DEK, FILE, PEER, URL, admin, drive, gateway, google, now, post, table, token, unwrap, user, with, wrap,
};
use crate::support::log;
use holdfast_wire::cse::claim::Application;
use serde_json::{Value, json};

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
