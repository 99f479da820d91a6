//! `holdfast connect` against a real gateway: what it makes, that it makes nothing twice, and that it names each thing that is broken.

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

use common::faketime::elsewhere;
use common::findings::{names, watched};
use common::softhsm::{SoftHsm, start, the_worker};
use common::wait::until;
use common::{Dev, code, stderr, stdout, tool};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use tempfile::TempDir;

const STORE: &str = "
[[aws_xks]]
prefix = \"/dev\"
tenant = \"dev\"
caller = \"aws-kms\"
regions = [\"eu-central-1\"]
keys = [\"payroll\"]
";
const XKS: [&str; 8] =
    ["connect", "aws-xks", "--key", "payroll", "--region", "eu-central-1", "--account", "111122223333"];

/// A dev gateway with a store, whose settings these precede.
fn gateway(settings: &str) -> Dev {
    start(TempDir::new().unwrap(), &format!("{settings}{STORE}"))
}

/// The command with more options; a later one takes the place of the same before.
fn line<'a>(options: &[&'a str]) -> Vec<&'a str> {
    let mut line = XKS.to_vec();
    for option in options.chunk_by(|_, next| !next.starts_with("--")) {
        match line.iter().position(|known| *known == option[0]) {
            Some(place) => line[place + 1] = option[1],
            None => line.extend(option),
        }
    }
    line
}

/// Connects all of it.
fn connected(dev: &Dev) -> String {
    dev.ok(&line(&["--set-policy", "--config", "holdfast.toml"]))
}

fn secret_of(file: &Path) -> String {
    let text: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    text["XksProxyAuthenticationCredential"]["RawSecretAccessKey"].as_str().unwrap().to_owned()
}

fn tokens(dev: &Dev) -> usize {
    let callers: Value = serde_json::from_str(&dev.ok(&["caller", "list", "--json"])).unwrap();
    let caller = callers.as_array().unwrap().iter().find(|caller| caller["name"] == "aws-kms").unwrap();
    caller["tokens"].as_array().unwrap().len()
}

fn policy_version(dev: &Dev) -> u64 {
    let policy: Value = serde_json::from_str(&dev.ok(&["policy", "show", "--json"])).unwrap();
    policy["version"].as_u64().unwrap()
}

