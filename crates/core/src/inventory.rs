//! What of a key's versions is still needed, as somebody who looked at everything has said.

use crate::id::KeyVersion;
use crate::time::Timestamp;

/// What a campaign over all that is under a key has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenInventory {
    /// The version that new work took when it was begun.
    pub current: KeyVersion,
    /// [`crate::key::Key::newest_used`] of that moment.
    pub newest: KeyVersion,
    /// The versions that something is still under, in any order.
    pub needed: Vec<KeyVersion>,
    /// How many ciphertexts were looked at.
    pub items: u64,
    /// SHA-256 of the reports that say so.
    pub sha256: [u8; 32],
    /// How many bytes those have.
    pub bytes: u64,
}

/// The last inventory of a key that a custodian has recorded. It stands for what was made before: a version that new work takes is needed
/// as long as that lasts, whatever it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// The newest version that there was when it was begun: of later ones it says nothing.
    pub newest: KeyVersion,
    /// The versions that are still needed, sorted, the one that new work took then among them.
    pub needed: Vec<KeyVersion>,
    /// How many ciphertexts were looked at.
    pub items: u64,
    /// SHA-256 of the reports that say so.
    pub sha256: [u8; 32],
    /// When it was recorded.
    pub recorded: Timestamp,
}

/// What an inventory says of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Something is still under it.
    Needed,
    /// Nothing is.
    NotNeeded,
    /// It is younger than the inventory.
    Unknown,
}

impl Inventory {
    /// The most versions that may still be needed.
    pub const MAX_NEEDED: usize = 256;

    /// What it says of a version.
    pub fn need(&self, version: KeyVersion) -> Need {
        if version > self.newest {
            Need::Unknown
        } else if self.needed.contains(&version) {
            Need::Needed
        } else {
            Need::NotNeeded
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inventory_says_nothing_of_later_versions() {
        let version = |number| KeyVersion::new(number).unwrap();
        let needed = vec![version(2), version(4)];
        let recorded = Timestamp::from_micros(0);
        let inventory = Inventory { newest: version(4), needed, items: 9, sha256: [0; 32], recorded };
        let says = [1, 2, 3, 4, 5].map(|number| inventory.need(version(number)));
        assert_eq!(says, [Need::NotNeeded, Need::Needed, Need::NotNeeded, Need::Needed, Need::Unknown]);
    }
}
