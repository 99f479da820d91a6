//! A gateway that is lost, and one that comes back.

use crate::api_server::{self, encrypt, hex, seed};
use crate::common::softhsm::{SoftHsm, start, the_worker};
use crate::common::tool;
use crate::common::wait::until;
use crate::people::{Place, has_no_trace};
use rustix::process::Signal;
use serde_json::json;

#[test]
fn within_the_lease_status_and_what_was_decrypted_are_given_without_a_gateway() {
    let Some((mut place, plugin, mut api)) = Place::with_cluster(&["--lease", "10m"]) else { return };
    let key_id = api.key_id();
    let sealed = api.leased(&seed(0x5d));
    let read = api.leased(&seed(2));
    // As another API server wrote it: this plugin has not seen it.
    let other = place.plugin("other", &[]);
    let mut other_api = crate::api_server::ApiServer::of(&place.socket("other"));
    other_api.until_well();
    let unseen = other_api.seal(&seed(4));
    other.ends();

    place.dev.server.kill();
    // Status says the same, and what was given within the lease is given again.
    assert_eq!(api.key_id(), key_id);
    api.opens(&sealed, &seed(0x5d));
    api.opens(&read, &seed(2));
    let mut wrong = sealed.clone();
    wrong.key_id = wrong.key_id.replace(":1.1:", ":1.2:");
    // Only with its own key id.
    api.refuses(&wrong.decrypt(), "UNAVAILABLE", "nobody listens");
    // What was not leased cannot be read, which is said before the caller gives up.
    api.refuses(&unseen.decrypt(), "UNAVAILABLE", "nobody listens");
    let refused = api.refuses(&encrypt(&seed(5)), "UNAVAILABLE", "nobody listens");
    assert!(
        refused["seconds"].as_f64().unwrap() > 1.0,
        "it was tried for as long as there was time: {refused}"
    );
    assert_eq!(api.key_id(), key_id);

    // A call that waits when the gateway comes back is answered.
    let mut patient = encrypt(&seed(6));
    patient["timeout"] = json!(25);
    api.send(&patient);
    place.again();
    let reply = api.hear();
    assert_eq!((&reply["code"], &reply["key_id"]), (&json!("OK"), &json!(key_id)), "{reply}");
    api.opens(&unseen, &seed(4));
    let log = plugin.ends();
    assert!(log.contains("by=\"lease\"") && log.contains("no gateway can work"), "{log}");
    has_no_trace(&log, &seed(0x5d));
}

#[test]
fn after_the_lease_nothing_is_read_and_status_says_why() {
    let Some((mut place, plugin, mut api)) = Place::with_cluster(&["--lease", "2s"]) else { return };
    let key_id = api.key_id();
    let sealed = api.leased(&seed(1));
    place.dev.server.kill();
    until("the end of the lease", || api.open(&sealed)["code"] == "UNAVAILABLE");
    // The same key id: an API server goes on writing under the seed that it has.
    let status = api.until("a word on the gateway", |status| status["healthz"] != "ok");
    assert_eq!((&status["code"], &status["key_id"]), (&json!("OK"), &json!(key_id)), "{status}");
    assert!(status["healthz"].as_str().unwrap().contains("no gateway has been able to work for"), "{status}");
    place.again();
    assert_eq!(api.until_well(), key_id);
    api.opens(&sealed, &seed(1));
    plugin.ends();
}

#[test]
fn without_a_lease_nothing_is_kept() {
    let Some((mut place, plugin, mut api)) = Place::with_cluster(&["--lease", "0s"]) else { return };
    let sealed = api.seal(&seed(1));
    api.opens(&sealed, &seed(1));
    place.dev.server.kill();
    api.refuses(&sealed.decrypt(), "UNAVAILABLE", "nobody listens");
    plugin.ends();
}

