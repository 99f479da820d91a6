use super::Sealed;
use super::waiting::{self, Waiting};
use crate::admin::Answers as _;
use crate::config::{Config, Limits, Tls};
use crate::credential;
use crate::device::Refused;
use crate::directory::{Directory, Identity};
use crate::doors::{Doors, Site};
use crate::outside::Outside;
use crate::sealing::{Order, Orders};
use crate::shares::tests::{People, instance, root};
use crate::shares::{Gathering, Progress};
use crate::stages::Stages;
use crate::tls::TlsState;
use holdfast_keystore::root::RootKey;
use holdfast_state::DirectoryLock;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};

const SOMEBODY: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)));

fn tls(dir: &TempDir) -> Arc<TlsState> {
    let directory = Directory::at(dir.path());
    credential::make_server(&directory, &["localhost".to_owned()], 1_800_000_000).unwrap();
    Arc::new(TlsState::load(&Tls::default(), &directory).unwrap())
}

fn waiting_in(
    dir: &TempDir,
    gathering: Gathering,
    give: oneshot::Sender<(RootKey, Progress)>,
    tls: Arc<TlsState>,
) -> Waiting {
    let directory = Directory::at(dir.path());
    let orders = Arc::new(Orders::of(&directory));
    Waiting::new(gathering, give, tls, (&directory, &Limits::default()), orders)
}

/// Nobody asks: the gateway wipes them by itself.
#[tokio::test]
async fn shares_are_wiped_in_time_by_themselves() {
    let (people, dir) = (People::new(), TempDir::new().unwrap());
    let roster = people.shared(&root(), instance('0'), 1);
    let (give, _given) = oneshot::channel();
    let gathering = Gathering::with_patience(roster, Duration::from_millis(50));
    let waiting = Arc::new(waiting_in(&dir, gathering, give, tls(&dir)));
    let (_stop, stopping) = watch::channel(false);
    let expiring = tokio::spawn(waiting::expire(Arc::clone(&waiting), stopping));
    let recipient = waiting.seal().recipient.unwrap();
    let alice = people.seal_to("alice", 1, &recipient);
    assert!(waiting.give(SOMEBODY, &alice).is_ok());
    let wiped = async {
        while waiting.holds() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wiped).await.expect("they are wiped");
    assert!(!expiring.is_finished());
}

#[tokio::test]
async fn strangers_learn_how_many_are_in_and_only_who_gave_one_learns_whose() {
    let (people, dir) = (People::new(), TempDir::new().unwrap());
    let roster = people.shared(&root(), instance('0'), 1);
    let (give, mut given) = oneshot::channel();
    let waiting = waiting_in(&dir, Gathering::begin(roster), give, tls(&dir));
    let recipient = waiting.seal().recipient.unwrap();
    let sealed = |name: &str| people.seal_to(name, 1, &recipient);
    let told = waiting.give(SOMEBODY, &sealed("bob")).ok().unwrap();
    assert_eq!((told.given, told.custodians.map(|names| names.len())), (Some(1), Some(1)));
    let seen = waiting.seal();
    assert_eq!(
        (seen.sealed, seen.opening, seen.given, seen.custodians.is_none()),
        (true, false, Some(1), true)
    );
    assert!(waiting.give(SOMEBODY, &sealed("erin")).is_ok());
    assert!(given.try_recv().is_err(), "two of three");
    let told = waiting.give(SOMEBODY, &sealed("carol")).ok().unwrap();
    assert!(told.sealed && told.opening);
    let (_root, progress) = given.try_recv().unwrap();
    assert_eq!(progress.names(), "bob, carol, erin");
    // What comes now is not looked at: key and shares are gone.
    let seen = waiting.seal();
    assert!(seen.opening && seen.recipient.is_none());
    assert!(waiting.give(SOMEBODY, b"nothing").ok().unwrap().opening);
    assert_eq!(waiting.holds(), 0);
}

