//! The bytes of every kind of row: what a newer binary must still read.

use crate::body::*;
use crate::record::{Kind, Row, version_id};
use crate::testing::{
    anchor as an_anchor, caller as a_caller, key as a_key, policy as a_policy, tenant_record,
    version as a_version,
};
use holdfast_core::algorithm::Algorithm;
use holdfast_core::archive::KeyArchive;
use holdfast_core::caller::{CallerKind, CallerRecord};
use holdfast_core::destruction::{Destruction, Erasure, WaitingPeriod};
use holdfast_core::inventory::Inventory;
use holdfast_core::key::{Custody, Key, SealedHandle, Version};
use holdfast_core::lifecycle::KeyState;
use holdfast_core::port::Absence;
use holdfast_core::retention::Retention;
use holdfast_core::schedule::{RotationPeriod, Schedule};
use holdfast_core::sealing_key::{RetiredSealingKey, SealingKeyId, SealingKeys};
use holdfast_core::tenant::{TakenBackup, TenantRecord};
use holdfast_core::{Epoch, KeyVersion, Protocol, Timestamp};
use std::sync::Arc;

fn row<'a>(kind: Kind, id: &'a [u8], name: Option<&'a str>, body: &'a [u8]) -> Row<'a> {
    Row { kind, id, tenant: "acme", name, epoch: 3, body }
}

fn text(body: &[u8]) -> &str {
    std::str::from_utf8(body).unwrap()
}

