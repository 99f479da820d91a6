//! What the documents say is what the code does: `docs/ciphertext.md`, `keys.md`, `events.md`, and `operate/errors.md` and `metrics.md`.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what fails here is a test")]

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_256, EncryptingKey, UnboundCipherKey};
use aws_lc_rs::hkdf;
use holdfast_core::action::{Action, Class, Group};
use holdfast_core::algorithm::{Algorithm, Family, Hash, Purpose, SignatureScheme};
use holdfast_core::binding::{Binding, BindingClass};
use holdfast_core::caller::{Authentication, Caller, CallerKind, CallerRecord};
use holdfast_core::context::Context;
use holdfast_core::error::Retry;
use holdfast_core::event::{Committer, ContextFacts, Ending, Event, KeyFacts, verify_opened};
use holdfast_core::frame::{Commitment, HEADER_LEN, Header};
use holdfast_core::key::{Custody, Evidence, TokenEvidence, TokenOrigin};
use holdfast_core::lifecycle::{KeyState, Transition};
use holdfast_core::port;
use holdfast_core::{ErrorKind, KeyName, KeyVersion, PolicyId, Protocol, Stage, TenantId, Timestamp};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

const CIPHERTEXT: &str = include_str!("../../../docs/ciphertext.md");
const KEYS: &str = include_str!("../../../docs/keys.md");
const EVENTS: &str = include_str!("../../../docs/events.md");
const ERRORS: &str = include_str!("../../../docs/operate/errors.md");
const METRICS: &str = include_str!("../../../docs/operate/metrics.md");
const NATIVE: &str = include_str!("../../../docs/protocols/native.md");

/// The block of code behind `<!-- NAME -->`.
fn block<'p>(page: &'p str, name: &str) -> &'p str {
    let (_, rest) = page.split_once(&format!("<!-- {name} -->\n```")).unwrap_or_else(|| panic!("no {name}"));
    let (_, rest) = rest.split_once('\n').unwrap();
    rest.split_once("\n```").unwrap().0
}

fn hex(page: &str, name: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        block(page, &format!("hex: {name}")).bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// The cells of each row of the table that begins with this header.
fn table<'p>(page: &'p str, header: &str) -> Vec<Vec<&'p str>> {
    let mut lines = page.lines().skip_while(|line| *line != header);
    assert!(lines.next().is_some(), "no table `{header}`");
    lines
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

