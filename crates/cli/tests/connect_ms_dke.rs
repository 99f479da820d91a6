//! `holdfast connect ms-dke` against a real gateway: what it makes, that it makes nothing twice, and that it names each thing that is broken.

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
use common::{Dev, code, holdfast, issuer, stderr, stdout, tool, with};
use serde_json::Value;
use std::process::{Command, Output};
use tempfile::TempDir;

const URL: &str = "https://127.0.0.1";
const ISSUER: &str = "https://sts.windows.net/3f0e1c52-6b1d-4a7e-8c55-0d9b7a614e21/";
const ANA: &str = "ana.lopez@contoso.example";
const OID: &str = "b1f7c0de-0000-4000-8000-0123456789ab";
/// Another one, in whose directory somebody may have Ana's address.
const OTHER: &str = "https://sts.windows.net/5d2a7b90-1c3e-4f60-8a72-9e0b1c2d3e4f/";
/// v1 tokens as Entra has them.
const TOKENS: &str = r#"
claims = {"aud": "https://127.0.0.1", "iss": "https://sts.windows.net/3f0e1c52-6b1d-4a7e-8c55-0d9b7a614e21/", "iat": now, "nbf": now, "exp": now + 3600, "sub": "s", "ver": "1.0",
          "scp": "user_impersonation", "upn": "Ana.Lopez@contoso.example", "oid": "b1f7c0de-0000-4000-8000-0123456789ab"}
def token(name, key=key, **more):
    write(name, {**claims, **more}, key=key, before="Authorization: Bearer ")
token("ana")
token("bob", upn="bob@contoso.example", oid="b1f7c0de-0000-4000-8000-000000000000")
token("late", exp=now - 100)
token("endless", exp=None)
token("early", nbf=now + 1000)
token("elsewhere", aud="https://aadrm.com")
token("v2", iss="https://login.microsoftonline.com/3f0e1c52-6b1d-4a7e-8c55-0d9b7a614e21/v2.0")
token("nobody", upn=None, oid=None)
token("unscoped", scp="other")
token("forged", key=new_key())
"#;

fn table() -> String {
    format!(
        "
[[ms_dke]]
public_url = \"{URL}\"
tenant = \"dev\"
caller = \"ms-dke\"
keys = [\"legal-hold\"]
issuers = [\"{ISSUER}\"]
scope = \"user_impersonation\"
"
    )
}

/// A dev gateway with a service, and tokens beside its configuration.
fn gateway() -> Dev {
    issuer::gateway([ISSUER], TOKENS, &table())
}

/// The command with more options; a later one takes the place of the same before.
fn line<'a>(options: &[&'a str]) -> Vec<&'a str> {
    let mut line = vec!["connect", "ms-dke", "--public-url", URL, "--key", "legal-hold", "--issuer", ISSUER];
    line.extend(["--user", ANA]);
    with(line, options)
}

/// Connects all of it.
fn connected(dev: &Dev) -> String {
    let all = ["--set-policy", "--config", "holdfast.toml", "--entra-token-file", "ana"];
    dev.ok(&line(&all))
}

/// Nothing that was said holds the token.
#[track_caller]
fn keeps_tokens(dev: &Dev, output: &Output) {
    let token = std::fs::read_to_string(dev.path("ana")).unwrap();
    let signature = token.trim().rsplit('.').next().unwrap().to_owned();
    assert!(signature.len() > 100);
    assert!(!stdout(output).contains(&signature) && !stderr(output).contains(&signature));
}

