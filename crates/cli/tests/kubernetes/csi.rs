//! The provider of the Secrets Store CSI driver: the real binary between stock gRPC (`driver.py`) and a real gateway, with tokens of PyJWT.

use crate::api_server::{self, generate, hex, python};
use crate::common::{Dev, Server, text};
use crate::people::{has_no_trace, is_gone, refused};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use tempfile::TempDir;

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const POD: &str = "11111111-2222-4333-8444-555555555555";
const PASSWORD: &[u8] = b"correct horse battery staple";
const MATERIAL: [u8; 32] = [0xa7; 32];

/// What a cluster has: keys in a file, and tokens of pods.
const CLUSTER: &str = r#"
import json, sys, time, jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
issuer, keys = sys.argv[1:]
key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
public = dict(json.loads(RSAAlgorithm.to_jwk(key.public_key())), kid="cluster", use="sig", alg="RS256")
open(keys, "w").write(json.dumps({"keys": [public]}))
now = int(time.time())
def token(account, audience="holdfast", end=now + 600):
    claims = {"iss": issuer, "sub": "system:serviceaccount:payroll:" + account, "aud": [audience], "exp": end, "iat": now,
              "kubernetes.io": {"namespace": "payroll", "pod": {"name": account + "-0", "uid": "u"},
                                "serviceaccount": {"name": account, "uid": "v"}}}
    return jwt.encode(claims, key, algorithm="RS256", headers={"kid": "cluster"})
print(json.dumps({"writer": token("writer"), "reader": token("reader"), "nobody": token("nobody"),
                  "else": token("writer", "else"), "late": token("writer", end=now - 600)}))
"#;

/// A node of a cluster whose pods a gateway knows.
struct Node {
    dev: Dev,
    tokens: Value,
    objects: Vec<Value>,
    _keys: TempDir,
}

impl Node {
    fn new() -> Self {
        let keys = TempDir::new().unwrap();
        let file = text(&keys.path().join("keys.json"));
        let tokens = serde_json::from_str(&python(CLUSTER, &[ISSUER, &file])).unwrap();
        let dev = Dev::with(&format!(
            "[[issuer]]\nissuer = \"{ISSUER}\"\naudiences = [\"holdfast\"]\nkeys_file = \"{file}\"\n"
        ));
        dev.ok(&["key", "create", "payroll"]);
        dev.ok(&["key", "create", "wrapper", "--algorithm", "aes-256-gcm", "--purpose", "wrap"]);
        for account in ["writer", "reader"] {
            let subject = format!("system:serviceaccount:payroll:{account}");
            dev.ok(&["caller", "put", account, "--issuer", ISSUER, "--subject", &subject]);
        }
        let policy = dev.ok(&["policy", "show"])
            + r#"
@id("writer-opens")
permit (
  principal == Holdfast::Caller::"writer",
  action in [Holdfast::Action::"decrypt", Holdfast::Action::"unwrap"],
  resource
)
when { context.authentication == "issued" && context.request.hasTag("kubernetes.pod") &&
  context.request.getTag("kubernetes.pod") like "writer-*" };
"#;
        dev.ok(&["policy", "set", &dev.file("policy.cedar", policy.as_bytes())]);
        let seal = |line: &[&str], bytes: &[u8]| {
            let sealed = dev.run_with(line, bytes);
            assert!(sealed.status.success(), "{}", crate::common::stderr(&sealed));
            crate::common::stdout(&sealed).trim().to_owned()
        };
        let password =
            seal(&["encrypt", "-", "--raw", "--key", "payroll", "--context", "purpose=db"], PASSWORD);
        let material = seal(&["wrap", "-", "--key", "wrapper"], &MATERIAL);
        let objects = vec![
            json!({"name": "password", "path": "db/password", "mode": "0400", "key": "payroll",
                "context": {"purpose": "db"}, "ciphertext": password}),
            json!({"name": "material", "key": "wrapper", "wrapped": material}),
        ];
        Self { dev, tokens, objects, _keys: keys }
    }

    fn socket(&self) -> PathBuf {
        self.dev.path("run").join("holdfast.sock")
    }

    /// A provider, and the driver beside it.
    fn provider(&self) -> (Server, Driver) {
        let socket = text(&self.socket());
        let provider = Server::start(self.dev.command(&["kubernetes-csi", "--socket", &socket]));
        (provider, Driver::of(&self.socket()))
    }