#[test]
fn a_fresh_tenant_is_connected_and_nothing_is_made_twice() {
    let dev = gateway("");
    let said = connected(&dev);
    for words in [
        "made: `payroll`, aes-256-gcm",
        "registered: `aws-kms`",
        "issued: `aws-kms.json`",
        "set: version",
        "has the store",
        "takes nothing unsigned",
        "software ACTIVE",
        "AES_256, ENCRYPT and DECRYPT, ENABLED",
        "its integrity value is right",
        "refuses other additional data",
    ] {
        assert!(said.lines().any(|line| line.starts_with('✓') && line.contains(words)), "`{words}`:\n{said}");
    }
    // On a busy machine it may be told with a warning.
    assert!(said.contains("from here; KMS waits 250.0 ms"), "{said}");
    // What is to be pasted has the real values; what the configuration has already is not among it.
    assert!(said.contains("--xks-proxy-uri-path /dev/kms/xks/v1"), "{said}");
    // AWS takes no port and no address: where that is all that is known, the endpoint is left to be filled in.
    let url = &dev.server.url;
    for words in [
        "--xks-proxy-uri-endpoint https://… ",
        "Proxy URI endpoint    https://…, with the name that KMS calls at port 443",
        &format!("`{url}` would not do; `--endpoint https://HOST` puts the right one here"),
        "command line; put the right endpoint in; then",
    ] {
        assert!(said.contains(words), "`{words}`:\n{said}");
    }
    assert!(said.contains("--xks-key-id payroll") && !said.contains("[[aws_xks]]"), "{said}");
    let file = dev.path("aws-kms.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let (secret, issued) = (secret_of(&file), fs::read(&file).unwrap());
    assert!(secret.len() > 20 && !said.contains(&secret));

    // Again, and by each other way: the same, and nothing of it new.
    let version = policy_version(&dev);
    let quiet = |options: &[&str]| {
        let output = dev.run(&line(options));
        let (said, noted) = (stdout(&output), stderr(&output));
        assert_eq!(code(output.status), 0, "{options:?}: {said}{noted}");
        assert!(!said.contains("made: ") && !said.contains("issued: ") && !said.contains("set: "), "{said}");
        assert!(!said.contains(&secret) && !noted.contains(&secret));
        said
    };
    for options in [&["--set-policy"][..], &["--check"], &["--check", "--config", "holdfast.toml"], &[]] {
        let said = quiet(options);
        assert!(said.contains("credential in aws-kms") && said.contains("is right"), "{said}");
    }
    let alone = quiet(&["--self-test-only"]);
    assert!(!alone.contains("── ") && !alone.contains("`aws-kms`"), "{alone}");
    assert_eq!((policy_version(&dev), tokens(&dev)), (version, 1));
    assert_eq!(fs::read(&file).unwrap(), issued);

    // For programs: the same in an object.
    let report: Value = serde_json::from_str(&dev.ok(&line(&["--json"]))).unwrap();
    let findings = report["findings"].as_array().unwrap();
    assert!(findings.iter().all(|finding| finding["verdict"] != "wrong"), "{report}");
    assert!(findings.iter().any(|finding| finding["what"] == "decrypt" && finding["verdict"] == "fine"));
    assert_eq!(report["paste"][0]["to"].as_str().unwrap().split(':').next(), Some("into AWS's console"));

    // AWS has it and the file is gone: the test signs with a credential of its own, and gives it back.
    fs::remove_file(&file).unwrap();
    assert!(quiet(&[]).contains("the test signs with one of its own"));
    quiet(&["--self-test-only"]);
    assert_eq!(tokens(&dev), 1);
    assert!(quiet(&["--check"]).contains("nothing was signed"));
    assert!(!file.exists());
    // Another one beside it, on demand only.
    assert!(dev.ok(&line(&["--new-credential"])).contains("issued: `aws-kms.json`"));
    assert_eq!(tokens(&dev), 2);
    assert_ne!(secret_of(&file), secret);
    names(&dev.run(&line(&["--new-credential"])), 5, &["is there already"]);
    assert_eq!(tokens(&dev), 2);
}

#[test]
fn what_is_not_there_is_named_and_checking_makes_nothing() {
    let dev = gateway("");
    let check = ["--check", "--config", "holdfast.toml"];
    names(
        &dev.run(&line(&check)),
        5,
        &["key `payroll`", "there is no caller `aws-kms`", "run this without `--check`"],
    );
    assert_eq!(dev.ok(&["key", "list"]), "");
    assert!(!dev.path("aws-kms.json").exists());
    // Without being asked for it the policy is shown, and not changed.
    let version = policy_version(&dev);
    let output = dev.run(&line(&[]));
    names(
        &output,
        3,
        &[
            "may not read-key, encrypt, decrypt with `payroll`",
            "`--set-policy`",
            "403 `AccessDeniedException`",
        ],
    );
    let said = stdout(&output);
    assert!(said.contains("like \"arn:aws:kms:eu-central-1:111122223333:key/*\""), "{said}");
    assert_eq!(policy_version(&dev), version);
    // What is shown is what sets it right.
    let (_, shown) = said.split_once("as its custodian\n").unwrap();
    let shown = shown.split("\n── ").next().unwrap();
    let policy = dev.file("policy.cedar", format!("{}\n{shown}", dev.ok(&["policy", "show"])).as_bytes());
    dev.ok(&["policy", "set", &policy]);
    dev.ok(&line(&["--config", "holdfast.toml"]));
    // A part that is there already is not added again.
    dev.ok(&["key", "create", "other", "--algorithm", "xaes-256-gcm"]);
    names(
        &dev.run(&line(&["--key", "other"])),
        2,
        &["`other` is xaes-256-gcm to encrypt, and aes-256-gcm to encrypt is needed"],
    );
}

#[test]
fn each_thing_that_is_broken_is_named_with_its_remedy() {
    let dev = gateway("");
    connected(&dev);
    let config = ["--config", "holdfast.toml"];
    let with = |options: &[&str]| dev.run(&line(options));

    // The store.
    let output = with(&["--prefix", "/other", "--credential", "other.json"]);
    names(&output, 5, &["404 `InvalidUriPathException`", "the `prefix` \"/other\""]);
    assert!(
        stdout(&output).contains("[[aws_xks]]\nprefix = \"/other\"\ntenant = \"dev\"\ncaller = \"aws-kms\"")
    );
    names(&with(&["--prefix", "/other"]), 5, &["is for the path `/dev/kms/xks/v1`", "--prefix /dev"]);
    let output = with(&["--region", "us-east-1"]);
    names(&output, 3, &["401 `AuthenticationFailedException`", "`regions` must have `us-east-1`"]);
    // What another region is permitted is said, and what this one lacks is for it alone.
    watched(&stdout(&output), "`aws-kms-uses-payroll` lets `aws-kms` encrypt, decrypt with `payroll` under");
    assert!(stdout(&output).contains("like \"arn:aws:kms:us-east-1:"), "{}", stdout(&output));
    let output = dev.run(&line(&["--region", "us-east-1", "--set-policy", config[0], config[1]]));
    names(
        &output,
        5,
        &["called from eu-central-1, not from `us-east-1`", "add `us-east-1` to its `regions`"],
    );
    let output = with(&["--caller", "other", "--set-policy", config[0], config[1]]);
    names(
        &output,
        5,
        &["its caller `aws-kms`", "name that caller with `--caller`", "401 `AuthenticationFailedException`"],
    );
    names(
        &with(&["--key", "second", "--set-policy"]),
        5,
        &["404 `KeyNotFoundException`", "add `second` to the `keys`"],
    );
    names(&with(&["--key", "second", config[0], config[1]]), 5, &["has not the key `second`"]);

    // A store that AWS alone gets a handshake with is compared, and cannot be tried.
    let guard = "server_name = \"xks.example.org\"\nclient_ca_file = \"roots.pem\"\nclient_names = [\"cks.kms.eu-central-1.amazonaws.com\"]\n";
    let guarded = dev.file("guarded.toml", format!("{STORE}{guard}").as_bytes());
    let said = dev.ok(&line(&["--config", &guarded]));
    assert!(
        said.contains("has the store, mutual TLS as `xks.example.org`")
            && said.contains("left out: mutual TLS"),
        "{said}"
    );

    // An order.
    dev.ok(&["key", "suspend", "payroll"]);
    names(
        &with(&[]),
        5,
        &["`payroll` is suspended", "holdfast key resume payroll", "ENCRYPT and DECRYPT, DISABLED"],
    );
    dev.ok(&["key", "resume", "payroll"]);
    dev.ok(&["caller", "suspend", "aws-kms"]);
    names(
        &with(&[]),
        5,
        &["`aws-kms` is suspended", "holdfast caller resume aws-kms", "400 `InvalidStateException`"],
    );
    dev.ok(&["caller", "resume", "aws-kms"]);
    dev.ok(&["tenant", "suspend"]);
    names(&with(&[]), 5, &["`dev` is suspended", "holdfast tenant resume"]);
    dev.ok(&["tenant", "resume"]);
    dev.ok(&line(&[]));

    // The policy: what forbids is named, and nothing is added in vain.
    let before = dev.ok(&["policy", "show"]);
    let forbid =
        "@id(\"no-decryption\")\nforbid (principal, action == Holdfast::Action::\"decrypt\", resource);\n";
    let policy = dev.file("policy.cedar", format!("{before}\n{forbid}").as_bytes());
    dev.ok(&["policy", "set", &policy]);
    let version = policy_version(&dev);
    names(
        &with(&["--set-policy"]),
        3,
        &["it is denied by `no-decryption`", "holdfast policy show", "403 `AccessDeniedException`"],
    );
    assert_eq!(policy_version(&dev), version);
    dev.ok(&["policy", "restore", &(version - 1).to_string()]);

    // One that looks at what KMS says is decided here as it is there: the test's own principal is not payroll's.
    let narrow = "@id(\"payroll-alone\")\nforbid (principal == Holdfast::Caller::\"aws-kms\", action, resource)\nunless { context.request.hasTag(\"awsPrincipalArn\") && context.request.getTag(\"awsPrincipalArn\") like \"*:role/Payroll*\" };\n";
    let policy = dev.file("policy.cedar", format!("{before}\n{narrow}").as_bytes());
    dev.ok(&["policy", "set", &policy]);
    names(&with(&[]), 3, &["it is denied by `payroll-alone`", "403 `AccessDeniedException`"]);
    let wide = narrow.replace("role/Payroll", "role/holdfast-connect");
    let policy = dev.file("policy.cedar", format!("{before}\n{wide}").as_bytes());
    dev.ok(&["policy", "set", &policy]);
    dev.ok(&line(&[]));
    let policy = dev.file("policy.cedar", before.as_bytes());
    dev.ok(&["policy", "set", &policy]);

    // The credential.
    let file = dev.path("aws-kms.json");
    let list: Value = serde_json::from_str(&dev.ok(&["caller", "list", "--json"])).unwrap();
    let token = list.as_array().unwrap().iter().find(|caller| caller["name"] == "aws-kms").unwrap()["tokens"]
        [0]["id"]
        .clone();
    dev.ok(&["caller", "revoke-token", "aws-kms", token.as_str().unwrap()]);
    names(&with(&[]), 4, &["is no credential of `aws-kms`", "`--new-credential`"]);
    let secret = secret_of(&file);
    fs::write(&file, fs::read_to_string(&file).unwrap().replace('}', "")).unwrap();
    let output = with(&[]);
    names(&output, 2, &["no file of an external key store's path and credential"]);
    assert!(!stdout(&output).contains(&secret) && !stderr(&output).contains(&secret));
}

#[test]
fn a_gateway_without_stores_and_none_at_all_are_told_apart() {
    let dev = Dev::start();
    let output = dev.run(&line(&["--set-policy"]));
    names(&output, 5, &["is no external key store", "add the `[[aws_xks]]` that is shown"]);
    assert!(stdout(&output).contains("keys = [\"payroll\"]"), "{}", stdout(&output));
    let nobody = ["--endpoint", "https://127.0.0.1:1"];
    names(&dev.run(&line(&nobody)), 7, &["nobody listens at 127.0.0.1:1"]);
    assert!(dev.fails(&line(&["--account", "1"]), 2).contains("12 digits"));
}

#[test]
fn clocks_that_are_apart_are_named() {
    if !tool("faketime") {
        return;
    }
    let dev = gateway("");
    connected(&dev);
    let at = |offset: &str| elsewhere(dev.command(&line(&["--self-test-only"])), offset).output().unwrap();
    let output = at("+400s");
    names(
        &output,
        4,
        &["300 s are let in", "synchronise the gateway's clock", "401 `AuthenticationFailedException`"],
    );
    let output = at("+100s");
    assert_eq!(code(output.status), 0, "{}{}", stdout(&output), stderr(&output));
    assert!(stdout(&output).lines().any(|line| line.starts_with("! clock")), "{}", stdout(&output));
}

#[test]
fn a_device_that_is_down_is_named() {
    if !tool("softhsm2-util") {
        return;
    }
    let token = SoftHsm::new();
    let dev = gateway(&token.settings_of("hsm-a"));
    until("the token is there", || dev.server.admin("/metrics").contains("holdfast_ready 1"));
    assert!(connected(&dev).contains("hsm-a ACTIVE"));
    let worker = the_worker(dev.server.pid()).to_string();
    fs::rename(token.path("tokens"), token.path("away")).unwrap();
    let killed = std::process::Command::new("kill").args(["-9", &worker]).status().unwrap();
    assert!(killed.success());
    until("it is noticed", || dev.server.admin("/metrics").contains("holdfast_ready 0"));
    names(&dev.run(&line(&[])), 7, &["no device works: hsm-a UNAVAILABLE", "holdfast pool status"]);
    fs::rename(token.path("away"), token.path("tokens")).unwrap();
    until("it is back", || code(dev.run(&line(&["--self-test-only"])).status) == 0);
}

const KUBERNETES: [&str; 2] = ["connect", "kubernetes"];

fn kubernetes<'a>(options: &[&'a str]) -> Vec<&'a str> {
    KUBERNETES.iter().chain(options).copied().collect()
}

