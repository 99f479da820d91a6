//! One tenant's policy set, ready to decide.

use crate::decide::Memory;
use crate::fault::Fault;
use crate::index::Index;
use crate::rule::{self, Rule};
use crate::schema::Vocabulary;
use core::fmt;
use holdfast_core::TenantId;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// One tenant's policy set: parsed, validated, indexed, with what it remembers.
pub struct Prepared {
    pub(crate) vocabulary: Arc<Vocabulary>,
    pub(crate) tenant: TenantId,
    pub(crate) rules: Arc<[Rule]>,
    pub(crate) places: Arc<HashMap<Box<str>, u32>>,
    pub(crate) index: Arc<Index>,
    pub(crate) memory: Memory,
    pub(crate) warnings: Arc<[(usize, String, &'static str)]>,
    /// A name of which no policy speaks, neither as a caller's nor as a key's.
    pub(crate) fresh_name: Arc<str>,
}

impl Prepared {
    pub(crate) fn new(
        vocabulary: &Arc<Vocabulary>,
        tenant: &TenantId,
        text: &str,
    ) -> Result<Self, Vec<Fault>> {
        let rule::Text { rules, warnings } = rule::read(vocabulary, text)?;
        Ok(Self {
            index: Arc::new(Index::new(tenant, &rules)),
            places: Arc::new(rules.iter().map(|rule| rule.id.as_str().into()).zip(0u32..).collect()),
            vocabulary: Arc::clone(vocabulary),
            tenant: tenant.clone(),
            memory: Memory::default(),
            rules: rules.into(),
            warnings: warnings.into(),
            fresh_name: fresh_name(text).into(),
        })
    }

    /// The same policy, with nothing remembered.
    pub(crate) fn renewed(&self) -> Self {
        let Self { vocabulary, tenant, rules, places, index, memory: _, warnings, fresh_name } = self;
        Self {
            vocabulary: Arc::clone(vocabulary),
            tenant: tenant.clone(),
            rules: Arc::clone(rules),
            places: Arc::clone(places),
            index: Arc::clone(index),
            memory: Memory::default(),
            warnings: Arc::clone(warnings),
            fresh_name: Arc::clone(fresh_name),
        }
    }

    pub(crate) fn rule(&self, place: u32) -> Option<&Rule> {
        self.rules.get(usize::try_from(place).ok()?)
    }

    /// How many policies there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is no policy, so that everything is denied.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

/// A name that does not stand in a text, whether in scopes or in conditions.
fn fresh_name(text: &str) -> String {
    let numbers = text.split("somebody-").skip(1);
    let number = |rest: &str| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok();
    let taken: HashSet<u64> = numbers.filter_map(number).collect();
    let free = (0..).find(|number| !taken.contains(number)).unwrap_or_default();
    format!("somebody-{free}")
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prepared({}, {} policies)", self.tenant, self.rules.len())
    }
}
