//! The direction rules: which crate may depend on which, what core must not reach, and what it must not name.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use cargo_metadata::{
    Dependency, DependencyKind, FeatureName, Metadata, MetadataCommand, Package, PackageId,
};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// Each of our crates with those of ours that it may import; nothing else may.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("holdfast-core", &[]),
    ("holdfast-policy", &["holdfast-core"]),
    ("holdfast-identity", &["holdfast-core"]),
    ("holdfast-wire", &["holdfast-core"]),
    ("holdfast-keystore", &["holdfast-core"]),
    ("holdfast-state", &["holdfast-core"]),
    ("holdfast-audit", &["holdfast-core"]),
    (
        "holdfast-gateway",
        &[
            "holdfast-core",
            "holdfast-policy",
            "holdfast-identity",
            "holdfast-wire",
            "holdfast-keystore",
            "holdfast-state",
            "holdfast-audit",
        ],
    ),
    ("holdfast-sdk", &["holdfast-wire", "holdfast-core"]),
    ("holdfast", &["holdfast-gateway", "holdfast-sdk", "holdfast-wire", "holdfast-audit", "holdfast-core"]),
];

/// What tests may use besides: the shared suites, doubles and devices.
const MAY_TEST_WITH: &[(&str, &str)] =
    &[("holdfast-core", "holdfast-conformance"), ("holdfast", "holdfast-conformance")];

/// What is no part of the product may look at all of it, but no part of the product at that.
const BESIDE: &[&str] = &["holdfast-conformance", "holdfast-bench", "holdfast-fuzz", "xtask"];

/// What core must not reach, however far away.
const OUT_OF_CORE: &[&str] = &[
    "tokio",
    "hyper",
    "axum",
    "http",
    "serde",
    "serde_json",
    "cryptoki",
    "rusqlite",
    "rustix",
    "rand",
    "getrandom",
];