#[test]
fn a_fresh_tenant_is_connected_and_nothing_is_made_twice() {
    let dev = gateway();
    let said = connected(&dev);
    fine(
        &said,
        &[
            "made: `legal-hold`, rsa-2048",
            "registered: `ms-dke`",
            "bring anybody in as `ms-dke`",
            "set: version",
            "decrypt for `ana.lopez@contoso.example`",
            "has the service",
            "2048 bits, version 1, byte for byte as clients expect; clients keep it until",
            "401: a token for `https://127.0.0.1`, of `https://login.windows.net/common/oauth2/authorize`",
            "wrong token          is refused",
            "of `Ana.Lopez@contoso.example`",
            "gives back what was encrypted here",
            "and refuses another padding",
            "1 of 1 open at their own URLs",
            "2 keys, in its file, read from here",
        ],
    );
    // What is to be pasted has the real values; what the configuration has already is not among it.
    assert!(said.contains("\nhttps://127.0.0.1/legal-hold\n") && !said.contains("[[ms_dke]]"), "{said}");
    assert!(
        said.contains("Application ID URI https://127.0.0.1,") && said.contains("user_impersonation"),
        "{said}"
    );
    // It does not serve at the port that clients call.
    watched(
        &said,
        "an address instead of a name, a name under which nobody answers this machine would not do",
    );

    let version = dev.policy_version();
    let quiet = |options: &[&str]| {
        let output = dev.run(&line(options));
        let said = stdout(&output);
        assert_eq!(code(output.status), 0, "{options:?}: {said}{}", stderr(&output));
        assert!(!["made: ", "registered: ", "set: "].iter().any(|made| said.contains(made)), "{said}");
        keeps_tokens(&dev, &output);
        said
    };
    for options in [&["--set-policy"][..], &["--check", "--config", "holdfast.toml"], &[]] {
        watched(&quiet(options), "nothing was decrypted: there is no token here");
    }
    let alone = quiet(&["--self-test-only", "--entra-token-file", "ana"]);
    assert!(!alone.contains("── ") && !alone.contains("`ms-dke`"), "{alone}");
    fine(&alone, &["gives back what was encrypted here"]);
    assert_eq!(dev.policy_version(), version);

    // Every version at its own URL; one that is to open nothing any more does not.
    dev.ok(&["key", "rotate", "legal-hold"]);
    let both = quiet(&["--entra-token-file", "ana"]);
    fine(&both, &["2048 bits, version 2,", "2 of 2 open at their own URLs"]);

    // Who may read no keys reads the document all the same.
    let (cert, key) =
        (dev.data().join("credentials/operator.pem"), dev.data().join("credentials/operator.key"));
    let mut operator = dev.command(&line(&["--self-test-only", "--entra-token-file", "ana"]));
    operator.env_remove("HOLDFAST_TOKEN").env("HOLDFAST_CERT", cert).env("HOLDFAST_KEY", key);
    let said = stdout(&operator.output().unwrap());
    watched(&said, "nothing was decrypted: `legal-hold` cannot be read here");
    fine(&said, &["2048 bits, byte for byte"]);

    // For programs: the same in an object.
    let report: Value =
        serde_json::from_str(&dev.ok(&line(&["--json", "--entra-token-file", "ana"]))).unwrap();
    let findings = report["findings"].as_array().unwrap();
    assert!(findings.iter().all(|finding| finding["verdict"] != "wrong"), "{report}");
    assert!(findings.iter().any(|finding| finding["what"] == "decrypt" && finding["verdict"] == "fine"));
    assert!(report["paste"][0]["to"].as_str().unwrap().starts_with("into Microsoft Entra"));
}

#[test]
fn what_is_not_there_is_named_and_checking_makes_nothing() {
    let dev = gateway();
    names(
        &dev.run(&line(&["--check", "--config", "holdfast.toml"])),
        5,
        &["there is no key `legal-hold`", "there is no caller `ms-dke`", "run this without `--check`"],
    );
    assert_eq!(dev.ok(&["key", "list"]), "");
    // Without being asked for it the policy is shown, and not changed.
    let version = dev.policy_version();
    let mut both = line(&[]);
    both.extend(["--user", OID, "--entra-token-file", "ana"]);
    let output = dev.run(&both);
    let lacking = format!(
        "may not public-key with `legal-hold`, decrypt with `legal-hold` for `{ANA}`, decrypt with `legal-hold` for `{OID}`"
    );
    names(&output, 3, &[&lacking, "`--set-policy`", "the key's document: 403"]);
    assert_eq!(dev.policy_version(), version);
    // What is shown is what sets it right.
    let said = stdout(&output);
    let (_, shown) = said.split_once("as its custodian\n").unwrap();
    let shown = shown.split("\n── ").next().unwrap();
    assert!(shown.contains(&format!("[\"{OID}\"].contains(context.request.getTag(\"oid\"))")), "{shown}");
    // Of the issuer that was named alone: somebody of another one may have the same name.
    assert!(
        shown.contains(&format!("[\"{ISSUER}\"].contains(context.request.getTag(\"issuer\"))")),
        "{shown}"
    );
    dev.add_policy(&format!("\n{shown}"));
    dev.ok(&both);
    // Somebody more is added alone.
    let output = dev.run(&line(&["--user", "bob@contoso.example"]));
    names(&output, 3, &["may not decrypt with `legal-hold` for `bob@contoso.example`"]);
    assert!(!stdout(&output).contains("ms-dke-tells-legal-hold"), "{}", stdout(&output));
    assert!(stdout(&output).contains("@id(\"ms-dke-opens-legal-hold-2\")"), "{}", stdout(&output));
    let mut nobody = line(&[]);
    nobody.truncate(nobody.len() - 2);
    watched(&dev.ok(&nobody), "whether anybody may decrypt was not asked");
}

