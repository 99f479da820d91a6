//! As it is set up for real: certificates, and a policy that says what the plugin may.

use crate::api_server::{self, ApiServer, seed};
use crate::common::{Server, Site, holdfast, text};
use serde_json::json;
use std::collections::HashSet;
use std::fs;
use std::process::Command;

/// The policy that the page shows.
fn policy() -> String {
    let page = include_str!("../../../../docs/protocols/kubernetes-kms.md");
    let (_, block) = page.split_once("```cedar\n").unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

fn plugin(site: &Site, url: &str) -> Command {
    let mut command = holdfast([
        "kubernetes-kms",
        "--socket",
        &text(&site.path("run/kms.sock")),
        "--cluster",
        "prod",
        "--refresh",
        "1s",
    ]);
    command
        .env("HOLDFAST_URL", url)
        .env("HOLDFAST_CACERT", site.path("ca.pem"))
        .env("HOLDFAST_CERT", site.path("kms.pem"))
        .env("HOLDFAST_KEY", site.path("kms.key"))
        .env("HOLDFAST_TENANT", "acme");
    command
}

#[test]
fn by_a_certificate_under_the_policy_of_the_page() {
    if !api_server::is_there() {
        return;
    }
    let site = Site::found();
    let gateway = Server::start(site.serving(&site.data(), ""));
    // Under the next certificate too, while the last one is still in use.
    let issue = |dir: &str, last: &[&str]| {
        let line = ["caller", "put", "kubernetes-kms", "--issue", dir];
        site.ok(&gateway, "carol", &line.into_iter().chain(last.iter().copied()).collect::<Vec<_>>());
    };
    let hand_over = |dir: &str| {
        for kind in ["pem", "key"] {
            // As it is done for real: there is always a whole file.
            fs::copy(site.path(dir).join(format!("kubernetes-kms.{kind}")), site.path("new")).unwrap();
            fs::rename(site.path("new"), site.path(&format!("kms.{kind}"))).unwrap();
        }
    };
    fs::create_dir(site.path("one")).unwrap();
    fs::create_dir(site.path("two")).unwrap();
    issue("one", &[]);
    hand_over("one");
    site.ok(&gateway, "carol", &["key", "create", "kubernetes"]);

    // Without a policy it may nothing, and says so before anything is written.
    let plugin = Server::start(plugin(&site, &gateway.url));
    let mut api = ApiServer::of(&site.path("run/kms.sock"));
    let status = api.until("a refusal", |status| status["code"] == "PERMISSION_DENIED");
    assert!(status["words"].as_str().unwrap().contains("operation 01"), "{status}");

    let in_force = site.ok(&gateway, "carol", &["policy", "show"]);
    let own = policy();
    // A policy that lets it encrypt and not decrypt is found out by a trial, not by a restart.
    let half = own.replace("Holdfast::Action::\"decrypt\"", "Holdfast::Action::\"mac\"");
    assert_ne!(half, own);
    fs::write(site.path("policy.cedar"), format!("{in_force}\n{half}")).unwrap();
    site.ok(&gateway, "carol", &["policy", "set", "policy.cedar"]);
    plugin.signal(rustix::process::Signal::HUP);
    crate::common::wait::until("a trial", || {
        site.ok(&gateway, "carol", &["audit", "search", "--action", "encrypt", "--json"])
            .contains("\"success\"")
    });
    assert_eq!(api.status()["code"], "PERMISSION_DENIED");

    fs::write(site.path("policy.cedar"), format!("{in_force}\n{own}")).unwrap();
    site.ok(&gateway, "carol", &["policy", "set", "policy.cedar"]);
    plugin.signal(rustix::process::Signal::HUP);
    api.until_well();
    let sealed = api.seal(&seed(1));
    api.opens(&sealed, &seed(1));

    // Another certificate is taken up without a word, once it is in its place; and the last one is worth nothing any more.
    issue("two", &["--certificate", "one/kubernetes-kms.pem"]);
    hand_over("two");
    crate::common::wait::until("a look by the new one", || {
        let search = ["audit", "search", "--action", "read-key", "--json"];
        let found = site.ok(&gateway, "carol", &search);
        let keys = found.split("\"certificate_key_sha256\":").skip(1).map(|rest| rest.get(..70));
        keys.collect::<HashSet<_>>().len() > 1
    });
    site.ok(
        &gateway,
        "carol",
        &["caller", "put", "kubernetes-kms", "--certificate", "two/kubernetes-kms.pem"],
    );
    api.opens(&sealed, &seed(1));
    api.until_well();

    // Who stops the caller stops the plugin.
    site.ok(&gateway, "carol", &["caller", "suspend", "kubernetes-kms"]);
    let status = api.until("the order", |status| status["code"] != "OK");
    assert!([json!("FAILED_PRECONDITION"), json!("PERMISSION_DENIED")].contains(&status["code"]), "{status}");
    assert_ne!(api.open(&sealed)["code"], "OK");
    plugin.ends();
    gateway.ends();
}
