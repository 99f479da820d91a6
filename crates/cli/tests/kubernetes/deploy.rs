//! What lies in `deploy/kubernetes/`: each file is read by its own reader, and what it starts is started.

use crate::api_server::{self, ApiServer, python, seed};
use crate::common::{Server, text};
use crate::people::Place;
use serde_json::Value;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kubernetes").join(name)
}

fn yaml(name: &str) -> Value {
    let read = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    serde_json::from_str(&python(read, &[&text(&file(name))])).unwrap()
}

/// The one socket that all of them speak of.
fn socket() -> String {
    let provider = yaml("encryption-configuration.yaml")["resources"][0]["providers"][0]["kms"].clone();
    provider["endpoint"].as_str().unwrap().strip_prefix("unix://").unwrap().to_owned()
}

/// Starts what a file starts, but for the place of its socket and its gateway.
fn serves(place: &Place, line: &[String]) {
    let socket = text(&place.socket("run"));
    let line: Vec<_> = line.iter().map(|word| word.replace(&self::socket(), &socket)).collect();
    assert!(line.contains(&socket), "{line:?}");
    let plugin = Server::start(place.dev.command(&line.iter().map(String::as_str).collect::<Vec<_>>()));
    let mut api = ApiServer::of(&place.socket("run"));
    api.until_well();
    let sealed = api.seal(&seed(1));
    api.opens(&sealed, &seed(1));
    plugin.ends();
}

