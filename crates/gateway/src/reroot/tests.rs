//! A change of the root key that is cut short anywhere leaves a directory of the one or the other, whose logs go on as they were.

use super::next::Next;
use super::switch::{Cut, Step, carry_out};
use crate::config::Config;
use crate::directory::{Directory, Identity};
use crate::fault::Fault;
use crate::init::{self, Founder, Plan};
use crate::outside::Outside;
use crate::root::{self, Law, Reopened, state_key};
use crate::scrub::{Damage, offline};
use crate::serve::{self, Options, Started};
use crate::shares::tests::People;
use crate::shares::{RootKey, Roster};
use crate::stages::Stages;
use crate::world::SystemWorld;
use holdfast_audit::reader::LogReader;
use holdfast_keystore::root::file as root_file;
use holdfast_state::{DirectoryLock, is_under};
use serde_json::Value;
use std::time::Duration;
use tempfile::TempDir;

/// Where the root key is before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    FileToFile,
    FileToShares,
    SharesToShares,
}

struct Place {
    directory: Directory,
    identity: Identity,
    people: People,
    _dir: TempDir,
}

fn new_root() -> RootKey {
    RootKey::generate(&SystemWorld::new()).unwrap()
}

fn id(root: &RootKey) -> String {
    root.id().unwrap().to_string()
}

impl Place {
    async fn found() -> Self {
        let dir = TempDir::new().unwrap();
        let directory = Directory::at(&dir.path().join("data"));
        let founder = |name: &str| Founder { name: name.parse().unwrap(), certificate: None };
        let plan = Plan {
            origin: "audit.example.org".to_owned(),
            server_names: vec!["127.0.0.1".to_owned()],
            operators: vec![founder("olga")],
            tenant: Some(("acme".parse().unwrap(), vec![founder("carol")])),
            tpm: None,
            shares: None,
        };
        init::begin(&directory, &plan).unwrap().finish().await.unwrap();
        let identity = directory.identity().unwrap().unwrap();
        Self { directory, identity, people: People::new(), _dir: dir }
    }

    /// As a start does; custodians of a root key in shares bring what the list says.
    async fn start(&self, known: &[&RootKey]) -> Result<(Law, DirectoryLock), Fault> {
        self.reopen(known).await.map(|(law, lock, _)| (law, lock))
    }

    async fn reopen(&self, known: &[&RootKey]) -> Result<Reopened, Fault> {
        let config = Config { data: self.directory.path().to_path_buf(), ..Config::default() };
        let outside = Outside::new(&config, &self.directory)?;
        let stages = Stages::default();
        let Self { directory, identity, .. } = self;
        match directory.roster()? {
            None => root::reopen(directory, identity, &config, &outside, &stages).await,
            Some(Roster { of, .. }) => {
                let root = known.iter().find(|root| root.id().unwrap() == of.root).unwrap().again()?;
                let lock = DirectoryLock::take(directory.path())?;
                root::reopen_with((directory, identity, lock), root, &config, &outside, &stages).await
            }
        }
    }

    fn vkeys(&self) -> Vec<String> {
        let of = |log: &str| {
            let tenant = log.parse().unwrap();
            std::fs::read_to_string(self.directory.log(&tenant).join("log.vkey")).unwrap()
        };
        ["_gateway", "acme"].map(of).to_vec()
    }

    fn next(&self, kind: Kind, generation: u32) -> Next {
        let root = new_root();
        let shared = || {
            std::fs::create_dir_all(self.directory.new_shares()).unwrap();
            self.people.shared(&root, self.identity.instance, generation)
        };
        let roster = (kind != Kind::FileToFile).then(shared);
        Next { root, roster }
    }

    /// Changes the root key, up to a step.
    async fn change(&self, from: &RootKey, next: &Next, until: Option<Step>) {
        let (law, lock) = self.start(&[from, &next.root]).await.unwrap();
        assert_eq!(id(law.engines().log.signing().root()), id(from));
        let operation = law.intend_root((&id(from), &id(&next.root)), None).await.unwrap();
        law.engines().log.flush_all().unwrap();
        drop(law);
        next.order(&self.directory, &self.identity, from).unwrap();
        let place = (&self.directory, &self.identity, &lock);
        let ended = carry_out(place, (from, next), operation, &mut |step| match Some(step) == until {
            true => Err(Fault::new("the power fails")),
            false => Ok(()),
        });
        assert_eq!(ended.is_err(), until.is_some());
    }

    /// What a reading of everything finds, with the root key that the directory leads to.
    async fn reading(&self, known: &[&RootKey]) -> (Option<Cut>, Vec<Damage>) {
        let root = self.directory.roster().unwrap().map(|Roster { of, .. }| {
            known.iter().find(|root| root.id().unwrap() == of.root).unwrap().again().unwrap()
        });
        let (directory, identity) = (self.directory.clone(), self.identity.clone());
        let runtime = tokio::runtime::Handle::current();
        let read = move || {
            let mut damages = Vec::new();
            let (place, found) = ((&directory, &identity), &mut |damage| damages.push(damage));
            let summary = offline(place, root, runtime, &mut |_| (), found, &mut |_, _| ()).unwrap();
            assert!(summary.records > 0 || !damages.is_empty());
            (summary.cut, damages)
        };
        tokio::task::spawn_blocking(read).await.unwrap()
    }

