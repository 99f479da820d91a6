//! `holdfast connect google-cse` against a real gateway: what it makes, that it makes nothing twice, and that it names each thing that is broken.

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
use common::impostor::{Asked, Impostor};
use common::log::closing;
use common::wait::until;
use common::{Dev, code, holdfast, issuer, stderr, stdout, tool};
use holdfast_wire::cse::ORIGIN;
use holdfast_wire::cse::claim::Application;
use serde_json::{Value, json};
use std::process::Output;
use tempfile::TempDir;

const URL: &str = "https://kacls.example.org/cse";
const IDP: &str = "https://idp.example.org";
const PEER: &str = "https://old-kacls.example.org/cse";
/// Both tokens in all shapes, and Google's own log.
const WRITTEN: &str = r#"
times = {"iat": now, "exp": now + 3600}
user = {**times, "iss": "https://idp.example.org", "aud": "cse-client", "email": "ana@idp.example.org", "google_email": "ana@example.org", "department": "legal"}
google = {**times, "iss": "gsuitecse-tokenissuer-drive@system.gserviceaccount.com", "aud": "cse-authorization", "email": "Ana@example.org",
          "kacls_url": "https://kacls.example.org/cse", "resource_name": "//googleapis.com/drive/files/1a2b3c", "role": "writer", "perimeter_id": ""}
def token(name, claims, **more):
    write(name, {**claims, **more})
token("user", user)
token("google", google)
token("user.late", user, exp=now - 100)
token("user.elsewhere", user, aud="other-client")
token("user.strange", user, iss="https://strange.example")
token("user.bob", user, google_email="bob@example.org")
token("user.billing", user, department="billing")
token("google.late", google, exp=now - 100)
token("google.early", google, iat=now + 1000)
token("google.elsewhere", google, kacls_url="https://kacls.evil.example/cse")
token("google.owner", google, kacls_owner_domain="other.example")
token("google.reader", google, role="reader")
token("google.upgrader", google, role="upgrader")
token("google.gmail", google, iss="gsuitecse-tokenissuer-gmail@system.gserviceaccount.com")
token("google.audience", google, aud="other")
token("google.delegated", google, delegated_to="room@example.org")
token("google.guest", google, email_type="customer-idp")
def activity(after, name, doc):
    at = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(now + after))
    parameters = [{"name": "doc_id", "value": doc}, {"name": "is_encrypted", "boolValue": True}]
    return {"kind": "admin#reports#activity", "id": {"time": at, "applicationName": "drive"}, "actor": {"email": "ana@example.org"},
            "events": [{"type": "access", "name": name, "parameters": parameters}]}
page = {"kind": "admin#reports#activities", "items": [activity(7200, "rename", "last"), activity(-7200, "rename", "first")]}
open("activities", "w").write(json.dumps(page) + json.dumps(activity(0, "view", "1a2b3c")))
open("activities.early", "w").write(json.dumps({**activity(0, "rename", "first"), "id": {"time": "2001-02-03T04:05:06.000Z"}}))
open("activities.lacking", "w").write(json.dumps(page) + json.dumps(activity(3600, "download", "1a2b3c")))
"#;

const TABLE: &str = r#"
[[google_cse]]
kacls_url = "https://kacls.example.org/cse"
name = "trial"
tenant = "dev"
caller = "google-cse"
key = "workspace"
owner_domains = ["example.org"]
audiences = ["cse-client"]
providers = ["https://idp.example.org"]
signing_keys = ["workspace-signing"]
take_from = ["https://old-kacls.example.org/cse"]
claims = ["department"]
"#;

/// A dev gateway with a service, and tokens beside its configuration.
fn gateway(table: &str) -> Dev {
    let issuers = Application::ALL.iter().map(|application| application.issuer()).chain([IDP]);
    issuer::gateway(issuers, WRITTEN, table)
}

/// The command with more options; a later one takes the place of the same before.
fn line<'a>(options: &[&'a str]) -> Vec<&'a str> {
    let mut line = vec!["connect", "google-cse", "--kacls-url", URL, "--provider", IDP];
    line.extend(["--audience", "cse-client", "--owner-domain", "example.org"]);
    line.extend(["--signing-key", "workspace-signing", "--take-from", PEER]);
    common::with(line, options)
}

