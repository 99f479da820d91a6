//! Who plays: a custodian with a certificate of their own, and callers whose certificates a company's authority signs.

use super::wrong;
use crate::clock;
use crate::failure::Failure;
use holdfast_core::caller::Credential;
use holdfast_gateway::credential::{self, Issued};
use holdfast_sdk::field::CredentialText;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

/// Somebody with a certificate and its key, both PEM.
pub(super) struct Person {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// A custodian: recognised by the hash of their key, so that no authority has to vouch for them.
pub(super) fn custodian() -> Result<(Person, CredentialText), Failure> {
    let Issued { certificate, key, key_hash } = credential::issue_client("carol", clock::now().seconds())?;
    Ok((Person { certificate, key: key.to_string() }, CredentialText(Credential::KeyHash(key_hash))))
}

/// A company's certificate authority.
pub(super) struct Company {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, DER.
    pub(super) certificate: Vec<u8>,
}

fn failed(error: rcgen::Error) -> Failure {
    wrong("make certificates", error)
}

impl Company {
    pub(super) fn new() -> Result<Self, Failure> {
        let key = KeyPair::generate().map_err(failed)?;
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, "Acme corporate authority");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = parameters.self_signed(&key).map_err(failed)?.der().to_vec();
        Ok(Self { issuer: Issuer::new(parameters, key), certificate })
    }

    /// A certificate for a program, with its name as a URI (SPIFFE).
    pub(super) fn issue(&self, uri: &str) -> Result<Person, Failure> {
        let key = KeyPair::generate().map_err(failed)?;
        let mut parameters = CertificateParams::default();
        parameters.subject_alt_names = vec![SanType::URI(uri.try_into().map_err(failed)?)];
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        parameters.use_authority_key_identifier_extension = true;
        let certificate = parameters.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Person { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}