#[test]
fn the_unit_and_the_pod_start_what_the_configuration_asks() {
    if !api_server::is_there() {
        return;
    }
    let configuration = yaml("encryption-configuration.yaml");
    assert_eq!(configuration["kind"], "EncryptionConfiguration");
    assert_eq!(configuration["apiVersion"], "apiserver.config.k8s.io/v1");
    let providers = configuration["resources"][0]["providers"].as_array().unwrap().clone();
    let kms = &providers[0]["kms"];
    // What an API server refuses, or takes for v1.
    assert_eq!((kms["apiVersion"].as_str(), kms["timeout"].as_str()), (Some("v2"), Some("3s")));
    assert!(kms.get("cachesize").is_none() && !kms["name"].as_str().unwrap().contains(':'), "{kms}");
    assert!(providers.last().unwrap().get("identity").is_some(), "what was written before can still be read");

    let place = Place::new();
    let unit = fs::read_to_string(file("holdfast-kms.service")).unwrap();
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/holdfast ")).unwrap();
    serves(&place, &line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());

    let pod = yaml("static-pod.yaml");
    assert_eq!(
        (pod["kind"].as_str(), pod["metadata"]["namespace"].as_str()),
        (Some("Pod"), Some("kube-system"))
    );
    let container = &pod["spec"]["containers"][0];
    let line: Vec<_> =
        container["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect();
    serves(&place, &line);
    // The socket lies in a directory of the machine, which the API server mounts too.
    let directory = Path::new(&socket()).parent().unwrap().to_owned();
    let mounted = container["volumeMounts"].as_array().unwrap();
    let mount = mounted.iter().find(|mount| mount["mountPath"] == text(&directory)).unwrap();
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
    assert_eq!(volume["hostPath"]["path"], text(&directory));
    for volume in volumes {
        assert!(mounted.iter().any(|mount| mount["name"] == volume["name"]), "{volume} is mounted");
    }
}

/// What it reads is what the page has a person write.
#[test]
fn the_unit_is_one_to_systemd() {
    let verify = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(file("holdfast-kms.service"))
        .output();
    let Ok(verified) = verify else {
        eprintln!("SKIPPED: systemd-analyze is not installed");
        return;
    };
    let said = crate::common::stderr(&verified);
    // The binary is not installed where it looks; nothing else may be said.
    let other: Vec<_> = said
        .lines()
        .filter(|line| line.contains("holdfast-kms") && !line.contains("not executable"))
        .collect();
    assert!(other.is_empty(), "{said}");
}

/// The unit with the drop-in that lets a group in: what systemd makes first is what the plugin then takes.
#[test]
fn the_drop_in_lets_a_group_in() {
    let group = "4711";
    let drop_in = fs::read_to_string(file("holdfast-kms-group.conf")).unwrap();
    let said = |name: &str| drop_in.lines().filter_map(|line| line.strip_prefix(name)).next_back().unwrap();
    let line = said("ExecStart=/usr/local/bin/holdfast ");
    let name = line.split_once("--socket-group ").unwrap().1;
    assert_eq!(said("Group="), name, "the directory gets the group of the unit");
    // Each start beside the unit's own is taken away first.
    assert!(drop_in.contains("\nExecStart=\nExecStart=/"), "{drop_in}");
    if !rustix::process::geteuid().is_root() || !crate::common::tool("setpriv") || !api_server::is_there() {
        return;
    }
    let place = Place::new();
    let socket = place.socket("run");
    let directory = socket.parent().unwrap();
    let ca = place.dev.environment.iter().find(|(name, _)| name == "HOLDFAST_CACERT").unwrap().1.clone();
    fs::copy(ca, place.dev.path("ca.pem")).unwrap();
    fs::set_permissions(place.dev.path("ca.pem"), Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(place.dev.path(""), Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(directory).unwrap();
    chown(directory, Some(4712), Some(4711)).unwrap();
    let mode = u32::from_str_radix(said("RuntimeDirectoryMode="), 8).unwrap();
    fs::set_permissions(directory, Permissions::from_mode(mode)).unwrap();

    let own = place.dev.command(&[]);
    let mut plugin = Command::new("setpriv");
    plugin.args([
        "--reuid",
        "4712",
        "--regid",
        group,
        "--clear-groups",
        "--bounding-set=-all",
        "--inh-caps=-all",
    ]);
    plugin.arg(own.get_program());
    plugin.args(line.replace(&self::socket(), &text(&socket)).replace(name, group).split_whitespace());
    for (name, value) in own.get_envs() {
        match value {
            Some(value) => plugin.env(name, value),
            None => plugin.env_remove(name),
        };
    }
    let plugin = Server::start({
        plugin.env("HOLDFAST_CACERT", place.dev.path("ca.pem")).current_dir("/");
        plugin
    });
    let connect = "import os, socket, sys; os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(65534); \
        s = socket.socket(socket.AF_UNIX); s.settimeout(60); s.connect(sys.argv[1]); \
        s.sendall(b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n\\0\\0\\0\\4\\0\\0\\0\\0\\0'); print(len(s.recv(9)))";
    assert_eq!(python(connect, &[&text(&socket), group]).trim(), "9");
    let other =
        Command::new("/usr/bin/python3").args(["-c", connect, &text(&socket), "65534"]).output().unwrap();
    assert!(crate::common::stderr(&other).contains("PermissionError"), "{}", crate::common::stderr(&other));
    plugin.ends();
}

/// Root without its capabilities opens what is root's, and no key of another user's.
#[test]
fn the_pod_opens_the_key_that_the_page_installs_for_it() {
    let page = include_str!("../../../../docs/operate/kubernetes.md");
    let user = &yaml("static-pod.yaml")["spec"]["containers"][0]["securityContext"]["runAsUser"];
    assert_eq!(user.as_u64(), Some(0));
    let (_, pod) = page.split_once("In a pod instead").unwrap();
    let line = pod.lines().find(|line| line.contains("/etc/holdfast/kms.key")).unwrap();
    let installed = page.lines().find(|line| line.contains("/etc/holdfast/kms.key")).unwrap();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let owner = |line: &str| {
        let all = words(line);
        all[all.iter().position(|word| word == "-o").unwrap() + 1].clone()
    };
    assert_eq!((owner(line), owner(installed)), ("root".to_owned(), "holdfast-kms".to_owned()));
    if !rustix::process::geteuid().is_root() || !crate::common::tool("setpriv") {
        return;
    }
    let dir = tempfile::TempDir::new().unwrap();
    let key = dir.path().join("kms.key");
    fs::write(&key, "key").unwrap();
    let opens = |owner: u32| {
        chown(&key, Some(owner), Some(owner)).unwrap();
        let mode = &words(line)[words(line).iter().position(|word| word == "-m").unwrap() + 1];
        fs::set_permissions(&key, Permissions::from_mode(u32::from_str_radix(mode, 8).unwrap())).unwrap();
        let mut cat = Command::new("setpriv");
        cat.args(["--bounding-set=-all", "--inh-caps=-all", "cat"]).arg(&key);
        cat.output().unwrap().status.success()
    };
    assert!(opens(0) && !opens(4712));
}