const CONFIG: [&str; 2] = ["--config", "holdfast.toml"];
const TOKENS: [&str; 4] = ["--authentication-token-file", "user", "--authorization-token-file", "google"];

fn connected(dev: &Dev) -> String {
    dev.ok(&line(&[&["--set-policy"][..], &CONFIG, &TOKENS].concat()))
}

#[test]
fn a_fresh_tenant_is_connected_and_nothing_is_made_twice() {
    let dev = gateway(TABLE);
    let said = connected(&dev);
    fine(
        &said,
        &[
            "has the service",
            "made: `workspace`, xaes-256-gcm",
            "made: `workspace-signing`, rsa-3072",
            "registered: `google-cse`",
            "`https://idp.example.org`, `https://kacls.example.org/cse`, `apps-security-cse-kaclscommunication@",
            "set: version",
            "encrypt and decrypt with `workspace`, and sign with `workspace-signing`",
            "Holdfast ",
            "pages of `https://client-side-encryption.google.com` may post, and no others",
            "1 keys",
            "wrong tokens         are refused, and the page may read so",
            "of `Ana@example.org`, writer in drive, for `//googleapis.com/drive/files/1a2b3c`",
            "is refused, of either token",
            "gives the key back, and refuses a damaged one",
            "`gsuitecse-tokenissuer-drive@system.gserviceaccount.com`: 2 keys, in its file, read from here",
        ],
    );
    watched(&said, "a name under which nobody answers this machine would not do");
    // What is to be pasted has the real values; what the configuration has already is not among it.
    assert!(
        said.contains("\nURL   https://kacls.example.org/cse\n") && !said.contains("[[google_cse]]"),
        "{said}"
    );
    let well_known = "{\n  \"name\": \"https://idp.example.org\",\n  \"client_id\": \"cse-client\",\n  \"discovery_uri\": \"https://idp.example.org/.well-known/openid-configuration\"\n}";
    assert!(said.contains(well_known), "{said}");
    // It stands in the log as what it was.
    let found = dev.ok(&["audit", "search", "--action", "decrypt", "--json"]);
    assert!(
        found.contains("holdfast connect") && found.contains("//googleapis.com/drive/files/1a2b3c"),
        "{found}"
    );

    let version = dev.policy_version();
    let token = std::fs::read_to_string(dev.path("user")).unwrap();
    let quiet = |options: &[&str]| {
        let output = dev.run(&line(options));
        let (said, noted) = (stdout(&output), stderr(&output));
        assert_eq!(code(output.status), 0, "{options:?}: {said}{noted}");
        assert!(!["made: ", "registered: ", "set: "].iter().any(|made| said.contains(made)), "{said}");
        assert!(!said.contains(&token) && !noted.contains(&token));
        said
    };
    for options in [&["--set-policy"][..], &["--check", CONFIG[0], CONFIG[1]], &[]] {
        watched(&quiet(options), "nothing was wrapped: both tokens are issued by others");
    }
    let alone = quiet(&[&["--self-test-only"][..], &TOKENS].concat());
    assert!(!alone.contains("── ") && !alone.contains("`google-cse`"), "{alone}");
    fine(&alone, &["gives the key back"]);
    let upgrader = ["--authorization-token-file", "google.upgrader"];
    watched(&quiet(&[&TOKENS[..2], &upgrader].concat()), "an `upgrader` wraps and does not unwrap");
    assert_eq!(dev.policy_version(), version);

    // For programs: the same in an object.
    let all = [&["--json"][..], &TOKENS].concat();
    let report: Value = serde_json::from_str(&dev.ok(&line(&all))).unwrap();
    let findings = report["findings"].as_array().unwrap();
    assert!(findings.iter().all(|finding| finding["verdict"] != "wrong"), "{report}");
    assert!(findings.iter().any(|finding| finding["what"] == "unwrap" && finding["verdict"] == "fine"));
    assert!(report["paste"][0]["to"].as_str().unwrap().contains("External key service"));
}

