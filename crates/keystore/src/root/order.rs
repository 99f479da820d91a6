//! The order of one custodian, answered for with what only they can open.
//!
//! The gateway has no share, only what each is recognised by. So it asks: 256 random bits, encrypted to the custodian's own recipient, in one
//! line of text. Nothing of what was encrypted ever goes back, only a MAC under it:
//!
//! ```text
//! holdfast-order-1:INSTANCE:GENERATION:NUMBER:RANDOM
//! answer = HMAC-SHA-256(random, "holdfast/seal-order/v1" 0 instance 0 generation:u32 number:u8 threshold:u8 root:8 commitment:32)
//! ```
//!
//! Whoever stands in between can have a custodian open nothing but such a line of their own share's generation: a share, or another file of
//! theirs, is none.

use super::file::{push_hex, unhex};
use super::share::{Commitment, Sharing, number};
use aws_lc_rs::hmac;
use core::fmt;
use holdfast_core::port::World;
use holdfast_core::{Error, ErrorKind, Secret, Stage};
use subtle::ConstantTimeEq as _;

const PREFIX: &str = "holdfast-order-1";
/// Random bytes.
const RANDOM: usize = 32;
/// No challenge's text is longer.
pub const MAX_TEXT: usize = 160;

/// What one custodian is asked, to be encrypted to them. Wiped on drop, never printed.
pub struct OrderChallenge {
    random: Secret,
}

/// The answer: 256 bits that nobody can tell without having opened the challenge.
pub type OrderAnswer = [u8; 32];

impl OrderChallenge {
    /// A new one.
    ///
    /// # Errors
    /// `internal`, when there is no entropy.
    pub fn new<W: World>(world: &W) -> Result<Self, Error> {
        Secret::fill_with(RANDOM, |bytes| world.fill(bytes)).map(|random| Self { random })
    }

    /// The line that is encrypted to the custodian of that share.
    pub fn to_text(&self, of: &Sharing, share: u8) -> Secret {
        let mut text = Secret::new(Vec::with_capacity(MAX_TEXT));
        let out = text.expose_mut();
        out.extend_from_slice(format!("{PREFIX}:{}:{}:{share}:", of.instance, of.generation).as_bytes());
        self.random.expose().iter().for_each(|byte| push_hex(out, *byte));
        out.push(b'\n');
        text
    }

    /// Reads such a line, which must be about this share.
    ///
    /// # Errors
    /// `malformed`, for anything else; no error holds a part of it.
    pub fn parse(text: &[u8], of: &Sharing, share: u8) -> Result<Self, Error> {
        decode(text, of, share).ok_or_else(|| {
            let detail = "what came from the gateway asks for no order about this share";
            Error::new(ErrorKind::Malformed, Stage::Start, detail).remedy(
                "nothing was answered. Use the share of the generation in force; if it is that, look who stands between you and the gateway",
            )
        })
    }

    /// The answer that orders the gateway to be sealed.
    pub fn answer(&self, of: &Sharing, share: u8, commitment: &Commitment) -> OrderAnswer {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.random.expose());
        let mut context = hmac::Context::with_key(&key);
        of.header(share, "holdfast/seal-order/v1", |part| context.update(part));
        context.update(commitment);
        let mut answer = [0; 32];
        answer.iter_mut().zip(context.sign().as_ref()).for_each(|(out, byte)| *out = *byte);
        answer
    }

    /// Whether somebody who has opened it gave this answer. In constant time.
    pub fn is_answered(&self, of: &Sharing, share: u8, commitment: &Commitment, answer: &[u8]) -> bool {
        self.answer(of, share, commitment).as_slice().ct_eq(answer).into()
    }
}

