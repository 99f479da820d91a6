//! What `docs/operate/` tells a person to do is done here, command by command, on the machine that `start.md` makes; at the end it is over.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    reason = "what fails here is a test"
)]

mod common;
mod runbook;

use common::swtpm::Swtpm;
use holdfast_core::action::Action;
use runbook::book::Book;
use runbook::disk::Disk;
use runbook::machine::Machine;
use runbook::page::{self, Kind};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::SystemTime;

/// The runbooks that are followed here.
const FOLLOWED: [&str; 23] = [
    "../protocols/aws-xks.md",
    "../protocols/azure-ekm.md",
    "../protocols/google-cse.md",
    "../protocols/ms-dke.md",
    "adopt.md",
    "archive.md",
    "backup.md",
    "ceremony.md",
    "compromise.md",
    "destruction.md",
    "disk-full.md",
    "emergency.md",
    "exit.md",
    "import.md",
    "kubernetes.md",
    "pool.md",
    "restore.md",
    "rollback.md",
    "root.md",
    "rotation.md",
    "start.md",
    "token-identity.md",
    "upgrade.md",
];
/// How many of their blocks are left out: what only AWS, Google, Azure or a cluster can do.
const NOT_RUN: usize = 9;

const OLGA: &str = ". ./olga.env";
const CAROL: &str = ". ./carol.env";
const SERVICE: &str = ". ./payroll-service.env";

/// Follows `start.md` on a new machine. What the service seals there is to be opened at each end.
fn start(machine: &Machine) {
    machine.write("record", "the payroll");
    Book::open("start.md", machine).rest();
}

/// Follows `backup.md`.
fn back_up(machine: &Machine) {
    let mut book = Book::open("backup.md", machine);
    book.before("custodians");
    for (custodian, words) in [("alice", "age1alice…"), ("bob", "age1bob…"), ("erin", "age1erin…")] {
        book.means(words, machine.does(&format!("age-keygen -y {custodian}.key")).trim().to_owned());
    }
    book.rest();
}

/// Whether it is over: served and ready, every log verified, and the key opens what it sealed in the beginning.
fn is_over(machine: &Machine) {
    machine.does(&format!("{OLGA}; holdfast status; holdfast doctor --data /var/lib/holdfast"));
    for log in ["acme", "_gateway"] {
        machine.does(&format!("holdfast audit verify /var/lib/holdfast/audit/{log}"));
    }
    machine
        .does(&format!("{SERVICE}; holdfast decrypt record.age --context purpose=billing --force -o opened"));
    assert_eq!(fs::read_to_string(machine.path("opened")).unwrap(), "the payroll");
}

/// Whether the key is refused to its user, in these words.
fn is_refused(machine: &Machine, words: &str) {
    let decrypt = "holdfast decrypt record.age --context purpose=billing --force -o opened";
    machine.is_refused(&format!("{SERVICE}; {decrypt}"), words);
}

#[test]
fn from_nothing_to_a_first_key() {
    let machine = Machine::new();
    start(&machine);
    assert_eq!(fs::read_to_string(machine.path("record.again")).unwrap(), "the payroll");
    assert!(!machine.path("/var/lib/holdfast/credentials").exists());
    is_over(&machine);
    // It is the unit's end that ends it, and it starts again.
    machine.does("systemctl restart holdfast");
    is_over(&machine);
}

