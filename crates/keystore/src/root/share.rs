//! Shares of the root key: what each says of itself, what is known of it in public, and how its holder proves to have it.
//!
//! One line of text, which is what lies encrypted in a custodian's file:
//!
//! ```text
//! holdfast-share-1:INSTANCE:GENERATION:NUMBER:THRESHOLD:ROOT:SHARE:CHECK
//! ```
//!
//! `INSTANCE` is the instance whose root key it was when the share was made, `ROOT` the root key's [`SealerId`], `SHARE` 64 hexadecimal
//! digits, `CHECK` the first 8 of SHA-256 of all before it.
//!
//! ```text
//! commitment = SHA-256("holdfast/share-commitment/v1" 0 instance 0 generation:u32 number:u8 threshold:u8 root:8 share:32)
//! proof      = HMAC-SHA-256(share, "holdfast/share-proof/v1" 0 instance 0 generation:u32 number:u8 threshold:u8 root:8 challenge:10)
//! ```
//!
//! A share is 256 uniformly random bits, so neither says anything of it.

use super::file::{push_hex, unhex};
pub use super::shamir::{MAX_SHARES, MIN_THRESHOLD};
use super::spoken::{Challenge, Proof};
use super::{ROOT_KEY_LEN, RootKey, SealerId, shamir};
use aws_lc_rs::{digest, hmac};
use core::fmt;
use holdfast_core::port::World;
use holdfast_core::{Error, ErrorKind, InstanceId, Secret, Stage};
use subtle::ConstantTimeEq as _;

const PREFIX: &str = "holdfast-share-1";
/// No share's text is longer.
pub const MAX_TEXT: usize = 192;
/// Digits of the check.
const CHECK: usize = 8;

/// What all shares of one generation have in common, and everybody may know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sharing {
    /// The instance that shared its root key.
    pub instance: InstanceId,
    /// Which sharing of the same root key, from 1.
    pub generation: u32,
    /// How many shares are needed.
    pub threshold: u8,
    /// The root key's public name.
    pub root: SealerId,
}

impl Sharing {
    /// What a hash or a MAC about one of its shares begins with.
    pub(super) fn header(&self, number: u8, label: &str, mut take: impl FnMut(&[u8])) {
        let Self { instance, generation, threshold, root } = self;
        take(label.as_bytes());
        take(&[0]);
        take(instance.to_string().as_bytes());
        take(&[0]);
        take(&generation.to_be_bytes());
        take(&[number, *threshold]);
        take(root.as_bytes());
    }
}

/// The public half of a share: what it is recognised by, SHA-256.
pub type Commitment = [u8; 32];

/// One custodian's share. Wiped on drop, never printed.
pub struct Share {
    of: Sharing,
    number: u8,
    secret: Secret,
}

/// Why a share is not the one that it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    /// Another gateway's.
    Instance,
    /// Of another generation: this one.
    Generation(u32),
    /// Of another root key, or with another threshold.
    Sharing,
    /// It says the right things, and its bytes are not those that were handed out.
    Bytes,
}

/// Shares a root key: share number 1 first.
///
/// # Errors
/// `malformed` for an impossible number or threshold; `internal` without entropy.
pub fn make<W: World>(root: &RootKey, of: &Sharing, count: u8, world: &W) -> Result<Vec<Share>, Error> {
    let secrets = shamir::split(root.secret(), count, of.threshold, world)?;
    let numbered = (1..=count).zip(secrets);
    Ok(numbered.map(|(number, secret)| Share { of: of.clone(), number, secret }).collect())
}

/// The root key that these shares give.
///
/// # Errors
/// `malformed` when they are fewer than the threshold or not of one sharing; `key-store-unavailable` when they give another key than they say.
pub fn combine<'a>(shares: impl IntoIterator<Item = &'a Share>) -> Result<RootKey, Error> {
    let refused = |detail| {
        Error::new(ErrorKind::Malformed, Stage::Start, detail)
            .remedy("give as many shares as the threshold says, all of one generation")
    };
    let mut shares = shares.into_iter();
    let Some(first) = shares.next() else { return Err(refused("there is no share")) };
    let mut numbered = vec![(first.number, &first.secret)];
    for share in shares {
        if share.of != first.of {
            return Err(refused("the shares are not of one generation"));
        }
        numbered.push((share.number, &share.secret));
    }
    if numbered.len() < usize::from(first.of.threshold) {
        return Err(refused("there are fewer shares than the threshold"));
    }
    let root = RootKey::new(shamir::combine(&numbered)?)?;
    if root.id()? != first.of.root {
        let detail = "the shares give another root key than they say";
        return Err(Error::new(ErrorKind::KeyStoreUnavailable, Stage::Start, detail)
            .remedy("one of them was damaged before it was encrypted: use shares of other custodians"));
    }
    Ok(root)
}

impl Share {
    /// What it has in common with the others.
    pub fn of(&self) -> &Sharing {
        &self.of
    }

