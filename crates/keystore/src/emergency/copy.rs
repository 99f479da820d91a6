//! An emergency copy as it lies in a version's handle: who opens it, each one's share encrypted to them, and the sealed material.
//!
//! ```text
//! copy   = 0x01 ‖ id (16) ‖ threshold (1) ‖ number of holders (1) ‖ holder … ‖ sealed
//! holder = length (1) ‖ name ‖ SHA-256 of the share (32) ‖ length (2, big-endian) ‖ share, encrypted to the holder (an age file)
//! share  = 0x01 ‖ id (16) ‖ number, from 1 (1) ‖ share of the copy's key (32): Shamir over GF(2^8), as the root key's
//! sealed = XAES-256-GCM under the copy's key of the material, as software custody has it
//! bound  = "holdfast/emergency-copy/v1" ‖ length (1) ‖ tenant ‖ key (16) ‖ version (4, big-endian) ‖ algorithm's code (1) ‖ all of the copy before `sealed`
//! ```

use super::Custodians;
use crate::refusal;
use crate::root::ROOT_KEY_LEN;
use crate::root::shamir::{self, MIN_THRESHOLD};
use crate::software::material::load;
use crate::software::operate::Step;
use aws_lc_rs::digest;
use holdfast_core::algorithm::Algorithm;
use holdfast_core::key::NewVersion;
use holdfast_core::port::World;
use holdfast_core::work::{Product, Work};
use holdfast_core::{CallerName, Error, KeyId, KeyVersion, Secret, TenantId};
use std::collections::BTreeMap;
use subtle::ConstantTimeEq as _;

const FORMAT: u8 = 1;
const DOMAIN: &[u8] = b"holdfast/emergency-copy/v1";
const ID_LEN: usize = 16;
/// Bytes of one share.
pub const SHARE_LEN: usize = 1 + ID_LEN + 1 + ROOT_KEY_LEN;

/// What a copy is of.
pub(crate) struct Of<'a> {
    pub(crate) tenant: &'a TenantId,
    pub(crate) key: KeyId,
    pub(crate) version: KeyVersion,
    pub(crate) algorithm: Algorithm,
}

impl<'a> Of<'a> {
    /// A version that is being made.
    pub(crate) fn new(version: &NewVersion<'a>) -> Self {
        let NewVersion { tenant, tenant_handle: _, key, version, algorithm, exportable: _, before: _ } =
            *version;
        Self { tenant, key, version, algorithm }
    }

    /// A version.
    #[cfg(test)]
    pub(crate) fn version(material: &holdfast_core::key::KeyMaterial<'a>) -> Self {
        Self {
            tenant: material.tenant,
            key: material.key,
            version: material.version,
            algorithm: material.algorithm,
        }
    }

    /// What the sealed material is bound to: all of this, and the copy's head.
    fn bound(&self, head: &[u8]) -> Result<Vec<u8>, Error> {
        let Self { tenant, key, version, algorithm } = self;
        let name = tenant.as_str().as_bytes();
        let length = u8::try_from(name.len()).map_err(|_| refusal::defect("a tenant's name is too long"))?;
        let (number, code) = (version.get().to_be_bytes(), [algorithm.code()]);
        Ok([DOMAIN, &[length], name, key.as_bytes(), &number, &code, head].concat())
    }
}

/// A copy, not opened.
pub(crate) struct Copy {
    id: [u8; ID_LEN],
    pub(crate) threshold: u8,
    /// In the order of their numbers.
    pub(crate) holders: Vec<Holder>,
    head: Vec<u8>,
    sealed: Vec<u8>,
}

/// Who has a share of a copy.
pub(crate) struct Holder {
    pub(crate) name: CallerName,
    /// SHA-256 of their share, which says nothing of it: it is 256 uniformly random bits.
    commitment: [u8; 32],
    /// Their share, encrypted to them.
    pub(crate) share: Vec<u8>,
}

/// Makes a copy: seals the material under a key that nobody has from then on.
pub(crate) fn seal<W: World>(
    of: &Of<'_>,
    material: &Secret,
    custodians: &Custodians,
    world: &W,
) -> Result<Vec<u8>, Error> {
    let Custodians { threshold, each, mail } = custodians;
    let count = u8::try_from(each.len()).map_err(|_| refusal::defect("too many custodians"))?;
    let key = Secret::fill_with(ROOT_KEY_LEN, |out| world.fill(out))?;
    let mut id = [0; ID_LEN];
    world.fill(&mut id)?;
    let mut head = vec![FORMAT];
    head.extend_from_slice(&id);
    head.extend_from_slice(&[*threshold, count]);
    let shares = shamir::split(&key, count, *threshold, world)?;
    for (number, ((name, recipient), share)) in (1u8..).zip(each.iter().zip(&shares)) {
        let text = Secret::fill_with(SHARE_LEN, |out| write_share(out, &id, number, share))
            .map_err(|()| refusal::defect("a share has no room"))?;
        let share = mail.seal(recipient, &text)?;
        let name = name.as_str().as_bytes();
        let named =
            u8::try_from(name.len()).map_err(|_| refusal::defect("a custodian's name is too long"))?;
        let length = u16::try_from(share.len()).map_err(|_| refusal::defect("a share is too long"))?;
        head.push(named);
        head.extend_from_slice(name);
        head.extend_from_slice(&commitment(text.expose()));
        head.extend_from_slice(&length.to_be_bytes());
        head.extend_from_slice(&share);
    }
    let aad = of.bound(&head)?;
    let work = Work::Seal { frame: head, plaintext: material, aad: &aad };
    match load(Algorithm::Xaes256Gcm, key.expose())?.begin(world, work)? {
        Step::Done(Product::Bytes(copy)) => Ok(copy),
        Step::Done(_) | Step::Slow(_) => Err(refusal::defect("a copy was not sealed at once")),
    }
}

