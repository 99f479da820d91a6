//! Keys that members of a pool still have to erase, by member. None of them is looked at before one of its members can be asked: they cost nothing
//! while that one is away, however long and however many they are.

use crate::id::{KeyName, MemberName, TenantId};
use std::collections::{BTreeMap, BTreeSet};

/// The most that are remembered.
const MAX_REMEMBERED: usize = 100_000;

#[derive(Debug, Default)]
pub(super) struct Pending {
    of: BTreeMap<MemberName, BTreeSet<(TenantId, KeyName)>>,
}

impl Pending {
    /// Remembers a key until one of these members can be asked; says whether there was room.
    pub(super) fn enter(&mut self, members: &[MemberName], key: &(TenantId, KeyName)) -> bool {
        let remembered: usize = self.of.values().map(BTreeSet::len).sum();
        if remembered.saturating_add(members.len()) > MAX_REMEMBERED {
            return false;
        }
        for member in members {
            self.of.entry(member.clone()).or_default().insert(key.clone());
        }
        true
    }

    /// Who is waited for.
    pub(super) fn members(&self) -> Vec<MemberName> {
        self.of.keys().cloned().collect()
    }

    /// Some of those that wait for one of these members; they are remembered no more.
    pub(super) fn take(&mut self, members: &[MemberName], most: usize) -> Vec<(TenantId, KeyName)> {
        let waiting = members.iter().filter_map(|member| self.of.get(member)).flatten();
        let taken: BTreeSet<_> = waiting.take(most).cloned().collect();
        for keys in self.of.values_mut() {
            for key in &taken {
                keys.remove(key);
            }
        }
        self.of.retain(|_, keys| !keys.is_empty());
        taken.into_iter().collect()
    }
}
