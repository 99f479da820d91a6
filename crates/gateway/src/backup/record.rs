//! The file of a backup, compared with what the gateway's own log has recorded of it when it was written.

use super::restore::Copied;
use super::since::{Since, Written};
use crate::fault::Fault;
use aws_lc_rs::digest::{Context, SHA256};
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes that are read at a time.
const PIECE: usize = 64 << 10;

/// What the copies of logs know of a backup's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// The gateway's own log has recorded it with this SHA-256.
    WithThisHash,
    /// No copy of the gateway's own log was given.
    NobodyKnows,
}

/// Compares the SHA-256 of what was read with what verified copies have recorded since the backup's checkpoints, which are older than its record.
pub(super) fn compare(copies: &[Copied], sha256: &[u8; 32], is_as_written: bool) -> Result<Recorded, Fault> {
    let own: Vec<_> = copies.iter().filter(|copy| copy.tenant.is_gateway()).collect();
    if own.is_empty() {
        return Ok(Recorded::NobodyKnows);
    }
    if !is_as_written {
        return Err(Fault::new("the backup was decrypted elsewhere, so that it cannot be compared with its record in the log")
            .remedy("compare the SHA-256 of the file that was decrypted with what `holdfast audit search --action back-up` shows, and give `--unrecorded` if it is the same"));
    }
    let mut since = Since::default();
    for copy in own {
        // Which commands a restoration loses is not asked here.
        since.read(copy, u64::MAX)?;
    }
    let is: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    if since.backups.iter().any(|Written { sha256, .. }| *sha256 == is) {
        return Ok(Recorded::WithThisHash);
    }
    let problem =
        format!("the log of the gateway has recorded no backup with the SHA-256 of this file, `{is}`");
    Err(Fault::new(problem)
        .remedy("take another copy of the file and keep this one as evidence; give `--unrecorded` only if you know from elsewhere that the SHA-256 is right")
        .damaged())
}

/// What is read of a backup, and the SHA-256 of all of it: nobody has to read a large file twice, and what is compared is what was read.
pub struct Summed(Arc<Mutex<Inner>>);

struct Inner {
    from: Box<dyn Read + Send>,
    hash: Context,
}

impl Summed {
    /// Begins.
    pub fn new(from: Box<dyn Read + Send>) -> Self {
        Self(Arc::new(Mutex::new(Inner { from, hash: Context::new(&SHA256) })))
    }

    /// What is to be read.
    pub fn reader(&self) -> Box<dyn Read + Send> {
        Box::new(Self(Arc::clone(&self.0)))
    }

    /// The SHA-256 of the whole, what nobody has read of it too.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn finish(mut self) -> io::Result<[u8; 32]> {
        let mut piece = vec![0; PIECE];
        while self.read(&mut piece)? > 0 {}
        let hash = self.0.lock().unwrap_or_else(PoisonError::into_inner).hash.clone().finish();
        let mut sha256 = [0; 32];
        sha256.iter_mut().zip(hash.as_ref()).for_each(|(out, byte)| *out = *byte);
        Ok(sha256)
    }
}

impl Read for Summed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Inner { from, hash } = &mut *inner;
        let read = from.read(into)?;
        hash.update(into.get(..read).unwrap_or_default());
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_decrypted_elsewhere_is_not_taken_for_what_was_recorded() {
        let copy = |tenant: &str| Copied {
            tenant: tenant.parse().unwrap(),
            directory: "/nowhere".into(),
            from: 0,
            size: 0,
        };
        let refused = compare(&[copy("acme"), copy("_gateway")], &[0; 32], false).unwrap_err();
        assert!(refused.remedy_text().unwrap().contains("--unrecorded"), "{refused}");
        assert_eq!(compare(&[copy("acme")], &[0; 32], false).unwrap(), Recorded::NobodyKnows);
    }

    #[test]
    fn it_is_the_hash_of_all_however_much_was_read() {
        let bytes = vec![7; PIECE * 2 + 1];
        let mut whole = [0; 32];
        whole.copy_from_slice(aws_lc_rs::digest::digest(&SHA256, &bytes).as_ref());
        for read in [0, 1, PIECE, bytes.len()] {
            let summed = Summed::new(Box::new(io::Cursor::new(bytes.clone())));
            let mut some = vec![0; read];
            summed.reader().read_exact(&mut some).unwrap();
            assert_eq!(summed.finish().unwrap(), whole, "{read}");
        }
    }
}