/// A gateway that says nothing is worse than none: each call would wait for it.
#[test]
fn a_gateway_that_hangs_costs_half_of_a_deadline_once() {
    // It looks so seldom that a call has to notice.
    let Some((place, plugin, mut api)) = Place::with_cluster(&["--refresh", "5m"]) else { return };
    let sealed = api.leased(&seed(1));
    place.dev.server.signal(Signal::STOP);
    let mut patient = sealed.decrypt();
    patient["timeout"] = json!(10);
    let first = api.call(&patient);
    assert_eq!((&first["code"], &first["plaintext"]), (&json!("OK"), &json!(hex(&seed(1)))), "{first}");
    assert!(first["seconds"].as_f64().unwrap() < 9.0, "{first}");
    // From then on it is known.
    until("nobody waits for it", || {
        let second = api.open(&sealed);
        assert_eq!(second["code"], "OK", "{second}");
        second["seconds"].as_f64().unwrap() < 0.5
    });
    // Whoever has no lease is told before it gives up.
    api.refuses(&encrypt(&seed(2)), "DEADLINE_EXCEEDED", "no answer in time");
    place.dev.server.signal(Signal::CONT);
    until("a gateway that answers", || api.call(&encrypt(&seed(2)))["code"] == "OK");
    plugin.ends();
}

/// Who says that there is no time says nothing of the gateway.
#[test]
fn a_short_deadline_has_nothing_given_from_a_lease() {
    let Some((place, plugin, mut api)) = Place::with_cluster(&["--refresh", "5m"]) else { return };
    let sealed = api.leased(&seed(1));
    place.dev.server.signal(Signal::STOP);
    let mut hurried = sealed.decrypt();
    hurried["timeout"] = json!(0.4);
    api.refuses(&hurried, "DEADLINE_EXCEEDED", "");
    // Another one asks the gateway first, as nothing is known against it.
    let mut patient = sealed.decrypt();
    patient["timeout"] = json!(10);
    let normal = api.call(&patient);
    assert!(normal["code"] == "OK" && normal["seconds"].as_f64().unwrap() > 1.0, "{normal}");
    // Then it is known.
    until("it is given in time", || api.call(&hurried)["code"] == "OK");
    place.dev.server.signal(Signal::CONT);
    plugin.ends();
}

/// The key's record can be read without the token, which is no news of it.
#[test]
fn a_gateway_without_its_token_is_lost_until_a_trial_succeeds() {
    if !api_server::is_there() || !tool("softhsm2-util") {
        return;
    }
    let token = SoftHsm::new();
    let dev = start(tempfile::TempDir::new().unwrap(), &token.settings());
    until("the token is there", || dev.server.admin("/metrics").contains("holdfast_ready 1"));
    let place = Place::of(dev);
    let (plugin, mut api) = place.cluster(&["--lease", "15s"]);
    let key_id = api.key_id();
    let sealed = api.leased(&seed(1));

    std::fs::rename(token.path("tokens"), token.path("aside")).unwrap();
    let worker = the_worker(place.dev.server.pid()).to_string();
    assert!(std::process::Command::new("kill").args(["-KILL", &worker]).status().unwrap().success());
    api.opens(&sealed, &seed(1));
    let status = api.until("a word on the token", |status| status["healthz"] != "ok");
    assert_eq!((&status["code"], &status["key_id"]), (&json!("OK"), &json!(key_id)), "{status}");
    assert!(status["healthz"].as_str().unwrap().contains("no gateway has been able to work for"), "{status}");
    until("the end of the lease", || api.open(&sealed)["code"] == "UNAVAILABLE");
    assert_ne!(api.status()["healthz"], "ok", "no look undoes it");

    std::fs::rename(token.path("aside"), token.path("tokens")).unwrap();
    assert_eq!(api.until_well(), key_id);
    api.opens(&sealed, &seed(1));
    let log = plugin.ends();
    assert!(log.contains("by=\"lease\""), "{log}");
}

#[test]
fn a_cold_plugin_without_a_gateway_reads_nothing_and_is_ready_for_it() {
    let Some((mut place, plugin, mut api)) = Place::with_cluster(&[]) else { return };
    let sealed = api.seal(&seed(1));
    place.dev.server.kill();
    plugin.ends();
    let plugin = place.plugin("run", &[]);
    // It does not block.
    api.until("an answer of the new plugin at once", |status| {
        status["code"] == "UNAVAILABLE" && status["seconds"].as_f64() < Some(1.0)
    });
    api.refuses(&sealed.decrypt(), "UNAVAILABLE", "nobody listens");
    api.refuses(&encrypt(&seed(2)), "UNAVAILABLE", "nobody listens");
    place.again();
    assert_eq!(api.until_well(), sealed.key_id);
    api.opens(&sealed, &seed(1));
    plugin.ends();
}