/// What stands in backticks.
fn words(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

const MATERIAL: [u8; 32] = [5; 32];

fn example() -> (Header, TenantId, Context) {
    let context = vec![("invoice".into(), "4711".into()), ("department".into(), "Büro".into())];
    let header = Header {
        class: BindingClass::Data,
        algorithm: Algorithm::Xaes256Gcm,
        key: holdfast_core::KeyId::from_bytes(
            *b"\x01\x93\x5a\x1c\x2d\x3e\x4f\x50\x61\x72\x83\x94\x05\x16\x27\x38",
        ),
        version: KeyVersion::new(2).unwrap(),
        commitment: Commitment(hex(CIPHERTEXT, "commitment").try_into().unwrap()),
    };
    (header, "acme".parse().unwrap(), Context::new(context).unwrap())
}

#[test]
fn the_worked_example_has_the_header_and_the_binding_that_the_code_writes() {
    let (header, tenant, context) = example();
    assert_eq!(hex(CIPHERTEXT, "header"), header.begin(0));
    let Header { class, algorithm, key, version, commitment: _ } = header;
    let binding =
        Binding { class, algorithm, tenant: &tenant, key, version, protocol: "native", context: &context };
    assert_eq!(hex(CIPHERTEXT, "binding"), binding.encode());
    let whole = [header.begin(0), hex(CIPHERTEXT, "body")].concat();
    assert_eq!(block(CIPHERTEXT, "base64: ciphertext"), base64(&whole));
    assert_eq!(Header::parse(&whole).unwrap(), (header, &hex(CIPHERTEXT, "body")[..]));
}

/// As the page says it, without a line of the product's own cryptography.
#[test]
fn the_worked_example_opens_as_the_page_says() {
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"holdfast/key-store/v1");
    let mut commitment = [0; 32];
    let prk = salt.extract(&MATERIAL);
    prk.expand(&[b"key commitment"], hkdf::HKDF_SHA256).unwrap().fill(&mut commitment).unwrap();
    assert_eq!(hex(CIPHERTEXT, "commitment"), commitment);

    let body = hex(CIPHERTEXT, "body");
    let (nonce, sealed) = body.split_at(24);
    let aes = EncryptingKey::ecb(UnboundCipherKey::new(&AES_256, &MATERIAL).unwrap()).unwrap();
    let mut l = [0; 16];
    aes.encrypt(&mut l).unwrap();
    let l = u128::from_be_bytes(l);
    let k1 = ((l << 1) ^ if l >> 127 == 1 { 0x87 } else { 0 }).to_be_bytes();
    let mut derived = [0; 32];
    for (number, half) in (1u8..).zip(derived.chunks_mut(16)) {
        let block = [&[0, number, 0x58, 0][..], &nonce[..12]].concat();
        half.iter_mut().zip(block.iter().zip(k1)).for_each(|(out, (byte, mask))| *out = byte ^ mask);
    }
    aes.encrypt(&mut derived).unwrap();
    let gcm = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &derived).unwrap());
    let mut text = sealed.to_vec();
    let nonce = Nonce::try_assume_unique_for_key(&nonce[12..]).unwrap();
    let opened = gcm.open_in_place(nonce, Aad::from(hex(CIPHERTEXT, "binding")), &mut text).unwrap();
    assert_eq!(opened, b"hello");
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group =
            chunk.iter().chain(&[0; 2]).take(3).fold(0, |group, byte| group << 8 | usize::from(*byte));
        for place in 0..4 {
            let letter = char::from(LETTERS[group >> (18 - 6 * place) & 63]);
            text.push(if place <= chunk.len() { letter } else { '=' });
        }
    }
    text
}

#[test]
fn the_page_of_ciphertexts_lists_what_makes_them() {
    let frame = table(CIPHERTEXT, "| at | bytes | what |");
    assert_eq!(frame.last().unwrap()[0], HEADER_LEN.to_string());
    for row in table(CIPHERTEXT, "| class | made by | opened by |") {
        assert!(BindingClass::from_code(row[0].parse().unwrap()).is_some());
    }
    let listed: Vec<_> = table(CIPHERTEXT, "| code | algorithm | body | bytes more than the plaintext |")
        .iter()
        .map(|row| (row[0].parse().unwrap(), words(row[1])[0]))
        .collect();
    let sealing = |algorithm: &&Algorithm| match algorithm.family() {
        Family::Aead | Family::KeyWrap | Family::Rsa => true,
        Family::Signature | Family::Hmac | Family::Agreement | Family::Kem => false,
    };
    let all: Vec<_> = Algorithm::ALL.iter().filter(sealing).map(|a| (a.code(), a.name())).collect();
    assert_eq!(listed, all);
}

