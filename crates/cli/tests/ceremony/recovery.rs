//! A gateway whose root key is in shares comes back from a backup that does not hold it, and its directory can be read offline.

use crate::common::custodians::{Dialogue, identity};
use crate::common::{code, holdfast, stderr, text};
use crate::people::{NAMES, People};
use crate::served::Served;
use std::io::Read as _;

#[test]
fn no_backup_holds_the_root_key_and_custodians_bring_it_back() {
    let people = People::new();
    people.found();
    let recipient = identity(&people.path("restore.key"));
    let config = people.path("holdfast.toml");
    let backups = people.path("backups");
    let settings = format!(
        "data = \"{}\"\n[backup]\ndirectory = \"{}\"\nrecipients = [\"{recipient}\"]\n",
        people.data().display(),
        backups.display()
    );
    std::fs::write(&config, settings).unwrap();
    let mut served = Served::start_with(&["--config", &text(&config)]);
    for name in ["alice", "bob", "carol"] {
        people.gives(&served, name, 1);
    }
    assert!(served.next_line().starts_with("serving "));
    people.ok(&served, "carol", &["key", "create", "k"]);
    people.ok(&served, "oscar", &["backup"]);
    served.ends();

    let backup = std::fs::read_dir(&backups).unwrap().next().unwrap().unwrap().path();
    let identities = age::IdentityFile::from_file(text(&people.path("restore.key"))).unwrap();
    let identities = identities.into_identities().unwrap();
    let file = std::fs::File::open(&backup).unwrap();
    let mut archive = vec![];
    let decryptor = age::Decryptor::new(file).unwrap();
    decryptor.decrypt(identities.iter().map(|one| &**one as _)).unwrap().read_to_end(&mut archive).unwrap();
    let holds = |text: &[u8]| archive.windows(text.len()).any(|window| window == text);
    assert!(holds(b"root.shares") && holds(b"shares/erin.age") && holds(b"-----BEGIN AGE"));
    assert!(!holds(b"root.key") && !holds(b"holdfast-root-key") && !holds(b"holdfast-share-1"));

    // With the backup's identity alone nothing comes back.
    let restored = people.path("restored");
    let line = |data: &std::path::Path| {
        ["restore", &text(&backup), "--identity", &text(&people.path("restore.key")), "--data", &text(data)]
            .map(str::to_owned)
    };
    let output = holdfast(line(&people.path("in-vain"))).output().unwrap();
    assert_eq!(code(output.status), 1);
    assert!(stderr(&output).contains("0 of 3 shares are in"), "{}", stderr(&output));
    let mut dialogue = Dialogue::begin(line(&restored));
    people.give_on(&mut dialogue, 1);
    assert!(dialogue.succeeds().contains("keys suspended"));
    assert!(!restored.join("root.key").exists());
    for name in NAMES {
        assert!(restored.join(format!("shares/{name}.age")).exists());
    }

    let mut dialogue = Dialogue::begin(["doctor", "--data", &text(&restored), "--offline", "--deep"]);
    people.give_on(&mut dialogue, 1);
    let said = dialogue.succeeds();
    assert!(said.contains("opens what lies beside it") && said.contains("sealed versions open"), "{said}");

    // A rehearsal asks for the shares once, and leaves nothing; nor does one that ends without them.
    let scratch = people.path("scratch");
    std::fs::create_dir(&scratch).unwrap();
    let identity = text(&people.path("restore.key"));
    let drill = ["drill", "recovery", "--backup", &text(&backups), "--identity", &identity, "--json"];
    let output = holdfast(drill).env("TMPDIR", &scratch).output().unwrap();
    assert_eq!(code(output.status), 1);
    assert!(stderr(&output).contains("0 of 3 shares are in"), "{}", stderr(&output));
    let mut dialogue = Dialogue::begin_in(&scratch, drill);
    people.give_on(&mut dialogue, 1);
    let report = dialogue.succeeds();
    assert!(report.contains("\"step\": \"shares\"") && report.contains("\"opens\": true"), "{report}");
    let mut dialogue = Dialogue::begin_in(&scratch, drill);
    dialogue.until("give what that prints");
    dialogue.signal(rustix::process::Signal::INT);
    assert_eq!(code(dialogue.ends().status), 1);
    assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0);

    // Another instance, the same shares.
    let mut served = Served::start(&restored);
    for name in ["alice", "bob", "carol"] {
        people.gives(&served, name, 1);
    }
    assert!(served.next_line().starts_with("serving "));
    people.ok(&served, "carol", &["key", "resume", "k"]);
    served.ends();
}