/// Custodians who come to a sealed gateway see it as well: the next start would fail.
#[tokio::test]
async fn a_reload_that_is_refused_is_told_until_one_is_not() {
    let (people, dir) = (People::new(), TempDir::new().unwrap());
    let roster = people.shared(&root(), instance('0'), 1);
    let (give, _given) = oneshot::channel();
    let (tls, directory) = (tls(&dir), Directory::at(dir.path()));
    let waiting = waiting_in(&dir, Gathering::begin(roster), give, Arc::clone(&tls));
    let is_told = || {
        let is_noticed = waiting.status().notices.iter().any(|notice| notice.contains("server.pem"));
        assert_eq!(waiting.metrics_text().contains("\nholdfast_reload_refused 1\n"), is_noticed);
        is_noticed
    };
    assert!(!is_told());
    let certificate = directory.tls().join("server.pem");
    let kept = std::fs::read(&certificate).unwrap();
    std::fs::write(&certificate, "nonsense").unwrap();
    tls.reload().unwrap_err();
    assert!(is_told());
    std::fs::write(&certificate, kept).unwrap();
    tls.reload().unwrap();
    assert!(!is_told());
}

/// A mark that comes too late would keep the gateway shut whose custodians have opened it.
#[tokio::test]
async fn who_opens_it_waits_for_a_mark_that_is_on_its_way_to_the_disk() {
    let (people, dir) = (People::new(), TempDir::new().unwrap());
    let directory = Directory::at(dir.path());
    let orders = Arc::new(Orders::of(&directory));
    let gathering = Gathering::begin(people.shared(&root(), instance('0'), 1));
    let (give, _given) = oneshot::channel();
    let waiting =
        Waiting::new(gathering, give, tls(&dir), (&directory, &Limits::default()), Arc::clone(&orders));
    let (hangs, goes_on) = (orders.marking(), orders.marking());
    assert!(goes_on.keep(&directory).await && directory.is_sealed_by_order());
    let mut closing = std::pin::pin!(waiting.close(true));
    tokio::select! {
        biased;
        _ = &mut closing => panic!("it serves while a mark is on its way"),
        () = tokio::task::yield_now() => {}
    }
    // Nobody else waits.
    assert!(waiting.seal().sealed && waiting.seen().is_ordered);
    drop(hangs);
    assert!(closing.await && !directory.is_sealed_by_order());
}

/// Its device may come back at any moment.
#[tokio::test]
async fn a_device_is_not_waited_for_any_more_once_a_custodian_has_sealed_it() {
    let (people, dir) = (People::new(), TempDir::new().unwrap());
    let _certificate = tls(&dir);
    let directory = Directory::at(dir.path());
    let mut config = Config { data: dir.path().into(), ..Config::default() };
    config.listen.address.set_port(0);
    config.admin.enabled = false;
    let outside = Arc::new(Outside::new(&config, &directory).unwrap());
    let mut site = Site { config, directory, outside, stages: Stages::default(), not_opened: None };
    let doors = Doors::bind(&mut site).await.unwrap();
    let lock = DirectoryLock::take(dir.path()).unwrap();
    let identity = Identity::new(instance('0'), false, "audit.example.org", String::new());
    let roster = people.shared(&root(), instance('0'), 1);
    let (mut device, back) = oneshot::channel();
    let returning = tokio::spawn(async { back.await.unwrap() });
    let refused = Refused { told: None, returning: Some(returning) };
    let mut sealed = Sealed::wait((site, identity, roster), refused, lock, doors);
    let asked = sealed.waiting.ask_to_seal((1, 1)).unwrap();
    let answer = people.order("alice", 1, &asked).unwrap();
    let order = |answer| Order { generation: 1, share: 1, answer, source: SOMEBODY };
    assert!(sealed.waiting.order(&order(&[7; 32])).await.is_err());
    assert!(!device.is_closed() && !dir.path().join("sealed").exists(), "that was nobody's order");
    let taken = sealed.waiting.order(&order(&answer)).await.unwrap();
    assert_eq!((taken.custodian.as_str(), taken.remedy), ("alice", None));
    let not_any_more = async {
        tokio::select! {
            _ = sealed.unsealed() => panic!("it is opened"),
            () = device.closed() => {}
        }
    };
    tokio::time::timeout(Duration::from_secs(60), not_any_more).await.expect("the device is given up");
    // Had it been there already, it would open nothing either.
    assert!(!sealed.waiting.close(false).await);
    sealed.shut_down().await;
}