/// What nothing may reach.
const OUT_OF_EVERYTHING: &[&str] = &["ring", "openssl", "openssl-sys", "native-tls", "rsa"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn metadata() -> Metadata {
    MetadataCommand::new().manifest_path(root().join("Cargo.toml")).exec().unwrap()
}

#[test]
fn crates_import_only_in_the_one_direction() {
    let metadata = metadata();
    let ours: BTreeSet<_> =
        metadata.workspace_packages().iter().map(|package| package.name.to_string()).collect();
    let listed: BTreeSet<_> =
        MAY_IMPORT.iter().map(|(name, _)| *name).chain(BESIDE.iter().copied()).map(str::to_owned).collect();
    assert_eq!(ours, listed, "a crate of the workspace has no place in the order");
    for package in metadata.workspace_packages() {
        let Some((_, may)) = MAY_IMPORT.iter().find(|(name, _)| *package.name == *name) else { continue };
        for dependency in package.dependencies.iter().filter(|dependency| ours.contains(&dependency.name)) {
            let is_test = dependency.kind == DependencyKind::Development
                && MAY_TEST_WITH.contains(&(&**package.name, &*dependency.name));
            let fits = may.contains(&&*dependency.name) || is_test;
            assert!(fits, "`{}` must not import `{}`", package.name, dependency.name);
        }
    }
}

/// Whether a package's edge is switched on: metadata also lists those that a feature speaks of only if something else does (`ring?/std`).
fn is_on(package: &Package, features: &[FeatureName], to: &str) -> bool {
    let named = |dependency: &&Dependency| dependency.name == to;
    if package.dependencies.iter().filter(named).any(|dependency| !dependency.optional) {
        return true;
    }
    package.dependencies.iter().filter(named).any(|dependency| {
        let name = dependency.rename.as_ref().unwrap_or(&dependency.name);
        let switches = |switch: &String| {
            switch == name || *switch == format!("dep:{name}") || switch.starts_with(&format!("{name}/"))
        };
        features.iter().any(|feature| {
            **feature == *name
                || package.features.get(&**feature).is_some_and(|list| list.iter().any(switches))
        })
    })
}

/// Every package that is built into this one.
fn closure(metadata: &Metadata, of: &str) -> BTreeSet<String> {
    let resolve = metadata.resolve.as_ref().unwrap();
    let nodes: HashMap<_, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let packages: HashMap<_, _> = metadata.packages.iter().map(|package| (&package.id, package)).collect();
    let start = &metadata.packages.iter().find(|package| *package.name == of).unwrap().id;
    let mut found = BTreeSet::new();
    let mut next: Vec<&PackageId> = vec![start];
    while let Some(id) = next.pop() {
        for dependency in &nodes[id].deps {
            let is_built_in = dependency.dep_kinds.iter().any(|kind| {
                let is_explored =
                    kind.target.as_ref().is_some_and(|target| target.to_string() == "cfg(loom)");
                kind.kind == DependencyKind::Normal && !is_explored
            });
            let to = packages[&dependency.pkg].name.to_string();
            if is_built_in && is_on(packages[id], &nodes[id].features, &to) && found.insert(to) {
                next.push(&dependency.pkg);
            }
        }
    }
    found
}

#[test]
fn core_reaches_no_runtime_no_protocol_and_no_entropy() {
    let reached = closure(&metadata(), "holdfast-core");
    assert!(reached.contains("aws-lc-rs"), "the closure is not computed");
    for name in OUT_OF_CORE {
        assert!(!reached.contains(*name), "core reaches `{name}`");
    }
}

#[test]
fn nothing_reaches_a_second_cryptography() {
    let metadata = metadata();
    for (name, _) in MAY_IMPORT {
        let reached = closure(&metadata, name);
        for banned in OUT_OF_EVERYTHING {
            assert!(!reached.contains(*banned), "`{name}` reaches `{banned}`");
        }
    }
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The code of a source text: without comments, and without white space, so that no line break hides a name.
fn code(text: &str) -> String {
    let lines = text.lines().map(|line| line.split_once("//").map_or(line, |(code, _comment)| code));
    lines.flat_map(str::chars).filter(|character| !character.is_whitespace()).collect()
}

/// The modules of `std` and `core` that a text names, in braces as well.
fn modules(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("std::") {
        let rest = &code[at + 5..];
        let group = rest.strip_prefix('{').map(|rest| rest.split_once("};").map_or(rest, |(group, _)| group));
        for path in group.unwrap_or(rest).split([',', '{', '}']) {
            found.insert(path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
            if group.is_none() {
                break;
            }
        }
    }
    found
}

#[test]
fn the_scan_sees_what_it_should() {
    assert!(modules(&code("use std::{\n    collections::HashMap,\n    net::IpAddr,\n};")).contains("net"));
    assert!(modules(&code("let x = std::\n  fs::read(path);")).contains("fs"));
    assert!(!modules(&code("use core::net::IpAddr; // std::net")).contains("net"));
}

#[test]
fn core_names_neither_the_outside_world_nor_a_clock() {
    let mut files = Vec::new();
    sources(&root().join("crates/core/src"), &mut files);
    assert!(files.len() > 30);
    for file in files {
        let code = code(&std::fs::read_to_string(&file).unwrap());
        for module in modules(&code) {
            let is_outside =
                ["net", "fs", "env", "process", "io", "os", "time", "thread"].contains(&&*module);
            assert!(!is_outside, "{} names `std::{module}`", file.display());
        }
        for name in
            ["SystemTime", "Instant::", "thread::spawn", "println!", "eprintln!", "getrandom", "SystemRandom"]
        {
            // Only the exploration of interleavings has threads, and they are not real ones.
            let is_explored = file.ends_with("stop/interleavings.rs");
            assert!(is_explored || !code.contains(name), "{} names `{name}`", file.display());
        }
    }
}

#[test]
fn tokens_are_examined_in_one_crate() {
    let mut files = Vec::new();
    sources(&root().join("crates"), &mut files);
    let named =
        |file: &PathBuf| code(&std::fs::read_to_string(file).unwrap()).contains("IssuedToken::examined(");
    let named: Vec<_> = files.into_iter().filter(named).map(|file| file.display().to_string()).collect();
    assert!(named.iter().any(|file| file.ends_with("identity/src/issued/mod.rs")), "{named:?}");
    // The law is tested with tokens that nobody issued.
    let may = |file: &str| file.contains("identity/src/issued/") || file.contains("core/tests/law/");
    let elsewhere: Vec<_> = named.iter().filter(|file| !may(file)).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?} say that a token was examined");
}

#[test]
fn certificates_of_providers_are_examined_in_one_file() {
    let mut files = Vec::new();
    sources(&root().join("crates"), &mut files);
    let named = |file: &PathBuf| {
        code(&std::fs::read_to_string(file).unwrap()).contains("ProviderCertificate::examined(")
    };
    let named: Vec<_> = files.into_iter().filter(named).map(|file| file.display().to_string()).collect();
    assert!(named.iter().any(|file| file.ends_with("identity/src/named.rs")), "{named:?}");
    let may = |file: &str| file.ends_with("identity/src/named.rs") || file.contains("core/tests/law/");
    let elsewhere: Vec<_> = named.iter().filter(|file| !may(file)).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?} say that a certificate was examined");
}

#[test]
fn proofs_are_minted_in_one_file() {
    let mut files = Vec::new();
    sources(&root().join("crates"), &mut files);
    for file in files.into_iter().filter(|file| !file.ends_with("core/src/pipeline/proof.rs")) {
        let code = code(&std::fs::read_to_string(&file).unwrap());
        // A function that gives one away has it from there: only the pipeline's own files may name these constructors at all.
        let is_pipeline = file.to_string_lossy().contains("core/src/pipeline/");
        let is_forbidden = file.to_string_lossy().contains("/compile_fail/");
        for constructor in
            ["Permit::own(", "Permit::ask(", "Intent::own(", "Intent::urgent(", "Intent::recorded("]
        {
            assert!(
                is_pipeline || is_forbidden || !code.contains(constructor),
                "{} names `{constructor}`",
                file.display()
            );
        }
    }
}

/// The functions of a block of code that begins with these words and ends at its brace.
fn functions(text: &str, begins: &str) -> BTreeSet<String> {
    let (_, block) = text.split_once(begins).unwrap_or_else(|| panic!("there is no `{begins}`"));
    let (block, _) = block.split_once("\n}").unwrap();
    let names = block.lines().filter_map(|line| {
        let line = line.strip_prefix("    ")?;
        let name = line.strip_prefix("fn ").or_else(|| line.strip_prefix("async fn "))?;
        Some(name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
    });
    names.collect()
}

/// A port's own words for a function are those of who cannot do it: whoever stands around another one must not say them in its place.
#[test]
fn what_stands_around_a_port_passes_all_of_it_on() {
    let read = |path: &str| std::fs::read_to_string(root().join("crates").join(path)).unwrap();
    let around = [
        ("identify", "Identify", "gateway/src/stages.rs", "impl<T: Identify> Identify for Seen<T>"),
        ("decide", "Decide", "gateway/src/stages.rs", "impl<T: Decide> Decide for Seen<T>"),
        ("key_store", "KeyStore", "gateway/src/stages.rs", "impl<T: KeyStore> KeyStore for Seen<T>"),
        ("audit_log", "AuditLog", "gateway/src/stages.rs", "impl<T: AuditLog> AuditLog for Seen<T>"),
        ("key_store", "KeyStore", "keystore/src/custodian.rs", "impl<W: World> KeyStore for Custodian<W>"),
        ("world", "World", "core/src/port/world.rs", "impl<W: World> World for Arc<W>"),
    ];
    for (port, name, file, begins) in around {
        let all = functions(&read(&format!("core/src/port/{port}.rs")), &format!("pub trait {name}:"));
        let passed_on = functions(&read(file), begins);
        assert!(all.len() > 3, "{name}: {all:?}");
        assert_eq!(
            all.difference(&passed_on).collect::<Vec<_>>(),
            Vec::<&String>::new(),
            "{file}: `{begins}`"
        );
    }
}