/// What the policy says of a token depends on whose it is.
#[test]
fn the_policy_is_asked_with_each_issuer() {
    let dev = gateway();
    connected(&dev);
    dev.ok(&["caller", "put", "ms-dke", "--any-subject", "--issuer", ISSUER, "--issuer", OTHER]);
    let mut both = line(&["--check"]);
    both.extend(["--issuer", OTHER]);
    let output = dev.run(&both);
    names(&output, 3, &[&format!("`ms-dke` may not decrypt with `legal-hold` for `{ANA}` of `{OTHER}`")]);
    // Only what is lacking is added.
    let said = stdout(&output);
    assert!(said.contains(&format!("[\"{OTHER}\"].contains(context.request.getTag(\"issuer\"))")), "{said}");
    assert!(!said.contains(&format!("[\"{ISSUER}\"")) && !said.contains("ms-dke-tells-"), "{said}");
    // Who lacks one and who lacks both are told apart.
    both.extend(["--user", "bob@contoso.example"]);
    let said = stdout(&dev.run(&both));
    for (issuers, user) in
        [(format!("\"{OTHER}\""), ANA), (format!("\"{ISSUER}\", \"{OTHER}\""), "bob@contoso.example")]
    {
        let issuers = format!("[{issuers}].contains(context.request.getTag(\"issuer\")) &&\n");
        let (_, after) = said.split_once(&issuers).unwrap_or_else(|| panic!("`{issuers}`: {said}"));
        let named = after.lines().next().unwrap();
        assert!(named.contains(&format!("[\"{user}\"].contains(")), "{named}");
    }
    both[line(&[]).len()] = "--set-policy";
    fine(&stdout(&dev.run(&both)), &["set: version"]);
    let version = dev.policy_version();
    let said = stdout(&dev.run(&both));
    fine(&said, &["decrypt for `ana.lopez@contoso.example`, `bob@contoso.example`"]);
    assert_eq!(dev.policy_version(), version);

    // Somebody else's permit is no condition of theirs; one that looks at more is, and it is said.
    both.extend(["--user", "eve@contoso.example"]);
    let said = stdout(&dev.run(&both));
    fine(&said, &["set: version"]);
    assert!(!said.contains("under conditions"), "{said}");
    dev.add_policy("@id(\"lawyers\") permit (principal == Holdfast::Caller::\"ms-dke\", action, resource) when { context.request.hasTag(\"roles\") };");
    both.extend(["--user", "ida@contoso.example"]);
    let said = stdout(&dev.run(&both));
    fine(&said, &["set: version"]);
    watched(&said, "`lawyers` lets `ms-dke` decrypt with `legal-hold` for `ida@contoso.example` of");
}

