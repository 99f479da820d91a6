//! One custodian seals a gateway that serves: nothing leaves any more, nothing stays in memory, and nobody else can do it.

use crate::common::custodians::Dialogue;
use crate::common::log::closing;
use crate::common::mount::Tmpfs;
use crate::common::wait::until;
use crate::common::{HOLDFAST, bare, code, site::Site, stderr, stdout, text, tool};
use crate::people::People;
use crate::served::Served;
use holdfast_audit::verify::{Trusted, verify};
use holdfast_gateway::directory::Directory;
use holdfast_gateway::shares::custodian::open_share;
use holdfast_gateway::shares::{Gathering, Given};
use holdfast_sdk::field::{Bounded, Bytes};
use holdfast_sdk::message::OrderSeal;
use holdfast_sdk::{Client, KeyName, Tenant};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::HashMap;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Callers at once.
const CALLERS: usize = 8;
/// Acknowledged before the order.
const LOAD: usize = 300;

const POLICY: &str = r#"
@id("custodians") permit (principal, action, resource) when { principal.kind == "custodian" };
@id("app") permit (principal == Holdfast::Caller::"app", action in Holdfast::Action::"use", resource);
"#;

fn opened(people: &People) -> Served {
    let mut served = Served::start(&people.data());
    for name in ["alice", "bob", "carol"] {
        people.gives(&served, name, 1);
    }
    assert!(served.next_line().starts_with("serving "));
    served
}

fn client(people: &People, served: &Served) -> holdfast_sdk::ClientBuilder {
    Client::builder(&served.url).ca_pem(std::fs::read(people.path("ca.pem")).unwrap()).attempts(1)
}

