//! A key that changes under an API server.

use crate::api_server::{ApiServer, seed};
use crate::people::Place;
use std::collections::HashSet;

#[test]
fn rotation_changes_the_key_id_once_and_no_name_comes_back() {
    // Nobody looks by itself during the test: an Encrypt has to notice.
    let Some((place, plugin, mut api)) = Place::with_cluster(&["--refresh", "5m"]) else { return };
    let second = place.plugin("second", &["--refresh", "5m"]);
    let mut other = ApiServer::of(&place.socket("second"));
    assert_eq!(other.until_well(), api.key_id(), "both say the same");
    let mut all = vec![api.seal(&seed(1))];

    for (number, change) in ["rotate", "rotate", "rollback", "rollback", "rotate"].into_iter().enumerate() {
        let before = api.key_id();
        place.dev.ok(&["key", change, "kubernetes"]);
        assert_eq!(api.key_id(), before, "nobody has looked");
        // What Encrypt says is what Status says from then on.
        let sealed = api.seal(&seed(2 + number as u8));
        assert_ne!(sealed.key_id, before);
        assert_eq!(api.key_id(), sealed.key_id);
        // The other plugin has not noticed, and opens it; and the other way round.
        assert_eq!(other.key_id(), all.last().unwrap().key_id);
        other.opens(&sealed, &seed(2 + number as u8));
        let theirs = other.seal(&seed(100));
        assert_eq!((&theirs.key_id, other.key_id()), (&sealed.key_id, sealed.key_id.clone()));
        api.opens(&theirs, &seed(100));
        all.push(sealed);
    }
    for (number, sealed) in all.iter().enumerate() {
        api.opens(sealed, &seed(1 + number as u8));
    }
    let names: HashSet<_> = all.iter().map(|sealed| &sealed.key_id).collect();
    assert_eq!(names.len(), all.len(), "{names:?}");
    let versions: Vec<_> = all.iter().map(|sealed| sealed.key_id.split(':').nth(2).unwrap()).collect();
    assert_eq!(versions, ["1.1", "2.2", "3.3", "2.3", "1.3", "4.4"]);
    second.ends();
    plugin.ends();
}

/// While it is rotated again and again, Encrypt never says a name that Status has not said first, and all that was encrypted opens.
#[test]
fn status_and_encrypt_agree_under_load() {
    let Some((place, plugin, mut api)) = Place::with_cluster(&[]) else { return };
    let mut all = vec![];
    for round in 0..8 {
        place.dev.ok(&["key", "rotate", "kubernetes"]);
        for _ in 0..20 {
            let sealed = api.seal(&seed(round));
            assert_eq!(api.key_id(), sealed.key_id);
            all.push((sealed, round));
        }
    }
    for (sealed, round) in &all {
        api.opens(sealed, &seed(*round));
    }
    plugin.ends();
}

/// A plugin notices by itself, within what `--refresh` says.
#[test]
fn a_rotation_is_noticed_without_a_call() {
    let Some((place, plugin, mut api)) = Place::with_cluster(&[]) else { return };
    let before = api.key_id();
    place.dev.ok(&["key", "rotate", "kubernetes"]);
    let after = api.until("another key id", |status| status["key_id"] != before.as_str());
    assert_eq!(after["healthz"], "ok");
    assert_eq!(api.seal(&seed(1)).key_id, after["key_id"].as_str().unwrap());
    plugin.ends();
}
