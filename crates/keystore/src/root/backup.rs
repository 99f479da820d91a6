//! Shares of a backup: its own key and, where no one else shares it, the root key, each in as many shares as there are custodians.
//!
//! What lies encrypted in a custodian's file is one line, or two:
//!
//! ```text
//! holdfast-backup-share-1:INSTANCE:BACKUP:NUMBER:THRESHOLD:NAME:SHARE:CHECK
//! holdfast-backup-root-1:INSTANCE:BACKUP:NUMBER:THRESHOLD:NAME:SHARE:CHECK
//! ```
//!
//! The first is of the key that the backup is encrypted to: 32 bytes, the scalar of an X25519 key of age. The second is of the root key.
//! `INSTANCE` is the instance that the backup is of, `BACKUP` the backup, 32 hexadecimal digits that no other has, `NAME` the public name
//! ([`SealerId`]) of what the shares give, `SHARE` 64 hexadecimal digits, `CHECK` the first 8 of SHA-256 of all before it in the line. A
//! share is recognised by the SHA-256 of these lines, which says nothing of them: they hold at least 256 uniformly random bits.

use super::file::{push_hex, unhex};
use super::shamir::{self, MIN_THRESHOLD};
use super::{ROOT_KEY_LEN, RootKey, SealerId};
use aws_lc_rs::digest;
use core::fmt;
use core::str::FromStr;
use holdfast_core::port::World;
use holdfast_core::{Error, ErrorKind, InstanceId, Secret, Stage};
use subtle::ConstantTimeEq as _;

const KEY: &str = "holdfast-backup-share-1";
const ROOT: &str = "holdfast-backup-root-1";
/// Digits of the check.
const CHECK: usize = 8;
/// No line is longer.
const MAX_LINE: usize = 224;
/// No share's text is longer.
pub const MAX_TEXT: usize = 2 * MAX_LINE;

/// Which backup: 16 random bytes, written as 32 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupId([u8; 16]);

impl BackupId {
    /// A new one.
    ///
    /// # Errors
    /// `internal`, when there is no entropy.
    pub fn new<W: World>(world: &W) -> Result<Self, Error> {
        let mut id = [0; 16];
        world.fill(&mut id)?;
        Ok(Self(id))
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for BackupId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let mut id = [0; 16];
        let read = unhex(text.as_bytes(), &mut id).filter(|()| text.bytes().all(is_digit));
        read.map(|()| Self(id)).ok_or_else(|| damaged("this names no backup"))
    }
}

/// What all shares of one backup have in common, and everybody may know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupSharing {
    /// The instance that the backup is of.
    pub instance: InstanceId,
    /// The backup.
    pub backup: BackupId,
    /// How many shares are needed.
    pub threshold: u8,
}

/// One custodian's share of a backup. Wiped on drop, never printed.
pub struct BackupShare {
    of: BackupSharing,
    number: u8,
    key: Part,
    root: Option<Part>,
}

/// A share of one secret.
struct Part {
    /// The public name of what the shares give.
    name: SealerId,
    share: Secret,
}

/// The key that a backup is encrypted to: 32 secret bytes. Wiped on drop, never printed.
pub struct BackupKey(Secret);

impl BackupKey {
    /// Makes a new one.
    ///
    /// # Errors
    /// `internal`, when there is no entropy.
    pub fn generate<W: World>(world: &W) -> Result<Self, Error> {
        Secret::fill_with(ROOT_KEY_LEN, |bytes| world.fill(bytes)).map(Self)
    }

    /// The scalar of the X25519 key.
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }
}

impl fmt::Debug for BackupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BackupKey(32 bytes)")
    }
}

/// Shares a backup's key and, if it is given, the root key: share number 1 first.
///
/// # Errors
/// `malformed` for an impossible number or threshold; `internal` without entropy.
pub fn split<W: World>(
    key: &BackupKey,
    root: Option<&RootKey>,
    of: &BackupSharing,
    count: u8,
    world: &W,
) -> Result<Vec<BackupShare>, Error> {
    let parts = |secret: &Secret| {
        let name = SealerId::of(secret.expose())?;
        let shares = shamir::split(secret, count, of.threshold, world)?;
        Ok::<_, Error>(shares.into_iter().map(move |share| Part { name, share }))
    };
    let keys = parts(&key.0)?;
    let mut roots = root.map(|root| parts(root.secret())).transpose()?;
    let share = |(number, key)| {
        let root = roots.as_mut().and_then(Iterator::next);
        BackupShare { of: of.clone(), number, key, root }
    };
    Ok((1..=count).zip(keys).map(share).collect())
}

