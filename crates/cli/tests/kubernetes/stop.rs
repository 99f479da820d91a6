//! Orders to stop.

use crate::api_server::{self, encrypt, seed};
use crate::people::Place;
use serde_json::json;

#[test]
fn a_suspended_key_turns_status_and_no_lease_outlives_it() {
    // Nobody looks by itself: what is refused says enough.
    let Some((mut place, plugin, mut api)) = Place::with_cluster(&["--refresh", "5m"]) else { return };
    let (sealed, other) = (api.leased(&seed(1)), api.leased(&seed(9)));
    place.dev.ok(&["key", "suspend", "kubernetes"]);
    // The gateway is asked before anything that is leased is given, so it is refused at once.
    api.refuses(&sealed.decrypt(), "FAILED_PRECONDITION", "suspended");
    let status = api.until("a Status of the order", |status| status["code"] == "FAILED_PRECONDITION");
    assert!(status["words"].as_str().unwrap().contains("suspended"), "{status}");
    api.refuses(&encrypt(&seed(2)), "FAILED_PRECONDITION", "suspended");
    place.dev.server.kill();
    for sealed in [&sealed, &other] {
        assert_eq!(api.open(sealed)["code"], "UNAVAILABLE", "its lease has been wiped");
    }
    assert_eq!(api.status()["code"], "FAILED_PRECONDITION", "no loss undoes an order");
    place.again();
    place.dev.ok(&["key", "resume", "kubernetes"]);
    api.until_well();
    api.opens(&sealed, &seed(1));
    let log = plugin.ends();
    assert!(log.contains("no seed is leased any more"), "{log}");
}

/// Also when no call comes that would be refused.
#[test]
fn a_look_that_finds_a_stop_wipes_what_is_leased() {
    let Some((mut place, plugin, mut api)) = Place::with_cluster(&[]) else { return };
    let sealed = api.leased(&seed(1));
    place.dev.ok(&["key", "suspend", "kubernetes"]);
    api.until("a Status of the order", |status| status["code"] == "FAILED_PRECONDITION");
    place.dev.server.kill();
    assert_eq!(api.open(&sealed)["code"], "UNAVAILABLE");
    plugin.ends();
}

/// The end of one version ends the leases of its seeds, and of no others.
#[test]
fn a_version_that_was_given_up_ends_the_leases_of_its_own() {
    let Some((mut place, plugin, mut api)) = Place::with_cluster(&[]) else { return };
    let old = api.seal(&seed(1));
    place.dev.ok(&["key", "rotate", "kubernetes"]);
    api.until("another key id", |status| status["key_id"] != old.key_id.as_str());
    let new = api.leased(&seed(2));
    place.dev.ok(&["key", "deactivate", "kubernetes", "--version", "1", "--without-inventory"]);
    api.opens(&old, &seed(1));
    place.dev.ok(&[
        "key",
        "destroy",
        "kubernetes",
        "--version",
        "1",
        "--confirm",
        "kubernetes",
        "--without-inventory",
    ]);
    api.refuses(&old.decrypt(), "FAILED_PRECONDITION", "");
    api.until_well();
    place.dev.server.kill();
    assert_eq!(api.open(&old)["code"], "UNAVAILABLE");
    api.opens(&new, &seed(2));
    plugin.ends();
}

#[test]
fn a_deactivated_key_takes_nothing_new_and_what_it_has_can_be_read() {
    let Some((place, plugin, mut api)) = Place::with_cluster(&[]) else { return };
    let sealed = api.seal(&seed(1));
    place.dev.ok(&["key", "deactivate", "kubernetes"]);
    let status = api.until("a Status of the order", |status| status["code"] == "FAILED_PRECONDITION");
    assert!(status["words"].as_str().unwrap().contains("deactivated"), "{status}");
    api.opens(&sealed, &seed(1));
    api.refuses(&encrypt(&seed(2)), "FAILED_PRECONDITION", "deactivated");
    plugin.ends();
}

/// Whatever is not fit for it is said before anything is written that could not be read.
#[test]
fn a_key_of_another_kind_or_none_is_said_in_status() {
    if !api_server::is_there() {
        return;
    }
    let place = Place::new();
    place.dev.ok(&["key", "create", "signer", "--algorithm", "ed25519"]);
    for (number, (key, code)) in
        [("signer", "FAILED_PRECONDITION"), ("nobody", "FAILED_PRECONDITION")].into_iter().enumerate()
    {
        let name = format!("run-{number}");
        let plugin = place.plugin(&name, &["--key", key]);
        let mut api = crate::api_server::ApiServer::of(&place.socket(&name));
        let status = api.until("a reason", |status| status["code"] != "UNAVAILABLE");
        assert_eq!(status["code"], json!(code), "{status}");
        plugin.ends();
    }
}

/// The key's record says nothing of it, and can still be read.
#[test]
fn a_suspended_tenant_turns_status_and_its_resumption_heals() {
    // No trial is due for minutes, and a look alone tells nothing: a call that is refused says enough.
    let Some((place, plugin, mut api)) = Place::with_cluster(&["--refresh", "30s"]) else { return };
    let sealed = api.leased(&seed(1));
    place.dev.ok(&["tenant", "suspend"]);
    assert_ne!(api.open(&sealed)["code"], "OK");
    let status = api.until("a Status of the order", |status| status["code"] != "OK");
    assert_eq!(status["code"], "FAILED_PRECONDITION", "{status}");
    place.dev.ok(&["tenant", "resume"]);
    api.until_well();
    api.opens(&sealed, &seed(1));
    plugin.ends();
}

/// Also when no call comes that would be refused, within the lease.
#[test]
fn a_trial_finds_the_stop_that_no_record_tells() {
    let Some((place, plugin, mut api)) = Place::with_cluster(&["--lease", "2s"]) else { return };
    place.dev.ok(&["tenant", "suspend"]);
    let status = api.until("a Status of the order", |status| status["code"] != "OK");
    assert_eq!(status["code"], "FAILED_PRECONDITION", "{status}");
    place.dev.ok(&["tenant", "resume"]);
    api.until_well();

    // To encrypt and to look is not enough.
    let before = place.withdraw_decrypt();
    let status = api.until("a Status of the refusal", |status| status["code"] != "OK");
    assert_eq!(status["code"], "PERMISSION_DENIED", "{status}");
    place.policy(|_| before);
    api.until_well();
    plugin.ends();
}

/// What no gateway has let anybody decrypt is not given by the plugin alone.
#[test]
fn a_seed_that_was_only_encrypted_is_not_leased() {
    let Some((mut place, plugin, mut api)) = Place::with_cluster(&["--refresh", "5m"]) else { return };
    place.withdraw_decrypt();
    let sealed = api.seal(&seed(1));
    place.dev.server.kill();
    assert_eq!(api.open(&sealed)["code"], "UNAVAILABLE");
    plugin.ends();
}
