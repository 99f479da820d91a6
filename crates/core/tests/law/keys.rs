//! What a key's state, purpose and versions let it do.

use holdfast_conformance::doubles::{CommitFault, Entry};
use holdfast_conformance::rig::{
    Rig, bytes, decrypt, encrypt, issue_token, name, new_key, person, sign, verify, wrap,
};
use holdfast_conformance::task::now;
use holdfast_core::algorithm::{Algorithm, Family, Purpose};
use holdfast_core::caller::CallerKind;
use holdfast_core::command::{Command, Done, NewKey};
use holdfast_core::context::Context;
use holdfast_core::lifecycle::{KeyState, Transition};
use holdfast_core::operation::{Operation, Output};
use holdfast_core::query::{Found, Query};
use holdfast_core::{ErrorKind, KeyVersion};

fn no_context() -> Context {
    Context::EMPTY
}

/// Brings a key from `Active` into a state.
fn bring(rig: &Rig, key: &str, state: KeyState) {
    let way: &[Transition] = match state {
        KeyState::PreActivation | KeyState::Active => &[],
        KeyState::Suspended => &[Transition::Suspend],
        KeyState::Deactivated => &[Transition::Deactivate],
        KeyState::Compromised => &[Transition::Compromise],
        KeyState::Destroyed => &[Transition::Deactivate, Transition::Destroy(None)],
    };
    for verb in way {
        now(rig.transition(key, *verb)).unwrap();
    }
}

#[test]
fn the_table_of_states_is_enforced() {
    for state in KeyState::ALL {
        let rig = Rig::new();
        let prepared = state == KeyState::PreActivation;
        now(rig.create(NewKey { prepared, ..new_key("kek", Algorithm::Xaes256Gcm) })).unwrap();
        now(rig.create(NewKey { prepared, ..new_key("signer", Algorithm::Ed25519) })).unwrap();
        let (sealed, signature) = if prepared {
            (vec![0; 100], vec![])
        } else {
            (
                now(rig.bytes("alice", "kek", encrypt(b"data", no_context()))).unwrap(),
                now(rig.bytes("alice", "signer", sign(b"message"))).unwrap(),
            )
        };
        bring(&rig, "kek", state);
        bring(&rig, "signer", state);
        let protects = [
            now(rig.bytes("alice", "kek", encrypt(b"data", no_context()))).map(drop),
            now(rig.bytes("alice", "signer", sign(b"message"))).map(drop),
        ];
        let processes = [
            now(rig.bytes("alice", "kek", decrypt(&sealed, no_context()))).map(drop),
            now(rig.bytes("alice", "signer", verify(b"message", &signature, None))).map(drop),
        ];
        let inspects = [now(rig.bytes("alice", "signer", Operation::PublicKey { version: None })).map(drop)];
        let expect = |results: &[Result<(), holdfast_core::Error>], allowed: bool, what: &str| {
            for result in results {
                match result {
                    Ok(()) => assert!(allowed, "{state} {what}"),
                    Err(error) => {
                        assert!(!allowed, "{state} {what}: {error}");
                        assert_eq!(error.kind(), ErrorKind::KeyState, "{state} {what}");
                    }
                }
            }
        };
        expect(&protects, state == KeyState::Active, "protects");
        expect(&processes, matches!(state, KeyState::Active | KeyState::Deactivated), "processes");
        expect(&inspects, true, "inspects");
    }
}

#[test]
fn the_transitions_are_those_of_the_table() {
    for state in KeyState::ALL {
        for verb in Transition::ALL {
            let rig = Rig::new();
            let prepared = state == KeyState::PreActivation;
            now(rig.create(NewKey { prepared, ..new_key("kek", Algorithm::Xaes256Gcm) })).unwrap();
            bring(&rig, "kek", state);
            let done = now(rig.transition("kek", verb));
            let after = rig.state().find(&rig.acme, &name("kek")).unwrap().state;
            match state.after(verb, KeyState::Active) {
                Some(expected) => {
                    assert!(done.is_ok());
                    assert_eq!(after, expected);
                }
                // A stop of what is stopped already succeeds; nothing else does.
                None if verb.is_stop() && done.is_ok() => assert_eq!(after, state),
                None => {
                    assert_eq!(done.unwrap_err().kind(), ErrorKind::KeyState);
                    assert_eq!(after, state);
                }
            }
        }
    }
}

