//! Another root key under a gateway that serves: nobody's work is lost, keys and logs stay, and the earlier root key opens nothing.

use crate::common::custodians::Dialogue;
use crate::common::log::closing;
use crate::common::{Server, code, holdfast, site::Site, stderr, stdout, text};
use crate::people::{NAMES, People};
use crate::served::Served;
use holdfast_audit::verify::{Trusted, verify};
use holdfast_sdk::{Client, KeyName, Tenant};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const CALLERS: usize = 4;
const POLICY: &str = r#"
@id("custodians") permit (principal, action, resource) when { principal.kind == "custodian" };
@id("app") permit (principal == Holdfast::Caller::"app", action in Holdfast::Action::"use", resource);
"#;

fn rotate(data: &Path) -> Command {
    holdfast(["root", "rotate", "--json", "--data", &text(data)])
}

fn app(ca: &Path, credentials: &Path, url: &str) -> Tenant {
    let read = |end: &str| std::fs::read(credentials.join(format!("app.{end}"))).unwrap();
    let client = Client::builder(url).ca_pem(std::fs::read(ca).unwrap());
    let client = client.identity_pem(read("pem"), read("key")).timeout(Duration::from_secs(60));
    client.connect().unwrap().tenant("acme".parse().unwrap())
}

/// Encrypts again and again until it is told to end; what fails is sent again by the client itself.
async fn encrypts(app: Tenant, ends: Arc<AtomicBool>, told: Arc<AtomicUsize>) -> Vec<(String, Vec<u8>)> {
    let key: KeyName = "k".parse().unwrap();
    let mut acknowledged = vec![];
    while !ends.load(Ordering::Relaxed) {
        let sealed = app.encrypt(&key, b"payroll", &[]).await.unwrap_or_else(|error| panic!("{error:?}"));
        acknowledged.push((sealed.operation.unwrap().to_string(), sealed.body.ciphertext.0));
        told.fetch_add(1, Ordering::Relaxed);
    }
    acknowledged
}

async fn reaches(told: &AtomicUsize, count: usize) {
    let reached = async {
        while told.load(Ordering::Relaxed) < count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), reached).await.expect("load");
}

