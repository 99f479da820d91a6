//! Authorities, certificates and registrations made for a test, and a way to ask who somebody is.

#![allow(dead_code, unreachable_pub, reason = "each test takes what it needs")]

use holdfast_core::caller::{Authentication, CallerKind, CallerRecord, Credential, Token};
use holdfast_core::peer::{Peer, Proof};
use holdfast_core::port::{Identified, Identify as _};
use holdfast_core::tenant::Anchor;
use holdfast_core::{ErrorKind, Timestamp};
use holdfast_identity::{Prepared, Reason, Registrations, credential_from_certificate};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use std::sync::Arc;
use time::{Duration, OffsetDateTime};

/// When all of this happens, seconds since 1970.
const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86_400;

/// So many seconds after the time at which all of this happens.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(u64::try_from(NOW + seconds).unwrap() * 1_000_000)
}

pub fn days(days: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW).unwrap() + Duration::days(days)
}

pub struct Authority {
    pub der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
pub struct Leaf {
    pub der: Vec<u8>,
    pub params: CertificateParams,
    pub key: KeyPair,
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = days(-10);
    params.not_after = days(100);
    params
}

impl Authority {
    /// One that vouches for itself.
    pub fn new(name: &str) -> Self {
        Self::with(name, |_| {})
    }

    pub fn with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = authority_params(name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { der, issuer: Issuer::new(params, key) }
    }

    /// One for which this one vouches.
    pub fn below(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = authority_params(name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let der = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        Self { der, issuer: Issuer::new(params, key) }
    }

    /// A client's certificate with these names (`uri:…`, `dns:…`, `email:…`), valid for five days around now.
    pub fn issue(&self, names: &[&str]) -> Leaf {
        self.issue_with(names, |_| {})
    }

    pub fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let (params, key) = leaf_params(names, change);
        let der = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        Leaf { der, params, key }
    }

    /// A revocation list of these serial numbers, from a day ago until `until` days from now.
    pub fn revoke(&self, serials: &[u64], until: i64) -> Vec<u8> {
        self.list(7, serials, until)
    }

    /// The same, with a number of its own.
    pub fn list(&self, number: u64, serials: &[u64], until: i64) -> Vec<u8> {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: days(-1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: days(-2),
            next_update: days(until),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().der().to_vec()
    }

    pub fn anchor(&self) -> Anchor {
        Anchor { name: "own".parse().unwrap(), certificate: Arc::from(&*self.der), revocations: None }
    }

    pub fn anchor_with(&self, revocations: &[u8]) -> Anchor {
        Anchor { revocations: Some(Arc::from(revocations)), ..self.anchor() }
    }
}

impl Leaf {
    /// Vouched for by nobody but itself.
    pub fn self_signed(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Self {
        let (params, key) = leaf_params(names, change);
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { der, params, key }
    }

    /// What its holder can sign with it, whether or not anybody allowed that.
    pub fn as_authority(&self) -> Authority {
        let key = KeyPair::try_from(self.key.serialize_der()).unwrap();
        Authority { der: self.der.clone(), issuer: Issuer::new(self.params.clone(), key) }
    }

    pub fn key_hash(&self) -> [u8; 32] {
        credential_from_certificate(&self.der).unwrap().key_hash
    }

    /// The registration of its key.
    pub fn pin(&self) -> Credential {
        Credential::KeyHash(self.key_hash())
    }
}

fn leaf_params(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names
        .iter()
        .map(|name| match name.split_once(':').unwrap() {
            ("uri", name) => SanType::URI(name.try_into().unwrap()),
            ("dns", name) => SanType::DnsName(name.try_into().unwrap()),
            ("email", name) => SanType::Rfc822Name(name.try_into().unwrap()),
            (other, _) => panic!("{other}"),
        })
        .collect();
    params.serial_number = Some(SerialNumber::from(77));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = days(-2);
    params.not_after = days(3);
    change(&mut params);
    (params, KeyPair::generate().unwrap())
}

pub fn uri(name: &str) -> Credential {
    Credential::Uri(name.into())
}

pub fn dns(name: &str) -> Credential {
    Credential::Dns(name.into())
}

pub fn caller(name: &str, credentials: &[Credential]) -> Arc<CallerRecord> {
    Arc::new(CallerRecord {
        name: name.parse().unwrap(),
        kind: CallerKind::Application,
        groups: vec![],
        credentials: credentials.to_vec(),
        tokens: vec![],
        suspended: false,
    })
}

pub fn caller_with_token(name: &str, token: Token) -> Arc<CallerRecord> {
    Arc::new(CallerRecord { tokens: vec![token], ..CallerRecord::clone(&caller(name, &[])) })
}

pub fn prepare(callers: &[Arc<CallerRecord>], anchors: &[Anchor]) -> Prepared {
    Registrations::new(&holdfast_core::Secret::new(vec![7; 32])).prepare(callers, anchors).unwrap()
}

/// Why registrations are refused: the error's words.
pub fn unprepared(callers: &[Arc<CallerRecord>], anchors: &[Anchor]) -> String {
    let error =
        Registrations::new(&holdfast_core::Secret::new(vec![7; 32])).prepare(callers, anchors).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    error.to_string()
}

/// Asks who shows this chain.
pub fn who(prepared: &Prepared, chain: &[&[u8]], now: Timestamp) -> Result<Identified, Reason> {
    let peer = Peer::new(chain.iter().map(|der| Box::from(*der)).collect());
    ask(prepared, &Proof::Certificate(&peer), now)
}

/// Asks who this is; whatever the reason of a refusal, its words must be the same.
pub fn ask(prepared: &Prepared, proof: &Proof<'_>, now: Timestamp) -> Result<Identified, Reason> {
    Registrations::new(&holdfast_core::Secret::new(vec![7; 32])).identify(prepared, proof, now).map_err(
        |error| {
            assert_eq!(error.kind(), ErrorKind::Unauthenticated);
            assert_eq!(error.to_string(), "the caller is not known here");
            assert_eq!(error.remedy_text(), ErrorKind::Unauthenticated.row().remedy);
            let source = std::error::Error::source(&error).expect("a reason for the log");
            let reason = *source.downcast_ref::<Reason>().expect("a reason for the log");
            assert_eq!(error.chain(), format!("the caller is not known here: {reason}"));
            assert!(source.source().is_none());
            reason
        },
    )
}

/// The name and what was recognised of it, or why not.
pub fn told(found: Result<Identified, Reason>) -> Result<(String, String), Reason> {
    found.map(|found| {
        let matched = match found.authentication {
            Authentication::MutualTls { matched, .. } => matched.to_string(),
            Authentication::Bearer(_) => "token".to_owned(),
            Authentication::Signature(_) => "signature".to_owned(),
            Authentication::Issued { .. } => "issued".to_owned(),
            Authentication::Gateway => panic!("nobody proves that"),
        };
        (found.record.name.to_string(), matched)
    })
}

pub fn is(name: &str, matched: &str) -> Result<(String, String), Reason> {
    Ok((name.to_owned(), matched.to_owned()))
}

pub const fn in_days(count: i64) -> i64 {
    count * DAY
}