#[test]
fn the_page_of_keys_lists_every_algorithm_and_scheme() {
    let rows = table(KEYS, "| code | algorithm | purposes | standard |");
    assert_eq!(rows.len(), Algorithm::ALL.len());
    for (row, algorithm) in rows.iter().zip(Algorithm::ALL) {
        assert_eq!(row[0], algorithm.code().to_string());
        assert_eq!(words(row[1]), [algorithm.name()]);
        let purposes: Vec<_> = algorithm.purposes().iter().map(|purpose| purpose.name()).collect();
        assert_eq!(words(row[2]), purposes, "{algorithm}");
        assert_eq!(row[3].contains("counted"), algorithm.has_budget(), "{algorithm}");
    }
    let hashes = [Hash::Sha1, Hash::Sha256, Hash::Sha384, Hash::Sha512];
    let schemes: Vec<_> = [SignatureScheme::RsaPss, SignatureScheme::RsaPkcs1v15, SignatureScheme::Ecdsa]
        .into_iter()
        .flat_map(|of| hashes.map(of))
        .chain([SignatureScheme::Ed25519, SignatureScheme::MlDsa65])
        .collect();
    let rows = table(KEYS, "| algorithm | default scheme | all schemes |");
    let signing: Vec<_> = Algorithm::ALL
        .iter()
        .filter(|algorithm| SignatureScheme::default_for(**algorithm).is_some())
        .collect();
    assert_eq!(rows.len(), signing.len());
    for (row, algorithm) in rows.iter().zip(signing) {
        assert_eq!(words(row[0]), [algorithm.name()]);
        assert_eq!(words(row[1]), [SignatureScheme::default_for(*algorithm).unwrap().name()]);
        let fitting: Vec<_> =
            schemes.iter().filter(|scheme| scheme.fits(*algorithm)).map(|scheme| scheme.name()).collect();
        assert_eq!(words(row[2]), fitting);
    }
}

#[test]
fn the_page_of_keys_says_what_each_purpose_is_for() {
    let purposes: BTreeSet<_> = Algorithm::ALL
        .iter()
        .flat_map(|algorithm| algorithm.purposes())
        .map(|purpose| purpose.name())
        .collect();
    let rows = table(KEYS, "| purpose | operations |");
    assert_eq!(rows.iter().map(|row| words(row[0])[0]).collect::<BTreeSet<_>>(), purposes);
    for row in rows {
        let is_its =
            |purpose: Option<Purpose>| purpose.is_some_and(|purpose| words(row[0]) == [purpose.name()]);
        let its: Vec<_> = Action::ALL
            .iter()
            .filter(|action| is_its(action.purpose()))
            .map(|action| action.name())
            .collect();
        assert_eq!(words(row[1]), its);
    }
}

#[test]
fn the_page_of_keys_says_what_each_state_permits_and_leads_to() {
    let classes = [Class::Protect, Class::Process, Class::Inspect, Class::Administer];
    let rows = table(KEYS, "| state | protect | process | inspect | administer |");
    assert_eq!(rows.len(), KeyState::ALL.len());
    for (row, state) in rows.iter().zip(KeyState::ALL) {
        assert_eq!(words(row[0]), [state.name()]);
        for action in Action::ALL {
            let column = classes.iter().position(|class| *class == action.class()).unwrap();
            assert_eq!(row[column + 1] == "yes", state.permits(*action).is_ok(), "{state} {}", action.name());
        }
    }
    let of = |class, within: &[Action]| -> Vec<_> {
        within.iter().filter(|action| action.class() == class).map(|action| action.name()).collect()
    };
    let uses: Vec<_> = Action::ALL.iter().copied().filter(|action| action.group() == Group::Use).collect();
    let rows = table(KEYS, "| class | actions |");
    assert_eq!(words(rows[0][1]), of(Class::Protect, &uses));
    assert_eq!(words(rows[1][1]), of(Class::Process, &uses));
    assert_eq!(words(rows[2][1]), [of(Class::Inspect, &uses), vec!["read"]].concat());
    assert_eq!(words(rows[3][1]), ["administer"]);

    let rows = table(KEYS, "| from | activate | suspend | resume | deactivate | compromise | destroy |");
    assert_eq!(rows.len(), KeyState::ALL.len());
    for (row, state) in rows.iter().zip(KeyState::ALL) {
        assert_eq!(words(row[0]), [state.name()]);
        for (cell, verb) in row[1..].iter().zip(Transition::ALL) {
            let expected = match (verb, state.after(verb, KeyState::Active)) {
                (_, None) => "—",
                (Transition::Resume, Some(_)) => "where it was",
                (_, Some(after)) => after.name(),
            };
            assert_eq!(*cell, expected, "{} of {state}", verb.name());
        }
    }
}