#[test]
fn resuming_leads_back_to_where_the_key_was() {
    let rig = Rig::new();
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    for verb in [Transition::Deactivate, Transition::Suspend, Transition::Resume] {
        now(rig.transition("kek", verb)).unwrap();
    }
    assert_eq!(rig.state().find(&rig.acme, &name("kek")).unwrap().state, KeyState::Deactivated);
}

#[test]
fn a_destroyed_keys_material_is_gone_in_every_version() {
    let rig = Rig::new();
    let key = now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    now(rig.command("carol", Command::RotateKey(name("kek")))).unwrap();
    bring(&rig, "kek", KeyState::Deactivated);
    let outcome = now(rig.transition("kek", Transition::Destroy(None))).unwrap();
    let Done::Key(destroyed, newest) = outcome.done else { panic!("a key") };
    assert_eq!([destroyed.state, newest.state], [KeyState::Destroyed; 2]);
    assert_eq!(newest.number, destroyed.newest);
    for number in [1, 2].map(|number| KeyVersion::new(number).unwrap()) {
        let version = rig.state().find_version(key.id, number).unwrap();
        assert_eq!(version.state, KeyState::Destroyed);
        assert!(version.handle.as_bytes().is_empty());
        assert!(rig.keys().is_erased(key.id, number), "the key store was told");
    }
    assert!(rig.keys().forgotten().contains(&key.id));
}

#[test]
fn a_destroyed_keys_name_is_free_again_and_its_id_never_is() {
    let rig = Rig::new();
    let new = || new_key("kek", Algorithm::Xaes256Gcm);
    let first = now(rig.create(new())).unwrap();
    for state in [KeyState::Active, KeyState::Deactivated] {
        bring(&rig, "kek", state);
        rig.keys().fault(holdfast_conformance::doubles::KeyFault::Fail(ErrorKind::KeyStoreUnavailable));
        // Refused before a key is made that nobody would get.
        assert_eq!(now(rig.create(new())).unwrap_err().kind(), ErrorKind::AlreadyExists, "{state}");
        rig.keys().heal();
    }
    let outcome = now(rig.transition("kek", Transition::Destroy(None))).unwrap();
    let Done::Key(_, only) = outcome.done else { panic!("a key") };
    assert_eq!(only.state, KeyState::Destroyed);
    let second = now(rig.create(new())).unwrap();
    assert_ne!(first.id, second.id);
    assert!(now(rig.bytes("alice", "kek", encrypt(b"data", no_context()))).is_ok());
}

#[test]
fn a_key_does_what_it_was_created_for_and_nothing_else() {
    let rig = Rig::new();
    for algorithm in Algorithm::ALL {
        for purpose in algorithm.purposes() {
            let key = format!("{algorithm}-{}", purpose.name());
            now(rig.create(NewKey { purpose: Some(*purpose), ..new_key(&key, *algorithm) })).unwrap();
            let operations = [
                (Purpose::Encrypt, encrypt(b"12345678", no_context())),
                (Purpose::Wrap, wrap(b"12345678", no_context())),
                (Purpose::Sign, sign(b"message")),
                (Purpose::Mac, Operation::Mac { message: b"message".to_vec() }),
                (Purpose::Agree, Operation::Agree { peer: vec![1; 32], version: None }),
                (Purpose::Encapsulate, Operation::Encapsulate),
            ];
            for (needed, operation) in operations {
                let done = now(rig.bytes("alice", &key, operation)).map_err(|error| error.kind());
                match needed == *purpose {
                    true => assert!(done.is_ok(), "{key} {done:?}"),
                    false => assert_eq!(done.unwrap_err(), ErrorKind::Unsupported, "{key}"),
                }
            }
            let public = now(rig.bytes("alice", &key, Operation::PublicKey { version: None }));
            assert_eq!(public.is_ok(), algorithm.is_asymmetric(), "{key}");
        }
        let foreign = [Purpose::Encrypt, Purpose::Wrap, Purpose::Sign, Purpose::Mac, Purpose::Agree]
            .into_iter()
            .find(|purpose| !algorithm.purposes().contains(purpose));
        let new = NewKey { purpose: foreign, ..new_key("odd", *algorithm) };
        assert_eq!(now(rig.create(new)).unwrap_err().kind(), ErrorKind::Unsupported);
    }
}