    /// Its number, from 1.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// What it is recognised by.
    pub fn commitment(&self) -> Commitment {
        let mut context = digest::Context::new(&digest::SHA256);
        self.of.header(self.number, "holdfast/share-commitment/v1", |part| context.update(part));
        context.update(self.secret.expose());
        let mut commitment = [0; 32];
        commitment.iter_mut().zip(context.finish().as_ref()).for_each(|(out, byte)| *out = *byte);
        commitment
    }

    /// Compares it with what is known of it.
    ///
    /// # Errors
    /// The first thing that differs.
    pub fn check(&self, of: &Sharing, commitment: &Commitment) -> Result<(), Mismatch> {
        if self.of.instance != of.instance {
            Err(Mismatch::Instance)
        } else if self.of.generation != of.generation {
            Err(Mismatch::Generation(self.of.generation))
        } else if self.of != *of {
            Err(Mismatch::Sharing)
        } else if !bool::from(self.commitment().ct_eq(commitment)) {
            Err(Mismatch::Bytes)
        } else {
            Ok(())
        }
    }

    /// The answer to a challenge, which nobody can give without the share.
    pub fn prove(&self, challenge: &Challenge) -> Proof {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.expose());
        let mut context = hmac::Context::with_key(&key);
        self.of.header(self.number, "holdfast/share-proof/v1", |part| context.update(part));
        context.update(&challenge.0);
        let mut proof = [0; 15];
        proof.iter_mut().zip(context.sign().as_ref()).for_each(|(out, byte)| *out = *byte);
        Proof(proof)
    }

    /// Whether somebody who has the share gave this answer. In constant time.
    pub fn is_proven(&self, challenge: &Challenge, proof: &Proof) -> bool {
        self.prove(challenge).0.ct_eq(&proof.0).into()
    }

    /// The line that is encrypted to its custodian.
    pub fn to_text(&self) -> Secret {
        let Sharing { instance, generation, threshold, root } = &self.of;
        let mut text = Secret::new(Vec::with_capacity(MAX_TEXT));
        let out = text.expose_mut();
        let public = format!("{PREFIX}:{instance}:{generation}:{}:{threshold}:{root}:", self.number);
        out.extend_from_slice(public.as_bytes());
        self.secret.expose().iter().for_each(|byte| push_hex(out, *byte));
        let check = check(out);
        out.push(b':');
        check.iter().for_each(|byte| push_hex(out, *byte));
        out.push(b'\n');
        text
    }

    /// Reads such a line.
    ///
    /// # Errors
    /// `malformed`, for anything else; no error holds a part of it.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        decode(text).ok_or_else(|| {
            Error::new(ErrorKind::Malformed, Stage::Start, "this is no share of a root key, or it is damaged")
                .remedy("give the file that `holdfast init` or `holdfast share rotate` wrote for you")
        })
    }
}

fn decode(text: &[u8]) -> Option<Share> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    if text.len() > MAX_TEXT {
        return None;
    }
    let (body, typed) = text.split_at_checked(text.len().checked_sub(CHECK + 1)?)?;
    let mut wanted = [0; CHECK / 2];
    unhex(typed.strip_prefix(b":")?, &mut wanted)?;
    if check(body) != wanted {
        return None;
    }
    let (public, digits) = body.split_at_checked(body.len().checked_sub(2 * ROOT_KEY_LEN)?)?;
    let public = core::str::from_utf8(public).ok()?;
    let mut fields = public.split(':');
    if fields.next()? != PREFIX {
        return None;
    }
    let instance = fields.next()?;
    let of = Sharing {
        instance: instance.parse().ok()?,
        generation: number(fields.next()?)?,
        // Below.
        threshold: 0,
        root: SealerId([0; 8]),
    };
    let number_of_share = u8::try_from(number(fields.next()?)?).ok()?;
    let threshold = u8::try_from(number(fields.next()?)?).ok()?;
    let root = SealerId::parse(fields.next()?)?;
    let ends = fields.next() == Some("") && fields.next().is_none();
    let of = Sharing { threshold, root, ..of };
    let is_possible = of.generation > 0 && number_of_share > 0 && threshold >= MIN_THRESHOLD;
    if !ends || !is_possible || of.instance.to_string() != instance {
        return None;
    }
    let secret = Secret::fill_with(ROOT_KEY_LEN, |out| unhex(digits, out).ok_or(())).ok()?;
    Some(Share { of, number: number_of_share, secret })
}