#[test]
fn each_thing_that_is_broken_is_named_with_its_remedy() {
    let dev = gateway();
    connected(&dev);
    let config = ["--config", "holdfast.toml"];
    let with = |options: &[&str]| dev.run(&line(options));

    // The service.
    let other = ["--public-url", "https://dke.example.org", config[0], config[1]];
    let output = with(&other);
    names(
        &output,
        5,
        &[
            "no `[[ms_dke]]` has the public_url `https://dke.example.org`, but `https://127.0.0.1`",
            "whoever answers `https://dke.example.org/legal-hold` (status 404) is no key service",
        ],
    );
    assert!(
        stdout(&output).contains("[[ms_dke]]\npublic_url = \"https://dke.example.org\"\ntenant = \"dev\"")
    );
    assert!(stdout(&output).contains("keys_url = \"https://login.microsoftonline.com/3f0e1c52-"));
    let output = with(&["--public-url", "https://127.0.0.1:8443"]);
    names(&output, 5, &["it sends clients to `https://127.0.0.1/legal-hold/", "set the `public_url`"]);
    let output = with(&["--key", "second", "--set-policy", config[0], config[1]]);
    names(&output, 5, &["has not the key `second`", "add `second` to its `keys`", "the key's document: 404"]);
    let output = with(&["--caller", "other", "--check", config[0], config[1]]);
    names(&output, 5, &["is of `dev` and its caller `ms-dke`", "name that caller with `--caller`"]);
    let issuer = "https://sts.windows.net/other/";
    names(
        &with(&["--issuer", issuer, config[0], config[1]]),
        4,
        &[
            "`ms-dke` is not registered for anybody of `https://sts.windows.net/other/`",
            &format!("run `holdfast caller put ms-dke --any-subject --issuer {ISSUER} --issuer {issuer}`"),
            "not of `https://sts.windows.net/other/`",
            "the gateway believes no issuer `https://sts.windows.net/other/`",
            "add an `[[issuer]]` of that name",
        ],
    );
    let output = with(&["--audience", "api://dke", config[0], config[1]]);
    names(
        &output,
        5,
        &["takes tokens for `https://127.0.0.1`, not for `api://dke`", "add it to `audiences`"],
    );
    let output = with(&["--endpoint", "https://127.0.0.1:1"]);
    names(&output, 7, &["nobody listens at 127.0.0.1:1"]);

    // The token.
    for (token, exit, words) in [
        ("late", 4, &["has expired 1", "get another one"][..]),
        ("endless", 4, &["says no `exp`"]),
        ("early", 4, &["begins in 9", "synchronise this machine's clock"]),
        (
            "elsewhere",
            4,
            &["is for `https://aadrm.com` (`aud`), not for `https://127.0.0.1`", "Application ID URI"],
        ),
        ("v2", 4, &["is of `https://login.microsoftonline.com/", "accessTokenAcceptedVersion"]),
        ("nobody", 4, &["neither `email` nor `upn` nor `oid`", "optional claims"]),
        ("unscoped", 4, &["to decrypt with version 1: 401", "`scope` must be the token's"]),
        ("forged", 4, &["to decrypt with version 1: 401", "the issuer's keys be read"]),
        ("bob", 3, &["to decrypt with version 1: 403", "`--set-policy` adds what `--user` lacks"]),
    ] {
        names(&with(&["--entra-token-file", token]), exit, words);
    }
    let file = dev.file("none", b"sEcReT no token");
    let output = with(&["--entra-token-file", &file]);
    assert_eq!(code(output.status), 2);
    assert!(stderr(&output).contains("holds no token") && !stderr(&output).contains("sEcReT"));

    // The key.
    dev.ok(&["key", "create", "signs", "--algorithm", "rsa-2048"]);
    names(
        &with(&["--key", "signs"]),
        2,
        &["`signs` is rsa-2048 to sign, and rsa-2048 or rsa-3072 or rsa-4096 to encrypt is needed"],
    );
    dev.ok(&["key", "create", "anybodys", "--algorithm", "rsa-2048", "--purpose", "encrypt"]);
    names(&with(&["--key", "anybodys", "--set-policy"]), 5, &["was not created for `ms-dke`"]);

    // An order.
    dev.ok(&["key", "suspend", "legal-hold"]);
    names(
        &with(&["--entra-token-file", "ana"]),
        5,
        &["`legal-hold` is suspended", "holdfast key resume legal-hold", "the key's document: 403"],
    );
    dev.ok(&["key", "resume", "legal-hold"]);
    dev.ok(&["caller", "suspend", "ms-dke"]);
    names(&with(&[]), 5, &["`ms-dke` is suspended", "holdfast caller resume ms-dke"]);
    dev.ok(&["caller", "resume", "ms-dke"]);
    dev.ok(&["tenant", "suspend"]);
    names(&with(&[]), 5, &["`dev` is suspended", "holdfast tenant resume"]);
    dev.ok(&["tenant", "resume"]);
    dev.ok(&line(&[]));

    // The policy: what forbids is named, and nothing is added in vain.
    let before = dev.ok(&["policy", "show"]);
    let forbid =
        "@id(\"no-decryption\")\nforbid (principal, action == Holdfast::Action::\"decrypt\", resource);\n";
    dev.set_policy(&format!("{before}\n{forbid}"));
    let version = dev.policy_version();
    let output = with(&["--set-policy", "--entra-token-file", "ana"]);
    names(&output, 3, &["it is denied by `no-decryption`", "to decrypt with version 1: 403"]);
    assert_eq!(dev.policy_version(), version);
    dev.set_policy(&before);

    // An earlier version that opens nothing any more.
    dev.ok(&["key", "rotate", "legal-hold"]);
    let retire = ["legal-hold", "--version", "1", "--without-inventory"];
    dev.ok(&[&["key", "deactivate"], &retire[..]].concat());
    fine(&dev.ok(&line(&["--entra-token-file", "ana"])), &["2 of 2 open at their own URLs"]);
    dev.ok(&[&["key", "destroy"], &retire[..], &["--confirm", "legal-hold"]].concat());
    let said = dev.ok(&line(&["--entra-token-file", "ana"]));
    watched(&said, "1 of 2 open at their own URLs; 1 do not, by their state");
}