    /// What the driver says for a pod with this token.
    fn asks(&self, token: &str, objects: &[Value]) -> Value {
        let tokens =
            json!({"holdfast": {"token": self.tokens[token], "expirationTimestamp": "2026-01-15T10:15:00Z"}});
        let objects = json!(objects).to_string();
        json!({"attributes": {
            "objects": objects, "secretProviderClass": "app", "csi.storage.k8s.io/ephemeral": "true",
            "csi.storage.k8s.io/pod.name": "writer-0", "csi.storage.k8s.io/pod.namespace": "payroll",
            "csi.storage.k8s.io/pod.uid": POD, "csi.storage.k8s.io/serviceAccount.name": "writer",
            "csi.storage.k8s.io/serviceAccount.tokens": tokens.to_string(),
        }})
    }
}

/// What the driver does of the protocol.
struct Driver {
    process: Child,
    asks: Option<ChildStdin>,
    hears: BufReader<ChildStdout>,
    _generated: TempDir,
}

impl Driver {
    fn of(socket: &Path) -> Self {
        let generated = generate("csi-v1alpha1.proto");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kubernetes/driver.py");
        let mut process = Command::new(api_server::PYTHON)
            .arg(script)
            .args([text(socket), text(generated.path())])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let asks = process.stdin.take();
        let hears = BufReader::new(process.stdout.take().unwrap());
        Self { process, asks, hears, _generated: generated }
    }

    fn call(&mut self, asked: &Value) -> Value {
        writeln!(self.asks.as_ref().unwrap(), "{asked}").unwrap();
        let mut line = String::new();
        self.hears.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.asks = None;
        let _ended = self.process.wait();
    }
}

#[test]
fn a_pod_gets_what_is_sealed_for_it_and_the_log_says_which_pod() {
    if !api_server::is_there() {
        return;
    }
    let node = Node::new();
    let (provider, mut driver) = node.provider();
    assert!(
        provider.ready.contains("as provider `holdfast` for tokens for `holdfast`"),
        "{}",
        provider.ready
    );
    let version = driver.call(&json!({}));
    assert_eq!((&version["version"], &version["name"]), (&json!("v1alpha1"), &json!("holdfast")));
    assert_eq!(version["runtime"], env!("CARGO_PKG_VERSION"));

    let asked = node.asks("writer", &node.objects);
    let given = driver.call(&asked);
    assert_eq!((&given["code"], &given["error"]), (&json!("OK"), &json!("")), "{given}");
    let files = json!({"db/password": ["0o400", hex(PASSWORD)], "material": ["0o644", hex(&MATERIAL)]});
    assert_eq!(given["files"], files);
    assert_eq!(given["versions"].as_object().unwrap().keys().collect::<Vec<_>>(), ["password", "material"]);
    // Again, as after a retry, and as older drivers ask for a rotation.
    assert_eq!(driver.call(&asked), given);
    let mut rotation = asked.clone();
    rotation["current"] = given["versions"].clone();
    assert_eq!(driver.call(&rotation), given);

    let found = node.dev.ok(&["audit", "search", "--action", "decrypt", "--json"]);
    assert!(found.contains("system:serviceaccount:payroll:writer") && found.contains("writer-0"), "{found}");
    let log = provider.ends();
    assert!(log.contains(POD) && log.contains("method=\"Mount\"") && log.contains("operation=\"01"), "{log}");
    has_no_trace(&log, &MATERIAL);
    has_no_trace(&log, PASSWORD);
    let signature = node.tokens["writer"].as_str().unwrap().rsplit('.').next().unwrap().to_owned();
    assert!(!log.contains(&signature) && !log.contains("battery"), "{log}");
    assert!(is_gone(&node.socket()), "SIGTERM removes it");
}