/// Encrypts until it is refused: what was acknowledged, when the last of it was asked for, and how it ended.
async fn encrypts(
    app: Tenant,
    name: String,
    told: Arc<(AtomicUsize, Notify)>,
) -> (Vec<(String, Vec<u8>)>, Instant, String) {
    let key: KeyName = "k".parse().unwrap();
    let (mut acknowledged, mut last) = (vec![], Instant::now());
    loop {
        let asked = Instant::now();
        match app.encrypt(&key, name.as_bytes(), &[]).await {
            Ok(sealed) => {
                last = asked;
                acknowledged.push((sealed.operation.unwrap().to_string(), sealed.body.ciphertext.0));
                if told.0.fetch_add(1, Ordering::Relaxed) + 1 >= LOAD {
                    told.1.notify_one();
                }
            }
            Err(error) => return (acknowledged, last, error.to_string()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_leaves_past_a_seal_under_load_and_custodians_open_it_again() {
    let people = Arc::new(People::new());
    people.found();
    let mut served = opened(&people);
    people.ok(&served, "carol", &["key", "create", "k"]);
    let issued = text(&people.path("credentials"));
    people.ok(&served, "carol", &["caller", "put", "app", "--issue", &issued]);
    let policy = people.path("policy.cedar");
    std::fs::write(&policy, POLICY).unwrap();
    people.ok(&served, "carol", &["policy", "set", &text(&policy), "--expected", "1"]);
    let read = |end: &str| std::fs::read(people.path(&format!("credentials/app.{end}"))).unwrap();
    let told = Arc::new((AtomicUsize::new(0), Notify::new()));
    let mut callers = vec![];
    for number in 0..CALLERS {
        let client = client(&people, &served).identity_pem(read("pem"), read("key")).connect().unwrap();
        let app = client.tenant("acme".parse().unwrap());
        callers.push(tokio::spawn(encrypts(app, format!("caller {number}"), Arc::clone(&told))));
    }
    tokio::time::timeout(Duration::from_secs(120), told.1.notified()).await.expect("load");

    // One custodian, and no certificate.
    let (orders, url) = (Arc::clone(&people), served.url.clone());
    let order = move || (orders.seals(&url, &orders.share("erin", 1), "erin"), Instant::now());
    let (output, sealed_at) = tokio::task::spawn_blocking(order).await.unwrap();
    assert_eq!(code(output.status), 0, "{}", stderr(&output));
    assert_eq!(stdout(&output).trim(), "sealed by order of erin");
    let mut acknowledged = HashMap::new();
    for caller in callers {
        let (of_one, last, ended) = caller.await.unwrap();
        // What was asked for before may be read after it, by a client that had no time to.
        assert!(last < sealed_at, "what was asked for after the order was acknowledged is answered");
        assert!(!of_one.is_empty() && !ended.contains("internal"), "{ended}");
        acknowledged.extend(of_one);
    }
    served.is_sealed_again();
    let output = people.calls(&served, "app", &["encrypt", "--key", "k", &text(&policy)]);
    assert!(code(output.status) == 7 && stderr(&output).contains("is sealed"), "{}", stderr(&output));
    for file in served.open_files() {
        for part in ["state", "wal", "audit", "openings"] {
            assert!(!file.starts_with(people.data().join(part)), "{} is open", file.display());
        }
    }
    // To order it again changes nothing but that it is recorded.
    let output = people.seals(&served.url, &people.share("bob", 1), "bob");
    assert!(code(output.status) == 0 && stdout(&output).contains("by order of bob"), "{}", stderr(&output));

    for name in ["alice", "dave", "erin"] {
        people.gives(&served, name, 1);
    }
    assert!(served.next_line().starts_with(&format!("serving {}", served.url)));
    let app = client(&people, &served).identity_pem(read("pem"), read("key")).connect().unwrap();
    let app = app.tenant("acme".parse().unwrap());
    let (_, ciphertext) = acknowledged.iter().next().unwrap();
    app.decrypt(&"k".parse().unwrap(), ciphertext, &[]).await.unwrap();
    let found = people.ok(&served, "oscar", &["audit", "search", "--action", "seal", "--json"]);
    let events = found.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut custodians: Vec<_> = events
        .inspect(|event| assert_eq!(event["source"], "127.0.0.1"))
        .map(|event| event["context"]["custodian"].as_str().unwrap().to_owned())
        .collect();
    custodians.sort();
    assert_eq!(custodians, ["bob", "erin"]);
    served.ends();

    // What was acknowledged stands in the log once; what was not is a refusal, or one of those under way.
    let log = people.data().join("audit/acme");
    verify(&log, &Trusted::default(), |_, _| {}).unwrap();
    let mut closed: HashMap<String, (usize, String)> = HashMap::new();
    for event in closing(&log).into_iter().filter(|event| event["action"] == "encrypt") {
        let of = closed.entry(event["operation"].as_str().unwrap().to_owned()).or_default();
        of.0 += 1;
        of.1 = event["outcome"].as_str().unwrap().to_owned();
    }
    assert!(acknowledged.len() >= LOAD && closed.values().all(|(count, _)| *count == 1));
    for operation in acknowledged.keys() {
        assert_eq!(closed[operation], (1, "success".to_owned()), "{operation}");
    }
    let of_nobody = closed
        .iter()
        .filter(|(operation, (_, outcome))| outcome == "success" && !acknowledged.contains_key(*operation));
    assert!(of_nobody.count() <= CALLERS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_and_a_wrong_identity_seal_nothing() {
    let (people, elsewhere) = (People::new(), People::new());
    people.found();
    elsewhere.found();
    let served = opened(&people);
    // The same custodian, of another gateway: with the right number, in the right generation.
    std::fs::copy(elsewhere.path("bob.key"), people.path("stranger.key")).unwrap();
    let refused = |share: &Path, name: &str| {
        let output = people.seals(&served.url, share, name);
        assert_ne!(code(output.status), 0);
        stderr(&output)
    };
    let said = refused(&elsewhere.share("bob", 1), "stranger");
    assert!(said.contains("challenge does not open with this identity"), "{said}");
    let said = refused(&people.share("bob", 1), "carol");
    assert!(said.contains("does not open"), "{said}");

    // Whoever only guesses is named, counted and made to wait; nobody else is.
    let client = client(&people, &served).connect().unwrap();
    let guess = || OrderSeal { generation: Bounded(1), share: Bounded(2), answer: Bytes(vec![7; 32]) };
    for attempt in 1..=6 {
        let said = client.order_seal(&guess()).await.err().unwrap().to_string();
        match attempt {
            1..=5 => assert!(said.contains("the answer is not that of `bob`"), "{said}"),
            _ => assert!(said.contains("too many orders to seal were wrong"), "{said}"),
        }
    }
    assert!(people.ok(&served, "oscar", &["status"]).contains("is ready"));
    let output = people.seals(&served.url, &people.share("bob", 1), "bob");
    assert_eq!(code(output.status), 0, "a right one waits for nobody: {}", stderr(&output));
    let said = served.ends();
    assert_eq!(said.matches("an order to seal was refused").count(), 5, "{said}");
}

/// Leaves no byte of a disk free, until the file is removed.
fn fill(file: &Path) {
    let mut file = std::fs::File::create(file).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
}

/// The mark that keeps a device from opening the next start needs no room; where it could not be kept ready, whoever ordered the seal is told.
#[test]
fn on_a_full_disk_a_seal_outlasts_the_process_or_says_that_it_does_not() {
    let people = People::new();
    let data = people.data();
    std::fs::create_dir(&data).unwrap();
    let Some(_disk) = Tmpfs::mount(&data, 320) else { return };
    people.answer(Dialogue::begin(people.init(&data)), 1);
    std::fs::copy(data.join("tls/ca.pem"), people.path("ca.pem")).unwrap();
    let mut served = opened(&people);
    let (mark, ready, filler) = (data.join("sealed"), data.join("sealed.ready"), data.join("filler"));
    let seals = |served: &Served| {
        let output = people.seals(&served.url, &people.share("bob", 1), "bob");
        assert_eq!(code(output.status), 0, "{}", stderr(&output));
        stderr(&output)
    };
    fill(&filler);
    let said = seals(&served);
    assert!(mark.exists() && !said.contains("could not") && !said.contains("order it again"), "{said}");
    served.is_sealed_again();

    std::fs::remove_file(&filler).unwrap();
    for name in ["alice", "bob", "carol"] {
        people.gives(&served, name, 1);
    }
    served.line = served.next_line();
    assert!(served.line.starts_with("serving ") && !mark.exists(), "{}", served.line);
    std::fs::remove_file(&ready).unwrap();
    fill(&filler);
    let said = seals(&served);
    assert!(!mark.exists() && said.contains("a device may open its next start"), "{said}");
    served.is_sealed_again();
    // What it says to do does help.
    std::fs::remove_file(&filler).unwrap();
    let said = seals(&served);
    assert!(mark.exists() && !said.contains("a device may open"), "{said}");
    served.ends();
}

/// Whoever asks a sealed gateway waits for no order, and the order not for ever for its disk.
#[test]
fn a_disk_that_hangs_holds_up_nobody_who_asks_a_sealed_gateway() {
    if !tool("strace") {
        return;
    }
    let people = People::new();
    people.found();
    let data = people.data();
    // The mark is kept ready from then on, so that no start after it syncs the directory.
    Served::start(&data).ends();
    let mut command = Command::new("strace");
    let hangs = "inject=fsync:delay_enter=60000000";
    command.args(["-f", "-o", "/dev/null", "-P", &text(&data), "-e", hangs, HOLDFAST]);
    command.args(["serve", "--data", &text(&data), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    bare(&mut command);
    let served = Served::run(command);
    let output = std::thread::scope(|scope| {
        let ordering = scope.spawn(|| people.seals(&served.url, &people.share("bob", 1), "bob"));
        until("the mark is there, and not synced yet", || data.join("sealed").exists());
        let asked = Instant::now();
        assert!(served.admin("/status").contains("sealed by order of a custodian"));
        people.gives(&served, "alice", 1);
        assert!(asked.elapsed() < Duration::from_secs(30), "they wait for the disk");
        assert!(!ordering.is_finished(), "the disk did not hang");
        ordering.join().unwrap()
    });
    assert_eq!(code(output.status), 0, "{}", stderr(&output));
    assert!(stderr(&output).contains("a device may open its next start"), "{}", stderr(&output));
    // `strace` obeys nobody, and ends with what it runs.
    let process = std::fs::read_to_string(data.join("lock")).unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(process).unwrap(), Signal::KILL).unwrap();
    served.was_killed();
}

#[test]
fn a_root_key_in_one_piece_is_not_sealed() {
    let (people, site) = (People::new(), Site::found());
    people.found();
    let server = crate::common::Server::start(site.serving(&site.data(), ""));
    std::fs::copy(site.path("ca.pem"), people.path("ca.pem")).unwrap();
    let output = people.seals(&server.url, &people.share("alice", 1), "alice");
    let said = stderr(&output);
    assert!(code(output.status) == 5 && said.contains("is in one piece"), "{said}");
    assert!(said.contains("systemctl stop holdfast"), "{said}");
    assert!(site.ok(&server, "oscar", &["status"]).contains("is ready"));
}

/// Whether these bytes stand anywhere in a process's memory; `None` where only root may look, and this is not root.
fn is_in_memory(pid: u32, wanted: &[u8]) -> Option<bool> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let mut memory = std::fs::File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut found = false;
    for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|mode| mode.starts_with("rw")))
    {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let at = |text: &str| u64::from_str_radix(text, 16).unwrap();
        let mut bytes = vec![0; usize::try_from(at(end) - at(start)).unwrap()];
        memory.seek(SeekFrom::Start(at(start))).unwrap();
        if memory.read_exact(&mut bytes).is_ok() {
            found |= bytes.windows(wanted.len()).any(|window| window == wanted);
        }
    }
    Some(found)
}

#[test]
fn nothing_that_came_from_the_root_key_stays_in_memory() {
    let people = People::new();
    people.found();
    let mut served = opened(&people);
    people.ok(&served, "carol", &["key", "create", "k"]);
    let directory = Directory::at(&people.data());
    let (roster, identity) = (directory.roster().unwrap().unwrap(), directory.identity().unwrap().unwrap());
    let mut gathering = Gathering::begin(roster);
    let mut root = None;
    for name in ["alice", "bob", "erin"] {
        let share = open_share(&people.share(name, 1), &people.path(&format!("{name}.key"))).unwrap();
        let sealed = share.seal_to(&gathering.recipient().parse().unwrap()).unwrap();
        if let Given::Root(whole, _) = gathering.give(&sealed, 0).unwrap() {
            root = Some(whole);
        }
    }
    let root = root.unwrap();
    let secrets = [
        root.derive("holdfast/logs/v1", identity.instance.as_bytes()).unwrap(),
        root.derive("holdfast/state/v1", identity.sealing_instance().as_bytes()).unwrap(),
    ];
    let seen = |served: &Served| {
        let looked = secrets.iter().map(|secret| is_in_memory(served.pid(), &secret.expose()[..16]));
        looked.collect::<Option<Vec<_>>>()
    };
    match seen(&served) {
        Some(seen) => assert!(seen[0], "the seeds of its logs' keys are there while it serves"),
        None => return eprintln!("SKIPPED: only root can look into the gateway's memory"),
    }
    let output = people.seals(&served.url, &people.share("alice", 1), "alice");
    assert_eq!(code(output.status), 0, "{}", stderr(&output));
    served.is_sealed_again();
    assert_eq!(seen(&served).unwrap(), [false, false]);
    served.ends();
}