#[test]
fn the_bytes_of_a_tenant() {
    let record = TenantRecord { epoch: Epoch(3), ..tenant_record("acme") };
    let body = of_tenant(&record).unwrap();
    assert_eq!(text(&body), r#"{"v":1,"suspended":false,"handle":"c2VhbGVk","created":1000000}"#);
    assert_eq!(tenant(&row(Kind::Tenant, b"acme", None, &body)).unwrap(), record);
    let gateway = br#"{"v":1,"suspended":false,"created":1}"#;
    assert_eq!(tenant(&row(Kind::Tenant, b"acme", None, gateway)).unwrap().handle, None);
    let out = [("hsm-a", Absence::Drained), ("hsm-b", Absence::Ejected)];
    let out = out.map(|(member, absence)| (member.parse().unwrap(), absence)).into();
    let members = [("hsm-a", None), ("hsm-c", Some(7))];
    let members = members.map(|(member, left)| (member.parse().unwrap(), left));
    let gateway = TenantRecord { out, members: members.into(), ..record.clone() };
    let body = of_tenant(&gateway).unwrap();
    let written = r#""out":{"hsm-a":"drained","hsm-b":"ejected"},"members":{"hsm-a":null,"hsm-c":7}"#;
    assert!(text(&body).contains(written), "{}", text(&body));
    assert_eq!(tenant(&row(Kind::Tenant, b"acme", None, &body)).unwrap(), gateway);
    let unknown = br#"{"v":1,"suspended":false,"out":{"hsm-a":"asleep"},"created":1}"#;
    assert!(tenant(&row(Kind::Tenant, b"acme", None, unknown)).is_err());
    let kept =
        TenantRecord { retention: Retention::of_days(30), backed_up: Some(9), verified: Some(7), ..record };
    let body = of_tenant(&kept).unwrap();
    assert!(text(&body).contains(r#""backed_up":9,"verified":7,"retention_days":30"#), "{}", text(&body));
    assert_eq!(tenant(&row(Kind::Tenant, b"acme", None, &body)).unwrap(), kept);
    let taken = TakenBackup {
        name: "b.age".into(),
        commit: 3,
        taken: Timestamp::from_micros(4),
        expires: Some(Timestamp::from_micros(5)),
        sha256: [5; 32],
    };
    let undated = TakenBackup { expires: None, ..taken.clone() };
    let backed_up = TenantRecord { backups: vec![taken, undated], up: 7200, shares: Some(2), ..kept };
    let body = of_tenant(&backed_up).unwrap();
    let written = r#""backups":[{"name":"b.age","commit":3,"taken":4,"expires":5,"sha256":"BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU"},{"name""#;
    assert!(
        text(&body).contains(written) && text(&body).contains(r#""up":7200,"shares":2,"created""#),
        "{}",
        text(&body)
    );
    assert_eq!(tenant(&row(Kind::Tenant, b"acme", None, &body)).unwrap(), backed_up);
    let impossible = br#"{"v":1,"suspended":false,"retention_days":0,"created":1}"#;
    assert!(tenant(&row(Kind::Tenant, b"acme", None, impossible)).is_err());
}

#[test]
fn the_bytes_of_a_caller() {
    let record = a_caller("payroll");
    let body = of_caller(&record).unwrap();
    assert_eq!(
        text(&body),
        concat!(
            r#"{"v":1,"kind":"application","groups":["batch"],"credentials":[{"uri":"spiffe://acme/payroll"},{"dns":"payroll.acme"},"#,
            r#"{"key":"CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk"},"#,
            r#"{"issued":{"issuer":"https://issuer.acme","subject":"payroll"}},{"issued":{"issuer":"https://issuer.acme"}}],"tokens":[{"id":"00040G40G30C2081850R30E1R8","#,
            r#""hash":"CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg","expires":5000000}],"suspended":true}"#
        )
    );
    assert_eq!(caller(&row(Kind::Caller, b"", Some("payroll"), &body)).unwrap(), record);
}

#[test]
fn the_bytes_of_an_anchor() {
    let record = an_anchor("root", b"crl");
    let body = of_anchor(&record).unwrap();
    assert_eq!(text(&body), r#"{"v":1,"certificate":"ZGVy","revocations":"Y3Js"}"#);
    assert_eq!(anchor(&row(Kind::Anchor, b"", Some("root"), &body)).unwrap(), record);
    let without = br#"{"v":1,"certificate":"ZGVy"}"#;
    assert_eq!(anchor(&row(Kind::Anchor, b"", Some("root"), without)).unwrap().revocations, None);
}

#[test]
fn the_bytes_of_a_policy_version() {
    let record = a_policy(2);
    let body = of_policy(&record).unwrap();
    assert_eq!(
        text(&body),
        r#"{"v":1,"version":2,"text":"permit(principal, action, resource); // \"2\"","author":"ann","set":2000000}"#
    );
    assert_eq!(policy(&row(Kind::Policy, b"", None, &body)).unwrap(), record);
}

#[test]
fn the_bytes_of_a_key() {
    let mut record = Key { epoch: Epoch(3), renewed: 7, ..a_key("acme", "kek", 5) };
    record.labels.insert("team".into(), "pay\"roll".into());
    let body = of_key(&record).unwrap();
    assert_eq!(
        text(&body),
        concat!(
            r#"{"v":1,"name":"kek","algorithm":"xaes-256-gcm","purpose":"encrypt","state":"active","resumes_to":"active","#,
            r#""exportable":false,"rsa_pkcs1_decrypt":false,"sha1_oaep":false,"labels":{"team":"pay\"roll"},"newest":1,"#,
            r#""custody":"software","renewed":7,"created":3000000}"#
        )
    );
    assert_eq!(key(&row(Kind::Key, &[5; 16], Some("kek"), &body)).unwrap(), record);
    assert_eq!(key(&row(Kind::Key, &[5; 16], None, &body)).unwrap(), record);
    assert!(key(&row(Kind::Key, &[5; 16], Some("other"), &body)).is_err());
    // For one protocol, where it was created for one; of rows from before nobody says so.
    assert_eq!(record.protocol, None);
    let of_one = Key { protocol: Some(Protocol::MsDke), ..record.clone() };
    let said = of_key(&of_one).unwrap();
    assert!(text(&said).contains(r#""sha1_oaep":false,"protocol":"ms-dke","labels""#), "{}", text(&said));
    assert_eq!(key(&row(Kind::Key, &[5; 16], Some("kek"), &said)).unwrap(), of_one);
    for none in ["gateway", "MS-DKE", ""] {
        let other = text(&said).replace("ms-dke", none);
        assert!(key(&row(Kind::Key, &[5; 16], Some("kek"), other.as_bytes())).is_err(), "{none}");
    }
    let earlier =
        |current: u32| text(&body).replace(r#""newest":1,"#, &format!(r#""newest":3,"current":{current},"#));
    let back = key(&row(Kind::Key, &[5; 16], Some("kek"), earlier(2).as_bytes())).unwrap();
    assert_eq!((back.newest.get(), back.current.get()), (3, 2));
    assert_eq!(text(&of_key(&back).unwrap()), earlier(2));
    // Its newest version waits; of rows from before nobody says so.
    let waiting = Key { waits: true, ..back.clone() };
    let body = of_key(&waiting).unwrap();
    assert!(text(&body).contains(r#""current":2,"waits":true,"#), "{}", text(&body));
    assert_eq!(key(&row(Kind::Key, &[5; 16], Some("kek"), &body)).unwrap(), waiting);
    assert!(!back.waits);
    let counted = Inventory {
        newest: KeyVersion::new(2).unwrap(),
        needed: vec![KeyVersion::FIRST],
        items: 9,
        sha256: [5; 32],
        recorded: Timestamp::from_micros(6),
    };
    let schedule = Schedule { period: RotationPeriod::of_days(90).unwrap(), due: Timestamp::from_micros(8) };
    let record = Key { schedule: Some(schedule), inventory: Some(Arc::new(counted)), ..record };
    let body = of_key(&record).unwrap();
    let inventory = concat!(
        r#""inventory":{"newest":2,"needed":[1],"items":9,"#,
        r#""sha256":"BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU","recorded":6},"custody""#
    );
    assert!(text(&body).contains(inventory), "{}", text(&body));
    assert!(text(&body).contains(r#""schedule":{"days":90,"due":8},"inventory""#), "{}", text(&body));
    assert_eq!(key(&row(Kind::Key, &[5; 16], Some("kek"), &body)).unwrap(), record);
    let order = Destruction {
        state: KeyState::Deactivated,
        resumes_to: KeyState::Active,
        ordered: Timestamp::from_micros(9),
        period: WaitingPeriod::of_days(7).unwrap(),
        up: 3600,
    };
    let erasure =
        Erasure::begun((Timestamp::from_micros(10), 11), None, ["a", "b"].map(|name| name.parse().unwrap()));
    let erasure = erasure
        .left(["c".parse().unwrap()])
        .sealed_under([SealingKeyId::from_bytes([7; 8])])
        .after(&["a".parse().unwrap()]);
    let ending =
        Key { destruction: Some(order), erasure: Some(Arc::new(erasure)), ..a_key("acme", "kek", 5) };
    let body = of_key(&ending).unwrap();
    let written = concat!(
        r#""newest":1,"destruction":{"state":"deactivated","resumes_to":"active","ordered":9,"days":7,"up":3600},"#,
        r#""erasure":{"destroyed":10,"commit":11,"absent":["a"],"pending":["b"],"left":["c"],"sealed_under":["BwcHBwcHBwc"]},"custody""#
    );
    assert!(text(&body).contains(written), "{}", text(&body));
    let read = key(&row(Kind::Key, &[5; 16], Some("kek"), &body)).unwrap();
    assert_eq!((read.destruction, read.erasure), (ending.destruction, ending.erasure));
    for none in [0, 3, 4] {
        assert!(key(&row(Kind::Key, &[5; 16], Some("kek"), earlier(none).as_bytes())).is_err(), "{none}");
    }
}

#[test]
fn the_bytes_of_a_key_version() {
    let record = Version { public: Some(Arc::from(&b"spki"[..])), ..a_version(5, 2) };
    let body = of_version(&record).unwrap();
    assert_eq!(
        text(&body),
        concat!(
            r#"{"v":1,"state":"active","handle":"aGFuZGxlLTU","public":"c3BraQ","#,
            r#""commitment":"BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU","commit":1,"created":4000000}"#
        )
    );
    let id = version_id(record.key, record.number);
    assert_eq!(version(&row(Kind::Version, &id, None, &body)).unwrap(), record);
    let without = text(&body).replace(r#""public":"c3BraQ","#, "");
    assert_eq!(version(&row(Kind::Version, &id, None, without.as_bytes())).unwrap().public, None);
    // An earlier build wrote no commit: from before everything.
    let earlier = text(&body).replace(r#""commit":1,"#, "");
    assert_eq!(version(&row(Kind::Version, &id, None, earlier.as_bytes())).unwrap().commit, 0);
}

#[test]
fn every_value_of_every_list_is_read_again() {
    for algorithm in Algorithm::ALL {
        for state in KeyState::ALL {
            for custody in Custody::ALL {
                for purpose in algorithm.purposes() {
                    let record = Key {
                        algorithm: *algorithm,
                        state,
                        custody,
                        purpose: *purpose,
                        epoch: Epoch(3),
                        ..a_key("acme", "kek", 5)
                    };
                    let body = of_key(&record).unwrap();
                    assert_eq!(key(&row(Kind::Key, &[5; 16], Some("kek"), &body)).unwrap(), record);
                }
            }
        }
    }
    for kind in CallerKind::ALL {
        let record = CallerRecord { kind, ..a_caller("a") };
        let body = of_caller(&record).unwrap();
        assert_eq!(caller(&row(Kind::Caller, b"", Some("a"), &body)).unwrap(), record);
    }
}

#[test]
fn a_newer_shape_and_garbage_are_told_apart() {
    let why = |body: &[u8]| tenant(&row(Kind::Tenant, b"acme", None, body)).unwrap_err().to_string();
    assert!(why(br#"{"v":2,"sealed":1}"#).contains("version 2"));
    assert!(why(b"{").contains("not of its shape"));
    assert!(why(br#"{"v":1,"suspended":false,"created":1,"more":1}"#).contains("not of its shape"));
}

#[test]
fn the_bytes_of_a_tenant_s_sealing_keys() {
    let id = |byte| SealingKeyId::from_bytes([byte; 8]);
    let retired = RetiredSealingKey { id: id(3), retired: Timestamp::from_micros(6), versions: 7 };
    let sealing = SealingKeys {
        due: Some(Timestamp::from_micros(5)),
        newest: Some(id(1)),
        leaving: Some(id(2)),
        retired: vec![retired],
    };
    let record = TenantRecord { sealing, epoch: Epoch(3), ..tenant_record("acme") };
    let body = of_tenant(&record).unwrap();
    let written = r#""sealing":{"due":5,"newest":"AQEBAQEBAQE","leaving":"AgICAgICAgI","retired":[{"id":"AwMDAwMDAwM","retired":6,"versions":7}]},"created""#;
    assert!(text(&body).contains(written), "{}", text(&body));
    assert_eq!(tenant(&row(Kind::Tenant, b"acme", None, &body)).unwrap(), record);
}

#[test]
fn the_bytes_of_a_key_s_archive() {
    let archive = KeyArchive {
        id: "01JDQZ8X5G9Q0V3N4B7T2M6K8R".parse().unwrap(),
        made: Timestamp::from_micros(5),
        expires: Some(Timestamp::from_micros(6)),
        sha256: [1; 32],
        code: [2; 32],
        stored: Some(Timestamp::from_micros(7)),
        opener: Some(SealedHandle::new(b"opener")),
        sealed_under: vec![SealingKeyId::from_bytes([7; 8])],
    };
    let away = Key { archive: Some(Arc::new(archive.clone())), ..a_key("acme", "kek", 5) };
    let body = of_key(&away).unwrap();
    let written = concat!(
        r#""archive":{"id":"01JDQZ8X5G9Q0V3N4B7T2M6K8R","made":5,"expires":6,"#,
        r#""sha256":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE","code":"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI","#,
        r#""stored":7,"opener":"b3BlbmVy","sealed_under":["BwcHBwcHBwc"]},"custody""#
    );
    assert!(text(&body).contains(written), "{}", text(&body));
    assert_eq!(
        key(&row(Kind::Key, &[5; 16], Some("kek"), &body)).unwrap().archive.as_deref(),
        Some(&archive)
    );
    let gone = Key { archive: Some(Arc::new(KeyArchive { opener: None, ..archive })), ..away };
    let body = of_key(&gone).unwrap();
    assert_eq!(key(&row(Kind::Key, &[5; 16], Some("kek"), &body)).unwrap().archive, gone.archive);
}
