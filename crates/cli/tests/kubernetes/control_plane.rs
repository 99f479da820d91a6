//! A real control plane: etcd, and the API server of custom resources from Kubernetes' own sources, which encrypts as `deploy/kubernetes/` says.
//! What `kube-apiserver` has of encryption, storage and health checks is this one's too; Secrets it does not have.
//!
//! Its client is `kubectl`, and `etcdctl` looks at what is stored. `cargo xtask tools --slow` has them.

use crate::common::{stderr, stdout, text};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const API_SERVER: &str = "apiextensions-apiserver";
const NOTES: &str = "/apis/example.org/v1/notes";
/// Where etcd has them.
const STORED: &str = "/registry/apiextensions.kubernetes.io/example.org/notes";
/// What stands before each value that is encrypted as the configuration in `deploy/` says.
const PREFIX: &[u8] = b"k8s:enc:kms:v2:holdfast:";
/// Authentication and authorisation are asked of nobody: who has the certificate may everything.
const NOBODY: &str = "apiVersion: v1
kind: Config
clusters: [{name: nobody, cluster: {server: 'http://127.0.0.1:1'}}]
contexts: [{name: nobody, context: {cluster: nobody, user: ''}}]
current-context: nobody
";

/// Whether it is asked for. Then what it needs must be there.
pub fn is_there() -> bool {
    let is_asked_for = std::env::var_os("HOLDFAST_SLOW").is_some();
    if is_asked_for {
        for name in [API_SERVER, "etcd", "etcdctl", "kubectl"] {
            let found = Command::new(name).arg("--version").output();
            assert!(found.is_ok(), "`{name}` is not in the path; `cargo xtask tools --slow` has it");
        }
    } else {
        eprintln!("SKIPPED: an API server with etcd runs with HOLDFAST_SLOW=1 alone");
    }
    is_asked_for && crate::api_server::is_there()
}

/// Waits until something holds, for what an API server does in its own time.
#[track_caller]
pub fn within(patience: Duration, what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    let (_keep, never) = std::sync::mpsc::channel::<()>();
    while !holds() {
        assert!(begun.elapsed() < patience, "in vain: {what}");
        let _time_passed = never.recv_timeout(Duration::from_millis(500));
    }
    begun.elapsed()
}

