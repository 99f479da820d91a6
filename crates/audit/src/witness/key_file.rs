//! A witness's private key as one line of text: `PRIVATE+KEY+name+hash+base64(type ‖ seed)`, the form that tools for
//! signed notes write, here with the type of a cosigner (0x04).

use crate::key::{KeyError, Signer};
use crate::text;
use zeroize::Zeroizing;

const PREFIX: &str = "PRIVATE+KEY+";
/// The type byte of an Ed25519 cosigner (C2SP tlog-cosignature).
const COSIGNER: u8 = 4;

/// Writes the line, with its newline.
///
/// # Errors
/// [`KeyError::Name`] if no key may have this name.
pub fn encode(name: &str, seed: &Zeroizing<[u8; 32]>) -> Result<Zeroizing<String>, KeyError> {
    let signer = Signer::cosigner_from_seed(name, seed)?;
    let mut typed = Zeroizing::new(Vec::with_capacity(33));
    typed.push(COSIGNER);
    typed.extend_from_slice(seed.as_slice());
    let (id, secret) = (u32::from_be_bytes(signer.verifier().id()), Zeroizing::new(text::base64(&typed)));
    Ok(Zeroizing::new(format!("{PREFIX}{name}+{id:08x}+{}\n", *secret)))
}

/// Reads the line. Nothing if it is not a cosigner's, or its hash does not fit; what is wrong is not said, since it may
/// hold a part of the key.
#[must_use]
pub fn decode(line: &str) -> Option<Signer> {
    let line = line.strip_suffix('\n').unwrap_or(line).strip_prefix(PREFIX)?;
    let mut parts = line.splitn(3, '+');
    let (name, hash, secret) = (parts.next()?, parts.next()?, parts.next()?);
    let typed = Zeroizing::new(text::from_base64(secret)?);
    let (kind, seed) = typed.split_first()?;
    let mut own = Zeroizing::new([0; 32]);
    if *kind != COSIGNER || seed.len() != own.len() {
        return None;
    }
    own.copy_from_slice(seed);
    let signer = Signer::cosigner_from_seed(name, &own).ok()?;
    (format!("{:08x}", u32::from_be_bytes(signer.verifier().id())) == hash).then_some(signer)
}