/// Google's own record, joined with ours by user, file and time.
#[test]
fn what_was_done_is_held_against_google_s_activities() {
    let dev = gateway(TABLE);
    connected(&dev);
    let log = dev.data().join("audit/dev");
    until("both uses of the key are published", || {
        let done = closing(&log).into_iter().filter(|event| event["outcome"] == "success");
        done.filter(|event| {
            event["protocol"]["says"]["resource_name"] == "//googleapis.com/drive/files/1a2b3c"
        })
        .count()
            == 2
    });
    let reconcile = |file: &str, within: &str| {
        dev.run(&["audit", "reconcile", "--google-activities", file, "--within", within])
    };
    let output = reconcile("activities", "10min");
    assert_eq!(code(output.status), 0, "{}", stderr(&output));
    assert!(stderr(&output).contains("2 uses of keys with an activity of the same user and file"));
    let output = reconcile("activities.lacking", "10min");
    assert_eq!(code(output.status), 6, "{}", stderr(&output));
    assert!(stderr(&output).contains("2 uses of keys have no activity at Google"), "{}", stderr(&output));
    for words in ["only here", "only at Google", "unwrap", "download", "ana@example.org", "1a2b3c"] {
        assert!(stdout(&output).contains(words), "{words}: {}", stdout(&output));
    }
    assert_eq!(code(reconcile("activities.lacking", "65min").status), 0);
    // The time that the files speak of is said, and what lies outside it counted.
    let output = reconcile("activities.early", "10min");
    assert_eq!((code(output.status), stdout(&output)), (0, String::new()), "{}", stderr(&output));
    let words = "0 uses of keys before that time and 2 after it were not compared";
    assert!(stderr(&output).contains(words), "{}", stderr(&output));
    let early = ["audit", "reconcile", "--google-activities", "activities.early", "--json"];
    let told: Value = serde_json::from_str(&dev.ok(&early)).unwrap();
    let time = told["from"].as_str().unwrap();
    assert!(time.starts_with("2001-02-03T04:05:06"), "{told}");
    let expected = json!({"from": time, "to": time, "both": 0, "before": 0, "after": 2, "found": []});
    assert_eq!(told, expected);
    dev.fails(&["audit", "reconcile", "--google-activities", "keys.json"], 2);
}

#[test]
fn what_is_not_there_is_named_and_checking_makes_nothing() {
    let dev = gateway(TABLE);
    names(
        &dev.run(&line(&[&["--check"][..], &CONFIG].concat())),
        5,
        &[
            "there is no key `workspace`",
            "there is no key `workspace-signing`",
            "there is no caller `google-cse`",
            "no key is published that its own tokens verify with",
        ],
    );
    assert_eq!(dev.ok(&["key", "list"]), "");
    // Without being asked for it the policy is shown, and not changed.
    let version = dev.policy_version();
    let output = dev.run(&line(&TOKENS));
    let lacking = "may not encrypt, decrypt with `workspace`, sign with `workspace-signing`";
    names(&output, 3, &[lacking, "`--set-policy`", "to wrap: 403", "holdfast audit search --operation "]);
    assert_eq!(dev.policy_version(), version);
    // What is shown is what sets it right.
    let said = stdout(&output);
    let (_, shown) = said.split_once("as its custodian\n").unwrap();
    let shown = shown.split("\n── ").next().unwrap();
    dev.add_policy(&format!("\n{shown}"));
    dev.ok(&line(&TOKENS));
    // The operation that it names is in the log.
    let (_, id) = said.split_once("audit search --operation ").unwrap();
    let found = dev.ok(&["audit", "search", "--operation", &id[..26], "--json"]);
    assert!(found.contains("\"denied\""), "{found}");
}

