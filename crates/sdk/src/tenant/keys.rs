//! Using keys, and their records.

use super::{Tenant, context};
use crate::client::{Answered, Repeat};
use crate::error::Error;
use holdfast_core::lifecycle::{Transition, VersionVerb};
use holdfast_core::{KeyName, KeyVersion, Secret};
use holdfast_wire::native::client::{self as native, UsesKey};
use holdfast_wire::native::field::{Bounded, Bytes, SecretBytes};
use holdfast_wire::native::message::{
    AdoptKey, ApproveCopy, Batch, BatchAnswer, BeginImport, CiphertextAnswer, ConfirmArchive, CreateKey,
    DataKey, DataKeyAnswer, Decrypt, EmergencyCopy, Encrypt, FinishImport, ImportBegun, Key, KeyArchived,
    Keys, LabelKey, PlaintextAnswer, PublicKeyAnswer, Random, RandomAnswer, RecordInventory, RequestCopy,
    ScheduleKey, TransitionVersion, UnarchiveKey, Unwrap, Versions, Wrap,
};

impl Tenant {
    /// Uses a key: any request of `message` that names an operation, such as `Sign` or `Rewrap`.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn use_key<R: UsesKey>(
        &self,
        key: &KeyName,
        request: &R,
    ) -> Result<Answered<R::Answer>, Error> {
        self.client.send(native::use_key(&self.id, key, request), Repeat::Safe).await
    }

    /// Encrypts bytes, bound to a context that decryption will need again.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn encrypt(
        &self,
        key: &KeyName,
        plaintext: &[u8],
        pairs: &[(&str, &str)],
    ) -> Result<Answered<CiphertextAnswer>, Error> {
        let plaintext = SecretBytes(Secret::from(plaintext));
        self.use_key(key, &Encrypt { plaintext, context: context(pairs)?, padding: None }).await
    }

    /// Decrypts what encryption gave, or opens a data key.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn decrypt(
        &self,
        key: &KeyName,
        ciphertext: &[u8],
        pairs: &[(&str, &str)],
    ) -> Result<Answered<PlaintextAnswer>, Error> {
        let ciphertext = Bytes(ciphertext.to_vec());
        let request = Decrypt { ciphertext, context: context(pairs)?, padding: None, key_version: None };
        self.use_key(key, &request).await
    }

    /// Wraps bytes that the caller brings.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn wrap(
        &self,
        key: &KeyName,
        bytes: &[u8],
        pairs: &[(&str, &str)],
    ) -> Result<Answered<CiphertextAnswer>, Error> {
        let plaintext = SecretBytes(Secret::from(bytes));
        self.use_key(key, &Wrap { plaintext, context: context(pairs)?, padding: None }).await
    }

    /// Unwraps them again.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn unwrap(
        &self,
        key: &KeyName,
        ciphertext: &[u8],
        pairs: &[(&str, &str)],
    ) -> Result<Answered<PlaintextAnswer>, Error> {
        let ciphertext = Bytes(ciphertext.to_vec());
        let request = Unwrap { ciphertext, context: context(pairs)?, padding: None, key_version: None };
        self.use_key(key, &request).await
    }

    /// Makes a data key of so many bytes, in clear and encrypted.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn data_key(
        &self,
        key: &KeyName,
        length: u64,
        pairs: &[(&str, &str)],
    ) -> Result<Answered<DataKeyAnswer>, Error> {
        let request =
            DataKey { length: Some(Bounded(length)), with_plaintext: Some(true), context: context(pairs)? };
        self.use_key(key, &request).await
    }

    /// Uses keys many times at once; each item is decided and recorded alone.
    ///
    /// # Errors
    /// Any [`Error`] of the whole; an item's own stands in its place in the answer.
    pub async fn batch(&self, batch: &Batch) -> Result<Answered<BatchAnswer>, Error> {
        let answered = self.client.send(native::batch(&self.id, batch), Repeat::Safe).await?;
        answered
            .items
            .iter()
            .filter_map(|item| item.receipt.as_deref())
            .for_each(|text| self.client.keep_receipt(text));
        Ok(answered)
    }

    /// Reads a key's public half, of the newest version unless told.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn public_key(
        &self,
        key: &KeyName,
        version: Option<KeyVersion>,
    ) -> Result<Answered<PublicKeyAnswer>, Error> {
        self.client.send(native::public_key(&self.id, key, version), Repeat::Safe).await
    }

    /// Random bytes from the key store.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn random(&self, length: u64) -> Result<Answered<RandomAnswer>, Error> {
        let request = Random { length: Bounded(length) };
        self.client.send(native::random(&self.id, &request), Repeat::Safe).await
    }

    /// Creates a key.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn create_key(&self, key: &CreateKey) -> Result<Answered<Key>, Error> {
        self.client.send(native::create_key(&self.id, key), Repeat::Never).await
    }

    /// A page of keys, by name.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn keys(&self, after: Option<&KeyName>, limit: Option<usize>) -> Result<Answered<Keys>, Error> {
        self.client.send(native::keys(&self.id, after, limit), Repeat::Safe).await
    }

    /// Reads a key's record.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn key(&self, key: &KeyName) -> Result<Answered<Key>, Error> {
        self.client.send(native::key(&self.id, key), Repeat::Safe).await
    }

    /// A page of a key's versions.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn versions(
        &self,
        key: &KeyName,
        after: Option<KeyVersion>,
        limit: Option<usize>,
    ) -> Result<Answered<Versions>, Error> {
        self.client.send(native::versions(&self.id, key, after, limit), Repeat::Safe).await
    }

    /// Replaces a key's labels.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn label_key(&self, key: &KeyName, labels: &LabelKey) -> Result<Answered<Key>, Error> {
        self.client.send(native::label_key(&self.id, key, labels), Repeat::Never).await
    }

    /// Makes the import key of a key whose material will come from outside.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn begin_import(&self, import: &BeginImport) -> Result<Answered<ImportBegun>, Error> {
        self.client.send(native::begin_import(&self.id, import), Repeat::Never).await
    }

    /// Gives the material of a key that waits for it.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn finish_import(&self, key: &KeyName, import: &FinishImport) -> Result<Answered<Key>, Error> {
        self.client.send(native::finish_import(&self.id, key, import), Repeat::Never).await
    }

    /// Has an archive of a key written; it comes encrypted for those who open the gateway's backups, once.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn archive_key(&self, key: &KeyName) -> Result<Answered<KeyArchived>, Error> {
        self.client.send(native::archive_key(&self.id, key), Repeat::Never).await
    }

    /// Leaves a key's material to its archive, from which the code is.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn confirm_archive(
        &self,
        key: &KeyName,
        confirm: &ConfirmArchive,
    ) -> Result<Answered<Key>, Error> {
        self.client.send(native::confirm_archive(&self.id, key, confirm), Repeat::Never).await
    }

    /// Gives a key's material back from its archive.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn unarchive_key(
        &self,
        key: &KeyName,
        unarchive: &UnarchiveKey,
    ) -> Result<Answered<Key>, Error> {
        self.client.send(native::unarchive_key(&self.id, key, unarchive), Repeat::Never).await
    }

    /// Takes a key that another program made in the token.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn adopt_key(&self, adopt: &AdoptKey) -> Result<Answered<Key>, Error> {
        self.client.send(native::adopt_key(&self.id, adopt), Repeat::Never).await
    }

    /// Makes a new version of a key, which new work takes from then on.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn rotate_key(&self, key: &KeyName) -> Result<Answered<Key>, Error> {
        self.client.send(native::rotate_key(&self.id, key), Repeat::Never).await
    }

    /// Gives new work back to the newest active version before the one that it takes.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn roll_back_key(&self, key: &KeyName) -> Result<Answered<Key>, Error> {
        self.client.send(native::roll_back_key(&self.id, key), Repeat::Never).await
    }

    /// Moves a version of a key to another state.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn transition_version(
        &self,
        key: &KeyName,
        verb: VersionVerb,
        version: &TransitionVersion,
    ) -> Result<Answered<Key>, Error> {
        self.client.send(native::transition_version(&self.id, key, verb, version), Repeat::Never).await
    }

    /// Records what of a key's versions is still needed.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn record_inventory(
        &self,
        key: &KeyName,
        inventory: &RecordInventory,
    ) -> Result<Answered<Key>, Error> {
        self.client.send(native::record_inventory(&self.id, key, inventory), Repeat::Safe).await
    }

    /// Says how often a key is rotated by itself.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn schedule_key(&self, key: &KeyName, schedule: &ScheduleKey) -> Result<Answered<Key>, Error> {
        self.client.send(native::schedule_key(&self.id, key, schedule), Repeat::Safe).await
    }

    /// How it stands with a key's emergency copies.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn emergency_copy(&self, key: &KeyName) -> Result<Answered<EmergencyCopy>, Error> {
        self.client.send(native::emergency_copy(&self.id, key), Repeat::Safe).await
    }

    /// Asks custodians to allow the use of a key's emergency copies.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn request_copy(
        &self,
        key: &KeyName,
        request: &RequestCopy,
    ) -> Result<Answered<EmergencyCopy>, Error> {
        self.client.send(native::request_copy(&self.id, key, request), Repeat::Never).await
    }

    /// Gives a custodian's shares for that.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn approve_copy(
        &self,
        key: &KeyName,
        shares: &ApproveCopy,
    ) -> Result<Answered<EmergencyCopy>, Error> {
        self.client.send(native::approve_copy(&self.id, key, shares), Repeat::Never).await
    }

    /// Ends the use of a key's emergency copies, and a request for it.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn end_copy(&self, key: &KeyName) -> Result<Answered<EmergencyCopy>, Error> {
        self.client.send(native::end_copy(&self.id, key), Repeat::Never).await
    }

    /// Puts a prepared key into use, or a version that waits, although no verified backup holds it.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn activate_unprotected(&self, key: &KeyName) -> Result<Answered<Key>, Error> {
        self.client.send(native::activate_unprotected(&self.id, key), Repeat::Never).await
    }

    /// Moves a key to another state. Stop orders are repeated, since they can be; the others are not.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn transition_key(&self, key: &KeyName, verb: Transition) -> Result<Answered<Key>, Error> {
        let repeat = if verb.is_stop() { Repeat::Safe } else { Repeat::Never };
        self.client.send(native::transition_key(&self.id, key, verb), repeat).await
    }
}