#[test]
fn data_keys_are_for_authenticated_encryption_only() {
    let rig = Rig::new();
    let new = NewKey { purpose: Some(Purpose::Encrypt), ..new_key("rsa", Algorithm::Rsa2048) };
    now(rig.create(new)).unwrap();
    let operation = Operation::DataKey { length: 32, with_plaintext: true, context: no_context() };
    assert_eq!(now(rig.bytes("alice", "rsa", operation)).unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(Algorithm::Rsa2048.family(), Family::Rsa);
}

#[test]
fn new_work_takes_the_newest_version_and_old_data_still_opens() {
    let rig = Rig::new();
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    now(rig.create(new_key("signer", Algorithm::EcdsaP256))).unwrap();
    let mut sealed = Vec::new();
    let mut signed = Vec::new();
    for number in 1..=4u32 {
        let answer = now(rig.use_key("alice", "kek", encrypt(&number.to_be_bytes(), no_context()))).unwrap();
        assert_eq!(answer.version, KeyVersion::new(number));
        sealed.push(bytes(answer));
        signed.push(now(rig.bytes("alice", "signer", sign(b"message"))).unwrap());
        for key in ["kek", "signer"] {
            now(rig.command("carol", Command::RotateKey(name(key)))).unwrap();
        }
    }
    for (index, sealed) in sealed.iter().enumerate() {
        let number = u32::try_from(index).unwrap() + 1;
        let answer = now(rig.use_key("alice", "kek", decrypt(sealed, no_context()))).unwrap();
        assert_eq!(answer.version, KeyVersion::new(number));
        assert_eq!(rig.log().last().text("key.version"), number.to_string());
        assert_eq!(bytes(answer), number.to_be_bytes());
        let valid = |version| {
            let operation = verify(b"message", &signed[index], version);
            now(rig.bytes("alice", "signer", operation)).unwrap() == [1]
        };
        assert!(valid(Some(number)) && !valid(None));
    }
    let future = verify(b"message", &signed[0], Some(99));
    assert_eq!(now(rig.bytes("alice", "signer", future)).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_public_key_is_that_of_its_version() {
    let rig = Rig::new();
    now(rig.create(new_key("signer", Algorithm::Ed25519))).unwrap();
    let public = |version: Option<u32>| {
        let version = version.map(|number| KeyVersion::new(number).unwrap());
        now(rig.bytes("alice", "signer", Operation::PublicKey { version }))
    };
    let first = public(None).unwrap();
    now(rig.command("carol", Command::RotateKey(name("signer")))).unwrap();
    assert_eq!(public(Some(1)).unwrap(), first);
    assert_ne!(public(None).unwrap(), first);
    assert_eq!(public(Some(3)).unwrap_err().kind(), ErrorKind::NotFound);
    now(rig.create(new_key("mac", Algorithm::HmacSha256))).unwrap();
    let none = now(rig.bytes("alice", "mac", Operation::PublicKey { version: None })).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Unsupported);
}

#[test]
fn agreement_and_encapsulation_open_with_their_version() {
    let rig = Rig::new();
    now(rig.create(new_key("kem", Algorithm::MlKem768))).unwrap();
    now(rig.create(new_key("ecdh", Algorithm::X25519))).unwrap();
    let answer = now(rig.use_key("alice", "kem", Operation::Encapsulate)).unwrap();
    let Output::Encapsulated { ciphertext, secret } = answer.output else { panic!() };
    let shared =
        now(rig.bytes("alice", "ecdh", Operation::Agree { peer: vec![4; 32], version: None })).unwrap();
    for key in ["kem", "ecdh"] {
        now(rig.command("carol", Command::RotateKey(name(key)))).unwrap();
    }
    let open = |version| Operation::Decapsulate { ciphertext: ciphertext.clone(), version };
    assert_eq!(now(rig.bytes("alice", "kem", open(Some(KeyVersion::FIRST)))).unwrap(), secret.expose());
    assert_ne!(now(rig.bytes("alice", "kem", open(None))).unwrap(), secret.expose());
    let agree = |version| Operation::Agree { peer: vec![4; 32], version };
    assert_eq!(now(rig.bytes("alice", "ecdh", agree(Some(KeyVersion::FIRST)))).unwrap(), shared);
}

#[test]
fn a_suspended_tenant_uses_nothing_and_administers_still() {
    let rig = Rig::new();
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    now(rig.command("carol", Command::SuspendTenant)).unwrap();
    let refused = now(rig.bytes("alice", "kek", encrypt(b"data", no_context()))).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Stopped);
    assert_eq!(now(rig.random("alice", 16)).unwrap_err().kind(), ErrorKind::Stopped);
    assert!(now(rig.query("audrey", Query::Tenant)).is_ok());
    // Of another tenant nothing is stopped.
    let inbound = rig.inbound_at(&rig.other, "alice");
    let random = holdfast_core::pipeline::Call::Random { length: 16 };
    assert!(now(rig.pipeline.use_key(&inbound, random)).is_ok());
    now(rig.command("dora", Command::ResumeTenant)).unwrap();
    assert!(now(rig.bytes("alice", "kek", encrypt(b"data", no_context()))).is_ok());
}

#[test]
fn a_suspended_caller_does_nothing_whoever_recognises_it() {
    let rig = Rig::new();
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    now(rig.command("carol", Command::SuspendCaller("alice".parse().unwrap()))).unwrap();
    let refused = now(rig.bytes("alice", "kek", encrypt(b"data", no_context()))).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Stopped);
    assert_eq!(rig.log().last().summary(), "encrypt refused stopped");
    now(rig.command("carol", Command::SuspendCaller("dora".parse().unwrap()))).unwrap();
    let resume = Command::ResumeCaller("dora".parse().unwrap());
    assert_eq!(now(rig.command("dora", resume.clone())).unwrap_err().kind(), ErrorKind::Stopped);
    assert_eq!(now(rig.query("dora", Query::Tenant)).unwrap_err().kind(), ErrorKind::Stopped);
    now(rig.command("carol", resume)).unwrap();
    assert!(now(rig.query("dora", Query::Tenant)).is_ok());
}

