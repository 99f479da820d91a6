//! The Merkle tree of RFC 6962 §2.1 (the same as RFC 9162 §2.1 with SHA-256): hashes, proofs and their verification.
//!
//! Nothing here reads a file: proofs are made over a [`Nodes`] that knows the hashes of complete subtrees, and
//! checked with nothing but the roots.

use aws_lc_rs::digest::{Context, SHA256, digest};

/// Most hashes that a proof may hold; a tree of 2^63 leaves needs no more.
pub const MAX_PROOF: usize = 63;

/// A SHA-256 hash of a leaf, of a node or of a whole tree; 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash(pub [u8; 32]);

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&crate::text::base64(&self.0))
    }
}

impl Hash {
    fn finish(context: Context) -> Self {
        Self::from_digest(context.finish().as_ref())
    }

    fn from_digest(bytes: &[u8]) -> Self {
        let mut hash = [0; 32];
        // SHA-256 always gives 32 bytes; zip needs no proof of that.
        hash.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Self(hash)
    }
}

/// The root of a tree without leaves: SHA-256 of nothing (RFC 6962 §2.1).
#[must_use]
pub fn empty_root() -> Hash {
    Hash::from_digest(digest(&SHA256, b"").as_ref())
}

/// The hash of a leaf: SHA-256(0x00 ‖ entry).
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(&[0]);
    context.update(entry);
    Hash::finish(context)
}

/// The hash of an inner node: SHA-256(0x01 ‖ left ‖ right).
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [0; 65];
    let (prefix, children) = bytes.split_at_mut(1);
    prefix.fill(1);
    children.iter_mut().zip(left.0.iter().chain(&right.0)).for_each(|(to, from)| *to = *from);
    Hash::from_digest(digest(&SHA256, &bytes).as_ref())
}

/// The right edge of a growing tree: one hash for each set bit of its size, largest subtree first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    subtrees: Vec<Hash>,
}

impl Frontier {
    /// The number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf, merging equal subtrees as a binary counter carries.
    pub fn push(&mut self, leaf: Hash) {
        let mut node = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.subtrees.pop() {
                node = node_hash(&left, &node);
            }
        }
        self.subtrees.push(node);
        self.size = self.size.saturating_add(1);
    }

    /// The root of the tree as it stands.
    #[must_use]
    pub fn root(&self) -> Hash {
        root_of_subtrees(self.subtrees.iter().copied())
    }
}

/// Folds the roots of complete subtrees, largest first, into the root of the tree.
pub(crate) fn root_of_subtrees(subtrees: impl DoubleEndedIterator<Item = Hash>) -> Hash {
    let mut root = None;
    for left in subtrees.rev() {
        root = Some(match root {
            None => left,
            Some(right) => node_hash(&left, &right),
        });
    }
    root.unwrap_or_else(empty_root)
}

/// Folds a power of two of neighbouring hashes into their common ancestor; the empty root for none.
pub(crate) fn root_of_complete(hashes: &[Hash]) -> Hash {
    let mut frontier = Frontier::default();
    hashes.iter().for_each(|hash| frontier.push(*hash));
    frontier.root()
}

/// Gives the hashes of complete subtrees.
pub trait Nodes {
    /// What can go wrong while looking one up.
    type Error;

    /// The root of the complete subtree over leaves `index × 2^level .. (index + 1) × 2^level`.
    ///
    /// # Errors
    /// Whatever the store of hashes says.
    fn node(&mut self, level: u8, index: u64) -> Result<Hash, Self::Error>;
}

/// The largest power of two strictly less than `n`, for `n` > 1.
fn split(n: u64) -> u64 {
    1 << (n.saturating_sub(1).checked_ilog2().unwrap_or(0))
}

/// The root over leaves `from..to` of a tree.
///
/// # Errors
/// Those of the [`Nodes`].
pub fn root<N: Nodes>(nodes: &mut N, from: u64, to: u64) -> Result<Hash, N::Error> {
    let n = to.saturating_sub(from);
    if n == 0 {
        return Ok(empty_root());
    }
    if n.is_power_of_two() {
        let level = n.trailing_zeros();
        return nodes.node(u8::try_from(level).unwrap_or(u8::MAX), from >> level);
    }
    let middle = from.saturating_add(split(n));
    let left = root(nodes, from, middle)?;
    let right = root(nodes, middle, to)?;
    Ok(node_hash(&left, &right))
}