#[test]
fn an_issuer_whose_keys_are_not_read_is_named() {
    let dev = Dev::with(&format!(
        "[[issuer]]\nissuer = \"{ISSUER}\"\nkeys_url = \"https://127.0.0.1:1/keys\"\n{}",
        table()
    ));
    let config = ["--config", "holdfast.toml"];
    names(
        &dev.run(&line(&["--set-policy", config[0], config[1]])),
        7,
        &["none can be read from here: ", "let the gateway reach the address"],
    );
    // Without the configuration it is said whom to ask.
    watched(&dev.ok(&line(&[])), "is told to operators alone");
}

#[test]
fn clocks_that_are_apart_are_named() {
    if !tool("faketime") {
        return;
    }
    let dev = gateway();
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
    let id = "7C1D2A90-55B3-4E0C-9A41-3F6E8B1D2C77";
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/ms-dke/document.json");
    let document = std::fs::read_to_string(fixture).unwrap().trim().replace("https://dke.hyok.example", URL);
    let json = "application/json; charset=utf-8";
    let challenge = |resource: &str| {
        let told = format!(
            "Bearer resource=\"{resource}\", authorization=\"https://b.example\", realm=\"{resource}\""
        );
        vec![
            ("content-type".to_owned(), json.to_owned()),
            ("www-authenticate".to_owned(), told),
            ("resource".to_owned(), resource.to_owned()),
            ("authorization".to_owned(), "https://b.example".to_owned()),
        ]
    };
    let asked = |document: String, status: &'static str, headers: Vec<(String, String)>| {
        let impostor = Impostor::start(move |Asked { line, .. }: &Asked| match line.split(' ').next() {
            Some("GET") if line.contains("legal-hold") => {
                ("200 OK".to_owned(), vec![("content-type".to_owned(), json.to_owned())], document.clone())
            }
            Some("GET") => ("404 Not Found".to_owned(), vec![], String::new()),
            _ => (status.to_owned(), headers.clone(), String::new()),
        });
        let directory = TempDir::new().unwrap();
        let ca = directory.path().join("ca.pem");
        std::fs::write(&ca, &impostor.certificate).unwrap();
        let ca = ca.display().to_string();
        let more = ["--self-test-only", "--url", &impostor.url, "--cacert", &ca, "--tenant", "dev"];
        holdfast(line(&more)).output().unwrap()
    };
    let right = challenge(URL);
    let said = stdout(&asked(document.clone(), "401 Unauthorized", right.clone()));
    fine(&said, &["2048 bits, byte for byte", "401: a token for `https://127.0.0.1`", "wrong token"]);

    let changed = document.replace(",\"alg\"", ", \"alg\"");
    names(
        &asked(changed, "401 Unauthorized", right.clone()),
        6,
        &["not byte for byte", "a proxy must leave answers"],
    );
    let elsewhere = document.replace(URL, "https://evil.example");
    names(
        &asked(elsewhere, "401 Unauthorized", right.clone()),
        5,
        &["it sends clients to `https://evil.example/"],
    );
    let output = asked(document.clone(), "401 Unauthorized", challenge("https://evil.example"));
    names(&output, 5, &["it sends clients for a token for `https://evil.example`", "must leave the headers"]);
    let output =
        asked(document.clone(), "401 Unauthorized", vec![("www-authenticate".into(), "Basic x".into())]);
    names(&output, 5, &["it is none that clients read"]);
    let lost: Vec<_> = right.iter().filter(|(name, _)| name != "resource").cloned().collect();
    names(
        &asked(document.clone(), "401 Unauthorized", lost),
        5,
        &["its headers say something else than itself"],
    );
    let open = vec![("content-type".to_owned(), json.to_owned())];
    names(&asked(document.clone(), "500 Error", open), 1, &["a request without a token: 500"]);
    assert!(document.contains(id));
}

