//! The public halves of the keys that sign a service's own tokens: told to everybody, and what such tokens are examined with. Strangers ask for both, so the
//! versions are read again only when one of the keys' records has been written.

use super::Service;
use holdfast_core::lifecycle::KeyState;
use holdfast_core::port::{KeyEntry, State};
use holdfast_core::{Epoch, Error, KeyId, KeyVersion};
use holdfast_identity::issued::{Algorithm, Issuer, Issuers, KeySet};
use holdfast_wire::cse::jws::{self, PublicKey};
use std::sync::{Arc, Mutex, PoisonError};

/// How many versions of a signing key up to the one that signs are published.
const BEFORE: u32 = 32;
/// The most versions of a signing key that are published, with those that will sign.
const MOST: usize = 64;

/// Every version that may have signed our tokens, or will.
#[derive(Debug)]
pub(crate) struct Published {
    /// What is told.
    pub(crate) keys: Vec<PublicKey>,
    /// The same, as whoever issues our tokens.
    pub(crate) believed: Issuers,
}

impl Published {
    fn of(issuer: &str, keys: Vec<PublicKey>) -> Self {
        let believed = Issuers::new([Issuer {
            name: issuer.into(),
            audiences: Arc::new([]),
            algorithms: vec![Algorithm::Rs256],
            keys: KeySet::parse(&jws::key_set_text(&keys)).ok().map(Arc::new),
            believed_until: None,
        }]);
        Self { keys, believed }
    }
}

/// Which writing of each key's record was read.
type Generation = Vec<Option<(KeyId, Epoch)>>;

/// What was read last, and of which generation.
#[derive(Debug)]
pub(super) struct Memory<T>(Mutex<Option<(Generation, Arc<T>)>>);

impl<T> Default for Memory<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Memory<T> {
    /// What is remembered of this generation; else what is made now.
    async fn of<E>(
        &self,
        generation: Generation,
        make: impl Future<Output = Result<T, E>>,
    ) -> Result<Arc<T>, E> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, known)) = last.filter(|(known, _)| *known == generation) {
            return Ok(known);
        }
        let made = Arc::new(make.await?);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((generation, Arc::clone(&made)));
        Ok(made)
    }
}

impl Service {
    /// The public halves of the keys that sign our tokens, every version that may have done so or will.
    ///
    /// # Errors
    /// `state-unavailable`.
    pub(crate) async fn published(&self, state: &impl State) -> Result<Arc<Published>, Error> {
        let mut entries = Vec::with_capacity(self.signing_keys.len());
        for name in &self.signing_keys {
            entries.push(state.key(&self.tenant, name).await?);
        }
        let writing = |entry: &Option<Arc<KeyEntry>>| entry.as_ref().map(|it| (it.key.id, it.key.epoch));
        let generation = entries.iter().map(writing).collect();
        let read = async {
            let mut keys = vec![];
            for entry in entries.iter().flatten() {
                if is_published(entry.key.state) {
                    keys.extend(versions(state, entry).await?);
                }
            }
            Ok(Published::of(&self.issuer, keys))
        };
        self.published.of(generation, read).await
    }
}

/// The newest ones: the one that signs, and those before it whose tokens may still be shown.
async fn versions(
    state: &impl State,
    KeyEntry { key, current, .. }: &KeyEntry,
) -> Result<Vec<PublicKey>, Error> {
    let before = current.number.get().saturating_sub(BEFORE);
    let page = state.versions(key.id, KeyVersion::new(before), MOST).await?;
    let published = page.rows.iter().filter(|version| is_published(version.state));
    Ok(published.filter_map(|version| version.public.as_deref().and_then(PublicKey::of)).collect())
}

/// Whether what such a key has signed, or will sign, is to be believed.
const fn is_published(state: KeyState) -> bool {
    match state {
        KeyState::PreActivation | KeyState::Active | KeyState::Deactivated => true,
        KeyState::Suspended | KeyState::Compromised | KeyState::Destroyed => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test]
    async fn nothing_is_read_again_before_a_record_was_written() {
        let (memory, read) = (Memory::default(), Cell::new(0));
        let of = async |writing: Option<(u8, u64)>| {
            let generation = vec![writing.map(|(id, epoch)| (KeyId::from_bytes([id; 16]), Epoch(epoch)))];
            let make = async {
                read.set(read.get() + 1);
                Ok::<_, ()>(read.get())
            };
            *memory.of(generation, make).await.unwrap()
        };
        // The key is not there, is made, is written, has gone and another has its name.
        for (writing, made) in [(None, 1), (Some((1, 1)), 2), (Some((1, 2)), 3), (Some((2, 2)), 4), (None, 5)]
        {
            for _ in 0..3 {
                assert_eq!(of(writing).await, made, "{writing:?}");
            }
        }
        let failed = memory.of(vec![], async { Err::<i32, _>("down") }).await;
        assert_eq!((failed, of(None).await), (Err("down"), 5), "what fails is not remembered");
    }
}