/// The backup's key, and the root key where the shares have that too.
///
/// # Errors
/// `malformed` when they are fewer than the threshold or not of one backup; `key-store-unavailable` when they give another key than they say.
pub fn combine<'a>(
    shares: impl IntoIterator<Item = &'a BackupShare>,
) -> Result<(BackupKey, Option<RootKey>), Error> {
    let refused = |detail| {
        Error::new(ErrorKind::Malformed, Stage::Start, detail)
            .remedy("give as many shares as the threshold says, all of one backup")
    };
    let shares: Vec<_> = shares.into_iter().collect();
    let Some(first) = shares.first() else { return Err(refused("there is no share")) };
    let same = |share: &&BackupShare| {
        share.of == first.of
            && share.key.name == first.key.name
            && share.root.as_ref().map(|root| root.name) == first.root.as_ref().map(|root| root.name)
    };
    if !shares.iter().all(same) {
        return Err(refused("the shares are not of one backup"));
    }
    if shares.len() < usize::from(first.of.threshold) {
        return Err(refused("there are fewer shares than the threshold"));
    }
    let whole = |part: &dyn Fn(&'a BackupShare) -> Option<&'a Part>| {
        let numbered: Vec<_> =
            shares.iter().filter_map(|share| Some((share.number, &part(share)?.share))).collect();
        let secret = shamir::combine(&numbered)?;
        let name = shares.first().and_then(|share| part(share)).map(|part| part.name);
        if Some(SealerId::of(secret.expose())?) != name {
            let detail = "the shares give another key than they say";
            return Err(Error::new(ErrorKind::KeyStoreUnavailable, Stage::Start, detail)
                .remedy("one of them was damaged before it was encrypted: use shares of other custodians"));
        }
        Ok(secret)
    };
    let key = BackupKey(whole(&|share| Some(&share.key))?);
    let root = match &first.root {
        Some(_) => Some(RootKey::new(whole(&|share| share.root.as_ref())?)?),
        None => None,
    };
    Ok((key, root))
}

impl BackupShare {
    /// What it has in common with the others.
    pub fn of(&self) -> &BackupSharing {
        &self.of
    }

    /// Its number, from 1.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// Whether it has a share of the root key too.
    pub fn has_root(&self) -> bool {
        self.root.is_some()
    }

    /// What it is recognised by: SHA-256 of its text.
    pub fn commitment(&self) -> [u8; 32] {
        let mut commitment = [0; 32];
        let hash = digest::digest(&digest::SHA256, self.to_text().expose());
        commitment.iter_mut().zip(hash.as_ref()).for_each(|(out, byte)| *out = *byte);
        commitment
    }

    /// Whether it is the one that is recognised by this.
    pub fn is(&self, commitment: &[u8; 32]) -> bool {
        self.commitment().ct_eq(commitment).into()
    }

    /// The text that is encrypted to its custodian.
    pub fn to_text(&self) -> Secret {
        let mut text = Secret::new(Vec::with_capacity(MAX_TEXT));
        self.line(KEY, &self.key, text.expose_mut());
        if let Some(root) = &self.root {
            self.line(ROOT, root, text.expose_mut());
        }
        text
    }

    fn line(&self, prefix: &str, part: &Part, out: &mut Vec<u8>) {
        let BackupSharing { instance, backup, threshold } = &self.of;
        let begin = out.len();
        let public = format!("{prefix}:{instance}:{backup}:{}:{threshold}:{}:", self.number, part.name);
        out.extend_from_slice(public.as_bytes());
        part.share.expose().iter().for_each(|byte| push_hex(out, *byte));
        let check = check(out.get(begin..).unwrap_or_default());
        out.push(b':');
        check.iter().for_each(|byte| push_hex(out, *byte));
        out.push(b'\n');
    }

    /// Reads such a text.
    ///
    /// # Errors
    /// `malformed`, for anything else; no error holds a part of it.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        decode(text).ok_or_else(|| damaged("this is no share of a backup, or it is damaged"))
    }
}

fn damaged(detail: &'static str) -> Error {
    Error::new(ErrorKind::Malformed, Stage::Start, detail)
        .remedy("give the backup as it was written, or the share that lies in it")
}

fn decode(text: &[u8]) -> Option<BackupShare> {
    if text.len() > MAX_TEXT {
        return None;
    }
    let mut lines = text.strip_suffix(b"\n").unwrap_or(text).split(|byte| *byte == b'\n');
    let (of, number, key) = decode_line(KEY, lines.next()?)?;
    let root = match lines.next() {
        None => None,
        Some(line) => {
            let (same, number_of_root, root) = decode_line(ROOT, line)?;
            ((&same, number_of_root) == (&of, number)).then_some(())?;
            Some(root)
        }
    };
    lines.next().is_none().then_some(BackupShare { of, number, key, root })
}