#[test]
fn a_cluster_is_connected_with_and_without_its_plugin() {
    let dev = Dev::start();
    let socket = common::text(&dev.path("run/kms.sock"));
    let at = |options: &[&'static str]| {
        let mut line: Vec<String> = kubernetes(options).into_iter().map(str::to_owned).collect();
        line.extend(["--socket".to_owned(), socket.clone()]);
        dev.run(&line.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let ok = |options: &[&'static str]| {
        let output = at(options);
        assert_eq!(code(output.status), 0, "{options:?}: {}{}", stdout(&output), stderr(&output));
        stdout(&output)
    };
    names(&at(&["--check"]), 5, &["key `kubernetes`", "there is no caller `kubernetes-kms`"]);
    let output = at(&[]);
    names(&output, 3, &["may not read-key, encrypt, decrypt with `kubernetes`"]);
    assert!(stdout(&output).contains("== \"kubernetes-kms-v2\""), "{}", stdout(&output));
    // No plugin serves: with its certificate, which was made, at the gateway.
    let said = ok(&["--set-policy"]);
    for words in ["set: version", "read-key", "gives the seed back", "an API server waits 3 s"] {
        assert!(said.lines().any(|line| line.starts_with('✓') && line.contains(words)), "`{words}`:\n{said}");
    }
    assert!(
        said.contains(&format!("HOLDFAST_URL={}", dev.server.url))
            && said.contains(&format!("endpoint: unix://{socket}"))
    );
    let key = dev.path("kubernetes-kms.key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let (made, version) = (fs::read(&key).unwrap(), policy_version(&dev));
    ok(&["--set-policy"]);
    ok(&["--check"]);
    assert_eq!((fs::read(&key).unwrap(), policy_version(&dev)), (made, version));

    // One serves: as an API server.
    let plugin = ["kubernetes-kms", "--refresh", "1s", "--socket", &socket];
    let certificate = ["--cert", "kubernetes-kms.pem", "--cert-key", "kubernetes-kms.key"];
    let mut command = dev.command(&[&plugin[..], &certificate].concat());
    command.env_remove("HOLDFAST_TOKEN");
    let plugin = common::Server::start(command);
    until("the plugin has seen the gateway", || code(at(&["--self-test-only"]).status) == 0);
    let said = ok(&["--self-test-only"]);
    assert!(!said.contains("── ") && said.contains("Status") && said.contains("under holdfast:"), "{said}");
    dev.ok(&["key", "suspend", "kubernetes"]);
    names(&at(&[]), 5, &["`kubernetes` is suspended", "holdfast key resume kubernetes"]);
    until("Status tells it", || {
        let said = stdout(&at(&["--self-test-only"]));
        said.lines().any(|line| {
            line.starts_with("✗ Status") && line.contains("gRPC code 9") && line.contains("is suspended")
        })
    });
    dev.ok(&["key", "resume", "kubernetes"]);
    plugin.ends();

    // It left its socket to nobody.
    std::os::unix::net::UnixListener::bind(&socket).unwrap();
    names(&at(&["--self-test-only"]), 7, &["nobody answers on", "systemctl status holdfast-kms"]);
    fs::remove_file(&socket).unwrap();
    let before = dev.ok(&["policy", "show"]);
    let forbid =
        "@id(\"nobody-decrypts\")\nforbid (principal, action == Holdfast::Action::\"decrypt\", resource);\n";
    let file = dev.file("policy.cedar", format!("{before}\n{forbid}").as_bytes());
    dev.ok(&["policy", "set", &file]);
    names(&at(&["--set-policy"]), 3, &["it is denied by `nobody-decrypts`", "not permitted"]);
}