#[test]
fn a_caller_that_is_registered_anew_stays_suspended_and_keeps_its_tokens() {
    let rig = Rig::new();
    now(rig.command("carol", Command::SuspendCaller("alice".parse().unwrap()))).unwrap();
    let mut again = person("acme", "alice", CallerKind::Application, &rig.world);
    again.tokens.clear();
    let outcome = now(rig.command("carol", Command::PutCaller(again))).unwrap();
    let Done::Caller(record) = outcome.done else { panic!("a caller") };
    assert_eq!((record.suspended, record.tokens.len()), (true, 1));
    assert_eq!(now(rig.random("alice", 16)).unwrap_err().kind(), ErrorKind::Stopped);
    now(rig.command("carol", Command::ResumeCaller("alice".parse().unwrap()))).unwrap();
    assert!(now(rig.random("alice", 16)).is_ok());
}

#[test]
fn a_caller_has_32_live_tokens_at_most() {
    let rig = Rig::new();
    let issue = || now(rig.command("carol", issue_token("bob", 60)));
    // One has been there from the beginning.
    for _ in 1..32 {
        issue().unwrap();
    }
    assert_eq!(issue().unwrap_err().kind(), ErrorKind::Throttled);
    rig.world.step(59);
    assert_eq!(issue().unwrap_err().kind(), ErrorKind::Throttled);
    // At the moment of its end a token is worth nothing.
    rig.world.step(1);
    issue().unwrap();
}

