//! The tree against the classic CT leaves, a worked example of seven entries, the tile boundary, and another
//! implementation.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail")]

use holdfast_audit::merkle::*;
use proptest::prelude::*;
use std::convert::Infallible;
use tlog_tiles::HashReader;

/// All leaves in memory, hashed by the definition of RFC 6962 §2.1.
struct Leaves(Vec<Hash>);

impl Leaves {
    fn of<T: AsRef<[u8]>>(entries: &[T]) -> Self {
        Self(entries.iter().map(|entry| leaf_hash(entry.as_ref())).collect())
    }

    fn root(&self, size: u64) -> Hash {
        definition(&self.0[..size as usize])
    }
}

fn definition(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            node_hash(&definition(left), &definition(right))
        }
    }
}

impl Nodes for Leaves {
    type Error = Infallible;

    fn node(&mut self, level: u8, index: u64) -> Result<Hash, Infallible> {
        let width = 1 << level;
        Ok(definition(&self.0[index as usize * width..][..width]))
    }
}

fn hash(text: &str) -> Hash {
    Hash(hex::decode(text).unwrap().try_into().unwrap())
}

fn frontier(leaves: &Leaves, size: u64) -> Hash {
    let mut frontier = Frontier::default();
    leaves.0[..size as usize].iter().for_each(|leaf| frontier.push(*leaf));
    assert_eq!(frontier.size(), size);
    frontier.root()
}

/// The leaves of the tests of certificate-transparency-go and many after it.
#[test]
fn the_classic_roots() {
    let leaves =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    let leaves = Leaves::of(&leaves.map(|leaf| hex::decode(leaf).unwrap()));
    let roots = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    for (size, root) in (0..).zip(roots) {
        assert_eq!(frontier(&leaves, size), hash(root), "size {size}");
        assert_eq!(leaves.root(size), hash(root), "size {size}");
    }
}

fn seven() -> Leaves {
    let operations = ["unwrap", "sign", "decrypt", "wrap", "sign", "unwrap", "sign"];
    let entries: Vec<_> =
        operations.iter().enumerate().map(|(i, op)| format!("{{\"seq\":{i},\"op\":\"{op}\"}}")).collect();
    Leaves::of(&entries)
}

/// Computed with two other implementations.
#[test]
fn the_worked_example_of_seven_entries() {
    let mut leaves = seven();
    let leaf: Vec<_> = leaves.0.clone();
    assert_eq!(leaf[6], hash("f3fb7e300b1eefc70d3e1370f3c1cbe5e5bb54dd8dcab6a2faa53109c58a30e3"));
    let n01 = hash("7284522b0d6f2d985800be6c05020460576b7d75aa7acd0f8c5339b35b58a3e7");
    let n23 = hash("27b932c1b2fd33b6934148db3fb03699980815daa384a133b1c9afe9d4153804");
    let n45 = hash("2061467fe22a854866a57b7b6f71fd8459d529a08c89bd38efe736a93e31ce27");
    let n03 = hash("02058c1fdeb51f52f0c6df9766f94a24a8495b276be9dfb0d08089e799916a0b");
    let n46 = hash("153475b05b0bbfcd68c7cd72f447afae1dd4f7e9633d160dc327cfbe51a35938");
    let roots = [
        leaf[0],
        n01,
        hash("ae7e91c8e85288229c41c6f77e54469fda90930296b453e8f67ae4b96d382a6b"),
        n03,
        hash("eb53c5832766e59507f851fc154efb5c5fd3d31104d040bdf2e004390b1747eb"),
        hash("97690b96a8708ecad2ae9fa3786605370227b25db0b4ed64f689f0613e081d5b"),
        hash("8f454d112318aebec5306c0ec0693ecc7189657182478596a7efe1105cef1aa5"),
    ];
    for (size, root) in (1..).zip(roots) {
        assert_eq!(frontier(&leaves, size), root, "size {size}");
    }
    let inclusion = [
        (0, vec![leaf[1], n23, n46]),
        (4, vec![leaf[5], leaf[6], n03]),
        (5, vec![leaf[4], leaf[6], n03]),
        (6, vec![n45, n03]),
    ];
    for (index, proof) in inclusion {
        assert_eq!(inclusion_proof(&mut leaves, index, 7).unwrap(), proof, "index {index}");
    }
    let consistency = [
        (1, vec![leaf[1], n23, n46]),
        (2, vec![n23, n46]),
        (3, vec![leaf[2], leaf[3], n01, n46]),
        (4, vec![n46]),
        (5, vec![leaf[4], leaf[5], leaf[6], n03]),
        (6, vec![n45, leaf[6], n03]),
        (7, vec![]),
    ];
    for (old, proof) in consistency {
        assert_eq!(consistency_proof(&mut leaves, old, 7).unwrap(), proof, "from {old}");
        assert!(verify_consistency(old, &roots[old as usize - 1], 7, &roots[6], &proof), "from {old}");
    }
    // Where there is nothing to prove the proof is empty.
    for index in [7, 8] {
        assert_eq!(inclusion_proof(&mut leaves, index, 7).unwrap(), []);
    }
    for (old, new) in [(0, 7), (7, 7), (8, 7), (0, 0)] {
        assert_eq!(consistency_proof(&mut leaves, old, new).unwrap(), []);
    }
}