#[test]
fn each_thing_that_is_broken_is_named_with_its_remedy() {
    let dev = gateway(TABLE);
    connected(&dev);
    let with = |options: &[&str]| dev.run(&line(options));
    let and = |options: &[&'static str]| with(&[options, &CONFIG].concat());

    // The service.
    let output = and(&["--kacls-url", "https://other.example.org/v1"]);
    names(
        &output,
        5,
        &[
            "no `[[google_cse]]` has the kacls_url `https://other.example.org/v1`",
            "whoever answers `https://other.example.org/v1` (status 401) is no key service",
            "`google-cse` is not registered for anybody of `https://other.example.org/v1`",
        ],
    );
    let shown = "[[google_cse]]\nkacls_url = \"https://other.example.org/v1\"\nown_host = true\ntenant = \"dev\"\ncaller = \"google-cse\"\nkey = \"workspace\"\nowner_domains = [\"example.org\"]\n";
    assert!(stdout(&output).contains(shown), "{}", stdout(&output));
    for (options, problem, remedy) in [
        (
            ["--owner-domain", "other.example"],
            "no `other.example` among its `owner_domains`",
            "add `other.example`",
        ),
        (["--audience", "other"], "no `other` among its `audiences`", "add `other`"),
        (["--provider", "https://o"], "no `https://o` among its `providers`", "add `https://o`"),
        (["--take-from", "https://o"], "no `https://o` among its `take_from`", "add `https://o`"),
        (["--give-to", "https://o"], "no `https://o` among its `give_to`", "add `https://o`"),
        (["--key", "second"], "wraps with `workspace`, not with `second`", "`earlier_keys`"),
        (
            ["--caller", "other"],
            "is of `dev` and its caller `google-cse`",
            "name that caller with `--caller`",
        ),
    ] {
        names(&and(&[&options[..], &["--check"]].concat()), 5, &[problem, remedy]);
    }
    let output = and(&["--give-to", "https://new-kacls.example.org"]);
    names(
        &output,
        5,
        &[
            "it has no `privilegedunwrap`",
            "set `give_to`",
            "not registered for anybody of `https://new-kacls.example.org`",
            "believes no issuer `https://new-kacls.example.org`",
        ],
    );
    let output = with(&["--signing-key", "another", "--set-policy"]);
    names(&output, 5, &["`another` is not among the keys that are published", "`signing_keys`"]);
    names(&with(&["--endpoint", "https://127.0.0.1:1"]), 7, &["nobody listens at 127.0.0.1:1"]);

    // The tokens.
    for (user, google, exit, words) in [
        ("user.late", "google", 4, &["`--authentication-token-file` has expired 1", "get another one"][..]),
        (
            "user.elsewhere",
            "google",
            4,
            &["is for `other-client` (`aud`), not for `cse-client`", "`--audience`"],
        ),
        ("user.strange", "google", 4, &["is of `https://strange.example`, not of", "`--provider`"]),
        ("user.bob", "google", 3, &["is of `Ana@example.org`, and the other one of `bob@example.org`"]),
        ("user", "google.late", 4, &["`--authorization-token-file` has expired 1"]),
        ("user", "google.early", 4, &["begins in 9", "synchronise this machine's clock"]),
        (
            "user",
            "google.elsewhere",
            5,
            &["is for the key service `https://kacls.evil.example/cse`", "admin console"],
        ),
        ("user", "google.owner", 5, &["is of the domain `other.example`", "`owner_domains`"]),
        ("user", "google.reader", 2, &["lets nobody wrap: its role is `reader`"]),
        ("user", "google.gmail", 4, &["is of `gsuitecse-tokenissuer-gmail@"]),
        ("user", "google.audience", 4, &["is for `other` (`aud`), not for `cse-authorization`"]),
        ("user", "google.delegated", 2, &["has `delegated_to`"]),
        ("user", "google.guest", 3, &["to wrap: 403", "says which check failed"]),
    ] {
        let tokens = ["--authentication-token-file", user, "--authorization-token-file", google];
        names(&with(&tokens), exit, words);
    }
    let file = dev.file("none", b"sEcReT no token");
    let output = with(&["--authentication-token-file", &file, "--authorization-token-file", "google"]);
    assert_eq!(code(output.status), 2);
    assert!(stderr(&output).contains("holds no token") && !stderr(&output).contains("sEcReT"));

    // The keys.
    dev.ok(&["key", "create", "old", "--algorithm", "aes-256-kwp", "--purpose", "wrap"]);
    names(&with(&["--key", "old"]), 2, &["`old` is aes-256-kwp to wrap", "name another key with `--key`"]);
    dev.ok(&["key", "create", "rsa", "--algorithm", "rsa-2048", "--purpose", "encrypt"]);
    names(&with(&["--key", "rsa"]), 2, &["`rsa` is rsa-2048, which wraps nothing here"]);
    names(&with(&["--signing-key", "workspace"]), 2, &["to sign is needed", "with `--signing-key`"]);

    // An order.
    dev.ok(&["key", "suspend", "workspace"]);
    names(&with(&TOKENS), 5, &["`workspace` is suspended", "holdfast key resume workspace", "to wrap: 403"]);
    dev.ok(&["key", "resume", "workspace"]);
    dev.ok(&["key", "suspend", "workspace-signing"]);
    names(&with(&[]), 5, &["`workspace-signing` is suspended", "no key is published"]);
    dev.ok(&["key", "resume", "workspace-signing"]);
    dev.ok(&["caller", "suspend", "google-cse"]);
    names(&with(&[]), 5, &["`google-cse` is suspended", "holdfast caller resume google-cse"]);
    dev.ok(&["caller", "resume", "google-cse"]);
    dev.ok(&["tenant", "suspend"]);
    names(&with(&[]), 5, &["`dev` is suspended", "holdfast tenant resume"]);
    dev.ok(&["tenant", "resume"]);

    // Registered for less than the configuration takes tokens of.
    dev.ok(&["caller", "put", "google-cse", "--any-subject", "--issuer", URL]);
    let tokens = [&TOKENS[..], &CONFIG].concat();
    names(
        &with(&tokens),
        4,
        &[
            "is not registered for anybody of `https://idp.example.org`",
            "holdfast caller put google-cse --any-subject --issuer apps-security",
            "to wrap: 401",
            "`google-cse` be registered for the provider",
        ],
    );
    let migration = Application::Migration.issuer();
    let put = ["caller", "put", "google-cse", "--any-subject", "--issuer", URL, "--issuer", IDP, "--issuer"];
    dev.ok(&[&put[..], &[migration]].concat());
    dev.ok(&line(&tokens));

    // The policy: what forbids is named, and nothing is added in vain; claims that policies look at are asked with.
    let before = dev.ok(&["policy", "show"]);
    let forbid =
        "@id(\"no-decryption\")\nforbid (principal, action == Holdfast::Action::\"decrypt\", resource);\n";
    dev.set_policy(&format!("{before}\n{forbid}"));
    let version = dev.policy_version();
    let output = with(&[&["--set-policy"][..], &TOKENS].concat());
    names(&output, 3, &["it is denied by `no-decryption`", "to unwrap: 403"]);
    assert_eq!(dev.policy_version(), version);
    let lawyers = "@id(\"lawyers\")\nforbid (principal == Holdfast::Caller::\"google-cse\", action, resource)\nunless { context.request.hasTag(\"claim.department\") && context.request.getTag(\"claim.department\") == \"legal\" };\n";
    dev.set_policy(&format!("{before}\n{lawyers}"));
    dev.ok(&line(&tokens));
    let billing = ["--authentication-token-file", "user.billing", TOKENS[2], TOKENS[3], CONFIG[0], CONFIG[1]];
    names(&with(&billing), 3, &["it is denied by `lawyers`", "to wrap: 403"]);
}

/// Whoever wrote conditions gets no permit beside them that has none, whomever they are written for.
#[test]
fn a_policy_with_conditions_is_left_as_it_is() {
    let dev = gateway(TABLE);
    let before = dev.ok(&["policy", "show"]);
    connected(&dev);
    const ANA: &str =
        "context.request.hasTag(\"email\") && context.request.getTag(\"email\") == \"Ana@example.org\"";
    const WRAPS: &str = "[Holdfast::Action::\"encrypt\", Holdfast::Action::\"decrypt\"]";
    let caller = "principal == Holdfast::Caller::\"google-cse\"";
    let sign =
        format!("@id(\"signs\")\npermit ({caller}, action == Holdfast::Action::\"sign\", resource);\n");
    for (scope, condition) in [
        (format!("{caller}, action in {WRAPS}, resource == Holdfast::Key::\"workspace\""), ANA.to_owned()),
        // Named nowhere, or not in the scope.
        ("principal, action, resource".to_owned(), ANA.to_owned()),
        (
            "principal, action in [Holdfast::Action::\"use\"], resource".to_owned(),
            format!("resource == Holdfast::Key::\"workspace\" && {ANA}"),
        ),
    ] {
        let permit = format!("@id(\"for-ana\")\npermit ({scope})\nwhen {{ {condition} }};\n");
        dev.set_policy(&format!("{before}\n{permit}\n{sign}"));
        let version = dev.policy_version();
        let said = dev.ok(&line(&["--set-policy"]));
        watched(&said, "`for-ana` lets `google-cse` encrypt, decrypt with `workspace` under conditions");
        assert_eq!(dev.policy_version(), version);
        // She meets them.
        fine(&dev.ok(&line(&[&["--set-policy"][..], &TOKENS].concat())), &["gives the key back"]);
        assert_eq!(dev.policy_version(), version);
    }

    // What is lacking besides is added, and that alone.
    let permit =
        format!("@id(\"for-ana\")\npermit ({caller}, action in {WRAPS}, resource)\nwhen {{ {ANA} }};\n");
    dev.set_policy(&format!("{before}\n{permit}"));
    let output = dev.run(&line(&["--check"]));
    names(&output, 3, &["`google-cse` may not sign with `workspace-signing`"]);
    assert!(stdout(&output).contains("google-cse-signs-with-workspace-signing"), "{}", stdout(&output));
    let version = dev.policy_version();
    let said = dev.ok(&line(&["--set-policy"]));
    fine(&said, &["lets `google-cse` sign with `workspace-signing`"]);
    watched(&said, "`for-ana` lets `google-cse` encrypt, decrypt with `workspace` under conditions");
    assert_eq!(dev.policy_version(), version + 1);
    assert!(!dev.ok(&["policy", "show"]).contains("wraps-with"));
    // A condition on what never changes is none that somebody else could meet.
    let native = format!(
        "@id(\"native\")\npermit ({caller}, action in {WRAPS}, resource)\nwhen {{ context.protocol == \"native\" }};\n"
    );
    dev.set_policy(&format!("{before}\n{native}\n{sign}"));
    fine(&dev.ok(&line(&["--set-policy"])), &["set: version"]);
    assert!(dev.ok(&["policy", "show"]).contains("google-cse-wraps-with-workspace"));
}

#[test]
fn a_service_that_browsers_cannot_use_is_named() {
    let dev = gateway(&format!("{TABLE}origins = [\"https://other.example\"]\n"));
    names(
        &dev.run(&line(&["--set-policy"])),
        5,
        &["may read nothing: browsers refuse to ask", "add it to `origins`"],
    );
    let dev = gateway(&format!("{TABLE}request_headers = [\"X-Other\"]\n"));
    names(
        &dev.run(&line(&["--set-policy"])),
        5,
        &["no `Content-Type` is allowed", "add it to `request_headers`"],
    );
}

/// Asks an impostor, who needs not be a gateway's name, whom to trust is in this file.
fn ask(url: &str, certificates: &str, more: &[&str]) -> Output {
    let directory = TempDir::new().unwrap();
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, certificates).unwrap();
    let ca = ca.display().to_string();
    let own = ["--self-test-only", "--url", url, "--cacert", &ca, "--tenant", "dev"];
    holdfast(line(&[&own, more].concat())).output().unwrap()
}

