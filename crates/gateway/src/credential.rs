//! Certificates that the gateway makes: the server's own, and those that `init` issues to operators and custodians.

use crate::directory::{Directory, write_private};
use crate::fault::Fault;
use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType,
};
use std::net::IpAddr;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// How long what is made here is valid: long enough not to expire by surprise, and `status` says how long it still is.
const DAYS: i64 = 825;

/// A certificate for a person or a program, self-signed: it is recognised by its key's hash, so nobody needs to vouch for it.
pub struct Issued {
    /// The certificate, PEM.
    pub certificate: String,
    /// Its private key, PEM (PKCS#8).
    pub key: Zeroizing<String>,
    /// SHA-256 of its public key: how it is registered.
    pub key_hash: [u8; 32],
}

fn failed(error: rcgen::Error) -> Fault {
    Fault::new("a certificate could not be made").because(error)
}

fn parameters(name: &str, now_seconds: u64) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    parameters.distinguished_name = subject;
    let start = time_at(now_seconds.saturating_sub(300));
    parameters.not_before = start;
    parameters.not_after = start + time::Duration::days(DAYS);
    parameters
}

fn time_at(seconds: u64) -> time::OffsetDateTime {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| time::OffsetDateTime::from_unix_timestamp(seconds).ok())
        .unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
}

/// Issues a client certificate (ECDSA P-256).
///
/// # Errors
/// When the system has no entropy.
pub fn issue_client(name: &str, now_seconds: u64) -> Result<Issued, Fault> {
    let key = KeyPair::generate().map_err(failed)?;
    let mut parameters = parameters(name, now_seconds);
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = parameters.self_signed(&key).map_err(failed)?;
    let mut key_hash = [0; 32];
    key_hash.copy_from_slice(digest(&SHA256, &key.subject_public_key_info()).as_ref());
    Ok(Issued { certificate: certificate.pem(), key: Zeroizing::new(key.serialize_pem()), key_hash })
}

/// Makes the server's certificate under an authority of its own, whose key is thrown away: `tls/ca.pem` is what clients trust.
///
/// # Errors
/// When the files cannot be written.
pub fn make_server(directory: &Directory, names: &[String], now_seconds: u64) -> Result<PathBuf, Fault> {
    let authority_key = KeyPair::generate().map_err(failed)?;
    let mut authority = parameters("Holdfast server authority", now_seconds);
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority_certificate = authority.self_signed(&authority_key).map_err(failed)?;
    let issuer = Issuer::new(authority, authority_key);

    let key = KeyPair::generate().map_err(failed)?;
    let mut server = parameters(names.first().map_or("localhost", String::as_str), now_seconds);
    for name in names {
        server.subject_alt_names.push(match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.as_str().try_into().map_err(failed)?),
        });
    }
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.use_authority_key_identifier_extension = true;
    let certificate = server.signed_by(&key, &issuer).map_err(failed)?;
    let chain = format!("{}{}", certificate.pem(), authority_certificate.pem());
    let tls = directory.tls();
    write_private(&tls.join("server.key"), Zeroizing::new(key.serialize_pem()).as_bytes())?;
    write_private(&tls.join("server.pem"), chain.as_bytes())?;
    let ca = tls.join("ca.pem");
    write_private(&ca, authority_certificate.pem().as_bytes())?;
    Ok(ca)
}