/// Digits alone, without leading zeros: one text for one share.
pub(super) fn number(text: &str) -> Option<u32> {
    let is_plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

fn check(body: &[u8]) -> [u8; CHECK / 2] {
    let mut check = [0; CHECK / 2];
    let hash = digest::digest(&digest::SHA256, body);
    check.iter_mut().zip(hash.as_ref()).for_each(|(out, byte)| *out = *byte);
    check
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Share({} of generation {})", self.number, self.of.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::software::fixture::Entropy;

    fn sharing(root: &RootKey, generation: u32) -> Sharing {
        let instance = "01JDCZRGZKA9Q6W8T2V4X6Y8Z0".parse().unwrap();
        Sharing { instance, generation, threshold: 3, root: root.id().unwrap() }
    }

    fn root(byte: u8) -> RootKey {
        RootKey::new(Secret::new(vec![byte; 32])).unwrap()
    }

    fn shared(generation: u32) -> Vec<Share> {
        let root = root(7);
        make(&root, &sharing(&root, generation), 5, &Entropy).unwrap()
    }

    /// A share whose bytes are known.
    fn fixed() -> Share {
        let root = root(7);
        Share { of: sharing(&root, 2), number: 4, secret: Secret::new((0..32).collect()) }
    }

    #[test]
    fn a_share_is_this_text_for_ever() {
        let share = fixed();
        let text = "holdfast-share-1:01JDCZRGZKA9Q6W8T2V4X6Y8Z0:2:4:3:2400a1a0378fa72c:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f:3fb17c59\n";
        assert_eq!(core::str::from_utf8(share.to_text().expose()).unwrap(), text);
        let read = Share::parse(text.as_bytes()).unwrap();
        assert_eq!((read.number(), read.of()), (4, share.of()));
        assert_eq!(read.secret, share.secret);
    }

    /// Computed with Python's `hashlib` and `hmac` from the layout above.
    #[test]
    fn commitment_and_proof_are_these_for_ever() {
        let share = fixed();
        let hex: String = share.commitment().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "bbdfacfeb9462c6e2a337db797d103e0ed8502766943414d4d3aa0bf9a5fb3aa");
        let proof = share.prove(&Challenge([9; 10]));
        let hex: String = proof.0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "bb55e95f407632df9749c0f01adefd");
    }

    #[test]
    fn a_threshold_of_shares_gives_the_root_key_and_is_compared_with_its_name() {
        let shares = shared(1);
        let root = combine(shares.iter().skip(2)).unwrap();
        assert_eq!(root.expose(), [7; 32]);
        assert_eq!(combine(&shares[..2]).unwrap_err().detail(), "there are fewer shares than the threshold");
        assert!(combine([]).is_err());
        let others = shared(2);
        let mixed = combine([&shares[0], &shares[1], &others[2]]).unwrap_err();
        assert_eq!(mixed.detail(), "the shares are not of one generation");
        let twice = combine([&shares[0], &shares[1], &shares[0]]);
        assert!(twice.is_err());
        let mut bad = shared(1);
        bad[0].secret.expose_mut()[0] ^= 1;
        let error = combine(&bad[..3]).unwrap_err();
        assert_eq!(error.detail(), "the shares give another root key than they say");
    }

    #[test]
    fn what_differs_is_named() {
        let mut shares = shared(2);
        let of = shares[0].of().clone();
        let commitment = shares[0].commitment();
        assert_eq!(shares[0].check(&of, &commitment), Ok(()));
        let instance = "01JDCZRGZKA9Q6W8T2V4X6Y8Z1".parse().unwrap();
        assert_eq!(
            shares[0].check(&Sharing { instance, ..of.clone() }, &commitment),
            Err(Mismatch::Instance)
        );
        let later = Sharing { generation: 3, ..of.clone() };
        assert_eq!(shares[0].check(&later, &commitment), Err(Mismatch::Generation(2)));
        let other = Sharing { root: root(8).id().unwrap(), ..of.clone() };
        assert_eq!(shares[0].check(&other, &commitment), Err(Mismatch::Sharing));
        assert_eq!(shares[1].check(&of, &commitment), Err(Mismatch::Bytes));
        shares[0].secret.expose_mut()[31] ^= 0x80;
        assert_eq!(shares[0].check(&of, &commitment), Err(Mismatch::Bytes));
    }

    #[test]
    fn a_proof_is_of_one_share_and_one_challenge() {
        let shares = shared(1);
        let (first, second) = (Challenge::new(&Entropy).unwrap(), Challenge::new(&Entropy).unwrap());
        let proof = shares[0].prove(&first);
        assert!(shares[0].is_proven(&first, &proof));
        assert!(!shares[0].is_proven(&second, &proof));
        assert!(!shares[1].is_proven(&first, &proof));
        // The same bytes in another generation.
        let Share { of, number, secret } = &shares[0];
        let later = Sharing { generation: 2, ..of.clone() };
        let again = Share { of: later, number: *number, secret: Secret::from(secret.expose()) };
        assert!(!again.is_proven(&first, &proof) && again.commitment() != shares[0].commitment());
    }

    #[test]
    fn every_damaged_byte_is_noticed_and_nothing_is_printed() {
        let good = fixed().to_text().expose().to_vec();
        for index in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[index] ^= 1 << bit;
                if let Ok(share) = Share::parse(&bad) {
                    // Hexadecimal digits are read in any case.
                    assert!(bad.eq_ignore_ascii_case(&good), "byte {index}");
                    assert_eq!(share.secret, fixed().secret);
                }
            }
            assert!(Share::parse(&good[..index.min(good.len() - 2)]).is_err(), "cut to {index}");
        }
        assert!(Share::parse(&[&good[..], b"\n"].concat()).is_err());
        assert_eq!(format!("{:?}", fixed()), "Share(4 of generation 2)");
    }
}
