//! Imports that are being finished. What came from outside may be in a device before the state knows of it, and whoever has the material can bring it
//! again: so nothing of its key counts as erased meanwhile, and one attempt is made at a time.

use crate::error::{Error, ErrorKind, Stage};
use crate::id::{KeyId, KeyName};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The keys whose imports are being finished.
#[derive(Debug, Clone, Default)]
pub(super) struct Importing(Arc<Mutex<BTreeSet<KeyId>>>);

/// One of them, for as long as this is held: until what was made is committed, taken back, or left to be found.
#[derive(Debug)]
pub(super) struct Finishing {
    of: Importing,
    key: KeyId,
}

impl Importing {
    fn keys(&self) -> MutexGuard<'_, BTreeSet<KeyId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on it is this attempt's. The key MUST be read after that: whoever came before may have finished it, or ended it.
    ///
    /// # Errors
    /// `conflict`, while it is another's.
    pub(super) fn enter(&self, key: KeyId, name: &KeyName) -> Result<Finishing, Error> {
        if !self.keys().insert(key) {
            let detail = format!("the import of key `{name}` is being finished already");
            return Err(Error::new(ErrorKind::Conflict, Stage::Resolve, detail).remedy(format!(
                "run `holdfast key show {name}` in a moment, and send it again if the key still waits"
            )));
        }
        Ok(Finishing { of: self.clone(), key })
    }

    pub(super) fn is_under_way(&self, key: KeyId) -> bool {
        self.keys().contains(&key)
    }
}

impl Finishing {
    pub(super) fn is_of(&self, key: KeyId) -> bool {
        self.key == key
    }
}

impl Drop for Finishing {
    fn drop(&mut self) {
        let Self { of, key } = self;
        of.keys().remove(key);
    }
}
