//! What keys have sealed once: whether one still opens can be tried by that as often as there is doubt. To seal anew each time would cost a nonce
//! that nobody has counted, where the device chooses it, and callers decide how often there is doubt.

use super::super::message::Id;
use super::fault::Fault;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Past so many keys it begins anew.
const MOST: usize = 1 << 14;

/// A sample of each key that was in doubt since the process began.
#[derive(Default)]
pub(super) struct Samples(Mutex<HashMap<Id, Arc<[u8]>>>);

impl Samples {
    /// Whether a key opens what it has sealed.
    ///
    /// # Errors
    /// The token's.
    pub(super) fn opens(
        &self,
        id: Id,
        seal: impl FnOnce() -> Result<Vec<u8>, Fault>,
        open: impl FnOnce(&[u8]) -> Result<bool, Fault>,
    ) -> Result<bool, Fault> {
        let known = self.all().get(&id).cloned();
        let sample = match known {
            Some(sample) => sample,
            None => {
                let sample: Arc<[u8]> = seal()?.into();
                let mut all = self.all();
                if all.len() >= MOST {
                    all.clear();
                }
                all.insert(id, Arc::clone(&sample));
                sample
            }
        };
        let opened = open(&sample);
        // Another object may have the key's names by now: that one has a sample of its own.
        if !matches!(opened, Ok(true)) {
            self.all().remove(&id);
        }
        opened
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Id, Arc<[u8]>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_seals_once_however_often_it_is_in_doubt() {
        let (samples, mut sealed) = (Samples::default(), 0);
        let mut opens = |id: u8, works: bool| {
            let seal = || {
                sealed += 1;
                Ok(vec![id])
            };
            samples.opens([id; 16], seal, |sample| Ok(works && sample == [id])).unwrap()
        };
        for _ in 0..9 {
            assert!(opens(1, true) && opens(2, true));
        }
        assert!(!opens(1, false));
        for _ in 0..9 {
            assert!(opens(1, true), "with a new sample");
        }
        assert_eq!(sealed, 3);
    }

    #[test]
    fn what_could_not_be_sealed_is_no_sample() {
        let samples = Samples::default();
        let broken = || Err(Fault::new("broken"));
        assert!(samples.opens([1; 16], broken, |_| Ok(true)).is_err());
        assert!(samples.opens([1; 16], || Ok(vec![7]), |sample| Ok(sample == [7])).unwrap());
    }

    #[test]
    fn there_are_no_more_than_so_many() {
        let samples = Samples::default();
        for number in 0..=u32::try_from(MOST).unwrap() {
            let id = u128::from(number).to_be_bytes();
            assert!(samples.opens(id, || Ok(vec![]), |_| Ok(true)).unwrap());
        }
        assert_eq!(samples.all().len(), 1);
    }
}
