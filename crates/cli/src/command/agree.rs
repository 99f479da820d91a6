//! `holdfast agree`.

use super::{To, key};
use crate::app::App;
use crate::failure::Failure;
use crate::input::Input;
use clap::Args;
use holdfast_sdk::field::{Bytes, VersionNumber};
use holdfast_sdk::{KeyName, KeyVersion, message};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;

/// Agree on a shared secret with a peer
///
/// Agrees on a shared secret with a peer: ECDH or X25519. The secret is to be put through a key derivation function.
#[derive(Debug, Args)]
pub(crate) struct Agree {
    /// The peer's public key, PEM or DER (SubjectPublicKeyInfo); `-` for stdin
    peer: Input,
    /// The key
    #[arg(long, value_name = "NAME")]
    key: KeyName,
    /// The version whose public half the peer has [default: the newest]
    #[arg(long, value_name = "VERSION", value_parser = key::version)]
    key_version: Option<KeyVersion>,
    #[command(flatten)]
    to: To,
}

impl Agree {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { peer, key, key_version, to } = self;
        let bytes = peer.read()?;
        let peer = match SubjectPublicKeyInfoDer::from_pem_slice(&bytes) {
            Ok(der) => der.to_vec(),
            Err(_) => crate::input::decoded(&bytes),
        };
        let request =
            message::Agree { peer_public_key: Bytes(peer), key_version: key_version.map(VersionNumber) };
        let tenant = app.tenant()?;
        let answer = app.block_on(tenant.use_key(&key, &request))?;
        to.put(app, answer.shared_secret.0.expose(), &answer.body)
    }
}