#[test]
fn an_external_key_store_is_set_up() {
    let machine = Machine::new();
    start(&machine);
    Book::open("../protocols/aws-xks.md", &machine).rest();
    let secret = fs::read_to_string(machine.path("aws-kms.json")).unwrap();
    assert!(secret.contains(r#""XksProxyUriPath":"/acme/kms/xks/v1""#), "{secret}");
    let found = machine.does(&format!("{CAROL}; holdfast audit search --action read-key --json"));
    assert!(found.contains("arn:aws:iam::111122223333:role/KeyAdmin"), "{found}");
    // Again into the same file: nothing is overwritten, nothing issued.
    let again = "holdfast caller signing-token aws-kms --to new.json --uri-path /acme/kms/xks/v1";
    machine.is_refused(&format!("{CAROL}; {again}"), "is there already");
    machine.is_refused(
        &format!(
            "{CAROL}; {}",
            again.replace("new.json --uri-path /acme/kms/xks/v1", "x.json --uri-path /acme/kms/xks/v2")
        ),
        "is no path",
    );
    is_over(&machine);
}

#[test]
fn external_keys_of_a_managed_hsm_are_set_up() {
    let machine = Machine::new();
    start(&machine);
    Book::open("../protocols/azure-ekm.md", &machine).rest();
    // The host is the proxy's alone: on this machine it is also the gateway's own, which it is again without the proxy.
    machine.is_refused(&format!("{CAROL}; holdfast key list"), "HandshakeFailure");
    let file = machine.path("/etc/holdfast/holdfast.toml");
    let settings = fs::read_to_string(&file).unwrap();
    fs::write(&file, settings.split_once("[[azure_ekm]]").unwrap().0).unwrap();
    machine.does("systemctl restart holdfast");
    let found = machine.does(&format!("{CAROL}; holdfast audit search --action unwrap --json"));
    assert!(found.contains("trial-1") && found.contains("cn:contoso.managedhsmclient.azure.net"), "{found}");
    is_over(&machine);
}

/// What the page has from Microsoft: a directory's keys, and a token of Ana's; by PyJWT.
const DIRECTORY: &str = r#"
import json, time, jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
public = dict(json.loads(RSAAlgorithm.to_jwk(key.public_key())), kid="one", use="sig")
open("entra-keys.json", "w").write(json.dumps({"keys": [public]}))
now = int(time.time())
claims = {"iss": "https://sts.windows.net/3f0e1c52-6b1d-4a7e-8c55-0d9b7a614e21/", "aud": "https://localhost", "iat": now, "nbf": now,
          "exp": now + 3600, "sub": "s", "oid": "b1f7", "upn": "Ana.Lopez@contoso.example", "scp": "user_impersonation", "uti": "u-4711"}
def write(name, **more):
    token = jwt.encode({**claims, **more}, key, algorithm="RS256", headers={"kid": "one"})
    open(name, "w").write("Authorization: Bearer " + token + "\n")
write("ana.header")
write("bob.header", upn="bob@contoso.example")
"#;

#[test]
fn documents_with_two_keys_open_for_whom_the_policy_lets() {
    let machine = Machine::new();
    start(&machine);
    let mut python = Command::new("/usr/bin/python3");
    assert!(python.args(["-c", DIRECTORY]).current_dir(machine.path("")).status().unwrap().success());
    Book::open("../protocols/ms-dke.md", &machine).rest();
    let found = machine.does(&format!("{CAROL}; holdfast audit search --action decrypt --json"));
    assert!(found.contains("u-4711") && found.contains("ana.lopez@contoso.example"), "{found}");
    let ask = r#"kid=$(sed -n 's/.*"kid":"https:..[^/]*\([^"]*\)".*/\1/p' document.json); curl -sS --fail-with-body --cacert "$HOLDFAST_CACERT" -H @bob.header -d @request.json "$HOLDFAST_URL$kid/decrypt""#;
    machine.is_refused(&format!("{CAROL}; {ask}"), "403");
    is_over(&machine);
}

/// What the page has from a cluster: its keys, and a token of a pod's; by PyJWT.
const CLUSTER: &str = r#"
import json, time, jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
public = dict(json.loads(RSAAlgorithm.to_jwk(key.public_key())), kid="cluster", use="sig", alg="RS256")
open("cluster-keys.json", "w").write(json.dumps({"keys": [public]}))
now = int(time.time())
account = {"namespace": "payroll", "serviceaccount": {"name": "writer", "uid": "1"}}
def write(name, audience):
    claims = {"iss": "https://kubernetes.default.svc.cluster.local", "sub": "system:serviceaccount:payroll:writer",
              "aud": [audience], "exp": now + 600, "iat": now, "nbf": now, "kubernetes.io": account}
    open(name, "w").write(jwt.encode(claims, key, algorithm="RS256", headers={"kid": "cluster"}) + "\n")
write("pod.token", "holdfast")
write("other.token", "somebody")
"#;

#[test]
fn a_key_service_is_set_up() {
    let machine = Machine::new();
    start(&machine);
    Book::open("../protocols/google-cse.md", &machine).rest();
    let ask = |method: &str| {
        machine.does(&format!(
            "{CAROL}; curl -sS --cacert \"$HOLDFAST_CACERT\" -H 'Host: kacls.example.org' \"$HOLDFAST_URL/cse/{method}\""
        ))
    };
    assert!(ask("status").contains(r#""server_type":"KACLS""#), "{}", ask("status"));
    assert!(ask("certs").contains(r#""alg":"RS256""#), "{}", ask("certs"));
    let shown = machine.does(&format!("{CAROL}; holdfast caller list --json"));
    assert!(shown.contains("issuer:https://kacls.example.org/cse"), "{shown}");
}

#[test]
fn a_pod_uses_a_key_with_its_own_token() {
    let machine = Machine::new();
    start(&machine);
    let mut python = Command::new("/usr/bin/python3");
    assert!(python.args(["-c", CLUSTER]).current_dir(machine.path("")).status().unwrap().success());
    let mut book = Book::open("token-identity.md", &machine);
    book.before("holdfast caller suspend");
    let found = machine.does(&format!("{CAROL}; holdfast audit search --action encrypt --json"));
    assert!(found.contains("system:serviceaccount:payroll:writer"), "{found}");
    let ask = |token: &str| {
        format!(
            ". ./carol.env; holdfast --token-file {token} encrypt record --key payroll --force -o record.pod"
        )
    };
    machine.is_refused(&ask("other.token"), "the caller is not known here");
    machine.does(". ./carol.env; holdfast caller suspend payroll-writer");
    machine.is_refused(&ask("pod.token"), "stopped by order");
    book.rest();
    machine.does(&ask("pod.token"));
    machine.is_refused(
        &format!("{CAROL}; holdfast caller put x --issuer https://idp.example"),
        "nobody is named whom tokens of",
    );
    is_over(&machine);
}

#[test]
fn a_root_key_is_shared_and_a_custodian_leaves() {
    if !common::tool("age") {
        return;
    }
    let machine = Machine::new();
    machine.does("install -m 0755 target/dist/holdfast /usr/local/bin/");
    let mut book = Book::open("ceremony.md", &machine);
    book.before("has proven");
    assert!(!machine.path("/var/lib/holdfast/instance.toml").exists(), "before all have answered");
    book.before("holdfast seal");
    assert!(!machine.path("/var/lib/holdfast/root.key").exists());
    book.before("holdfast root rotate");
    let before = fs::read_to_string(machine.path("/var/lib/holdfast/root.shares")).unwrap();
    book.rest();
    let root = |text: &str| text.lines().find(|line| line.starts_with("root = ")).unwrap().to_owned();
    let after = fs::read_to_string(machine.path("/var/lib/holdfast/root.shares")).unwrap();
    assert_ne!(root(&before), root(&after));
    machine.does(&format!("{OLGA}; holdfast status; holdfast doctor --data /var/lib/holdfast"));
    let found = machine.does(&format!("{OLGA}; holdfast audit search --action unseal --json"));
    assert!(found.contains("\"shared-by\":\"bob dave\""), "{found}");
}

#[test]
fn a_tpm_opens_the_root_key_and_the_firmware_changes() {
    if !common::tool("age") {
        return;
    }
    let Some(mut tpm) = Swtpm::start() else { return };
    tpm.measure(7, 1);
    let machine = Machine::new();
    machine.does("install -m 0755 target/dist/holdfast /usr/local/bin/");
    let socket = tpm.socket();
    symlink(&socket, machine.path("/srv/tpm")).unwrap();
    symlink(socket.with_extension("ctrl"), machine.path("/srv/tpm.ctrl")).unwrap();
    let mut book = Book::open("root.md", &machine);
    book.means("/dev/tpmrm0", "swtpm:path=/srv/tpm".to_owned());
    book.before("error: the gateway is sealed");
    assert!(!machine.path("/var/lib/holdfast/root.key").exists());
    machine.does("systemctl stop holdfast");
    tpm.switch_off();
    tpm.switch_on();
    tpm.measure(7, 2);
    machine.does("systemctl start holdfast");
    book.rest();
    machine.does(&format!("{OLGA}; holdfast status; holdfast doctor --data /var/lib/holdfast"));
}

/// Old and new are both the build under test: that the file was replaced is seen by its time.
fn installed(machine: &Machine) -> SystemTime {
    fs::metadata(machine.path("/usr/local/bin/holdfast")).unwrap().modified().unwrap()
}

/// The file that serves; its name says so if it is there no more.
fn running(machine: &Machine) -> PathBuf {
    let id = fs::read_to_string(machine.path("/run/pid")).unwrap();
    fs::read_link(format!("/proc/{}/exe", id.trim())).unwrap()
}

#[test]
fn another_version_and_back() {
    if !common::tool("age") {
        return;
    }
    let machine = Machine::new();
    start(&machine);
    back_up(&machine);
    let before = installed(&machine);
    let mut book = Book::open("upgrade.md", &machine);
    book.before("systemctl is-active");
    assert_ne!(installed(&machine), before);
    assert_eq!(
        running(&machine),
        machine.path("/usr/local/bin/holdfast"),
        "a file that was replaced runs on"
    );
    assert_eq!(fs::read_dir(machine.path("/mnt/backup/holdfast")).unwrap().count(), 2);
    is_over(&machine);

    book.before("holdfast.before /usr/local/bin/holdfast\n");
    // What a version with a newer format would leave.
    let instance = machine.path("/var/lib/holdfast/instance.toml");
    let text = fs::read_to_string(&instance).unwrap();
    fs::write(&instance, text.replace("layout = 1", "layout = 2")).unwrap();
    book.before("target/dist/holdfast /usr/local/bin/\nsystemctl start");
    // And what that version would find.
    fs::write(&instance, text).unwrap();
    book.rest();
    is_over(&machine);
}

#[test]
fn a_full_disk_is_freed() {
    if !common::tool("curl") {
        return;
    }
    let mut mounted = true;
    let machine = Machine::with(|at| {
        let disk = Disk::mount(at, 160);
        mounted = disk.is_some();
        disk
    });
    if !mounted {
        return;
    }
    start(&machine);
    machine.does("! dd if=/dev/zero of=/var/lib/somebodys-dump bs=64k");
    machine.is_refused(&format!("{CAROL}; holdfast key create another"), "state cannot be read or written");
    // A stop works all the same.
    let stopped = machine.does(&format!("{CAROL}; holdfast key suspend payroll"));
    assert!(stopped.contains("in-force"), "{stopped}");
    is_refused(&machine, "stopped by order");
    machine.is_refused(&format!("{OLGA}; holdfast status"), "database or disk is full");

    let mut book = Book::open("disk-full.md", &machine);
    book.before("/health/ready");
    machine.does("rm /var/lib/somebodys-dump");
    book.rest();
    // It is durable: a restart does not forget it.
    machine.does("systemctl restart holdfast");
    is_refused(&machine, "suspended");
    machine.does(&format!("{CAROL}; holdfast key create another; holdfast key resume payroll"));
    is_over(&machine);
}

#[test]
fn an_older_state_and_an_older_directory_are_put_back() {
    let machine = Machine::new();
    start(&machine);
    let mirror = "holdfast audit verify --mirror /srv/elsewhere/acme --vkey acme.vkey";
    machine.does(&format!("{CAROL}; holdfast key create counted --algorithm aes-256-gcm; {mirror}"));
    machine.does("systemctl stop holdfast; cp -a /var/lib/holdfast /mnt/older; systemctl start holdfast");
    machine.does(&format!("{CAROL}; holdfast key create younger; systemctl stop holdfast"));
    machine.does(
        "mkdir /mnt/newest; mv /var/lib/holdfast/state /mnt/newest; cp -a /mnt/older/state /var/lib/holdfast",
    );
    machine.is_refused("systemctl start holdfast", "Job for holdfast.service failed");

    let mut book = Book::open("rollback.md", &machine);
    book.before("audit verify --mirror");
    is_over(&machine);
    machine.does(&format!("{CAROL}; holdfast key show younger"));

    // Somebody puts the whole directory back, and with it revives a key.
    machine.does(&format!("{CAROL}; holdfast key suspend payroll; {mirror}; systemctl stop holdfast"));
    is_put_back(&machine);
    is_over(&machine);
    book.before("for action in");
    let found = machine
        .does("holdfast audit search --log /srv/elsewhere/acme --action suspend-key --outcome success");
    assert!(found.contains("payroll"), "{found}");
    book.rest();
    is_refused(&machine, "suspended");
    machine.does(&format!("{CAROL}; {mirror}; holdfast key resume payroll"));
    is_over(&machine);
}

fn is_put_back(machine: &Machine) {
    machine.does("rm -r /var/lib/holdfast; cp -a /mnt/older /var/lib/holdfast; systemctl start holdfast");
}

#[test]
fn a_lost_directory_is_restored() {
    if !common::tool("age") {
        return;
    }
    let machine = Machine::new();
    start(&machine);
    back_up(&machine);
    // After the backup, and so only in the copy of the log.
    machine.does(&format!(
        "{CAROL}; holdfast caller suspend payroll-service; holdfast audit mirror /srv/elsewhere/acme"
    ));
    machine.does("systemctl kill holdfast; rm -r /var/lib/holdfast");

    let mut book = Book::open("restore.md", &machine);
    book.before("holdfast key resume payroll");
    machine.does(&format!("{CAROL}; holdfast key show payroll | grep -E '^state +suspended'"));
    book.rest();
    // Whoever was suspended after the backup is so again.
    is_refused(&machine, "stopped by order");
    machine.does(&format!("{CAROL}; holdfast caller resume payroll-service"));
    is_over(&machine);
}

#[test]
fn a_backup_is_opened_without_holdfast() {
    if !common::tool("age") || !common::tool("python3") {
        return;
    }
    let machine = Machine::new();
    start(&machine);
    back_up(&machine);
    machine.does("rm /usr/local/bin/holdfast");
    Book::open("exit.md", &machine).rest();
    let root = |path: &str| fs::read(machine.path(path)).unwrap();
    assert!(root("root.key") == root("/var/lib/holdfast/root.key"), "the same root key, byte for byte");
    let state = root("open/state/holdfast.db");
    assert!(state.starts_with(b"SQLite format 3"));
}

#[test]
fn tokens_are_lost_and_replaced() {
    if !common::tool("curl") {
        return;
    }
    let machine = Machine::new();
    start(&machine);
    let mut book = Book::open("pool.md", &machine);
    book.before("hsm-b *down");
    machine.does("mv /srv/hsm-b/tokens /srv/hsm-b/away");
    book.before("member=\"hsm-b\"} 1");
    assert_eq!(fs::read_to_string(machine.path("opened")).unwrap(), "the payroll");
    machine.does("mv /srv/hsm-b/away /srv/hsm-b/tokens");
    book.before("--init-token");
    // Nothing of it is left.
    machine.does("rm -r /srv/hsm-b/tokens; mkdir /srv/hsm-b/tokens; rm opened");
    book.rest();
    assert_eq!(fs::read_to_string(machine.path("opened")).unwrap(), "the payroll");
    is_over(&machine);
}

#[test]
fn a_rotation_is_rolled_back_and_another_one_ends_the_old_versions() {
    let machine = Machine::new();
    start(&machine);
    let seal = "holdfast encrypt record --key payroll --context purpose=billing -o";
    machine.does(&format!("mkdir archive overlooked; {SERVICE}; {seal} archive/one.age"));
    machine.does(&format!("{CAROL}; holdfast key rotate payroll; {SERVICE}; {seal} archive/two.age"));
    let mut book = Book::open("rotation.md", &machine);
    book.before("audit search --key payroll --action decrypt --outcome success");
    // Somebody reads the file that nobody thought of, which is under the first version.
    let read = "holdfast decrypt record.age --context purpose=billing --force -o opened";
    machine.does(&format!("{SERVICE}; {read}; mv record.age overlooked; ln -s overlooked/record.age ."));
    book.before("key destroy payroll --version 1");
    machine.does(&format!("{SERVICE}; {read}"));
    book.rest();
    is_over(&machine);
    machine.does(&format!(
        "{SERVICE}; holdfast decrypt archive/two.age --context purpose=billing --force -o opened"
    ));
}

#[test]
fn a_key_that_was_made_elsewhere_is_brought() {
    let machine = Machine::new();
    start(&machine);
    machine.does("mkdir offline");
    let mut book = Book::open("import.md", &machine);
    book.before("key import finish ledger");
    machine.is_refused(&format!("{CAROL}; holdfast key activate ledger"), "waits for its import");
    book.rest();
    is_over(&machine);
}

/// The same page on a machine whose keys are in a token.
#[test]
fn a_key_that_was_made_elsewhere_is_brought_into_a_token() {
    let machine = Machine::new();
    start(&machine);
    machine.does("mkdir offline; mkdir -p /srv/hsm/tokens; echo 'directories.tokendir = /srv/hsm/tokens' >/srv/hsm/conf");
    machine.does("SOFTHSM2_CONF=/srv/hsm/conf softhsm2-util --init-token --free --label holdfast --so-pin 12345678 --pin 24681357");
    machine.does("umask 077; echo 24681357 >/etc/holdfast/token.pin");
    let token = r#"
[[token]]
module = "/usr/lib/softhsm/libsofthsm2.so"
label = "holdfast"
pin_file = "/etc/holdfast/token.pin"
environment = { SOFTHSM2_CONF = "/srv/hsm/conf" }
"#;
    machine.append("/etc/holdfast/holdfast.toml", token);
    machine.does("systemctl restart holdfast");
    machine.does(&format!("{OLGA}; timeout 60 sh -c 'until holdfast pool status 2>&1 | grep -q \"holdfast *up\"; do sleep 0.1; done'"));
    Book::open("import.md", &machine).rest();
    let listed = machine.does(&format!("{CAROL}; holdfast key show ledger"));
    assert!(listed.contains("token"), "{listed}");
    is_over(&machine);
}

#[test]
fn a_key_of_another_program_is_adopted_and_left() {
    let machine = Machine::new();
    start(&machine);
    Book::open("adopt.md", &machine).rest();
    assert_eq!(fs::read_to_string(machine.path("opened")).unwrap(), "the payroll");
    is_over(&machine);
}

#[test]
fn every_token_is_gone_and_a_key_goes_on() {
    if ["softhsm2-util", "age"].into_iter().any(|tool| !common::tool(tool)) {
        return;
    }
    let machine = Machine::new();
    start(&machine);
    let mut book = Book::open("emergency.md", &machine);
    book.before("threshold = 2");
    for (custodian, words) in [("alice", "age1alice…"), ("bob", "age1bob…"), ("erin", "age1erin…")] {
        book.means(words, machine.does(&format!("age-keygen -y {custodian}.key")).trim().to_owned());
    }
    book.before("the key store cannot be reached");
    let is_up = |up: u8| {
        let line = format!("^holdfast_pool_member_up.* {up}");
        let metrics = "curl -s http://127.0.0.1:9443/metrics";
        machine.does(&format!("until {metrics} | grep '{line}'; do sleep 0.1; done"));
    };
    machine.does("mv /srv/hsm/tokens /srv/hsm/away");
    is_up(0);
    book.before("holdfast emergency end wages");
    assert_eq!(fs::read_to_string(machine.path("opened")).unwrap(), "the payroll");
    let found = machine.does(&format!("{CAROL}; holdfast audit search --key wages --action decrypt --json"));
    assert!(found.contains("\"performed_by\":\"emergency-copy\""), "{found}");
    machine.does("mv /srv/hsm/away /srv/hsm/tokens");
    is_up(1);
    book.rest();
    machine.does(&format!("{SERVICE}; holdfast decrypt record.wages --key wages --force -o opened"));
    is_over(&machine);
}

#[test]
fn a_compromised_key_is_stopped_and_left() {
    let machine = Machine::new();
    start(&machine);
    let seal = "holdfast encrypt record --key payroll --context purpose=billing -o archive/other.age";
    machine.does(&format!(
        "mkdir archive; {SERVICE}; {seal}; mv record.age archive; ln -s archive/record.age ."
    ));
    machine.does(&format!("{CAROL}; holdfast audit mirror /srv/elsewhere/acme"));
    let mut book = Book::open("compromise.md", &machine);
    book.before("audit search --key payroll --outcome success");
    is_refused(&machine, "compromised");
    // The mirror that the proof is taken from has to know of it.
    machine.does(&format!("{CAROL}; holdfast audit mirror /srv/elsewhere/acme"));
    book.rest();
    is_over(&machine);
    machine.is_refused(&format!("{SERVICE}; holdfast encrypt record --key payroll -o x"), "not permitted");
}

#[test]
fn a_cluster_s_plugin_is_set_up_stopped_and_renewed() {
    let machine = Machine::new();
    start(&machine);
    let mut book = Book::open("kubernetes.md", &machine);
    let says = |words: &str| {
        common::wait::until(words, || {
            machine.does("journalctl -u holdfast-kms -n 1000 -o cat").contains(words)
        });
    };
    book.before("grep 'the key can be used'");
    says("the key can be used");
    let one = "holdfast audit search --key kubernetes --action decrypt --outcome success --json";
    let tries = || machine.does(&format!("{CAROL}; {one}")).matches("\"action\":").count();
    assert_eq!(tries(), 2, "by `connect`, and by the plugin before it says that the key can be used");
    book.before("holdfast key rotate kubernetes");
    let tried = tries();
    // Its next look is not waited for.
    book.before("holdfast key suspend kubernetes");
    machine.does("systemctl reload holdfast-kms");
    common::wait::until("the next version", || tries() == tried + 1);
    book.before("holdfast key resume kubernetes");
    machine.does("systemctl reload holdfast-kms");
    says("key `kubernetes` is suspended");
    book.before("--certificate next/kubernetes-kms.pem");
    // By the next certificate it is served when the last one is worth nothing.
    let looks = || {
        machine.does(&format!("{CAROL}; holdfast audit search --action read-key --outcome success --json"))
    };
    let certificates = || {
        let found = looks();
        let keys = found.split("\"certificate_key_sha256\":").skip(1).map(|rest| rest[..70].to_owned());
        keys.collect::<BTreeSet<_>>().len()
    };
    common::wait::until("a look by the next certificate", || certificates() == 2);
    book.rest();
    let before = looks().matches("\"action\":").count();
    machine.does("systemctl reload holdfast-kms");
    common::wait::until("one more look", || looks().matches("\"action\":").count() > before);
    machine.does("systemctl stop holdfast-kms");
    assert!(!machine.path("/run/holdfast/kms.sock").exists());
    is_over(&machine);
}

#[test]
fn an_order_to_destroy_by_mistake_is_taken_back() {
    let machine = Machine::new();
    start(&machine);
    let mut book = Book::open("destruction.md", &machine);
    book.before("cancel-destruction payroll");
    is_refused(&machine, "waits to be destroyed");
    machine.is_refused(&format!("{CAROL}; holdfast key resume payroll"), "waits to be destroyed");
    let short = "holdfast key destroy payroll --confirm payroll --after 1d";
    book.rest();
    machine.is_refused(&format!("{CAROL}; {short}"), "at least 7 days");
    is_over(&machine);
}

#[test]
fn a_key_is_put_away_and_comes_back() {
    if !common::tool("age") {
        return;
    }
    let machine = Machine::new();
    start(&machine);
    back_up(&machine);
    let mut book = Book::open("archive.md", &machine);
    book.before("archive payroll");
    is_over(&machine);
    book.before("unarchive");
    is_refused(&machine, "is archived");
    machine.is_refused(&format!("{CAROL}; holdfast key archive payroll --to other"), "is archived");
    book.rest();
    is_over(&machine);
}

/// The index names runbooks, and each is followed here.
#[test]
fn every_runbook_of_the_index_is_followed() {
    let index = fs::read_to_string(page::folder().join("README.md")).unwrap();
    let (_, rest) = index.split_once("\n## Runbooks\n").unwrap();
    let table = rest.split_once("\n## ").map_or(rest, |(table, _)| table);
    let named = table.lines().filter_map(|line| line.strip_prefix("| [")?.split_once(']'));
    let named: BTreeSet<_> = named.map(|(name, _)| name).collect();
    let followed = FOLLOWED.into_iter().filter(|name| !name.starts_with("../"));
    assert_eq!(named, followed.collect());
}

/// What a rollback has forgotten is looked for by the names of all stop orders.
#[test]
fn every_kind_of_stop_is_looked_for_after_a_rollback() {
    let blocks = page::read("rollback.md");
    let looks = blocks.iter().find(|block| block.text.starts_with("for action in")).unwrap();
    let (list, _) = looks.text.split_once("; do").unwrap();
    let named: BTreeSet<_> = list.split_ascii_whitespace().skip(3).filter(|word| *word != "\\").collect();
    let stops = Action::ALL.iter().filter(|action| action.is_stop()).map(|action| action.name());
    assert_eq!(named, stops.collect());
}

#[test]
fn hardly_a_command_is_left_out() {
    let mut left_out = 0;
    for name in FOLLOWED {
        for block in page::read(name) {
            let is_command = ["sh", "console"].contains(&block.language.as_str());
            assert!(
                is_command || ["toml", "cedar", "text", "python"].contains(&block.language.as_str()),
                "{name}:{}: `{}`",
                block.line,
                block.language
            );
            if block.kind == Kind::NotRun {
                eprintln!("not executed: {name}:{}", block.line);
                left_out += 1;
            }
        }
    }
    eprintln!("{left_out} blocks of the runbooks are not executed");
    assert_eq!(left_out, NOT_RUN, "one more is a decision");
}
