//! The proxy of Azure Managed HSM's external keys: the real binary, keys from elsewhere and in a token, `curl` by mutual TLS with certificates of `openssl`'s,
//! and what comes of it held against `openssl` and Python's `cryptography`. And `holdfast connect azure-ekm`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    reason = "what fails here is a test"
)]

mod common;

use common::findings::{fine, names, watched};
use common::softhsm::{SoftHsm, start, workers};
use common::wait::{in_time, until};
use common::{Dev, code, stderr, stdout, tool};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

const POLICY: &str = r#"
@id("azure")
permit (
  principal == Holdfast::Caller::"azure-ekm",
  action in [Holdfast::Action::"wrap", Holdfast::Action::"unwrap", Holdfast::Action::"read-key"],
  resource
)
when { context.protocol == "azure-ekm" };
"#;
/// An authority, the certificate of a pool, and one of another pool's.
const CERTIFICATES: &str = r#"
ec="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
openssl req -x509 $ec -keyout ca.key -out ca.pem -days 3 -subj '/CN=Managed HSM Root' -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
printf 'basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n' > leaf.ext
for name in contoso other; do
  openssl req -new $ec -keyout $name.key -out $name.csr -subj "/CN=$name.managedhsmclient.azure.net"
  openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile leaf.ext -out $name.pem
done
"#;
const CONTEXT: &str = "aa9a3cb4-82b4-11f0-afc6-5ffd3bdade85";

struct Proxy {
    dev: Dev,
    // Outlives the gateway.
    _token: Option<SoftHsm>,
}