/// A process whose words go to a file; killed when dropped.
struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    fn start(mut command: Command, log: PathBuf) -> Self {
        let file = File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Self { child: command.spawn().unwrap(), log }
    }

    /// Waits for something of it, which it may not outlive.
    fn until<T>(&mut self, what: &str, mut found: impl FnMut(&str) -> Option<T>) -> T {
        let mut there = None;
        within(Duration::from_secs(60), what, || {
            let log = fs::read_to_string(&self.log).unwrap();
            there = found(&log);
            assert!(there.is_some() || self.child.try_wait().unwrap().is_none(), "it ended: {log}");
            there.is_some()
        });
        there.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ended already, perhaps.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct ControlPlane {
    api_server: Option<Running>,
    _etcd: Option<Running>,
    /// Where etcd listens.
    etcd: String,
    port: u16,
    dir: TempDir,
}

impl ControlPlane {
    /// One that has its seeds encrypted over this socket.
    pub fn over(socket: &Path) -> Self {
        Self::under(&deployed(socket))
    }

    /// One with this configuration of encryption.
    pub fn under(configuration: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let data = text(&dir.path().join("etcd"));
        let mut etcd = Command::new("etcd");
        // It says itself on which port it listens. Nobody else is told, since it has no peers.
        etcd.args(["--data-dir", &data, "--listen-client-urls", "http://127.0.0.1:0"])
            .args([
                "--advertise-client-urls",
                "http://127.0.0.1:1",
                "--listen-peer-urls",
                "http://127.0.0.1:0",
            ])
            .args(["--initial-advertise-peer-urls", "http://127.0.0.1:1"])
            .args(["--initial-cluster", "default=http://127.0.0.1:1"]);
        let mut running = Running::start(etcd, dir.path().join("etcd.log"));
        let address = running.until("etcd", |log| {
            let line = log.lines().find(|line| line.contains("serving client traffic"))?;
            let line: Value = serde_json::from_str(line).ok()?;
            Some(line["address"].as_str()?.to_owned())
        });
        let plane = Self::started(address, Some(running), dir, configuration);
        let notes = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": { "name": "notes.example.org" },
            "spec": {
                "group": "example.org", "scope": "Cluster",
                "names": { "plural": "notes", "singular": "note", "kind": "Note", "listKind": "NoteList" },
                "versions": [{
                    "name": "v1", "served": true, "storage": true,
                    "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } },
                }],
            },
        });
        plane.send("create", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &notes).unwrap();
        within(Duration::from_secs(60), "a kind of its own", || plane.get(NOTES).is_ok());
        plane
    }

    /// Another API server over the same etcd, and over another plugin.
    pub fn beside(&self, socket: &Path) -> Self {
        let plane = Self::started(self.etcd.clone(), None, TempDir::new().unwrap(), &deployed(socket));
        within(Duration::from_secs(60), "what the first one has", || plane.get(NOTES).is_ok());
        plane
    }

    fn started(etcd: String, running: Option<Running>, dir: TempDir, configuration: &str) -> Self {
        fs::write(dir.path().join("nobody"), NOBODY).unwrap();
        administrator(dir.path());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut plane = Self { api_server: None, _etcd: running, etcd, port, dir };
        plane.configure(configuration);
        plane.starts();
        plane
    }

    /// Puts another configuration of encryption in its place; there is always a whole one.
    pub fn configure(&self, configuration: &str) {
        fs::write(self.dir.path().join("next.yaml"), configuration).unwrap();
        fs::rename(self.dir.path().join("next.yaml"), self.dir.path().join("encryption.yaml")).unwrap();
    }

    /// Starts the API server, until it serves; whether it can encrypt anything or not.
    pub fn starts(&mut self) {
        let mut api_server = Command::new(API_SERVER);
        api_server
            .args(["--etcd-servers", &format!("http://{}", self.etcd)])
            .args(["--bind-address=127.0.0.1", &format!("--secure-port={}", self.port), "--cert-dir=tls"])
            .args(["--client-ca-file=administrator.pem", "--authentication-skip-lookup"])
            .args(["--kubeconfig=nobody", "--authentication-kubeconfig=nobody", "--authorization-kubeconfig=nobody"])
            // What would ask the API server of a whole cluster.
            .args(["--enable-priority-and-fairness=false", "--disable-admission-plugins=NamespaceLifecycle,MutatingAdmissionWebhook,ValidatingAdmissionWebhook,MutatingAdmissionPolicy,ValidatingAdmissionPolicy"])
            .args(["--encryption-provider-config=encryption.yaml", "--encryption-provider-config-automatic-reload=true"])
            // It names what is asked of the plugin, and for which object.
            .arg("--v=6")
            .current_dir(self.dir.path());
        let mut running = Running::start(api_server, self.dir.path().join("api-server.log"));
        running.until("an API server", |_| self.get("/livez").ok());
        self.api_server = Some(running);
    }

    /// Ends the API server, and starts it again: what it had in memory is gone.
    pub fn restarts(&mut self) {
        self.api_server = None;
        self.starts();
    }

    fn kubectl(&self, line: &[&str], stdin: &[u8]) -> Output {
        let path = |name: &str| text(&self.dir.path().join(name));
        let mut child = Command::new("kubectl")
            .args(["--kubeconfig=/dev/null", &format!("--server=https://localhost:{}", self.port)])
            .args([&format!("--certificate-authority={}", path("tls/apiserver.crt"))])
            .args([&format!("--client-certificate={}", path("administrator.pem"))])
            .args([&format!("--client-key={}", path("administrator.key"))])
            .args(line)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(stdin).unwrap();
        child.wait_with_output().unwrap()
    }

    /// What is answered under a path, or what is said instead.
    pub fn get(&self, path: &str) -> Result<String, String> {
        answered(&self.kubectl(&["get", "--raw", path], b""))
    }

    fn send(&self, verb: &str, path: &str, body: &Value) -> Result<String, String> {
        answered(&self.kubectl(&[verb, "--raw", path, "-f", "-"], body.to_string().as_bytes()))
    }

    /// Writes an object that was not there.
    pub fn create(&self, name: &str) -> Result<(), String> {
        let note = json!({
            "apiVersion": "example.org/v1", "kind": "Note", "metadata": { "name": name }, "text": plaintext(name),
        });
        self.send("create", NOTES, &note).map(drop)
    }

    /// Writes an object anew as it is.
    pub fn rewrite(&self, name: &str) -> Result<(), String> {
        let path = format!("{NOTES}/{name}");
        let note: Value = serde_json::from_str(&self.get(&path)?).unwrap();
        self.send("replace", &path, &note).map(drop)
    }

    /// Writes an object with something else in it, which nobody can do without encrypting.
    pub fn change(&self, name: &str) -> Result<(), String> {
        let path = format!("{NOTES}/{name}");
        let mut note: Value = serde_json::from_str(&self.get(&path)?).unwrap();
        let count = note["changes"].as_u64().unwrap_or(0);
        note["changes"] = json!(count + 1);
        self.send("replace", &path, &note).map(drop)
    }

    /// Reads an object from etcd, which is as it was written.
    pub fn read(&self, name: &str) -> Result<(), String> {
        let note: Value = serde_json::from_str(&self.get(&format!("{NOTES}/{name}"))?).unwrap();
        assert_eq!(note["text"], plaintext(name), "{note}");
        Ok(())
    }

    /// What etcd has of an object.
    pub fn stored(&self, name: &str) -> Stored {
        let key = format!("{STORED}/{name}");
        let value = self.etcdctl(&["get", "--print-value-only", &key]);
        // It ends its line.
        let value = value.strip_suffix(b"\n").unwrap();
        let rest = value.strip_prefix(PREFIX).unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(value)));
        let mut fields = std::collections::BTreeMap::new();
        let mut rest = rest.iter().copied();
        while let Some(tag) = rest.next() {
            let mut number = 0;
            for shift in (0..).step_by(7) {
                let byte = rest.next().unwrap();
                number |= usize::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    break;
                }
            }
            let bytes = if tag & 7 == 2 { rest.by_ref().take(number).collect() } else { vec![number as u8] };
            fields.insert(tag >> 3, bytes);
        }
        // How the seed is used: one for many objects.
        assert_eq!(fields[&5], [1]);
        Stored {
            key,
            key_id: String::from_utf8(fields[&2].clone()).unwrap(),
            data: fields[&1].clone(),
            seed: fields[&3].clone(),
        }
    }

    /// By which uids the API server has asked for an object's seed since it was started, by its own log.
    pub fn asked_for(&self, name: &str) -> Vec<String> {
        let log = fs::read_to_string(self.dir.path().join("api-server.log")).unwrap();
        let key = format!("key=\"{STORED}/{name}\"");
        let asked = log.lines().filter(|line| line.contains("decrypting content") && line.contains(&key));
        asked.map(|line| field(line, "uid")).collect()
    }

    /// Whether etcd has anything of an object in clear.
    pub fn tells(&self, name: &str) -> bool {
        let all = String::from_utf8_lossy(&self.etcdctl(&["get", "--prefix", ""])).into_owned();
        assert!(all.contains(STORED));
        all.contains(&plaintext(name))
    }

    fn etcdctl(&self, line: &[&str]) -> Vec<u8> {
        let said = Command::new("etcdctl").args(["--endpoints", &self.etcd]).args(line).output().unwrap();
        assert!(said.status.success(), "{}", stderr(&said));
        said.stdout
    }

    /// Of its health what its configuration of encryption says.
    pub fn health(&self) -> Result<String, String> {
        self.get("/readyz/kms-providers")
    }
}