/// A service that has the right form, and does not do what it says: the key's record is the gateway's, and all else an impostor's.
#[test]
fn a_service_that_does_something_else_is_named() {
    let dev = gateway();
    connected(&dev);
    let ca = dev.environment.iter().find(|(name, _)| name == "HOLDFAST_CACERT").unwrap().1.clone();
    let mut curl = Command::new("curl");
    let got = curl.args(["-sS", "--http1.1", "--cacert", &ca, "-H", "Host: 127.0.0.1"]);
    let got = got.arg(format!("{}/legal-hold", dev.server.url)).output().unwrap();
    let document = String::from_utf8(got.stdout).unwrap();
    assert!(document.starts_with("{\"key\":{"), "{document}");
    let asked = |status: &'static str, body: &'static str| {
        let document = document.clone();
        let impostor = Impostor::start(move |Asked { line, head, .. }: &Asked| {
            let is_challenged = !head.contains("uthorization: Bearer") || head.contains("e30.e30");
            let authorization = "https://b.example";
            let challenge =
                format!("Bearer resource=\"{URL}\", authorization=\"{authorization}\", realm=\"{URL}\"");
            let json = ("content-type".to_owned(), "application/json; charset=utf-8".to_owned());
            let headers =
                [("www-authenticate", &*challenge), ("resource", URL), ("authorization", authorization)];
            let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
            match line.starts_with("GET") {
                true if line.contains("legal-hold") => ("200 OK".to_owned(), vec![json], document.clone()),
                true => ("404 Not Found".to_owned(), vec![], String::new()),
                false if is_challenged => {
                    let headers = [json].into_iter().chain(headers).collect();
                    ("401 Unauthorized".to_owned(), headers, String::new())
                }
                false => (status.to_owned(), vec![json], body.to_owned()),
            }
        });
        let both = format!("{}{}", std::fs::read_to_string(&ca).unwrap(), impostor.certificate);
        let both = dev.file("both.pem", both.as_bytes());
        dev.run(&line(&["--entra-token-file", "ana", "--endpoint", &impostor.url, "--cacert", &both]))
    };
    names(&asked("200 OK", r#"{"value":"AAAA"}"#), 6, &["another plaintext comes back", "do not use it"]);
    let right = r#"{"value":"aG9sZGZhc3QgY29ubmVjdDogNDQgYnl0ZXMsIHRoaXMgaXMgYSB0cmlhbC4="}"#;
    names(&asked("200 OK", right), 6, &["another padding is answered 200", "do not use it"]);
    for (status, exit, words) in [
        ("400 Refused", 6, "what was encrypted a moment ago is not taken"),
        ("401 Refused", 4, "`issuers`, `audiences` and `scope` must be the token's"),
        ("403 Refused", 3, "holdfast audit search --key legal-hold --outcome refused"),
        ("404 Refused", 5, "made with `--protocol ms-dke`"),
        ("413 Refused", 2, "fewer `groups`"),
        ("429 Refused", 7, "raise `requests_per_second`"),
        ("503 Refused", 7, "holdfast pool status"),
        ("500 Refused", 1, "look at the gateway's log"),
    ] {
        let told = format!("to decrypt with version 1: {}", &status[..3]);
        names(&asked(status, ""), exit, &[&told, words]);
    }
    // The document of another version than the key's.
    dev.ok(&["key", "rotate", "legal-hold"]);
    names(&asked("200 OK", right), 5, &["it is not of version 2 of `legal-hold` here", "`--endpoint`"]);
}