fn decode_line(prefix: &str, line: &[u8]) -> Option<(BackupSharing, u8, Part)> {
    let (body, typed) = line.split_at_checked(line.len().checked_sub(CHECK + 1)?)?;
    let mut wanted = [0; CHECK / 2];
    unhex(typed.strip_prefix(b":")?, &mut wanted)?;
    (check(body) == wanted).then_some(())?;
    let (public, digits) = body.split_at_checked(body.len().checked_sub(2 * ROOT_KEY_LEN)?)?;
    let mut fields = core::str::from_utf8(public).ok()?.split(':');
    (fields.next()? == prefix).then_some(())?;
    let instance: InstanceId = fields.next()?.parse().ok()?;
    let backup = fields.next()?.parse().ok()?;
    let (number, threshold): (u8, u8) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let name = SealerId::parse(fields.next()?)?;
    let ends = fields.next() == Some("") && fields.next().is_none();
    let of = BackupSharing { instance, backup, threshold };
    // One text for one share: whatever is read otherwise than it would be written is none.
    let again = format!("{prefix}:{instance}:{backup}:{number}:{threshold}:{name}:");
    if !ends || again.as_bytes() != public || number == 0 || threshold < MIN_THRESHOLD {
        return None;
    }
    let share = Secret::fill_with(ROOT_KEY_LEN, |out| unhex(digits, out).ok_or(())).ok()?;
    Some((of, number, Part { name, share }))
}

fn check(body: &[u8]) -> [u8; CHECK / 2] {
    let mut check = [0; CHECK / 2];
    let hash = digest::digest(&digest::SHA256, body);
    check.iter_mut().zip(hash.as_ref()).for_each(|(out, byte)| *out = *byte);
    check
}

impl fmt::Debug for BackupShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BackupShare({} of backup {})", self.number, self.of.backup)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::software::fixture::Entropy;

    fn sharing(backup: u8) -> BackupSharing {
        let instance = "01JDCZRGZKA9Q6W8T2V4X6Y8Z0".parse().unwrap();
        BackupSharing { instance, backup: BackupId([backup; 16]), threshold: 2 }
    }

    fn shared(backup: u8) -> Vec<BackupShare> {
        let (key, root) = (BackupKey(Secret::new(vec![3; 32])), RootKey::new(Secret::new(vec![7; 32])));
        split(&key, Some(&root.unwrap()), &sharing(backup), 3, &Entropy).unwrap()
    }

    /// A share whose bytes are known.
    fn fixed() -> BackupShare {
        let part = |secret: u8, share: core::ops::Range<u8>| Part {
            name: SealerId::of(&[secret; 32]).unwrap(),
            share: Secret::new(share.collect()),
        };
        BackupShare { of: sharing(0x5a), number: 2, key: part(3, 0..32), root: Some(part(7, 32..64)) }
    }

    #[test]
    fn a_share_is_this_text_for_ever() {
        let text = include_str!("../../../../fixtures/backup/share-1.txt");
        assert_eq!(core::str::from_utf8(fixed().to_text().expose()).unwrap(), text);
        let read = BackupShare::parse(text.as_bytes()).unwrap();
        assert_eq!((read.number(), read.of(), read.has_root()), (2, fixed().of(), true));
        assert_eq!(read.to_text(), fixed().to_text());
    }

    #[test]
    fn a_threshold_of_shares_gives_both_keys_and_fewer_or_mixed_ones_none() {
        let shares = shared(1);
        let (key, root) = combine(&shares[1..]).unwrap();
        assert_eq!((key.expose(), root.unwrap().expose()), (&[3; 32][..], &[7; 32][..]));
        assert_eq!(combine(&shares[..1]).unwrap_err().detail(), "there are fewer shares than the threshold");
        assert!(combine([]).is_err() && combine([&shares[0], &shares[0]]).is_err());
        let others = shared(2);
        let mixed = combine([&shares[0], &others[1]]).unwrap_err();
        assert_eq!(mixed.detail(), "the shares are not of one backup");
        for part in 0..2 {
            let mut bad = shared(1);
            let share = match part {
                0 => &mut bad[0].key.share,
                _ => &mut bad[0].root.as_mut().unwrap().share,
            };
            share.expose_mut()[0] ^= 1;
            assert_eq!(combine(&bad).unwrap_err().detail(), "the shares give another key than they say");
        }
        let without = split(&BackupKey(Secret::new(vec![3; 32])), None, &sharing(1), 2, &Entropy).unwrap();
        assert!(combine(&without).unwrap().1.is_none());
    }

    #[test]
    fn every_damaged_byte_is_noticed_and_nothing_is_printed() {
        let good = fixed().to_text().expose().to_vec();
        for index in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[index] ^= 1 << bit;
                if let Ok(share) = BackupShare::parse(&bad) {
                    // Hexadecimal digits are read in any case.
                    assert!(bad.eq_ignore_ascii_case(&good), "byte {index}");
                    assert!(share.is(&fixed().commitment()));
                }
            }
        }
        // One line alone is a share without the root key's; half a line is none.
        let first = good.iter().position(|byte| *byte == b'\n').unwrap();
        assert!(!BackupShare::parse(&good[..first]).unwrap().has_root());
        for cut in [0, 1, first - 1, first + 2, good.len() - 2] {
            assert!(BackupShare::parse(&good[..cut]).is_err(), "cut to {cut}");
        }
        let printed = format!("{:?} {:?}", fixed(), BackupKey(Secret::new(vec![3; 32])));
        assert!(!printed.contains("00010203") && !printed.contains("0303"), "{printed}");
    }
}
