//! What lies in `deploy/kubernetes/`: each file is read by its own reader, and what it starts is started.

use crate::api_server::{self, ApiServer, python, seed};
use crate::common::{Server, text};
use crate::people::Place;
use serde_json::Value;
use std::fs;
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