    fn rotations(&self) -> Vec<String> {
        let reader = LogReader::open(&self.directory.log(&"_gateway".parse().unwrap())).unwrap();
        let events =
            reader.entries(0).map(|entry| serde_json::from_slice::<Value>(&entry.unwrap().1).unwrap());
        let of_root = events.filter(|event| event["action"] == "rotate-root");
        of_root.map(|event| event["outcome"].as_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_short_at_any_step_the_directory_is_one_root_key_s_or_the_other_s() {
    let steps = [Some(Step::Seeds), Some(Step::State), Some(Step::Root), Some(Step::Seals), None];
    for kind in [Kind::FileToFile, Kind::FileToShares, Kind::SharesToShares] {
        for until in steps {
            let place = Place::found().await;
            let vkeys = place.vkeys();
            let mut from = root_file::load(&place.directory.root_key()).unwrap();
            if kind == Kind::SharesToShares {
                let first = place.next(Kind::FileToShares, 1);
                place.change(&from, &first, None).await;
                from = first.root;
                drop(place.start(&[&from]).await.unwrap());
            }
            let told = place.rotations().len();
            let next = place.next(kind, 2);
            place.change(&from, &next, until).await;
            // Whoever reads it meanwhile finds no damage, and what the next start does.
            let cut = match until {
                Some(Step::Seeds) => Some(Cut::Ordered),
                Some(Step::State | Step::Root | Step::Seals) => Some(Cut::InForce),
                None => None,
            };
            let read = place.reading(&[&from, &next.root]).await;
            assert_eq!(read, (cut, vec![]), "{kind:?} {until:?}");

            let (law, lock) = place.start(&[&from, &next.root]).await.unwrap();
            let in_force = id(law.engines().log.signing().root());
            let is_next = until != Some(Step::Seeds);
            assert_eq!(in_force, if is_next { id(&next.root) } else { id(&from) }, "{kind:?} {until:?}");
            law.engines().log.flush_all().unwrap();
            drop(law);
            let ended = if is_next { "success" } else { "refused" };
            assert_eq!(place.rotations()[told..], ["intent", ended], "{kind:?} {until:?}");
            assert_eq!(place.directory.next_root().exists(), !is_next, "{kind:?} {until:?}");
            let under = |root| is_under(&lock, &state_key(&place.identity, root).unwrap()).unwrap();
            assert_eq!((under(&from), under(&next.root)), (!is_next, is_next));
            assert_eq!(place.vkeys(), vkeys, "{kind:?} {until:?}");
            if is_next {
                assert_eq!(place.directory.root_key().exists(), kind == Kind::FileToFile);
                assert_eq!(place.directory.root_shares().exists(), kind != Kind::FileToFile);
                assert!(!place.directory.new_shares().exists());
                assert!(!place.directory.log_seeds(&from.id().unwrap()).exists());
                assert!(place.directory.log_seeds(&next.root.id().unwrap()).exists());
            }
            drop(lock);
            // And once more: nothing is left to be done.
            drop(place.start(&[&from, &next.root]).await.unwrap());
            assert_eq!(place.rotations().len(), told + 2);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_seeds_no_log_is_signed_anew_and_only_who_has_the_root_key_orders() {
    let place = Place::found().await;
    let from = root_file::load(&place.directory.root_key()).unwrap();
    let read = |root: &RootKey| Next::read(&place.directory, &place.identity, root);
    place.next(Kind::FileToFile, 1).order(&place.directory, &place.identity, &new_root()).unwrap();
    assert!(read(&from).unwrap().is_none(), "sealed by a stranger");
    let next = place.next(Kind::FileToFile, 1);
    next.order(&place.directory, &place.identity, &from).unwrap();
    assert_eq!(id(&read(&from).unwrap().unwrap().root), id(&next.root));
    let path = place.directory.next_root();
    let mut blob = std::fs::read(&path).unwrap();
    *blob.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &blob).unwrap();
    assert!(read(&from).err().unwrap().to_string().contains("no order of who has the root key"));
    Next::remove(&place.directory).unwrap();

    place.change(&from, &next, None).await;
    drop(place.start(&[]).await.unwrap());
    std::fs::remove_file(place.directory.log_seeds(&next.root.id().unwrap())).unwrap();
    let refused = place.start(&[]).await.err().unwrap();
    assert!(refused.to_string().contains("log"), "{refused}");
}

/// Its process ends then, and the next start carries the order out.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_cannot_be_closed_is_not_waited_for_for_ever() {
    let place = Place::found().await;
    let mut config = Config { data: place.directory.path().to_path_buf(), ..Config::default() };
    config.listen.address.set_port(0);
    config.admin.address.set_port(0);
    config.limits.shutdown_seconds = 1;
    let begun = serve::begin(Options { config, dev: false }).await.unwrap();
    let Started::Serving(mut running) = begun else { panic!("its root key is in a file") };
    let from = running.gateway.law.engines().log.signing().root().again().unwrap();
    place.next(Kind::FileToFile, 0).order(&place.directory, &place.identity, &from).unwrap();
    // As what works on a disk that hangs.
    running.carrying.0 = tokio::spawn(std::future::pending());
    let ended = tokio::time::timeout(Duration::from_secs(30), running.reroot()).await.expect("it ends");
    let fault = ended.err().unwrap();
    assert!(fault.to_string().contains("holds on to the root key"), "{fault}");
    assert!(place.directory.next_root().exists(), "the order stands");
    assert_eq!(id(&root_file::load(&place.directory.root_key()).unwrap()), id(&from));
}
