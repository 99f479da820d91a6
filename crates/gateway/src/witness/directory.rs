//! A witness's directory.
//!
//! ```text
//! DIR/witness.key    its private key, 0600: `PRIVATE+KEY+name+hash+base64`
//! DIR/witness.vkey   its public key, for those who trust it
//! DIR/lock           held by the one process that serves it
//! DIR/logs/HASH      of each log the newest note that was cosigned; HASH is SHA-256 of the origin
//! ```

use crate::directory::write_private;
use crate::fault::Fault;
use crate::world::SystemWorld;
use holdfast_audit::key::{Signer, VerifierKey};
use holdfast_audit::witness::key_file;
use holdfast_core::port::World as _;
use holdfast_state::DirectoryLock;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

fn key_path(dir: &Path) -> PathBuf {
    dir.join("witness.key")
}

/// Makes a witness's key in a directory, which is made if it is not there; gives the public half.
///
/// # Errors
/// When there is a key already, the name cannot be a key's, or the directory cannot be written.
pub fn init(dir: &Path, name: &str) -> Result<VerifierKey, Fault> {
    let _lock = lock(dir)?;
    let path = key_path(dir);
    if path.symlink_metadata().is_ok() {
        return Err(Fault::new(format!("`{}` holds a witness already", dir.display()))
            .remedy("run `holdfast witness serve`, or name another directory"));
    }
    let mut seed = Zeroizing::new([0; 32]);
    SystemWorld::new().fill(seed.as_mut_slice())?;
    let line = key_file::encode(name, &seed).map_err(|error| Fault::new(error.to_string()))?;
    let refused = || Fault::new("the new key cannot be read back").remedy("report it");
    let signer = key_file::decode(&line).ok_or_else(refused)?;
    write_private(&dir.join("witness.vkey"), format!("{}\n", signer.verifier()).as_bytes())?;
    // Last: with it the directory is a witness's.
    write_private(&path, line.as_bytes())?;
    Ok(signer.verifier().clone())
}

/// Takes the directory for this process.
pub(super) fn lock(dir: &Path) -> Result<DirectoryLock, Fault> {
    DirectoryLock::take(dir).map_err(|error| {
        Fault::new(format!("`{}` cannot be taken: {}", dir.display(), error.detail()))
            .remedy("a witness has one process: stop the other one, or check who owns the directory")
            .because(error.chain())
    })
}

/// Reads the private key, which nobody but its owner may read.
pub(super) fn load(dir: &Path) -> Result<Signer, Fault> {
    let path = key_path(dir);
    let failed = |error: std::io::Error| match error.kind() == std::io::ErrorKind::NotFound {
        true => Fault::new(format!("there is no witness in `{}`", dir.display()))
            .remedy("make one with `holdfast witness init`"),
        false => Fault::io("cannot read", &path, error),
    };
    let meta = std::fs::metadata(&path).map_err(failed)?;
    if meta.mode() & 0o077 != 0 {
        return Err(Fault::new(format!("`{}` can be read by others", path.display())).remedy(format!(
            "`chmod 600 {}`; if somebody has read it, make a witness with another name",
            path.display()
        )));
    }
    let line = Zeroizing::new(std::fs::read_to_string(&path).map_err(failed)?);
    key_file::decode(&line).ok_or_else(|| {
        Fault::new(format!("`{}` holds no witness's key", path.display()))
            .remedy("restore the file as `holdfast witness init` wrote it")
    })
}
