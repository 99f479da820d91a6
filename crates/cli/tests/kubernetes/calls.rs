//! Each call, and each way to call wrongly.

use crate::api_server::{ApiServer, UID, encrypt, hex, seed};
use crate::common::{stderr, stdout, text};
use crate::people::{Place, has_no_trace};
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

#[test]
fn a_seed_goes_there_and_back_and_nowhere_else() {
    let Some((place, plugin, mut api)) = Place::with_cluster(&["--cluster", "one"]) else { return };
    assert!(plugin.ready.contains("for cluster `one` under key `kubernetes` of `dev`"), "{}", plugin.ready);
    let status = api.status();
    assert_eq!(status["version"], "v2");
    let key_id = api.key_id();
    assert!((1..=1024).contains(&key_id.len()) && key_id.starts_with("holdfast:"), "{key_id}");

    let sealed = api.seal(&seed(0xa7));
    assert_eq!(sealed.key_id, key_id);
    assert!((1..=1024).contains(&sealed.bytes().len()));
    assert_eq!(api.call(&encrypt(&seed(0xa7)))["annotations"], json!({}));
    api.opens(&sealed, &seed(0xa7));
    // A hundred at once, as after a cold start.
    let mut all = sealed.decrypt();
    all["times"] = json!(100);
    let said = api.call(&all);
    assert!(said.as_array().unwrap().iter().all(|reply| reply["plaintext"] == hex(&seed(0xa7))), "{said}");

    // Nothing that was changed opens, and each change has one code.
    let mut bytes = sealed.bytes();
    for place in [0, 3, 30, bytes.len() - 1] {
        bytes[place] ^= 1;
        let mut call = sealed.decrypt();
        call["ciphertext"] = json!(hex(&bytes));
        api.refuses(&call, "INVALID_ARGUMENT", "");
        bytes[place] ^= 1;
    }
    let other_version = key_id.replace(":1.1:", ":1.2:");
    assert_ne!(other_version, key_id);
    for (key_id, words) in
        [(other_version.as_str(), "verify"), ("v1", "none that Holdfast gives"), ("", "`key_id`")]
    {
        let mut call = sealed.decrypt();
        call["key_id"] = json!(key_id);
        api.refuses(&call, "INVALID_ARGUMENT", words);
    }
    let mut annotated = sealed.decrypt();
    annotated["annotations"] = json!({ "version.example.com": "01" });
    api.refuses(&annotated, "INVALID_ARGUMENT", "`annotations`");

    // Another cluster with the same key, another protocol, another context: none of them opens it.
    let other = place.plugin("other", &["--cluster", "two"]);
    let mut other_api = ApiServer::of(&place.socket("other"));
    other_api.until_well();
    other_api.refuses(&sealed.decrypt(), "INVALID_ARGUMENT", "verify");
    let file = place.dev.file("sealed", &sealed.bytes());
    let decrypt = ["decrypt", &file, "--key", "kubernetes", "-o", "opened"];
    let with = |context: &[&str]| {
        let context = context.iter().flat_map(|pair| ["--context", pair]);
        place.dev.run(&decrypt.into_iter().chain(context).collect::<Vec<_>>()).status.code().unwrap()
    };
    let (protocol, id) = ("protocol=kubernetes-kms-v2", format!("key-id={key_id}"));
    assert_eq!(with(&[]), 6);
    assert_eq!(with(&[protocol, "cluster=two", &id]), 6);
    assert_eq!(with(&["protocol=native", "cluster=one", &id]), 6);
    // Who says all of it opens it without the plugin: what docs/protocols/kubernetes-kms.md promises for the worst day.
    assert_eq!(with(&[protocol, "cluster=one", &id]), 0);
    assert_eq!(std::fs::read(place.dev.path("opened")).unwrap(), seed(0xa7));

    other.ends();
    let log = plugin.ends();
    assert!(log.contains(UID) && log.contains("method=\"Encrypt\"") && log.contains("code=\"OK\""), "{log}");
    assert!(log.contains("operation=\"01"), "{log}");
    has_no_trace(&log, &seed(0xa7));
}