fn write_share(out: &mut [u8], id: &[u8; ID_LEN], number: u8, share: &Secret) -> Result<(), ()> {
    let (format, rest) = out.split_first_chunk_mut::<1>().ok_or(())?;
    let (named, rest) = rest.split_first_chunk_mut::<ID_LEN>().ok_or(())?;
    let (numbered, rest) = rest.split_first_chunk_mut::<1>().ok_or(())?;
    (*format, *named, *numbered) = ([FORMAT], *id, [number]);
    if rest.len() != share.len() {
        return Err(());
    }
    rest.copy_from_slice(share.expose());
    Ok(())
}

fn commitment(share: &[u8]) -> [u8; 32] {
    let mut commitment = [0; 32];
    let hash = digest::digest(&digest::SHA256, share);
    commitment.iter_mut().zip(hash.as_ref()).for_each(|(out, byte)| *out = *byte);
    commitment
}

impl Copy {
    /// # Errors
    /// `key-store-unavailable` for what is no copy: it was sealed by something else.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        Self::try_parse(bytes).ok_or_else(|| refusal::sealed("an emergency copy is damaged"))
    }

    fn try_parse(bytes: &[u8]) -> Option<Self> {
        let ([FORMAT], rest) = bytes.split_first_chunk::<1>()? else { return None };
        let (id, rest) = rest.split_first_chunk::<ID_LEN>()?;
        let ([threshold, count], mut rest) = rest.split_first_chunk::<2>()?;
        if *threshold < MIN_THRESHOLD || count < threshold {
            return None;
        }
        let mut holders = Vec::with_capacity(usize::from(*count));
        for _ in 0..*count {
            let ([named], after) = rest.split_first_chunk::<1>()?;
            let (name, after) = after.split_at_checked(usize::from(*named))?;
            let (commitment, after) = after.split_first_chunk::<32>()?;
            let (length, after) = after.split_first_chunk::<2>()?;
            let (share, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
            let name = core::str::from_utf8(name).ok()?.parse().ok()?;
            holders.push(Holder { name, commitment: *commitment, share: share.to_vec() });
            rest = after;
        }
        let head = bytes.get(..bytes.len().checked_sub(rest.len())?)?.to_vec();
        Some(Self { id: *id, threshold: *threshold, holders, head, sealed: rest.to_vec() })
    }

    /// Whether a share says that it is of this copy.
    pub(crate) fn is_meant(&self, share: &[u8]) -> bool {
        share.strip_prefix(&[FORMAT]).is_some_and(|rest| rest.starts_with(&self.id))
    }

    /// The number of a share, the holder's name, and the share itself, if it is the one that they were given.
    pub(crate) fn check(&self, share: &[u8]) -> Option<(u8, &CallerName, Secret)> {
        let rest = share.strip_prefix(&[FORMAT])?.strip_prefix(&self.id)?;
        let ([number], value) = rest.split_first_chunk::<1>()?;
        let holder = self.holders.get(usize::from(number.checked_sub(1)?))?;
        let is_theirs: bool = commitment(share).ct_eq(&holder.commitment).into();
        is_theirs.then(|| (*number, &holder.name, Secret::from(value)))
    }

    /// The material, by enough shares.
    ///
    /// # Errors
    /// `malformed` for too few shares; `integrity` for a copy of something else.
    pub(crate) fn open<W: World>(
        &self,
        of: &Of<'_>,
        shares: &BTreeMap<u8, Secret>,
        world: &W,
    ) -> Result<Secret, Error> {
        if shares.len() < usize::from(self.threshold) {
            return Err(refusal::malformed(
                "there are fewer shares than the threshold",
                "wait for more custodians",
            ));
        }
        let numbered: Vec<_> = shares.iter().map(|(number, share)| (*number, share)).collect();
        let key = shamir::combine(&numbered)?;
        let aad = of.bound(&self.head)?;
        let work = Work::Open { body: &self.sealed, aad: &aad };
        match load(Algorithm::Xaes256Gcm, key.expose())?.begin(world, work)? {
            Step::Done(Product::Secret(material)) => Ok(material),
            Step::Done(_) | Step::Slow(_) => Err(refusal::defect("a copy was not opened at once")),
        }
    }
}
