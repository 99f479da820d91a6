//! The plugin beside a real API server with etcd: what docs/protocols/kubernetes-kms.md says of these.

use crate::api_server::python;
use crate::common::text;
use crate::control_plane::{self, ControlPlane, within};
use crate::people::Place;
use std::time::{Duration, Instant};

/// How often an API server that is well asks for Status by itself, and some more.
const ITS_OWN_MINUTE: Duration = Duration::from_secs(120);
/// How long an API server writes without a good Status, and some more.
const ITS_THREE_MINUTES: Duration = Duration::from_secs(200);
/// It asks every ten seconds while it is not well.
const SOON: Duration = Duration::from_secs(60);

/// What encrypts nothing.
const IN_CLEAR: &str = "apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources: [{resources: [notes.example.org], providers: [{identity: {}}]}]
";

/// What an object's seed and its key in etcd come to, as Kubernetes describes it: a key for each value is derived from the seed.
const OPEN: &str = "
import sys
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
seed, data = (open(name, 'rb').read() for name in sys.argv[1:3])
key = HKDFExpand(SHA256(), 32, data[:32]).derive(seed)
print(AESGCM(key).decrypt(data[32:44], data[44:], sys.argv[3].encode()).decode())
";

#[test]
fn objects_outlive_rotations_a_lost_gateway_and_restarts() {
    let Some((mut place, plugin, mut plane)) = Place::with_plane(&[]) else { return };
    assert_eq!(plane.health(), Ok("ok".to_owned()));
    // Another machine's, whose plugin looks so seldom that it does not notice a rotation.
    let other_plugin = place.plugin("other", &["--refresh", "5m"]);
    let other_plane = plane.beside(&place.socket("other"));
    for name in ["first", "second"] {
        plane.create(name).unwrap();
        plane.read(name).unwrap();
    }
    assert!(!plane.tells("first") && !plane.tells("second"));
    let first = plane.stored("first");
    assert_eq!(first.key_id.split(':').nth(2), Some("1.1"));
    assert_eq!(first.seed, plane.stored("second").seed, "one seed for many objects");

    // Who may use the key opens it without the plugin and the API server.
    let file = place.dev.file("sealed", &first.seed);
    let context = [
        "protocol=kubernetes-kms-v2".to_owned(),
        "cluster=kubernetes".to_owned(),
        format!("key-id={}", first.key_id),
    ];
    let mut line = vec!["decrypt", &file, "--key", "kubernetes", "-o", "seed"];
    line.extend(context.iter().flat_map(|pair| ["--context", pair]));
    place.dev.ok(&line);
    let data = place.dev.file("value", &first.data);
    assert!(python(OPEN, &[&text(&place.dev.path("seed")), &data, &first.key]).contains("in etcd: first"));

    // It asks for Status once a minute, whoever looks at its health or not. Until then it writes as before.
    place.dev.ok(&["key", "rotate", "kubernetes"]);
    within(ITS_OWN_MINUTE, "a seed under the next version", || {
        plane.rewrite("first").unwrap();
        plane.read("second").unwrap();
        plane.stored("first").key_id != first.key_id
    });
    let second = plane.stored("first");
    assert_eq!(second.key_id.split(':').nth(2), Some("2.2"));
    assert_ne!(second.seed, first.seed);
    assert_eq!(plane.stored("second").key_id, first.key_id, "what nobody writes stays as it is");
    plane.read("first").unwrap();
    plane.rewrite("second").unwrap();
    assert_eq!(plane.stored("second").key_id, second.key_id, "and is written anew for the asking");
    // Each reads what the other one writes, whichever has noticed.
    other_plane.read("second").unwrap();
    other_plane.create("theirs").unwrap();
    assert_eq!(plane.stored("theirs").key_id, first.key_id);
    plane.read("theirs").unwrap();
    drop(other_plane);
    other_plugin.ends();

    // For what it has written and read it needs no gateway.
    place.dev.server.kill();
    plane.create("third").unwrap();
    for name in ["first", "second", "third"] {
        plane.read(name).unwrap();
        plane.change(name).unwrap();
    }
    assert_eq!(plane.health(), Ok("ok".to_owned()));
    place.again();
    place.dev.ok(&["key", "rotate", "kubernetes"]);
    // Who looks at its health has it ask earlier.
    within(ITS_OWN_MINUTE, "a seed under a version that was made since", || {
        plane.health().unwrap();
        plane.rewrite("first").unwrap();
        plane.stored("first").key_id != second.key_id
    });
    assert_eq!(plane.stored("first").key_id.split(':').nth(2), Some("3.3"));

    // One that starts has nothing in memory, and asks for what it reads.
    let decrypted = place.records("decrypt");
    plane.restarts();
    for name in ["first", "second", "third"] {
        plane.read(name).unwrap();
        plane.change(name).unwrap();
        assert!(!plane.tells(name));
    }
    assert!(place.records("decrypt") > decrypted);
    // From the object over the API server's log and the plugin's to the record.
    let asked = plane.asked_for("second");
    assert!(!asked.is_empty());
    let log = plugin.ends();
    let records = place.dev.ok(&["audit", "search", "--action", "decrypt", "--json"]);
    for uid in asked {
        let answered = log.lines().find(|line| line.contains(&uid)).unwrap();
        let operation = control_plane::field(answered, "operation");
        assert!(answered.contains("method=\"Decrypt\"") && records.contains(&operation), "{answered}");
    }
}

