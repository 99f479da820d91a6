//! Short public texts that people read out, compare and type: the challenge and the proof of a share, the fingerprint of a fresh key.
//!
//! Crockford's base 32 in groups of four, small letters, with 20 bits of SHA-256 at the end, so that a typing error is told from a wrong one.
//! Read back in any case, with any hyphens and spaces, `o` as `0`, `i` and `l` as `1`.

use aws_lc_rs::digest::{Context, SHA256};
use core::fmt;
use core::str::FromStr;
use holdfast_core::port::World;
use holdfast_core::{Error, ErrorKind, Stage};

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Characters of the check.
const CHECK: usize = 4;

fn write(what: &str, bytes: &[u8]) -> String {
    let mut text = String::new();
    for (index, digit) in digits(bytes).chain(check(what, bytes)).enumerate() {
        if index > 0 && index % 4 == 0 {
            text.push('-');
        }
        text.push(ALPHABET.get(usize::from(digit)).map_or('?', |letter| char::from(*letter)));
    }
    text
}

fn read<const N: usize>(what: &str, text: &str) -> Option<[u8; N]> {
    let letters = text.bytes().filter(|b| !b.is_ascii_whitespace() && *b != b'-');
    let digits: Vec<u8> = letters.map(digit).collect::<Option<_>>()?;
    let (value, typed) = digits.split_at_checked(N * 8 / 5)?;
    let mut bytes = [0; N];
    for (out, eight) in bytes.chunks_mut(5).zip(value.chunks(8)) {
        let number = eight.iter().fold(0_u64, |number, digit| number << 5 | u64::from(*digit));
        out.copy_from_slice(number.to_be_bytes().get(3..)?);
    }
    typed.iter().copied().eq(check(what, &bytes)).then_some(bytes)
}

/// Five bits each; the length is a multiple of five bytes.
fn digits(bytes: &[u8]) -> impl Iterator<Item = u8> {
    bytes.chunks(5).flat_map(|five| {
        let number = five.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        (0..8).rev().map(move |place| u8::try_from(number >> (5 * place) & 31).unwrap_or(0))
    })
}

fn check(what: &str, bytes: &[u8]) -> impl Iterator<Item = u8> {
    let mut context = Context::new(&SHA256);
    for part in [b"holdfast/spoken/v1\0", what.as_bytes(), b"\0", bytes] {
        context.update(part);
    }
    let hash = context.finish();
    let five: Vec<u8> = hash.as_ref().iter().copied().take(5).collect();
    let digits: Vec<u8> = digits(&five).take(CHECK).collect();
    digits.into_iter()
}

fn digit(letter: u8) -> Option<u8> {
    let letter = match letter.to_ascii_lowercase() {
        b'o' => b'0',
        b'i' | b'l' => b'1',
        letter => letter,
    };
    let place = ALPHABET.iter().position(|known| *known == letter)?;
    u8::try_from(place).ok()
}

macro_rules! spoken {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name(pub(super) [u8; $bytes]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&write($what, &self.0))
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                read($what, text).map(Self).ok_or_else(|| {
                    let detail = concat!("this is no ", $what, ", or one letter of it is wrong");
                    Error::new(ErrorKind::Malformed, Stage::Start, detail)
                        .remedy(concat!("copy the whole ", $what, " as it was shown"))
                })
            }
        }
    };
}

spoken!(
    /// What a custodian is asked to answer with their share: 80 random bits.
    Challenge,
    10,
    "challenge"
);
spoken!(
    /// The answer: 120 bits that nobody can tell without the share.
    Proof,
    15,
    "proof"
);
spoken!(
    /// What a fresh key is recognised by: 120 bits of a hash.
    Fingerprint,
    15,
    "fingerprint"
);

impl Challenge {
    /// A new one.
    ///
    /// # Errors
    /// `internal`, when there is no entropy.
    pub fn new<W: World>(world: &W) -> Result<Self, Error> {
        let mut bytes = [0; 10];
        world.fill(&mut bytes)?;
        Ok(Self(bytes))
    }
}

impl Fingerprint {
    /// Of the age recipient `age1…` of a fresh key.
    pub fn of(recipient: &str) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(b"holdfast/fresh-key/v1\0");
        context.update(recipient.as_bytes());
        let mut bytes = [0; 15];
        bytes.iter_mut().zip(context.finish().as_ref()).for_each(|(out, byte)| *out = *byte);
        Self(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with Python: `hashlib.sha256`, and digits by division.
    #[test]
    fn the_text_is_base_32_with_a_check() {
        let challenge = Challenge([0, 1, 2, 3, 4, 0xfb, 0xfc, 0xfd, 0xfe, 0xff]);
        assert_eq!(challenge.to_string(), "000g-40r4-zfyf-vzqz-eaxn");
    }

    #[test]
    fn what_is_read_is_what_was_written_however_it_was_typed() {
        let proof = Proof([0x42; 15]);
        let text = proof.to_string();
        let sloppy = text.to_uppercase().replace('-', " ").replace('0', "O").replace('1', "l");
        for text in [text.clone(), text.replace('-', ""), sloppy] {
            assert_eq!(text.parse::<Proof>().unwrap(), proof, "{text}");
        }
    }

    #[test]
    fn a_typing_error_is_noticed() {
        let text = Proof([0x42; 15]).to_string();
        for place in 0..text.len() {
            if text.as_bytes()[place] != b'-' {
                let mut typed = text.clone();
                let other = if typed.as_bytes()[place] == b'z' { "y" } else { "z" };
                typed.replace_range(place..=place, other);
                assert!(typed.parse::<Proof>().is_err(), "{typed}");
            }
            assert!(text[..place].parse::<Proof>().is_err());
        }
        for wrong in ["", "-", "u", "é", &format!("{text}0"), &Fingerprint([0x42; 15]).to_string()] {
            assert!(wrong.parse::<Proof>().is_err(), "{wrong}");
        }
    }
}