/// An object's value in etcd.
#[derive(Debug)]
pub struct Stored {
    pub key: String,
    pub key_id: String,
    /// What is encrypted under the seed.
    pub data: Vec<u8>,
    /// The seed, encrypted.
    pub seed: Vec<u8>,
}

/// A field's value in a line of a log: the API server and the plugin write them alike.
pub fn field(line: &str, name: &str) -> String {
    let (_, rest) = line.split_once(&format!(" {name}=\"")).unwrap_or_else(|| panic!("no {name}: {line}"));
    rest.split_once('"').unwrap().0.to_owned()
}

fn plaintext(name: &str) -> String {
    format!("what nobody reads in etcd: {name}")
}

fn answered(output: &Output) -> Result<String, String> {
    if output.status.success() { Ok(stdout(output)) } else { Err(stderr(output)) }
}

/// What people have from `deploy/`, with a resource more, and the test's own socket.
pub fn deployed(socket: &Path) -> String {
    let theirs = include_str!("../../../../deploy/kubernetes/encryption-configuration.yaml");
    let own = theirs
        .replace("      - configmaps\n", "      - configmaps\n      - notes.example.org\n")
        .replace("unix:///run/holdfast/kms.sock", &format!("unix://{}", text(socket)));
    assert!(own.contains("notes") && !own.contains("/run/holdfast/"));
    own
}

/// A certificate that may everything.
fn administrator(dir: &Path) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "administrator");
    params.distinguished_name.push(DnType::OrganizationName, "system:masters");
    fs::write(dir.join("administrator.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(dir.join("administrator.key"), key.serialize_pem()).unwrap();
}
