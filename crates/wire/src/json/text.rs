//! Strings: taken as they stand where possible, unescaped into memory that is wiped where not.

use std::ops::Deref;
use zeroize::Zeroizing;

/// A string of the document: as it stands there, or unescaped into a buffer that is wiped.
pub(crate) enum Text<'a> {
    Borrowed(&'a str),
    Owned(Zeroizing<String>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Owned(text) => text,
        }
    }
}

/// How many bytes of a string stand for themselves. Whole blocks first: a loop that the compiler turns into vector instructions.
pub(super) fn plain_run(bytes: &[u8]) -> usize {
    let special = |b: u8| b == b'"' || b == b'\\' || b < 0x20;
    let plain = |block: &&[u8]| !block.iter().fold(false, |found, b| found | special(*b));
    let run = bytes.chunks_exact(32).take_while(plain).count() * 32;
    run + bytes.get(run..).unwrap_or_default().iter().take_while(|b| !special(**b)).count()
}

/// Unescapes a string up to its closing quote; also how long it was. Its buffer never grows, so nothing is left behind.
pub(super) fn unescape(rest: &str) -> Option<(Zeroizing<String>, usize)> {
    let mut end = 0;
    loop {
        end += plain_run(rest.as_bytes().get(end..)?);
        match rest.as_bytes().get(end)? {
            b'"' => break,
            b'\\' => end += 2,
            _ => return None,
        }
    }
    let mut raw = rest.get(..end)?;
    let mut text = Zeroizing::new(String::with_capacity(end));
    while let Some((plain, escaped)) = raw.split_once('\\') {
        text.push_str(plain);
        let (character, after) = escape(escaped)?;
        text.push(character);
        raw = after;
    }
    text.push_str(raw);
    Some((text, end))
}

/// One escape without its backslash (RFC 8259 §7), and what follows it.
fn escape(text: &str) -> Option<(char, &str)> {
    let (letter, rest) = text.split_at_checked(1)?;
    let character = match letter {
        "\"" => '"',
        "\\" => '\\',
        "/" => '/',
        "b" => '\u{8}',
        "f" => '\u{c}',
        "n" => '\n',
        "r" => '\r',
        "t" => '\t',
        "u" => {
            let (first, rest) = unit(rest)?;
            if !(0xd800..0xdc00).contains(&first) {
                return Some((char::from_u32(first)?, rest));
            }
            let (second, rest) = unit(rest.strip_prefix("\\u")?)?;
            let low = second.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
            return Some((char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + low)?, rest));
        }
        _ => return None,
    };
    Some((character, rest))
}

/// Four hexadecimal digits.
fn unit(text: &str) -> Option<(u32, &str)> {
    let (digits, rest) = text.split_at_checked(4)?;
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    Some((u32::from_str_radix(digits, 16).ok()?, rest))
}