fn shell(directory: &Path, line: &str) -> String {
    let done = Command::new("sh").args(["-euc", line]).current_dir(directory).output().unwrap();
    assert!(done.status.success(), "{line}: {}", stderr(&done));
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

impl Proxy {
    fn start(token: Option<SoftHsm>) -> Self {
        let directory = TempDir::new().unwrap();
        shell(directory.path(), CERTIFICATES);
        // What hangs is given up after the proxy's own deadline.
        let settings =
            |token: &SoftHsm| format!("{}\n[pool]\ndeadline_ms = 1000\n", token.settings_of("hsm-a"));
        let settings = format!(
            "{}
[[azure_ekm]]
server_name = \"localhost\"
prefix = \"/dev\"
client_ca_file = \"{}\"
client_common_names = [\"contoso.managedhsmclient.azure.net\"]
deadline_milliseconds = 250
tenant = \"dev\"
caller = \"azure-ekm\"
",
            token.as_ref().map(settings).unwrap_or_default(),
            directory.path().join("ca.pem").display(),
        );
        let dev = start(directory, &settings);
        until("it is ready", || dev.server.admin("/metrics").contains("holdfast_ready 1"));
        Self { dev, _token: token }
    }

    /// With its caller and policy.
    fn set_up(token: Option<SoftHsm>) -> Self {
        let proxy = Self::start(token);
        proxy.dev.ok(&["caller", "put", "azure-ekm"]);
        proxy.dev.add_policy(POLICY);
        proxy
    }

    fn shell(&self, line: &str) -> String {
        shell(self.dev.path("x").parent().unwrap(), line)
    }

    fn url(&self) -> String {
        self.dev.server.url.replace("127.0.0.1", "localhost")
    }

    /// Asks with a pool's certificate, or with none; gives what `curl` ends with if that is an error.
    fn curl(&self, pool: Option<&str>, path: &str, body: &Value) -> Result<(u16, Value), String> {
        let mut curl = Command::new("curl");
        curl.args([
            "-sS",
            "--path-as-is",
            "--cacert",
            self.dev.ca(),
            "--http1.1",
            "--tlsv1.3",
            "-w",
            "\n%{http_code}",
        ]);
        if let Some(pool) = pool {
            curl.arg("--cert").arg(self.dev.path(&format!("{pool}.pem")));
            curl.arg("--key").arg(self.dev.path(&format!("{pool}.key")));
        }
        curl.args(["-H", "content-type: application/json", "-d", &body.to_string()]);
        let output = curl.arg(format!("{}{path}?api-version=0.1-preview", self.url())).output().unwrap();
        if !output.status.success() {
            return Err(stderr(&output));
        }
        let said = String::from_utf8(output.stdout).unwrap();
        let (body, status) = said.rsplit_once('\n').unwrap();
        Ok((status.parse().unwrap(), serde_json::from_str(body).unwrap_or(Value::Null)))
    }

    fn ask(&self, path: &str, body: &Value) -> (u16, Value) {
        in_time(|| self.ask_once(path, body), |(_, told)| told["code"] == "RequestTimeout")
    }

    fn ask_once(&self, path: &str, body: &Value) -> (u16, Value) {
        self.curl(Some("contoso"), &format!("/dev/{path}"), body).unwrap()
    }

    /// Wraps or unwraps what is in a file, into another; gives the status.
    fn work(&self, path: &str, alg: &str, from: &str, to: &str) -> u16 {
        let value = self.shell(&format!("base64 -w0 {from} | tr '+/' '-_' | tr -d ="));
        let (status, told) = self.ask(path, &value_of(alg, &value));
        if let Some(value) = told["value"].as_str() {
            let padded = format!("{value}{}", "=".repeat(value.len().wrapping_neg() % 4));
            self.dev.file(&format!("{to}.b64"), padded.as_bytes());
            self.shell(&format!("tr -- '-_' '+/' < {to}.b64 | base64 -d > {to}"));
        }
        status
    }

    fn create_rsa(&self, name: &str, more: &[&str]) {
        let line = ["key", "create", name, "--algorithm", "rsa-2048", "--purpose", "wrap"];
        self.dev.ok(&[&line[..], &["--protocol", "azure-ekm"], more].concat());
    }

    /// `holdfast connect` as far as its test alone, with the pool's certificate.
    fn self_tested(&self, name: &str, algorithm: &str) -> Output {
        let url = self.url();
        let [cert, key] =
            ["contoso.pem", "contoso.key"].map(|name| self.dev.path(name).display().to_string());
        let line = ["connect", "azure-ekm", "--key", name, "--server-name", "localhost", "--endpoint", &url];
        let with = ["--algorithm", algorithm, "--test-cert", &cert, "--test-cert-key", &key];
        self.dev.run(&[&line[..], &with, &["--self-test-only"]].concat())
    }

    /// Brings material as a key that this makes it.
    fn import(&self, name: &str, algorithm: &str, check: &str) {
        let begin = ["key", "import", "begin", name, "--algorithm", algorithm, "--purpose", "wrap"];
        let pem = self.dev.ok(&[&begin[..], &["--protocol", "azure-ekm"]].concat());
        self.dev.file("import.pem", pem.as_bytes());
        let check = self.shell(&format!(
            "openssl rand 32 > kek.bin
             openssl pkeyutl -encrypt -pubin -inkey import.pem -in kek.bin -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha256 > wrapped.bin
             openssl enc -id-aes256-wrap-pad -K $(od -An -v -tx1 kek.bin | tr -d ' \\n') -iv A65959A6 -in {name}.material >> wrapped.bin
             {check}"
        ));
        self.dev.ok(&["key", "import", "finish", name, "--file", "wrapped.bin", "--check-value", &check]);
    }
}

fn about() -> Value {
    json!({"request_context": {"correlation_id": CONTEXT, "pool_name": "contoso"}})
}

fn value_of(alg: &str, value: &str) -> Value {
    let mut body = about();
    body["alg"] = alg.into();
    body["value"] = value.into();
    body
}

/// Keys that are known outside too: what is wrapped here is what others make of it, and the other way round.
#[test]
fn what_is_wrapped_is_what_openssl_and_python_make_of_it() {
    if !tool("curl") {
        return;
    }
    let proxy = Proxy::set_up(None);
    proxy.shell("openssl rand 32 > kw.material; openssl rand 32 > kwp.material; openssl rand 32 > dek; printf 'of 17 bytes, so…' > odd");
    let symmetric = |name: &str| format!("openssl dgst -sha256 -r {name}.material | cut -c1-16");
    proxy.import("kw", "aes-256-kw", &symmetric("kw"));
    proxy.import("kwp", "aes-256-kwp", &symmetric("kwp"));
    proxy.shell("openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.pem; openssl pkcs8 -topk8 -nocrypt -in rsa.pem -outform DER -out rsa.material");
    let public = "openssl pkey -in rsa.pem -pubout -outform DER | openssl dgst -sha256 -r | cut -c1-64";
    proxy.import("rsa", "rsa-2048", public);
    proxy.create_rsa("old", &["--legacy", "sha1-oaep"]);

    // RFC 3394 and RFC 5649, as two others have them.
    assert_eq!(proxy.work("kw/wrapkey", "A256KW", "dek", "dek.kw"), 200);
    proxy.shell("openssl enc -id-aes256-wrap -K $(od -An -v -tx1 kw.material | tr -d ' \\n') -iv A6A6A6A6A6A6A6A6 -in dek | cmp - dek.kw");
    assert_eq!(proxy.work("kwp/wrapkey", "A256KWP", "odd", "odd.kwp"), 200);
    const PYTHON: &str = "from cryptography.hazmat.primitives.keywrap import *
read = lambda name: open(name, 'rb').read()
assert aes_key_unwrap(read('kw.material'), read('dek.kw')) == read('dek')
assert aes_key_wrap_with_padding(read('kwp.material'), read('odd')) == read('odd.kwp')
open('theirs.kw', 'wb').write(aes_key_wrap(read('kw.material'), read('odd')[:16]))";
    proxy.dev.file("wrap.py", PYTHON.as_bytes());
    proxy.shell("/usr/bin/python3 wrap.py; head -c 16 odd > odd16");
    assert_eq!(proxy.work("kwp/unwrapkey", "A256KWP", "odd.kwp", "back"), 200);
    proxy.shell("cmp odd back");
    assert_eq!(proxy.work("kw/unwrapkey", "A256KW", "theirs.kw", "back"), 200);
    proxy.shell("cmp odd16 back");
    // A multiple of eight bytes is what key wrap takes, and a key does what it was made for.
    assert_eq!(proxy.work("kw/wrapkey", "A256KW", "odd", "x"), 400);
    assert_eq!(proxy.work("kw/wrapkey", "A256KWP", "odd", "x"), 400);

    // RFC 8017, with the public half that metadata tells, and the private one that was brought.
    let (status, metadata) = proxy.ask("rsa/metadata", &about());
    assert_eq!((status, &metadata["key_type"], &metadata["key_size"]), (200, &json!("RSA"), &json!(2048)));
    proxy.dev.file("rsa.json", metadata.to_string().as_bytes());
    proxy.dev.file("old.json", proxy.ask("old/metadata", &about()).1.to_string().as_bytes());
    const CLIENT: &str = "import base64, json
from cryptography.hazmat.primitives import hashes, serialization as z
from cryptography.hazmat.primitives.asymmetric import padding, rsa
def public(name):
    told = json.load(open(name + '.json'))
    number = lambda part: int.from_bytes(base64.urlsafe_b64decode(told[part] + '=='), 'big')
    return rsa.RSAPublicNumbers(number('e'), number('n')).public_key()
ours = z.load_pem_private_key(open('rsa.pem', 'rb').read(), None)
assert public('rsa').public_numbers() == ours.public_key().public_numbers()
dek = open('dek', 'rb').read()
oaep = lambda hash: padding.OAEP(padding.MGF1(hash), hash, None)
assert ours.decrypt(open('dek.rsa', 'rb').read(), oaep(hashes.SHA256())) == dek
open('theirs.rsa', 'wb').write(public('rsa').encrypt(dek, oaep(hashes.SHA256())))
open('theirs.old', 'wb').write(public('old').encrypt(dek, oaep(hashes.SHA1())))";
    proxy.dev.file("client.py", CLIENT.as_bytes());
    assert_eq!(proxy.work("rsa/wrapkey", "RSA-OAEP-256", "dek", "dek.rsa"), 200);
    proxy.shell("/usr/bin/python3 client.py");
    for (key, alg, other) in [("rsa", "RSA-OAEP-256", "RSA-OAEP"), ("old", "RSA-OAEP", "RSA-OAEP-256")] {
        let theirs = format!("theirs.{key}");
        assert_eq!(proxy.work(&format!("{key}/unwrapkey"), alg, &theirs, "back"), 200);
        proxy.shell("cmp dek back");
        assert_eq!(proxy.work(&format!("{key}/unwrapkey"), other, &theirs, "x"), 400);
    }
    // SHA-1 is for keys alone that were created for it.
    assert_eq!(proxy.work("rsa/wrapkey", "RSA-OAEP", "dek", "x"), 400);
    assert_eq!(proxy.work("old/wrapkey", "RSA-OAEP", "dek", "dek.old"), 200);
    assert_eq!(proxy.work("old/unwrapkey", "RSA-OAEP", "dek.old", "back"), 200);
    proxy.shell("cmp dek back");

    // Who shows another certificate or none has no handshake; elsewhere the proxy is not there.
    for pool in [None, Some("other")] {
        let said = proxy.curl(pool, "/dev/info", &about()).unwrap_err();
        assert!(said.contains("alert") || said.contains("reset"), "{said}");
    }
    let (status, _) = proxy.curl(Some("contoso"), "/other/info", &about()).unwrap();
    assert_eq!(status, 404);
    // What keys of the protocol cannot do: another version, and anything through our own API.
    let said = proxy.dev.fails(&["key", "rotate", "kw"], 2);
    assert!(said.contains("have one version"), "{said}");
    let said = proxy.dev.fails(&["key", "schedule", "kw", "--every", "90d"], 2);
    assert!(said.contains("have one version"), "{said}");
}

#[test]
fn keys_in_a_token_serve_and_who_asks_is_told_when_it_is_gone() {
    if !tool("softhsm2-util") || !tool("curl") {
        return;
    }
    let proxy = Proxy::set_up(Some(SoftHsm::new()));
    for (name, algorithm) in [("kw", "aes-256-kw"), ("rsa", "rsa-2048")] {
        let create = ["key", "create", name, "--algorithm", algorithm, "--purpose", "wrap"];
        proxy.dev.ok(&[&create[..], &["--protocol", "azure-ekm"]].concat());
    }
    let (status, info) = proxy.ask("info", &about());
    assert_eq!((status, &info["api_version"]), (200, &json!("0.1-preview")));
    assert!(info["ekm_vendor"].as_str().unwrap().contains("SoftHSM"), "{info}");
    proxy.shell("openssl rand 32 > dek");
    for (key, alg, length) in [("kw", "A256KW", 40), ("rsa", "RSA-OAEP-256", 256)] {
        assert_eq!(proxy.work(&format!("{key}/wrapkey"), alg, "dek", "wrapped"), 200);
        assert_eq!(proxy.shell("wc -c < wrapped"), length.to_string());
        assert_eq!(proxy.work(&format!("{key}/unwrapkey"), alg, "wrapped", "back"), 200);
        proxy.shell("cmp dek back; printf x | dd of=wrapped bs=1 seek=20 conv=notrunc status=none");
        assert_eq!(proxy.work(&format!("{key}/unwrapkey"), alg, "wrapped", "x"), 400);
    }
    assert_eq!(proxy.work("kw/wrapkey", "A256KW", "dek", "wrapped"), 200);

    // A token that hangs: the provider is told in time, and that it is so.
    let hangs = || {
        let worker = workers(proxy.dev.server.pid())[0].to_string();
        assert!(Command::new("kill").args(["-STOP", &worker]).status().unwrap().success());
        let (status, told) = proxy.ask_once("kw/unwrapkey", &value_of("A256KW", &"A".repeat(54)));
        until("its health is told", || proxy.ask("info", &about()).0 == 502);
        // The gateway ends it and starts another one.
        until("it is healthy again", || proxy.ask("info", &about()).0 == 200);
        (status, told["code"].as_str().unwrap().to_owned())
    };
    // Where a probe has found out before somebody asks, nobody has to wait.
    let told = (0..4).map(|_| hangs()).find(|told| *told != (502, "BadGateway".to_owned()));
    assert_eq!(told, Some((408, "RequestTimeout".to_owned())));
    assert_eq!(proxy.work("kw/unwrapkey", "A256KW", "wrapped", "back"), 200);
    proxy.shell("cmp dek back");
    // Stopped by a word.
    proxy.dev.ok(&["key", "suspend", "kw"]);
    let (status, told) = proxy.ask("kw/unwrapkey", &value_of("A256KW", &"A".repeat(54)));
    assert_eq!((status, &told["code"]), (403, &json!("KeyDisabled")));
    until("it is published", || {
        proxy.dev.ok(&["audit", "search", "--action", "unwrap", "--json"]).contains(CONTEXT)
    });
}

/// A stop works before it stands in the key's record, and so where that cannot be written.
#[test]
fn a_key_has_no_metadata_from_the_moment_of_a_stop_on() {
    if !tool("curl") {
        return;
    }
    let proxy = Proxy::set_up(None);
    let create = ["key", "create", "kw", "--algorithm", "aes-256-kw", "--purpose", "wrap"];
    proxy.dev.ok(&[&create[..], &["--protocol", "azure-ekm"]].concat());
    assert_eq!(proxy.ask("kw/metadata", &about()).0, 200);
    let state = rusqlite::Connection::open(proxy.dev.data().join("state/holdfast.db")).unwrap();
    state.execute_batch("BEGIN IMMEDIATE").unwrap();
    std::thread::scope(|scope| {
        let suspended = scope.spawn(|| proxy.dev.ok(&["key", "suspend", "kw"]));
        until("the stop is in force", || proxy.ask("kw/metadata", &about()).0 == 403);
        state.execute_batch("ROLLBACK").unwrap();
        suspended.join().unwrap();
    });
    let (status, told) = proxy.ask("kw/metadata", &about());
    assert_eq!((status, &told["code"]), (403, &json!("KeyDisabled")));
}

#[test]
fn a_fresh_tenant_is_connected_and_what_is_broken_is_named() {
    let proxy = Proxy::start(None);
    let url = proxy.url();
    let [cert, key] = ["contoso.pem", "contoso.key"].map(|name| proxy.dev.path(name).display().to_string());
    let line = |more: &[&'static str]| {
        let mut line: Vec<String> =
            ["connect", "azure-ekm", "--key", "payroll", "--server-name", "localhost", "--endpoint", &url]
                .map(str::to_owned)
                .into();
        line.extend(more.iter().map(|&word| word.to_owned()));
        line
    };
    let tested = ["--test-cert", &cert, "--test-cert-key", &key];
    let run = |more: &[&'static str], with: &[&str]| {
        let line = line(more);
        proxy.dev.run(&line.iter().map(String::as_str).chain(with.iter().copied()).collect::<Vec<_>>())
    };
    let by_address = ["connect", "azure-ekm", "--key", "payroll", "--server-name", "192.0.2.7"];
    assert!(proxy.dev.fails(&by_address, 2).contains("no client asks for an address"));
    // Nothing is there, and checking makes nothing.
    let output = run(&["--check"], &tested);
    let said = stdout(&output);
    assert_ne!(code(output.status), 0);
    assert!(
        said.contains("there is no key `payroll`") && said.contains("there is no caller `azure-ekm`"),
        "{said}"
    );
    assert!(proxy.dev.ok(&["key", "list"]).lines().all(|line| !line.contains("payroll")));

    let output = run(&["--set-policy", "--config", "holdfast.toml"], &tested);
    let said = stdout(&output);
    assert_eq!(code(output.status), 0, "{said}{}", stderr(&output));
    for words in [
        "made: `payroll`, aes-256-kw",
        "registered: `azure-ekm`",
        "read `payroll`, and wrap and unwrap with it",
        "has the proxy",
        "gets no handshake",
        "version 0.1-preview",
        "oct of 256 bits",
        "A256KW, 40 bytes",
        "refuses what was changed",
    ] {
        assert!(said.lines().any(|line| line.starts_with('✓') && line.contains(words)), "`{words}`:\n{said}");
    }
    // On a busy machine it may be told with a warning.
    assert!(said.contains("from here; Managed HSM waits 250.0 ms"), "{said}");
    assert!(
        said.contains("--host localhost --server-ca-certificate gateway-root.pem --path-prefix /dev"),
        "{said}"
    );
    assert!(said.contains("--external-key-id payroll") && !said.contains("[[azure_ekm]]"), "{said}");
    // Again: nothing is made twice, and without a certificate it says where it ended.
    let before = proxy.dev.policy_version();
    let said = stdout(&run(&["--set-policy"], &[]));
    assert!(!said.contains("made:") && said.contains("ended at the handshake"), "{said}");
    assert_eq!(proxy.dev.policy_version(), before);

    let is_named = |more: &[&'static str], with: &[&str], words: &[&str]| {
        let output = run(more, with);
        let said = stdout(&output);
        assert_ne!(code(output.status), 0, "{said}");
        for words in words {
            let told = |line: &str| line.contains(words) && (line.starts_with('✗') || line.contains(" → "));
            assert!(said.lines().any(told), "`{words}` is not named:\n{said}");
        }
    };
    let [other, other_key] =
        ["other.pem", "other.key"].map(|name| proxy.dev.path(name).display().to_string());
    is_named(&[], &["--test-cert", &other, "--test-cert-key", &other_key], &["info"]);
    is_named(&["--prefix", "/x", "--config", "holdfast.toml"], &tested, &["no `[[azure_ekm]]`", "`/x`"]);
    is_named(&["--external-key-id", "elsewhere", "--config", "holdfast.toml"], &tested, &["`keys`"]);
    is_named(&["--algorithm", "rsa-2048"], &tested, &["is aes-256-kw to wrap"]);
    proxy.dev.ok(&["key", "suspend", "payroll"]);
    is_named(&[], &tested, &["`payroll` is suspended", "KeyDisabled"]);
    proxy.dev.ok(&["key", "resume", "payroll"]);
    proxy.dev.ok(&["caller", "suspend", "azure-ekm"]);
    is_named(&["--self-test-only"], &tested, &["KeyDisabled"]);
}

/// What a key does depends on how it was made: what is served is said, and what is not.
#[test]
fn each_way_in_which_a_key_wraps_is_tried_and_told() {
    if !tool("softhsm2-util") {
        return;
    }
    let both = |proxy: &Proxy| {
        proxy.create_rsa("both", &["--legacy", "sha1-oaep"]);
        let said = stdout(&proxy.self_tested("both", "rsa-2048"));
        fine(&said, &["RSA of 2048 bits", "RSA-OAEP-256, 256 bytes", "RSA-OAEP, 256 bytes"]);
        assert_eq!(said.matches("gives the key back, and refuses what was changed").count(), 2, "{said}");
        assert!(!said.contains("is refused: "), "{said}");
    };
    both(&Proxy::set_up(Some(SoftHsm::new())));
    let proxy = Proxy::set_up(None);
    both(&proxy);
    proxy.create_rsa("one", &[]);
    let output = proxy.self_tested("one", "rsa-2048");
    assert_eq!(code(output.status), 0, "{}{}", stdout(&output), stderr(&output));
    fine(&stdout(&output), &["RSA-OAEP-256, 256 bytes"]);
    watched(&stdout(&output), "RSA-OAEP is refused: the key was not made for OAEP with SHA-1");
    assert!(stdout(&output).contains("`holdfast key create … --legacy sha1-oaep`"), "{}", stdout(&output));
    // Where the policy lets one alone, it is that one that is timed.
    proxy.dev.add_policy("@id(\"sha-1-alone\") forbid (principal == Holdfast::Caller::\"azure-ekm\", action == Holdfast::Action::\"wrap\", resource) when { context.request.hasTag(\"alg\") && context.request.getTag(\"alg\") == \"RSA-OAEP-256\" };");
    let output = proxy.self_tested("both", "rsa-2048");
    assert_eq!(code(output.status), 0, "{}{}", stdout(&output), stderr(&output));
    fine(&stdout(&output), &["RSA-OAEP, 256 bytes", "gives the key back"]);
    assert!(stdout(&output).contains("from here; Managed HSM waits"), "{}", stdout(&output));
    watched(&stdout(&output), "RSA-OAEP-256 is refused: the policy does not permit it");
    let words = ["to wrap as `RSA-OAEP-256` is answered 403", "let the policy permit it to `azure-ekm`"];
    names(&proxy.self_tested("one", "rsa-2048"), 5, &words);
    // Of another algorithm than was said.
    let words = ["`both` is RSA of 2048 bits, and no aes-256-kw", "`--algorithm`"];
    names(&proxy.self_tested("both", "aes-256-kw"), 2, &words);
}