/// The proof that leaf `index` is in the tree of `size` leaves: siblings from the leaf up (RFC 6962 §2.1.1).
/// Empty when the index is not in the tree.
///
/// # Errors
/// Those of the [`Nodes`].
pub fn inclusion_proof<N: Nodes>(nodes: &mut N, index: u64, size: u64) -> Result<Vec<Hash>, N::Error> {
    let mut proof = Vec::new();
    let (mut from, mut to) = (0, size);
    while index < size && to.saturating_sub(from) > 1 {
        let middle = from + split(to - from);
        if index < middle {
            proof.push(root(nodes, middle, to)?);
            to = middle;
        } else {
            proof.push(root(nodes, from, middle)?);
            from = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The proof that the tree of `old` leaves is a prefix of the tree of `new` leaves (RFC 6962 §2.1.2).
/// Empty for `old` = 0, `old` = `new` and where there is nothing to prove.
///
/// # Errors
/// Those of the [`Nodes`].
pub fn consistency_proof<N: Nodes>(nodes: &mut N, old: u64, new: u64) -> Result<Vec<Hash>, N::Error> {
    let mut proof = Vec::new();
    if old == 0 || old >= new {
        return Ok(proof);
    }
    let (mut from, mut to) = (0, new);
    // The old root itself is left out where it is a subtree that the verifier starts from.
    let mut known = true;
    while to > old {
        let middle = from + split(to - from);
        if old <= middle {
            proof.push(root(nodes, middle, to)?);
            to = middle;
        } else {
            proof.push(root(nodes, from, middle)?);
            from = middle;
            known = false;
        }
    }
    if !known {
        proof.push(root(nodes, from, to)?);
    }
    proof.reverse();
    Ok(proof)
}

/// The root that an inclusion proof leads to (RFC 9162 §2.1.3.2), or nothing if the proof has the wrong shape.
#[must_use]
pub fn root_from_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash]) -> Option<Hash> {
    if index >= size || proof.len() > MAX_PROOF {
        return None;
    }
    let (mut fnode, mut snode) = (index, size - 1);
    let mut root = *leaf;
    for sibling in proof {
        if snode == 0 {
            return None;
        }
        if fnode & 1 == 1 || fnode == snode {
            root = node_hash(sibling, &root);
            while fnode & 1 == 0 && fnode != 0 {
                fnode >>= 1;
                snode >>= 1;
            }
        } else {
            root = node_hash(&root, sibling);
        }
        fnode >>= 1;
        snode >>= 1;
    }
    (snode == 0).then_some(root)
}

/// Whether `proof` shows the leaf at `index` of the tree with `size` leaves and this `root`.
#[must_use]
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, root: &Hash, proof: &[Hash]) -> bool {
    root_from_inclusion(leaf, index, size, proof) == Some(*root)
}

/// Whether `proof` shows that the tree (`old`, `old_root`) is a prefix of (`new`, `new_root`) (RFC 9162 §2.1.4.2).
#[must_use]
pub fn verify_consistency(old: u64, old_root: &Hash, new: u64, new_root: &Hash, proof: &[Hash]) -> bool {
    if old > new || proof.len() > MAX_PROOF {
        return false;
    }
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    if old == 0 {
        return proof.is_empty() && *old_root == empty_root();
    }
    let mut hashes = proof.iter().copied();
    let first = if old.is_power_of_two() { (!proof.is_empty()).then_some(*old_root) } else { hashes.next() };
    let Some(first) = first else { return false };
    let (mut fnode, mut snode) = (old - 1, new - 1);
    while fnode & 1 == 1 {
        fnode >>= 1;
        snode >>= 1;
    }
    let (mut from_old, mut from_new) = (first, first);
    for sibling in hashes {
        if snode == 0 {
            return false;
        }
        if fnode & 1 == 1 || fnode == snode {
            from_old = node_hash(&sibling, &from_old);
            from_new = node_hash(&sibling, &from_new);
            while fnode & 1 == 0 && fnode != 0 {
                fnode >>= 1;
                snode >>= 1;
            }
        } else {
            from_new = node_hash(&from_new, &sibling);
        }
        fnode >>= 1;
        snode >>= 1;
    }
    from_old == *old_root && from_new == *new_root && snode == 0
}