#[test]
fn whatever_is_in_the_way_has_its_own_reason() {
    if !api_server::is_there() {
        return;
    }
    let mut node = Node::new();
    let (provider, mut driver) = node.provider();
    let one = |change: &dyn Fn(&mut Value)| {
        let mut object = node.objects[0].clone();
        change(&mut object);
        vec![object]
    };
    let right = one(&|_| {});
    let mut without = node.asks("writer", &right);
    without["attributes"].as_object_mut().unwrap().remove("csi.storage.k8s.io/serviceAccount.tokens");
    for (asked, reason) in [
        (without, "NoToken"),
        (node.asks("nobody", &right), "UnknownCaller"),
        (node.asks("else", &right), "UnknownCaller"),
        (node.asks("late", &right), "UnknownCaller"),
        (node.asks("reader", &right), "NotPermitted"),
        (node.asks("writer", &one(&|o| o["context"] = json!({"purpose": "other"}))), "DoesNotOpen"),
        // A key that wraps decrypts nothing.
        (node.asks("writer", &one(&|o| o["key"] = json!("wrapper"))), "InvalidObjects"),
        (node.asks("writer", &one(&|o| o["path"] = json!("../../etc/passwd"))), "InvalidObjects"),
        (node.asks("writer", &one(&|o| o["ciphertext"] = json!("?"))), "InvalidObjects"),
        (node.asks("writer", &[]), "InvalidObjects"),
        (json!({"attributes": {}, "permission": 4096}), "InvalidRequest"),
        (node.asks("writer", &right), ""),
    ] {
        let said = driver.call(&asked);
        assert_eq!((&said["code"], &said["error"]), (&json!("OK"), &json!(reason)), "{asked}: {said}");
        assert_eq!(
            said["files"].as_object().unwrap().is_empty(),
            !reason.is_empty(),
            "all or nothing: {said}"
        );
    }
    // One of several that does not open, and there is none of them.
    let mut several = node.objects.clone();
    several[1]["context"] = json!({"else": "x"});
    let said = driver.call(&node.asks("writer", &several));
    assert_eq!((&said["error"], &said["files"]), (&json!("DoesNotOpen"), &json!({})), "{said}");

    node.dev.ok(&["caller", "suspend", "writer"]);
    assert_eq!(driver.call(&node.asks("writer", &right))["error"], "Stopped");
    node.dev.ok(&["caller", "resume", "writer"]);
    assert_eq!(driver.call(&node.asks("writer", &right))["error"], "");

    // Nobody can be asked: the driver asks again by itself, and so does the kubelet.
    node.dev.server.kill();
    let said = driver.call(&node.asks("writer", &right));
    assert_eq!(said["code"], "UNAVAILABLE", "{said}");
    let log = provider.ends();
    assert!(log.contains("reason=\"NotPermitted\"") && log.contains("reason=\"NoToken\""), "{log}");
}

#[test]
fn its_socket_is_its_owner_s_and_has_a_provider_s_name() {
    let dev = Dev::start();
    let socket = dev.path("run").join("holdfast.sock");
    let line = ["kubernetes-csi", "--socket", &text(&socket)];
    let provider = Server::start(dev.command(&line));
    let made = socket.symlink_metadata().unwrap();
    assert!(made.file_type().is_socket());
    assert_eq!(made.permissions().mode() & 0o777, 0o600);
    assert!(refused(dev.command(&line), 2).contains("somebody serves"));
    provider.ends();
    for name in ["holdfast", "a b.sock", ".sock", "a.b.sock", "0123456789012345678901234567890.sock"] {
        let socket = text(&dev.path("run").join(name));
        let said = refused(dev.command(&["kubernetes-csi", "--socket", &socket]), 2);
        assert!(said.contains("no socket that the driver looks for"), "{name}: {said}");
    }
}

#[test]
fn the_daemon_set_starts_what_the_class_names() {
    if !api_server::is_there() {
        return;
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kubernetes/csi-provider.yaml");
    let read = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
    let documents: Vec<Value> = serde_json::from_str(&python(read, &[&text(&file)])).unwrap();
    let of = |kind: &str| documents.iter().find(|document| document["kind"] == kind).unwrap();
    let set = of("DaemonSet");
    let pod = &set["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let args: Vec<&str> =
        container["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    let shown = args[args.iter().position(|word| *word == "--socket").unwrap() + 1];
    let class = of("SecretProviderClass");
    assert!(shown.ends_with(&format!("/{}.sock", class["spec"]["provider"].as_str().unwrap())), "{shown}");
    let directory = text(Path::new(shown).parent().unwrap());
    let volume =
        pod["volumes"].as_array().unwrap().iter().find(|volume| volume["name"] == "providers").unwrap();
    assert_eq!(volume["hostPath"]["path"], directory);

    let node = Node::new();
    let line: Vec<_> = args.iter().map(|word| word.replace(shown, &text(&node.socket()))).collect();
    let provider = Server::start(node.dev.command(&line.iter().map(String::as_str).collect::<Vec<_>>()));
    let mut driver = Driver::of(&node.socket());
    // The class as it is shown, with what was sealed here.
    let objects: Vec<Value> =
        serde_json::from_str(class["spec"]["parameters"]["objects"].as_str().unwrap()).unwrap();
    let objects: Vec<_> = objects
        .into_iter()
        .map(|mut object| {
            object["ciphertext"] = node.objects[0]["ciphertext"].clone();
            object
        })
        .collect();
    let mut asked = node.asks("writer", &objects);
    assert_eq!(class["spec"]["parameters"]["tenant"], "acme");
    asked["attributes"]["tenant"] = json!("dev");
    let given = driver.call(&asked);
    assert_eq!(given["error"], "", "{given}");
    let files = given["files"].as_object().unwrap();
    assert_eq!(files.len(), objects.len());
    // They are root's, and most containers are not root.
    for (path, file) in files {
        let mode = file[0].as_str().unwrap().strip_prefix("0o").unwrap();
        assert_eq!(u32::from_str_radix(mode, 8).unwrap() & 0o004, 0o004, "{path}: {mode}");
    }
    provider.ends();
}