#[test]
fn the_tile_boundary() {
    let entries: Vec<_> = (0..257_u16).map(u16::to_be_bytes).collect();
    let mut leaves = Leaves::of(&entries);
    let r256 = hash("16284532241f522a3fba7a0ae0863cb456ad381219176c2d424516ac230e3110");
    let r257 = hash("56dafde5bb3a6d3100c0a5a4a40f1e3eedfb0bd82b6f38a927fb7fe427f87e8b");
    assert_eq!((frontier(&leaves, 256), frontier(&leaves, 257)), (r256, r257));
    assert_eq!(inclusion_proof(&mut leaves, 256, 257).unwrap(), [r256]);
    assert_eq!(inclusion_proof(&mut leaves, 0, 257).unwrap().len(), 9);
}

#[test]
fn proofs_of_the_wrong_shape_prove_nothing() {
    let leaves = seven();
    let leaf = leaves.0[0];
    let root = leaves.root(7);
    assert!(!verify_inclusion(&leaf, 7, 7, &root, &[]));
    assert!(!verify_inclusion(&leaf, 0, 7, &root, &[leaf; 64]));
    assert!(!verify_inclusion(&leaf, 0, 0, &empty_root(), &[]));
    assert!(verify_inclusion(&leaf, 0, 1, &leaf, &[]));
    assert!(verify_consistency(0, &empty_root(), 7, &root, &[]));
    assert!(!verify_consistency(0, &leaf, 7, &root, &[]));
    assert!(!verify_consistency(0, &empty_root(), 7, &root, &[leaf]));
    assert!(!verify_consistency(7, &root, 7, &root, &[leaf]));
    assert!(!verify_consistency(8, &root, 7, &root, &[]));
    assert!(!verify_consistency(4, &leaves.root(4), 7, &root, &[]));
}

#[test]
fn the_longest_proof_is_taken_and_no_longer_one() {
    let leaf = leaf_hash(b"entry");
    let longest = [leaf; MAX_PROOF];
    let root = root_from_inclusion(&leaf, 0, 1 << 63, &longest).unwrap();
    assert!(verify_consistency(1, &leaf, 1 << 63, &root, &longest));
    assert_eq!(root_from_inclusion(&leaf, 0, u64::MAX, &[leaf; MAX_PROOF + 1]), None);
}

/// The other implementation keeps hashes in its own order.
struct Oracle(Vec<tlog_tiles::Hash>);

impl HashReader for Oracle {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog_tiles::Hash>, tlog_tiles::tlog::Error> {
        Ok(indexes.iter().map(|index| self.0[*index as usize]).collect())
    }
}

fn theirs(hash: Hash) -> tlog_tiles::Hash {
    tlog_tiles::Hash(hash.0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn another_implementation_agrees(size in 1..600_u64, at in any::<prop::sample::Index>(), to in any::<prop::sample::Index>()) {
        let entries: Vec<_> = (0..size).map(u64::to_le_bytes).collect();
        let mut leaves = Leaves::of(&entries);
        let mut oracle = Oracle(Vec::new());
        for (n, entry) in (0..).zip(&entries) {
            let hashes = tlog_tiles::stored_hashes(n, entry, &oracle).unwrap();
            oracle.0.extend(hashes);
        }
        let root = leaves.root(size);
        prop_assert_eq!(tlog_tiles::tree_hash(size, &oracle).unwrap(), theirs(root));
        prop_assert_eq!(frontier(&leaves, size), root);

        let index = at.index(size as usize) as u64;
        let proof = inclusion_proof(&mut leaves, index, size).unwrap();
        let other = tlog_tiles::prove_record(size, index, &oracle).unwrap();
        prop_assert_eq!(proof.iter().map(|hash| theirs(*hash)).collect::<Vec<_>>(), other);
        prop_assert!(verify_inclusion(&leaves.0[index as usize], index, size, &root, &proof));

        let old = to.index(size as usize) as u64 + 1;
        let old_root = leaves.root(old);
        let proof = consistency_proof(&mut leaves, old, size).unwrap();
        let other = tlog_tiles::prove_tree(size, old, &oracle).unwrap();
        prop_assert_eq!(proof.iter().map(|hash| theirs(*hash)).collect::<Vec<_>>(), other);
        prop_assert!(verify_consistency(old, &old_root, size, &root, &proof));
    }

    #[test]
    fn a_changed_proof_proves_nothing(size in 2..300_u64, at in any::<prop::sample::Index>(), bit in 0..256_usize, what in any::<prop::sample::Index>()) {
        let entries: Vec<_> = (0..size).map(u64::to_le_bytes).collect();
        let mut leaves = Leaves::of(&entries);
        let root = leaves.root(size);
        let index = at.index(size as usize) as u64;
        let leaf = leaves.0[index as usize];
        let mut proof = inclusion_proof(&mut leaves, index, size).unwrap();
        let changed = what.index(proof.len());
        proof[changed].0[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!verify_inclusion(&leaf, index, size, &root, &proof));
        let short = &proof[1..];
        prop_assert!(!verify_inclusion(&leaf, index, size, &root, short));

        let old = 1 + index;
        let mut proof = consistency_proof(&mut leaves, old, size).unwrap();
        if !proof.is_empty() {
            let changed = what.index(proof.len());
            proof[changed].0[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!verify_consistency(old, &leaves.root(old), size, &root, &proof));
            prop_assert!(!verify_consistency(old, &leaves.root(old), size, &root, &proof[1..]));
        }
    }
}

/// Whoever signs both trees could find such roots.
#[test]
fn no_proof_shows_a_larger_tree_to_be_the_beginning_of_a_smaller_one() {
    let [old, added] = [1, 2].map(|byte| Hash([byte; 32]));
    let new = node_hash(&old, &added);
    assert!(!verify_consistency(3, &old, 2, &new, &[old, added]));
    assert!(!verify_consistency(1, &old, 0, &empty_root(), &[]));
}