const STATUS: &str = r#"{"server_type":"KACLS","vendor_id":"Holdfast","version":"1","name":"","operations_supported":["status","certs","wrap","unwrap","delegate","rewrap"]}"#;

#[test]
fn a_name_that_leads_elsewhere_is_named() {
    let impostor = |status: &'static str| {
        Impostor::start(move |_: &Asked| ("200 OK".to_owned(), vec![], status.to_owned()))
    };
    let (asked, same) = (impostor(STATUS), impostor(STATUS));
    let other = impostor(r#"{"server_type":"KACLS","name":"other"}"#);
    for (named, leads_there) in [(&same, true), (&other, false)] {
        let certificates = format!("{}{}", asked.certificate, named.certificate);
        let kacls = format!("{}/cse", named.url);
        let said = stdout(&ask(&asked.url, &certificates, &["--kacls-url", &kacls]));
        let (_, port) = named.url.rsplit_once(':').unwrap();
        watched(
            &said,
            &format!("port {port}, an address instead of a name, a certificate of an authority that"),
        );
        assert_ne!(said.contains("another service than this one that answers there"), leads_there, "{said}");
    }
}

#[test]
fn clocks_that_are_apart_are_named() {
    if !tool("faketime") {
        return;
    }
    let dev = gateway(TABLE);
    connected(&dev);
    let mut libraries = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let library = libraries.find_map(|entry| {
        Some(entry.path().join("faketime/libfaketimeMT.so.1")).filter(|path| path.exists())
    });
    let mut command = dev.command(&line(&["--self-test-only"]));
    command.env("LD_PRELOAD", library.unwrap()).env("FAKETIME", "+100s");
    names(&command.output().unwrap(), 4, &["60 s are let in", "synchronise the gateway's clock"]);
}