#[test]
fn a_suspended_key_ends_writing_in_minutes_and_reading_at_the_next_start() {
    let Some((place, plugin, mut plane)) = Place::with_plane(&[]) else { return };
    has_a_second_seed(&mut plane);
    place.dev.ok(&["key", "suspend", "kubernetes"]);
    let begun = Instant::now();
    let mut said = String::new();
    within(ITS_OWN_MINUTE, "a health check that tells of the order", || {
        said = plane.health().err().unwrap_or_default();
        !said.is_empty()
    });
    assert!(said.contains("is suspended") && said.contains("FailedPrecondition"), "{said}");
    assert!(plane.get("/healthz").is_err());
    // The one by which a kubelet restarts it does not have it, and is not disturbed by its exclusion.
    assert_eq!(plane.get("/livez"), Ok("ok".to_owned()));
    assert_eq!(plane.get("/livez?exclude=kms-providers"), Ok("ok".to_owned()));

    // It writes for three minutes, and reads on.
    let mut refused = String::new();
    within(ITS_THREE_MINUTES, "the end of writing", || {
        reads_under_both(&plane);
        refused = plane.change("first").err().unwrap_or_default();
        !refused.is_empty()
    });
    assert!(begun.elapsed() > Duration::from_secs(90), "{:?}", begun.elapsed());
    assert!(refused.contains("expired at"), "{refused}");
    reads_under_both(&plane);

    // Until it starts anew.
    plane.restarts();
    for name in ["earlier", "first"] {
        assert!(plane.read(name).unwrap_err().contains("nil transformer"));
    }
    place.dev.ok(&["key", "resume", "kubernetes"]);
    within(SOON, "an API server that is well", || plane.health().is_ok());
    plane.change("first").unwrap();

    // A deactivated key decrypts: for those that have a seed of their own.
    place.dev.ok(&["key", "deactivate", "kubernetes"]);
    within(ITS_OWN_MINUTE, "a health check that tells of it", || plane.health().is_err());
    plane.read("first").unwrap();
    plane.restarts();
    assert!(plane.read("first").unwrap_err().contains("nil transformer"));
    plugin.ends();
}

/// One from before a restart, which it has had decrypted, beside its own.
fn has_a_second_seed(plane: &mut ControlPlane) {
    plane.create("earlier").unwrap();
    plane.restarts();
    plane.read("earlier").unwrap();
    plane.create("first").unwrap();
    assert_ne!(plane.stored("earlier").seed, plane.stored("first").seed);
}

fn reads_under_both(plane: &ControlPlane) {
    for name in ["earlier", "first"] {
        plane.read(name).unwrap();
    }
}