#[test]
fn tokens_end_when_they_expire_or_are_revoked() {
    let rig = Rig::new();
    let issue = |seconds| issue_token("alice", seconds);
    let error = now(rig.command("carol", issue(86_401))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    let outcome = now(rig.command("carol", issue(60))).unwrap();
    let Done::Token { id, secret, .. } = outcome.done else { panic!("a token") };
    assert!(!format!("{:?}", rig.log().entries()).contains(&format!("{:?}", secret.expose())));
    let random = |rig: &Rig| {
        let proof = holdfast_core::peer::Proof::Bearer { id, secret: secret.expose().into() };
        let inbound = rig.inbound_with(&rig.acme, proof);
        let call = holdfast_core::pipeline::Call::Random { length: 16 };
        now(rig.pipeline.use_key(&inbound, call)).map(drop).map_err(|error| error.kind())
    };
    assert_eq!(random(&rig), Ok(()));
    rig.world.step(61);
    assert_eq!(random(&rig), Err(ErrorKind::Unauthenticated));
    rig.world.step(-61);
    assert_eq!(random(&rig), Ok(()));
    let revoke = Command::RevokeToken { caller: "alice".parse().unwrap(), token: id };
    now(rig.command("carol", revoke.clone())).unwrap();
    assert_eq!(random(&rig), Err(ErrorKind::Unauthenticated));
    assert_eq!(now(rig.command("carol", revoke)).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn records_are_read_in_pages() {
    let rig = Rig::new();
    for index in 0..5 {
        now(rig.create(new_key(&format!("k{index}"), Algorithm::HmacSha256))).unwrap();
    }
    let Found::Keys(page) =
        now(rig.query("audrey", Query::Keys { after: Some(name("k1")), limit: 2 })).unwrap()
    else {
        panic!("keys")
    };
    let names: Vec<_> = page.rows.iter().map(|key| key.name.as_str()).collect();
    assert_eq!((names, page.more), (vec!["k2", "k3"], true));
}

/// Where a version was made stands in the log once it is one: not while it is ordered, and not when it was not made.
#[test]
fn the_making_of_a_version_has_its_evidence_in_the_log() {
    let rig = Rig::new();
    now(rig.create(new_key("kek", Algorithm::Xaes256Gcm))).unwrap();
    now(rig.command("carol", Command::RotateKey(name("kek")))).unwrap();
    let makes = |entry: &Entry| ["create-key", "rotate-key"].contains(&entry.text("action").as_str());
    let all: Vec<_> = rig.log().entries().into_iter().filter(makes).collect();
    let evidence: Vec<_> = all.iter().map(|entry| (entry.summary(), entry.text("evidence.level"))).collect();
    let [intent, success] = ["", "software"];
    let expected = [
        ("create-key intent", intent),
        ("create-key success", success),
        ("rotate-key intent", intent),
        ("rotate-key success", success),
    ];
    assert_eq!(evidence, expected.map(|(summary, level)| (summary.to_owned(), level.to_owned())));
    let commitments: std::collections::BTreeSet<_> =
        all.iter().map(|entry| entry.text("evidence.commitment")).filter(|text| !text.is_empty()).collect();
    assert_eq!(commitments.len(), 2, "each version has its own");
    // What was made and never became a version has none.
    rig.state().fault(CommitFault::Before(ErrorKind::StateUnavailable));
    assert!(now(rig.command("carol", Command::RotateKey(name("kek")))).is_err());
    assert_eq!(rig.log().last().text("evidence.level"), "");
}