fn caller(tenant: &TenantId, authentication: Authentication) -> Caller {
    let record = CallerRecord {
        name: "payroll".parse().unwrap(),
        kind: CallerKind::Application,
        groups: vec![],
        credentials: vec![],
        tokens: vec![],
        suspended: false,
    };
    Caller { tenant: tenant.clone(), record: Arc::new(record), authentication, own: None }
}

fn encoded(event: &Event<'_>) -> Value {
    let mut out = Vec::new();
    event.encode(&mut out);
    serde_json::from_slice(&out).unwrap()
}

/// The page's own example, and the same with every field that it leaves out; what has another origin too.
fn with_events<R>(look: impl FnOnce([&Event<'_>; 3]) -> R) -> R {
    let tenant: TenantId = "acme".parse().unwrap();
    let mtls =
        Authentication::MutualTls { key_hash: Some([0xab; 32]), matched: "uri:spiffe://acme/payroll".into() };
    let issued = Authentication::Issued { issuer: "https://idp".into(), subject: Some("ana".into()) };
    let (by_certificate, by_token, by_issuer) = (
        caller(&tenant, mtls),
        caller(&tenant, Authentication::Bearer("00000000000000000000000000".parse().unwrap())),
        caller(&tenant, issued),
    );
    let name: KeyName = "payroll-kek".parse().unwrap();
    let context = Context::new(vec![("purpose".into(), "billing".into())]).unwrap();
    let one: [PolicyId; 1] = ["payroll-may-encrypt".parse().unwrap()];
    let many = vec![one[0].clone(); 17];
    let committer = Committer::new(&[7; 32]);
    let key = KeyFacts {
        name: &name,
        known: Some((
            "01JDCZRGZK0000000000000001".parse().unwrap(),
            Algorithm::Xaes256Gcm,
            Custody::Software,
        )),
        protocol: None,
        version: Some(KeyVersion::FIRST),
    };
    let nothing = Context::EMPTY;
    let says = Context::new(vec![("kmsOperation".into(), "GenerateDataKey".into())]).unwrap();
    let example = Event {
        operation: "01JDCZRGZKA9Q6W8T2V4X6Y8Z0".parse().unwrap(),
        time: Timestamp::from_micros(1_795_460_597_123_456),
        tenant: &tenant,
        caller: &by_certificate,
        action: Action::Encrypt,
        key: Some(key),
        target: None,
        subject: None,
        policy: 3,
        deciding: &one,
        ending: Ending::Refused {
            kind: ErrorKind::Stopped,
            stage: Stage::Record,
            detail: "stopped by order while the operation was under way",
        },
        by_copy: false,
        protocol: "native",
        protocol_request: Some("req-4711"),
        request: &nothing,
        trace: Some("4bf92f3577b34da6a3ce929d0e0e4736"),
        source: Some("192.0.2.7".parse().unwrap()),
        latency_micros: 87,
        input: Some(committer.guessable("input", b"4711")),
        output: None,
        associated: None,
        context: ContextFacts::Clear(&context),
        state: None,
        evidence: None,
        alarm: None,
    };
    let evidence = |origin| {
        Evidence::Token(TokenEvidence {
            origin,
            manufacturer: "SoftHSM project".into(),
            model: "SoftHSM v2".into(),
            serial: "b1a44e1993f211af".into(),
            firmware: "2.6".into(),
            attributes: vec!["local", "sensitive", "always-sensitive", "extractable", "wrap-with-trusted"],
            wrapping_key: Some("dbeb-ec8d-3f0e-3ede-fcc2-e684-3dac-0af1".into()),
        })
    };
    let adopted = evidence(TokenOrigin::Adopted { id: "01".into(), label: "legacy".into() });
    let copied =
        evidence(TokenOrigin::Copied { custodians: vec!["erin".into(), "frank".into()], threshold: 2 });
    let commitment = Commitment([0; 32]);
    let full = Event {
        caller: &by_token,
        request: &says,
        key: Some(KeyFacts { protocol: Some(Protocol::MsDke), ..key }),
        target: Some(key),
        subject: Some("carol"),
        deciding: &many,
        output: Some(committer.public("output", &[0; 32])),
        associated: Some(committer.guessable("associated", b"")),
        context: ContextFacts::Hidden(committer.context(&context)),
        state: Some(port::Committed { sequence: 1, digest: [0; 32] }),
        by_copy: true,
        evidence: Some((&adopted, &commitment)),
        alarm: Some("look"),
        ..example
    };
    let other = Event { caller: &by_issuer, evidence: Some((&copied, &commitment)), ..full };
    look([&example, &full, &other])
}

#[test]
fn the_example_of_an_event_is_one() {
    let page: Value = serde_json::from_str(block(EVENTS, "event")).unwrap();
    with_events(|[example, ..]| assert_eq!(encoded(example), page));
}

#[test]
fn the_page_of_events_names_every_field() {
    fn fields(prefix: &str, value: &Value, found: &mut BTreeSet<String>) {
        for (name, value) in value.as_object().unwrap() {
            let path = format!("{prefix}{name}");
            // A target has the fields of a key, a commitment its own table, and a context any.
            let is_inner = [
                "caller",
                "key",
                "policy",
                "protocol",
                "state",
                "evidence",
                "token",
                "object",
                "emergency_copy",
            ]
            .contains(&name.as_str());
            if is_inner && value.is_object() {
                fields(&format!("{path}."), value, found);
            } else {
                found.insert(path);
            }
        }
    }
    let mut written = BTreeSet::new();
    with_events(|events| {
        for event in events {
            fields("", &encoded(event), &mut written);
        }
    });
    let rows = table(EVENTS, "| field | what it says |");
    let mut listed: BTreeSet<_> = rows.iter().flat_map(|row| words(row[0])).map(str::to_owned).collect();
    for whole in ["caller", "evidence", "key"] {
        assert!(listed.remove(whole));
    }
    assert_eq!(listed, written);
}

#[test]
fn the_page_of_events_names_every_action() {
    let rows = table(EVENTS, "| group | actions |");
    for (row, group) in rows.iter().zip([Group::Use, Group::Administer, Group::Read]) {
        let its: Vec<_> =
            Action::ALL.iter().filter(|action| action.group() == group).map(|action| action.name()).collect();
        assert_eq!(words(row[1]), its);
    }
    assert_eq!(words(rows[3][1]), Action::OWN.iter().map(|action| action.name()).collect::<Vec<_>>());
    let stage =
        table(EVENTS, "| field | what it says |").into_iter().find(|row| row[0] == "`stage`").unwrap();
    assert_eq!(words(stage[1]), Stage::ALL.map(Stage::name));
}

#[test]
fn the_commitment_of_the_page_opens() {
    let tag: [u8; 32] = hex(EVENTS, "tag").try_into().unwrap();
    let committed = holdfast_core::event::Committed::Hmac { tag, bytes: 4 };
    assert!(verify_opened(&committed, &[7; 32], "input", b"4711"));
}

/// Each kind has its section; its status is the one that the page of the native protocol says.
#[test]
fn the_catalogue_of_errors_says_what_the_table_says() {
    let mut sections = ERRORS.split("\n## ").skip(1);
    for kind in ErrorKind::ALL {
        let row = kind.row();
        let (code, section) = sections.next().unwrap().split_once('\n').unwrap();
        assert_eq!(code, format!("`{}`", row.code));
        let retry = match row.retry {
            Retry::Never => "never",
            Retry::Later => "later",
            Retry::AfterReading => "after reading again",
        };
        let coded = format!("`{}`", row.code);
        let statuses = table(NATIVE, "| status | code | what to do |");
        let status = statuses.iter().find(|status| status[1].contains(&coded)).unwrap()[0];
        let line = format!("**{}.** Status {status}. Retry: {retry}.", row.title);
        assert!(section.contains(&line), "{code}: {line}");
        assert!(
            section.contains(&format!("- **Remedy it gives:** {}.", row.remedy)),
            "{code}: {}",
            row.remedy
        );
        assert!(section.contains("- **What you see:**") && section.contains("- **What to do:**"), "{code}");
    }
}

/// By the text of the file that registers them: core cannot see the gateway.
#[test]
fn the_page_of_metrics_has_every_metric_and_no_other() {
    let source = concat!(
        include_str!("../../gateway/src/metrics.rs"),
        include_str!("../../gateway/src/outside/figures.rs"),
        include_str!("../../gateway/src/sealed/figures.rs"),
        include_str!("../../gateway/src/pool.rs"),
        include_str!("../../gateway/src/resealing.rs")
    );
    let mut registered = BTreeSet::new();
    for part in source.split("registry.register").skip(1) {
        let with_unit = part.starts_with("_with_unit(");
        let name = part.split('"').nth(1).unwrap();
        let counters = [
            "requests",
            "rotations",
            "sink_exported_entries",
            "sink_skipped_entries",
            "scrub_passes",
            "scrub_bytes",
            "pool_member_operations",
            "pool_member_restarts",
            "pool_hedged",
            "pool_retried",
            "sealing_keys_retired",
            "versions_resealed",
        ];
        let is_counter = counters.contains(&name) || name.ends_with("_failures");
        let kind = if is_counter { "_total" } else { "" };
        registered.insert(format!("holdfast_{name}{}{kind}", if with_unit { "_seconds" } else { "" }));
    }
    assert!(registered.len() >= 9);
    let rows = table(METRICS, "| metric | type | what it says |");
    let listed: BTreeSet<_> = rows.iter().map(|row| words(row[0])[0].to_owned()).collect();
    assert_eq!(listed, registered);
}

/// A map that names a test which is gone promises what nobody holds.
#[test]
fn every_invariant_of_the_map_names_tests_that_exist() {
    let map = include_str!("../../../ARCHITECTURE.md");
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../");
    let mut invariants = 0;
    for line in map.lines().filter(|line| line.starts_with("**Invariant:**")) {
        invariants += 1;
        let (_, held) = line.split_once("Held by ").unwrap_or_else(|| panic!("nothing holds: {line}"));
        for place in held.split("; ") {
            let names = words(place);
            let (file, tests) = names.split_first().unwrap();
            let mut source =
                std::fs::read_to_string(format!("{root}{file}")).unwrap_or_else(|_| panic!("no {file}"));
            // Its modules are its own.
            let modules = std::fs::read_dir(format!("{root}{}", file.trim_end_matches(".rs")));
            for entry in modules.into_iter().flatten() {
                source.push_str(&std::fs::read_to_string(entry.unwrap().path()).unwrap_or_default());
            }
            assert!(!tests.is_empty(), "{line}");
            for test in tests {
                assert!(source.contains(&format!("fn {test}(")), "{file} has no `{test}`");
            }
        }
    }
    assert!(invariants > 20);
}

/// An image that lacks a part of the build is built otherwise, or not at all.
#[test]
fn the_image_is_built_with_everything_that_a_build_needs() {
    let container = include_str!("../../../deploy/Containerfile");
    let copies = container.split("RUN cargo build").next().unwrap().lines();
    let copied: Vec<_> = copies
        .filter_map(|line| line.strip_prefix("COPY "))
        .flat_map(|line| line.split(' ').rev().skip(1))
        .collect();
    let workspace = include_str!("../../../Cargo.toml");
    let members = workspace.lines().find_map(|line| line.strip_prefix("members = ")).unwrap();
    let members = members.split('"').skip(1).step_by(2).map(|member| member.trim_end_matches("/*"));
    // What SQLite is built without stands in `.cargo`.
    for needed in ["Cargo.toml", "Cargo.lock", ".cargo", "docs", "fixtures"].into_iter().chain(members) {
        assert!(copied.contains(&needed), "`deploy/Containerfile` does not copy `{needed}`");
    }
}