/// The plugin has no file but its lock, and nobody gets a copy of its memory.
#[test]
fn what_is_leased_is_on_no_disk() {
    let Some((place, plugin, mut api)) = Place::with_cluster(&[]) else { return };
    api.leased(&seed(0x5d));
    let proc = std::path::PathBuf::from(format!("/proc/{}", plugin.pid()));
    let open: Vec<_> = std::fs::read_dir(proc.join("fd"))
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter(|path| path.is_file())
        .collect();
    let socket = place.socket("run");
    assert_eq!(open, [socket.with_extension("sock.lock")], "{open:?}");
    assert_eq!(std::fs::read(&open[0]).unwrap(), b"");
    let beside: Vec<_> = std::fs::read_dir(socket.parent().unwrap()).unwrap().collect();
    assert_eq!(beside.len(), 2, "{beside:?}");
    let limits = std::fs::read_to_string(proc.join("limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    // Others of the same user may not look: what a process of root's sees here belongs to root.
    let mode = std::fs::metadata(proc.join("environ")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&mode), 0);
    plugin.ends();
}

/// Not only when the key is looked at again.
#[test]
fn what_is_leased_is_wiped_when_its_lease_ends() {
    let options = ["--lease", "2s", "--refresh", "5m", "--metrics", "127.0.0.1:0"];
    let Some((_place, plugin, mut api)) = Place::with_cluster(&options) else { return };
    let seeds = || plugin.admin("/metrics").contains("holdfast_kms_leases 1\n");
    let sealed = api.seal(&seed(1));
    until("a seed is leased", || {
        api.opens(&sealed, &seed(1));
        seeds()
    });
    until("it is wiped", || !seeds());
    plugin.ends();
}

/// What Prometheus scrapes is what has happened.
#[test]
fn what_is_measured_tells_a_loss_a_lease_and_a_stop() {
    let Some((mut place, plugin, mut api)) = Place::with_cluster(&["--metrics", "127.0.0.1:0"]) else {
        return;
    };
    let scraped = |of: &str| {
        let text = plugin.admin("/metrics");
        assert!(text.ends_with("# EOF\n"), "{text}");
        let line = text.lines().find_map(|line| line.strip_prefix(of)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {of}:\n{text}")).parse::<f64>().unwrap()
    };
    let is = |standing: &str| scraped(&format!("holdfast_kms_standing{{standing=\"{standing}\"}}")) == 1.0;
    let calls = |method: &str, code: &str| {
        scraped(&format!("holdfast_kms_calls_total{{method=\"{method}\",code=\"{code}\"}}"))
    };
    assert!(is("good") && !is("lost"));
    let sealed = api.leased(&seed(1));
    let (decrypted, took) =
        (calls("Decrypt", "OK"), "holdfast_kms_call_duration_seconds_count{method=\"Decrypt\"}");
    assert!(decrypted >= 1.0 && calls("Encrypt", "OK") >= 1.0 && calls("Status", "OK") >= 1.0);
    assert_eq!((scraped("holdfast_kms_leases"), scraped(took)), (1.0, decrypted));
    assert_eq!(scraped("holdfast_kms_leased_answers_total"), 0.0);
    api.refuses(&json!({ "method": "Encrypt", "plaintext": "00" }), "INVALID_ARGUMENT", "`uid`");
    assert_eq!(calls("Encrypt", "INVALID_ARGUMENT"), 1.0);

    place.dev.server.kill();
    api.opens(&sealed, &seed(1));
    assert!(is("lost") && !is("good"));
    assert_eq!(scraped("holdfast_kms_leased_answers_total"), 1.0);
    until("silence grows", || scraped("holdfast_kms_gateway_silent_seconds") > 1.0);
    place.again();
    until("it is good again", || is("good"));
    place.dev.ok(&["key", "suspend", "kubernetes"]);
    until("the stop is told", || is("stopped"));
    assert_eq!(scraped("holdfast_kms_leases"), 0.0);
    assert!(scraped("holdfast_kms_gateway_silent_seconds").is_nan());
    assert!(
        !plugin.admin("/metrics").contains("dev") && plugin.admin("/other").contains("there is /metrics")
    );
    plugin.ends();
}