/// What stands in front of a gateway may change what it says.
#[test]
fn answers_that_were_changed_on_the_way_are_named() {
    const REFUSAL: &str = r#"{"code":401,"message":"the caller is not known here","details":"request 0"}"#;
    let headers = |all: &[(&str, &str)]| -> Vec<(String, String)> {
        all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let readable = headers(&[("access-control-allow-origin", ORIGIN)]);
    let allowed = headers(&[
        ("access-control-allow-origin", ORIGIN),
        ("access-control-allow-methods", "GET, POST"),
        ("access-control-allow-headers", "Content-Type"),
    ]);
    type Reply = (&'static str, Vec<(String, String)>, &'static str);
    let asked = |preflight: (Reply, Reply), posted: Reply| {
        let impostor = Impostor::start(move |Asked { line, head, .. }: &Asked| {
            let (status, headers, body) = match line.split(' ').collect::<Vec<_>>()[..] {
                ["GET", "/cse/status"] => ("200 OK", vec![], STATUS),
                ["GET", "/cse/certs"] => ("200 OK", vec![], r#"{"keys":[{"kid":"a"}]}"#),
                ["OPTIONS", _] if head.contains(ORIGIN) => preflight.0.clone(),
                ["OPTIONS", _] => preflight.1.clone(),
                ["POST", _] => posted.clone(),
                _ => ("404 Not Found", vec![], ""),
            };
            (status.to_owned(), headers, body.to_owned())
        });
        ask(&impostor.url, &impostor.certificate, &[])
    };
    let nothing = || ("204 No Content", vec![], "");
    let right = || (("204 No Content", allowed.clone(), ""), nothing());
    let refused = || ("401 Unauthorized", readable.clone(), REFUSAL);
    let said = stdout(&asked(right(), refused()));
    fine(&said, &["may post, and no others", "are refused, and the page may read so"]);
    names(&asked((nothing(), nothing()), refused()), 5, &["may read nothing"]);
    let no_post =
        headers(&[("access-control-allow-origin", ORIGIN), ("access-control-allow-methods", "GET")]);
    names(&asked((("204 No Content", no_post, ""), nothing()), refused()), 5, &["no `POST` is allowed"]);
    let failing = ("405 Method Not Allowed", allowed.clone(), "");
    names(&asked((failing, nothing()), refused()), 5, &["it is answered 405"]);
    let everybody = headers(&[("access-control-allow-origin", "*")]);
    names(
        &asked((right().0, ("204 No Content", everybody, "")), refused()),
        5,
        &["may read its answers too (`*`)"],
    );
    let unreadable = ("401 Unauthorized", vec![], REFUSAL);
    names(&asked(right(), unreadable), 5, &["its refusals have no header that lets a page read them"]);
    let open = ("200 OK", readable.clone(), r#"{"wrapped_key":"AAAA"}"#);
    names(&asked(right(), open), 6, &["tokens of nobody's are taken", "do not use it"]);
    let broken = ("500 Error", readable.clone(), r#"{"code":500,"message":"a defect","details":""}"#);
    names(&asked(right(), broken), 5, &["tokens of nobody's: 500: a defect"]);
}

/// A service that has the right form, and does not do what it says.
#[test]
fn a_service_that_does_something_else_is_named() {
    let dev = gateway(TABLE);
    let tokens: Vec<String> = TOKENS
        .iter()
        .map(|it| if it.starts_with("--") { (*it).to_owned() } else { common::text(&dev.path(it)) })
        .collect();
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let right = std::fs::read_to_string(dev.path("user")).unwrap();
    let google = std::fs::read_to_string(dev.path("google")).unwrap();
    let both = format!(r#""authentication":"{right}","authorization":"{google}""#);
    type Answered = (&'static str, String);
    let asked = move |answer: fn(bool, &Asked) -> Answered| {
        let both = both.clone();
        let impostor = Impostor::start(move |asked: &Asked| {
            let Asked { line, head, body } = asked;
            let readable = vec![("access-control-allow-origin".to_owned(), ORIGIN.to_owned())];
            let allowed =
                [("access-control-allow-methods", "POST"), ("access-control-allow-headers", "content-type")];
            let allowed = allowed.map(|(name, value)| (name.to_owned(), value.to_owned()));
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["GET", "/cse/status"] => ("200 OK".to_owned(), vec![], STATUS.to_owned()),
                ["GET", _] => ("200 OK".to_owned(), vec![], r#"{"keys":[{"kid":"a"}]}"#.to_owned()),
                ["OPTIONS", _] if head.contains(ORIGIN) => (
                    "204 No Content".to_owned(),
                    readable.into_iter().chain(allowed).collect(),
                    String::new(),
                ),
                ["OPTIONS", _] => ("204 No Content".to_owned(), vec![], String::new()),
                _ => {
                    // The names of an object's members come in alphabetical order.
                    let (status, told) = answer(body.contains(&both), asked);
                    (status.to_owned(), readable, told)
                }
            }
        });
        ask(&impostor.url, &impostor.certificate, &tokens)
    };
    const KEY: &str = r#"{"key":"aG9sZGZhc3QgY29ubmVjdDogdGhpcyBpcyBubyBrZXk="}"#;
    const BLOB: &str = r#"{"wrapped_key":"YmxvYg=="}"#;
    fn told(code: u16) -> String {
        format!(r#"{{"code":{code},"message":"words","details":"request 01JDCZRGZKA9Q6W8T2V4X6Y8Z0"}}"#)
    }
    fn is_damaged(asked: &Asked) -> bool {
        !asked.body.contains("YmxvYg==")
    }
    let said = stdout(&asked(|known, asked| match (known, asked.line.ends_with("/unwrap")) {
        (true, true) if is_damaged(asked) => ("400 Bad Request", told(400)),
        (true, true) => ("200 OK", KEY.to_owned()),
        (true, false) => ("200 OK", BLOB.to_owned()),
        (false, _) => ("401 Unauthorized", told(401)),
    }));
    fine(&said, &["gives the key back, and refuses a damaged one"]);
    for (answer, words) in [
        (
            (|_, asked| match asked.body.contains("e30.e30") {
                true => ("401 Unauthorized", told(401)),
                false => ("200 OK", BLOB.to_owned()),
            }) as fn(bool, &Asked) -> Answered,
            "with a wrong signature or place is answered 200",
        ),
        (
            |known, asked| match (known, asked.line.ends_with("/unwrap")) {
                (true, true) => ("200 OK", r#"{"key":"AAAA"}"#.to_owned()),
                (true, false) => ("200 OK", BLOB.to_owned()),
                (false, _) => ("401 Unauthorized", told(401)),
            },
            "another key comes back than went there",
        ),
        (
            |known, asked| match (known, asked.line.ends_with("/unwrap")) {
                (true, true) => ("200 OK", KEY.to_owned()),
                (true, false) => ("200 OK", BLOB.to_owned()),
                (false, _) => ("401 Unauthorized", told(401)),
            },
            "a damaged one is answered 200",
        ),
        (
            |known, _| match known {
                true => ("200 OK", format!(r#"{{"wrapped_key":"{}"}}"#, "A".repeat(1028))),
                false => ("401 Unauthorized", told(401)),
            },
            "no wrapped key that Google takes",
        ),
    ] {
        names(&asked(answer), 6, &[words, "do not use it, and report it"]);
    }
    macro_rules! status {
        ($code:literal) => {
            (|known, _| match known {
                true => (concat!($code, " Refused"), told($code)),
                false => ("401 Unauthorized", told(401)),
            }) as fn(bool, &Asked) -> Answered
        };
    }
    for (answer, exit, words) in [
        (status!(400), 6, "what was wrapped a moment ago is not taken"),
        (status!(401), 4, "`audiences` have the provider's `aud`"),
        (status!(403), 3, "holdfast audit search --operation 01JDCZRGZKA9Q6W8T2V4X6Y8Z0"),
        (status!(404), 5, "the service has no such method"),
        (status!(429), 7, "raise `requests_per_second`"),
        (status!(500), 5, "create the key that the `[[google_cse]]` names"),
        (status!(503), 7, "`holdfast status` for the issuers' keys"),
        (status!(418), 1, "look at the gateway's log"),
    ] {
        names(&asked(answer), exit, &["to wrap: ", words]);
    }
}
