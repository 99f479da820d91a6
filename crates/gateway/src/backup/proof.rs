//! What shows a gateway that somebody opened a backup of it and had the root key: a code that nobody else can make.
//!
//! ```text
//! key   = derived from the root key with the instance, label "holdfast/backup-verified/v1"
//! proof = HMAC-SHA-256(key, "holdfast/backup-verified/v1" 0 sha256:32 bytes:u64 commit:u64)
//! ```
//!
//! One line of text, which is no secret, for whoever carries it to an operator:
//!
//! ```text
//! holdfast-verified-1:SHA256:BYTES:COMMIT:PROOF
//! ```

use crate::device;
use crate::directory::Directory;
use crate::fault::Fault;
use aws_lc_rs::hmac;
use holdfast_core::command::VerifiedBackup;
use holdfast_core::{Error, InstanceId, Secret};
use holdfast_keystore::root::RootKey;

const LABEL: &str = "holdfast/backup-verified/v1";
const PREFIX: &str = "holdfast-verified-1";

/// What proofs are made with.
///
/// # Errors
/// `key-store-unavailable`, when the cryptographic library fails.
pub(crate) fn key(instance: InstanceId, root: &RootKey) -> Result<Secret, Error> {
    root.derive(LABEL, instance.as_bytes())
}

fn message(sha256: &[u8; 32], bytes: u64, commit: u64) -> Vec<u8> {
    let mut message = LABEL.as_bytes().to_vec();
    message.push(0);
    message.extend_from_slice(sha256);
    message.extend_from_slice(&bytes.to_be_bytes());
    message.extend_from_slice(&commit.to_be_bytes());
    message
}

/// Whether it is the code of this key. In constant time.
pub(super) fn is_proven(key: &Secret, verified: &VerifiedBackup) -> bool {
    let VerifiedBackup { sha256, bytes, commit, proof } = verified;
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
    hmac::verify(&key, &message(sha256, *bytes, *commit), proof).is_ok()
}

/// Says that a backup was opened: of this instance and commit, a file of this length and SHA-256. The root key is the one that was brought, or
/// lies in the directory.
///
/// # Errors
/// When there is no root key.
pub fn attest(
    directory: &Directory,
    root: Option<&RootKey>,
    (instance, commit): (InstanceId, u64),
    (bytes, sha256): (u64, [u8; 32]),
) -> Result<VerifiedBackup, Fault> {
    let key = match root {
        Some(root) => key(instance, root)?,
        None => key(instance, &device::root(directory)?)?,
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
    let mut proof = [0; 32];
    let tag = hmac::sign(&key, &message(&sha256, bytes, commit));
    proof.iter_mut().zip(tag.as_ref()).for_each(|(out, byte)| *out = *byte);
    Ok(VerifiedBackup { sha256, bytes, commit, proof })
}

/// The line of text.
pub fn write(verified: &VerifiedBackup) -> String {
    let VerifiedBackup { sha256, bytes, commit, proof } = verified;
    let hex = |bytes: &[u8; 32]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("{PREFIX}:{}:{bytes}:{commit}:{}", hex(sha256), hex(proof))
}

/// Reads such a line.
///
/// # Errors
/// For anything else.
pub fn read(line: &str) -> Result<VerifiedBackup, Fault> {
    let read = || {
        let mut fields = line.trim().split(':');
        (fields.next()? == PREFIX).then_some(())?;
        let sha256 = unhex(fields.next()?)?;
        let (bytes, commit) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let proof = unhex(fields.next()?)?;
        fields.next().is_none().then_some(VerifiedBackup { sha256, bytes, commit, proof })
    };
    read().ok_or_else(|| {
        Fault::new("this is not what a verification says, or a part of it is missing")
            .remedy("copy the whole line that `holdfast backup verify` printed")
    })
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let is_hex = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    for (index, out) in bytes.iter_mut().enumerate() {
        let digits = text.get(2 * index..2 * index + 2).filter(|_| is_hex)?;
        *out = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(root: u8, instance: u8) -> (Secret, VerifiedBackup) {
        let root = RootKey::new(Secret::new(vec![root; 32])).unwrap();
        let instance = InstanceId::from_bytes([instance; 16]);
        let nowhere = Directory::at(std::path::Path::new("/nowhere"));
        let verified = attest(&nowhere, Some(&root), (instance, 12), (50_534, [5; 32])).unwrap();
        (key(instance, &root).unwrap(), verified)
    }

    #[test]
    fn only_the_root_key_says_it_and_of_one_file_commit_and_instance() {
        let (key, verified) = said(7, 1);
        assert!(is_proven(&key, &verified));
        assert!(!is_proven(&said(8, 1).0, &verified) && !is_proven(&said(7, 2).0, &verified));
        for other in [
            VerifiedBackup { commit: 13, ..verified.clone() },
            VerifiedBackup { bytes: 1, ..verified.clone() },
            VerifiedBackup { sha256: [6; 32], ..verified.clone() },
            VerifiedBackup { proof: [0; 32], ..verified.clone() },
        ] {
            assert!(!is_proven(&key, &other), "{other:?}");
        }
    }

    #[test]
    fn the_line_is_read_as_it_was_written() {
        let (_, verified) = said(7, 1);
        let line = write(&verified);
        assert!(line.starts_with("holdfast-verified-1:0505") && line.contains(":50534:12:"), "{line}");
        assert_eq!(read(&format!("{line}\n")).unwrap(), verified);
        for wrong in ["", "holdfast-verified-1", &line[..line.len() - 1], &format!("{line}:")] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