#[test]
fn what_starts_without_a_gateway_reads_nothing_until_there_is_one() {
    let Some((mut place, plugin, mut plane)) = Place::with_plane(&[]) else { return };
    plane.create("first").unwrap();
    // The seed is leased, since it has been asked for.
    plane.restarts();
    plane.read("first").unwrap();
    place.dev.server.kill();
    plane.change("first").unwrap();

    // A lease does not help who starts: before it reads anything it has a seed of its own encrypted.
    plane.restarts();
    for refused in [plane.read("first"), plane.create("second")] {
        assert!(refused.unwrap_err().contains("nil transformer"));
    }
    let said = plane.health().unwrap_err();
    assert!(said.contains("Unavailable") && said.contains("nobody listens"), "{said}");
    assert_eq!(plane.get("/livez"), Ok("ok".to_owned()));
    place.again();
    within(SOON, "an object that can be read", || plane.read("first").is_ok());
    within(SOON, "one that can be written", || plane.create("second").is_ok());

    // A plugin that is away is missed no more than a gateway, and may come after the API server.
    plugin.ends();
    plane.change("first").unwrap();
    plane.restarts();
    assert!(plane.read("first").is_err());
    let plugin = place.plugin("run", &[]);
    within(SOON, "an object that can be read", || plane.read("first").is_ok());
    plane.change("second").unwrap();
    plugin.ends();
}

/// While the gateway is away: beyond the lease, and beyond the minutes for which a stopped one writes. Seeds that are not its own it has for a
/// day, which no test waits for.
#[test]
fn writing_and_reading_outlive_the_lease_and_the_minutes_of_a_stop() {
    let Some((mut place, plugin, mut plane)) = Place::with_plane(&["--lease", "2s"]) else { return };
    has_a_second_seed(&mut plane);
    place.dev.server.kill();
    let mut said = String::new();
    within(ITS_OWN_MINUTE, "a health check that tells of the gateway", || {
        plane.change("first").unwrap();
        said = plane.health().err().unwrap_or_default();
        !said.is_empty()
    });
    assert!(said.contains("no gateway has been able to work for"), "{said}");
    let begun = Instant::now();
    within(2 * ITS_THREE_MINUTES, "more than three minutes", || {
        plane.change("first").unwrap();
        reads_under_both(&plane);
        begun.elapsed() > ITS_THREE_MINUTES
    });
    assert!(plane.health().is_err());
    place.again();
    within(ITS_OWN_MINUTE, "an API server that is well", || plane.health().is_ok());
    plugin.ends();
}

/// As people have it who begin: a cluster that runs, whose API server is not restarted for it.
#[test]
fn what_was_in_clear_is_encrypted_once_it_is_written_anew() {
    if !control_plane::is_there() {
        return;
    }
    let place = Place::new();
    let plugin = place.plugin("run", &[]);
    let plane = ControlPlane::under(IN_CLEAR);
    for name in ["first", "forgotten"] {
        plane.create(name).unwrap();
        assert!(plane.tells(name));
    }
    let deployed = control_plane::deployed(&place.socket("run"));
    plane.configure(&deployed);
    within(ITS_OWN_MINUTE, "a configuration that encrypts", || {
        plane.rewrite("first").unwrap();
        !plane.tells("first")
    });
    assert_eq!(plane.stored("first").key_id.split(':').nth(2), Some("1.1"));
    plane.read("first").unwrap();
    plane.read("forgotten").unwrap();
    assert_eq!(plane.health(), Ok("ok".to_owned()));

    // What nobody wrote anew is not read any more when `identity` is gone,
    let without_identity = deployed.replace("      - identity: {}\n", "");
    assert_ne!(without_identity, deployed);
    plane.configure(&without_identity);
    let mut refused = String::new();
    within(ITS_OWN_MINUTE, "a configuration without `identity`", || {
        refused = plane.read("forgotten").err().unwrap_or_default();
        !refused.is_empty()
    });
    assert!(refused.contains("no matching prefix"), "{refused}");
    plane.read("first").unwrap();
    plane.change("first").unwrap();
    plugin.ends();
}