fn ended(output: &Output) -> Value {
    assert_eq!(code(output.status), 0, "{}", stderr(output));
    serde_json::from_str(&stdout(output)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_it_changes_and_no_caller_notices() {
    let site = Site::found();
    let data = site.data();
    let server = Server::start(site.serving(&data, ""));
    site.ok(&server, "carol", &["key", "create", "k"]);
    site.ok(&server, "carol", &["caller", "put", "app", "--issue", &text(&site.path("credentials"))]);
    std::fs::write(site.path("policy.cedar"), POLICY).unwrap();
    site.ok(&server, "carol", &["policy", "set", "policy.cedar", "--expected", "1"]);
    std::fs::copy(data.join("root.key"), site.path("earlier.key")).unwrap();
    let vkey = std::fs::read(data.join("audit/acme/log.vkey")).unwrap();
    let before = std::fs::read(data.join("audit/acme/checkpoint")).unwrap();

    let (ends, told) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let caller = || {
        let app = app(&site.path("ca.pem"), &site.path("credentials"), &server.url);
        tokio::spawn(encrypts(app, Arc::clone(&ends), Arc::clone(&told)))
    };
    let callers: Vec<_> = (0..CALLERS).map(|_| caller()).collect();
    reaches(&told, 200).await;
    let ordering = data.clone();
    let output = tokio::task::spawn_blocking(move || rotate(&ordering).output().unwrap()).await.unwrap();
    assert_eq!(ended(&output)["in_force"], true);
    let so_far = told.load(Ordering::Relaxed);
    reaches(&told, so_far + 200).await;
    ends.store(true, Ordering::Relaxed);
    let mut acknowledged = HashMap::new();
    for caller in callers {
        acknowledged.extend(caller.await.unwrap());
    }
    assert_ne!(
        std::fs::read(data.join("root.key")).unwrap(),
        std::fs::read(site.path("earlier.key")).unwrap()
    );
    assert!(!data.join("root.next").exists());
    let app = app(&site.path("ca.pem"), &site.path("credentials"), &server.url);
    let key: KeyName = "k".parse().unwrap();
    for ciphertext in acknowledged.values().take(20) {
        app.decrypt(&key, ciphertext, &[]).await.unwrap();
    }
    let events = site.ok(&server, "oscar", &["audit", "search", "--action", "rotate-root", "--json"]);
    let outcomes = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["outcome"].clone());
    assert_eq!(outcomes.collect::<Vec<_>>(), ["intent", "success"]);
    let said = server.ends();
    assert!(said.contains("the gateway serves again"), "{said}");

    // The same logs go on, and each acknowledged operation stands there once.
    assert_eq!(std::fs::read(data.join("audit/acme/log.vkey")).unwrap(), vkey);
    let trusted = Trusted { earlier: Some(before), ..Trusted::default() };
    verify(&data.join("audit/acme"), &trusted, |_, _| {}).unwrap();
    let mut closed: HashMap<String, usize> = HashMap::new();
    for event in closing(&data.join("audit/acme")) {
        *closed.entry(event["operation"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert!(acknowledged.keys().all(|operation| closed[operation] == 1));
    assert!(holdfast(["doctor", "--data", &text(&data), "--offline", "--deep"]).status().unwrap().success());

    // The earlier root key, put back, opens nothing.
    let in_force = std::fs::read(data.join("root.key")).unwrap();
    std::fs::copy(site.path("earlier.key"), data.join("root.key")).unwrap();
    let output = site.serving(&data, "").stdin(Stdio::null()).output().unwrap();
    assert_eq!(code(output.status), 1, "{}", stderr(&output));
    std::fs::write(data.join("root.key"), in_force).unwrap();
    Server::start(site.serving(&data, "")).ends();
}

#[test]
fn a_gateway_that_is_killed_meanwhile_starts_under_one_root_key_or_the_other() {
    let site = Site::found();
    let data = site.data();
    let mut in_force = 0;
    for round in 0..8_u64 {
        let before = std::fs::read(data.join("root.key")).unwrap();
        let mut server = Server::start(site.serving(&data, ""));
        let key = format!("k{round}");
        site.ok(&server, "carol", &["key", "create", &key]);
        let mut order = rotate(&data).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // From the order on, a little later each time.
        let (_keep, never) = std::sync::mpsc::channel::<()>();
        crate::common::wait::until("it is ordered", || {
            data.join("root.next").exists() || std::fs::read(data.join("root.key")).unwrap() != before
        });
        let _time_passed = never.recv_timeout(Duration::from_millis(round * 200));
        server.kill();
        // Nobody serves any more: it says so, or that it was done before.
        order.wait().unwrap();
        let server = Server::start(site.serving(&data, ""));
        crate::common::wait::until("the order is carried out", || !data.join("root.next").exists());
        for made in 0..=round {
            site.ok(&server, "carol", &["key", "rotate", &format!("k{made}")]);
        }
        in_force += usize::from(std::fs::read(data.join("root.key")).unwrap() != before);
        server.ends();
    }
    assert_eq!(in_force, 8);
    verify(&data.join("audit/acme"), &Trusted::default(), |_, _| {}).unwrap();
    verify(&data.join("audit/_gateway"), &Trusted::default(), |_, _| {}).unwrap();
}

/// A change to shares of these.
fn to_shares(people: &People, names: &[&str], threshold: &str) -> Dialogue {
    let mut line = vec!["root".to_owned(), "rotate".to_owned(), "--data".to_owned(), text(&people.data())];
    line.extend(["--threshold".to_owned(), threshold.to_owned()]);
    line.extend(people.custodians(names));
    Dialogue::begin(line)
}

#[test]
fn custodians_change_it_together_and_the_earlier_shares_open_nothing() {
    let people = People::new();
    people.found();
    let mut served = Served::start(&people.data());
    for name in ["alice", "bob", "carol"] {
        people.gives(&served, name, 1);
    }
    assert!(served.next_line().starts_with("serving "));
    people.ok(&served, "carol", &["key", "create", "k"]);
    let before = std::fs::read_to_string(people.data().join("root.shares")).unwrap();
    let output = rotate(&people.data()).output().unwrap();
    assert!(
        code(output.status) == 2 && stderr(&output).contains("so is the next one"),
        "{}",
        stderr(&output)
    );

    // One that ends before all have proven changes nothing.
    let names = ["alice", "bob", "carol", "dave"];
    let mut dialogue = to_shares(&people, &names, "2");
    people.give_on(&mut dialogue, 1);
    dialogue.until("give each answer");
    dialogue.signal(Signal::INT);
    assert_eq!(code(dialogue.ends().status), 1);
    assert_eq!(std::fs::read_to_string(people.data().join("root.shares")).unwrap(), before);
    assert!(!people.data().join("shares.new").exists() && !people.data().join("root.next").exists());

    let mut dialogue = to_shares(&people, &names, "2");
    people.give_on(&mut dialogue, 1);
    let said = people.answer(dialogue, 2);
    assert!(said.contains("in force    yes"), "{said}");
    assert!(people.ok(&served, "carol", &["key", "rotate", "k"]).contains('k'));
    assert!(people.ok(&served, "oscar", &["status"]).contains("generation 2: 2 of 4 open it"));
    let found = people.ok(&served, "oscar", &["audit", "search", "--action", "rotate-root", "--json"]);
    let event: Value = serde_json::from_str(found.lines().next().unwrap()).unwrap();
    assert_eq!(event["context"]["shared-by"], "alice dave erin", "{event}");
    assert_eq!(event["context"]["custodians"], "alice bob carol dave", "{event}");
    // Of the next generation one is enough to seal it, and two open it.
    let output = people.seals(&served.url, &people.share("dave", 2), "dave");
    assert_eq!(code(output.status), 0, "{}", stderr(&output));
    served.is_sealed_again();
    let (_, said) = people.is_refused(&served, &people.share("alice", 1), "alice");
    assert!(said.contains("is of generation 1"), "{said}");
    people.gives(&served, "carol", 2);
    people.gives(&served, "dave", 2);
    assert!(served.next_line().starts_with("serving "));
    people.ok(&served, "carol", &["key", "rotate", "k"]);
    served.ends();

    // Whoever puts the earlier list back opens nothing with the earlier shares: they give a root key that nothing is under any more.
    let now = std::fs::read_to_string(people.data().join("root.shares")).unwrap();
    std::fs::write(people.data().join("root.shares"), before).unwrap();
    let served = Served::start(&people.data());
    for name in ["alice", "bob"] {
        people.gives(&served, name, 1);
    }
    let output = people.unseal(&served, &people.share("erin", 1), "erin", &served.fingerprint);
    assert_ne!(code(output.status), 0, "{}", stdout(&output));
    drop(served);
    std::fs::write(people.data().join("root.shares"), now).unwrap();
    let mut served = Served::start(&people.data());
    people.gives(&served, "alice", 2);
    people.gives(&served, "bob", 2);
    assert!(served.next_line().starts_with("serving "));
    served.ends();
}

#[test]
fn a_root_key_in_a_file_is_brought_into_shares() {
    let (people, site) = (People::new(), Site::found());
    let data = site.data();
    let server = Server::start(site.serving(&data, ""));
    site.ok(&server, "carol", &["key", "create", "k"]);
    std::os::unix::fs::symlink(&data, people.data()).unwrap();
    std::fs::copy(site.path("ca.pem"), people.path("ca.pem")).unwrap();
    people.answer(to_shares(&people, &NAMES, "3"), 1);
    assert!(!data.join("root.key").exists() && data.join("root.shares").exists());
    site.ok(&server, "carol", &["key", "rotate", "k"]);
    // Now a custodian of the root key can have it sealed.
    let output = people.seals(&server.url, &people.share("erin", 1), "erin");
    assert_eq!(code(output.status), 0, "{}", stderr(&output));
    server.ends();
    let mut served = Served::start(&data);
    for name in ["alice", "bob", "carol"] {
        people.gives(&served, name, 1);
    }
    assert!(served.next_line().starts_with("serving "));
    served.ends();
}