#[test]
fn whoever_calls_wrongly_hears_why_and_others_are_served() {
    let Some((place, plugin, mut api)) = Place::with_cluster(&[]) else { return };
    let without_uid = json!({ "method": "Encrypt", "plaintext": hex(&seed(1)) });
    api.refuses(&without_uid, "INVALID_ARGUMENT", "`uid` is empty");
    api.refuses(&json!({ "method": "Encrypt", "uid": UID }), "INVALID_ARGUMENT", "`plaintext` is empty");
    api.refuses(&json!({ "method": "Decrypt", "uid": UID }), "INVALID_ARGUMENT", "`ciphertext`");
    let raw = |method: &str, bytes: &[u8]| json!({ "method": method, "raw": hex(bytes) });
    api.refuses(&raw("Encrypt", b"\xff\xff\xff"), "INVALID_ARGUMENT", "not of this method");
    api.refuses(&raw("Encrypt", &vec![0x0a; 1 << 20]), "RESOURCE_EXHAUSTED", "65536 bytes at most");
    api.refuses(&raw("Decrypt", &vec![0; 64 << 10]), "INVALID_ARGUMENT", "");
    let mut compressed = encrypt(&[7; 400]);
    compressed["compressed"] = json!(true);
    api.refuses(&compressed, "UNIMPLEMENTED", "compressed");
    for path in [
        "/v1beta1.KeyManagementService/Encrypt",
        "/v2.KeyManagementService/Version",
        "/grpc.health.v1.Health/Check",
    ] {
        api.refuses(&raw(path, b""), "UNIMPLEMENTED", "KMS v2");
    }
    api.refuses(
        &json!({ "method": "Encrypt", "plaintext": hex(&[1; 513]), "uid": UID }),
        "INVALID_ARGUMENT",
        "512",
    );
    // A uid is somebody else's text: it stands in the log on one line.
    let forged = json!({ "method": "Encrypt", "plaintext": hex(&seed(1)), "uid": "x\nERROR forged" });
    assert_eq!(api.call(&forged)["code"], "OK");

    // What is no HTTP/2 ends its own connection.
    for garbage in [
        &b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..],
        &[0; 4096],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        let mut stream = UnixStream::connect(place.socket("run")).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
        stream.write_all(garbage).unwrap();
        let mut said = vec![];
        // It may be reset, too.
        let _ended = stream.read_to_end(&mut said);
        assert!(said.len() < 1024, "{} bytes", said.len());
    }
    let sealed = api.seal(&seed(1));
    api.opens(&sealed, &seed(1));
    let log = plugin.ends();
    assert!(log.contains("\"x\\nERROR forged\"") && !log.contains("\nERROR forged"), "{log}");
}

/// What Status takes, and that it asks nobody: nothing of it stands in the tenant's log.
#[test]
fn status_is_answered_from_memory() {
    let Some((place, _plugin, mut api)) = Place::with_cluster(&["--refresh", "5m"]) else { return };
    let before = place.records("read-key");
    assert!(before > 0);
    let mut times: Vec<_> = (0..50).map(|_| api.status()["seconds"].as_f64().unwrap()).collect();
    times.sort_by(f64::total_cmp);
    assert!(times[25] < 0.05, "{times:?}");
    assert_eq!(place.records("read-key"), before);
}

/// An API server is written in Go, and has gRPC's implementation in Go. A compiler for one test is much to ask: `--slow`, or whoever has it.
#[test]
fn the_grpc_of_api_servers_is_answered() {
    const LIBRARY: &str = "/usr/share/gocode";
    let go = std::process::Command::new("go").arg("version").output();
    let is_there = go.is_ok() && std::path::Path::new(LIBRARY).join("src/google.golang.org/grpc").exists();
    if !is_there {
        assert!(
            std::env::var_os("HOLDFAST_SLOW").is_none(),
            "golang-go or golang-google-grpc-dev is not installed"
        );
        eprintln!(
            "SKIPPED: golang-go or golang-google-grpc-dev is not installed; HOLDFAST_SLOW=1 makes that a failure"
        );
        return;
    }
    let place = Place::new();
    let plugin = place.plugin("run", &[]);
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kubernetes/client.go");
    let client = text(&place.dev.path("client"));
    let mut built = std::process::Command::new("go");
    built.args(["build", "-o", &client, source]).env("GO111MODULE", "off").env("GOPATH", LIBRARY);
    let built = built.env("GOFLAGS", "").env("GOCACHE", place.dev.path("cache")).output().unwrap();
    assert!(built.status.success(), "{}", stderr(&built));
    let socket = place.socket("run");
    let mut said = String::new();
    crate::common::wait::until("a plugin that has looked", || {
        said = stdout(&std::process::Command::new(&client).arg(&socket).output().unwrap());
        !said.starts_with("Status Unavailable")
    });
    let expected = "Status OK v2 ok\nEncrypt OK true\nDecrypt 200\nDecrypt InvalidArgument\nNothing Unimplemented\nEncrypt ResourceExhausted\nStatus OK\n";
    assert_eq!(said, expected);
    plugin.ends();
}