fn decode(text: &[u8], of: &Sharing, share: u8) -> Option<OrderChallenge> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let (public, digits) = text.split_at_checked(text.len().checked_sub(2 * RANDOM)?)?;
    let mut fields = core::str::from_utf8(public).ok()?.split(':');
    let is_ours = fields.next()? == PREFIX
        && fields.next()? == of.instance.to_string()
        && number(fields.next()?)? == of.generation
        && number(fields.next()?)? == u32::from(share)
        && fields.next()?.is_empty()
        && fields.next().is_none();
    let random = Secret::fill_with(RANDOM, |out| unhex(digits, out).ok_or(())).ok()?;
    is_ours.then_some(OrderChallenge { random })
}

impl fmt::Debug for OrderChallenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OrderChallenge(32 bytes)")
    }
}

#[cfg(test)]
mod tests {
    use super::super::share::make;
    use super::super::{RootKey, SealerId};
    use super::*;
    use crate::software::fixture::Entropy;

    fn sharing() -> Sharing {
        let instance = "01JDCZRGZKA9Q6W8T2V4X6Y8Z0".parse().unwrap();
        Sharing { instance, generation: 2, threshold: 3, root: SealerId([7; 8]) }
    }

    #[test]
    fn only_who_opened_it_can_answer_and_for_one_share_alone() {
        let (of, commitment) = (sharing(), [5; 32]);
        let asked = OrderChallenge::new(&Entropy).unwrap();
        let opened = OrderChallenge::parse(asked.to_text(&of, 4).expose(), &of, 4).unwrap();
        let answer = opened.answer(&of, 4, &commitment);
        assert!(asked.is_answered(&of, 4, &commitment, &answer));
        assert!(!asked.is_answered(&of, 3, &commitment, &answer));
        assert!(!asked.is_answered(&of, 4, &[6; 32], &answer));
        assert!(!asked.is_answered(&Sharing { generation: 3, ..of.clone() }, 4, &commitment, &answer));
        assert!(!asked.is_answered(&of, 4, &commitment, &answer[..31]));
        for index in 0..answer.len() {
            let mut flipped = answer;
            flipped[index] ^= 1;
            assert!(!asked.is_answered(&of, 4, &commitment, &flipped));
        }
        let another = OrderChallenge::new(&Entropy).unwrap();
        assert!(!another.is_answered(&of, 4, &commitment, &answer));
        assert_eq!(format!("{asked:?}"), "OrderChallenge(32 bytes)");
    }

    #[test]
    fn what_is_no_challenge_of_this_share_is_not_answered() {
        let of = sharing();
        let text = OrderChallenge::new(&Entropy).unwrap().to_text(&of, 4);
        let text = String::from_utf8(text.expose().to_vec()).unwrap();
        let read =
            |text: &str, of: &Sharing, share| OrderChallenge::parse(text.as_bytes(), of, share).is_ok();
        assert!(text.len() <= MAX_TEXT && read(&text, &of, 4));
        assert!(!read(&text, &of, 5));
        assert!(!read(&text, &Sharing { generation: 1, ..of.clone() }, 4));
        let elsewhere = "01JDCZRGZKA9Q6W8T2V4X6Y8Z1".parse().unwrap();
        assert!(!read(&text, &Sharing { instance: elsewhere, ..of.clone() }, 4));
        for length in 0..text.len() - 1 {
            assert!(!read(&text[..length], &of, 4), "{length}");
        }
        let wrong = [
            text.replace("order-1", "order-2"),
            text.replace(":4:", ":04:"),
            text.replace(":4:", ":4::"),
            text.replace(":4:", ":4:x:"),
            format!("{text}0"),
        ];
        for text in wrong {
            assert!(!read(&text, &of, 4), "{text}");
        }
        // A share, which the same identity opens.
        let root = RootKey::generate(&Entropy).unwrap();
        let of = Sharing { root: root.id().unwrap(), ..of };
        let share = make(&root, &of, 3, &Entropy).unwrap().remove(0);
        assert!(OrderChallenge::parse(share.to_text().expose(), &of, 1).is_err());
    }
}
