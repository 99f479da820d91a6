//! Just enough JSON to write an event: no value tree, no allocation beyond the buffer.

use core::fmt::{self, Write};

/// An object that is being written.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Object<'a> {
    pub(super) fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    pub(super) fn end(self) {
        self.out.push(b'}');
    }

    fn name(&mut self, name: &str) {
        self.separate();
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn separate(&mut self) {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
    }

    /// A value of printable ASCII without quotes or backslashes: an identifier, a code, a time.
    pub(super) fn ascii(&mut self, name: &str, value: &[u8]) {
        self.name(name);
        self.out.push(b'"');
        self.out.extend_from_slice(value);
        self.out.push(b'"');
    }

    pub(super) fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        decimal(self.out, value);
    }

    pub(super) fn hex(&mut self, name: &str, value: &[u8]) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.name(name);
        self.out.push(b'"');
        let digit = |nibble: u8| DIGITS.get(usize::from(nibble & 15)).copied().unwrap_or(b'0');
        for byte in value {
            self.out.extend_from_slice(&[digit(byte >> 4), digit(*byte)]);
        }
        self.out.push(b'"');
    }

    /// A value of any text, cut to at most `max` bytes.
    pub(super) fn text(&mut self, name: &str, value: &str, max: usize) {
        self.name(name);
        let cut = value.floor_char_boundary(max.min(value.len()));
        self.quoted(value.get(..cut).unwrap_or_default());
    }

    /// A pair of which even the name is any text.
    pub(super) fn free(&mut self, name: &str, value: &str) {
        self.separate();
        self.quoted(name);
        self.out.push(b':');
        self.quoted(value);
    }

    /// As many of these pairs as fit into `most` bytes; how many more there were stands beside them.
    pub(super) fn free_within<'p>(&mut self, pairs: impl Iterator<Item = (&'p str, &'p str)>, most: usize) {
        let (mut left, mut more) = (most, 0);
        for (name, value) in pairs {
            // Quotes, colon and comma.
            let taken = 6_usize.saturating_add(escaped_len(name)).saturating_add(escaped_len(value));
            match left.checked_sub(taken) {
                Some(rest) => {
                    left = rest;
                    self.free(name, value);
                }
                None => more += 1,
            }
        }
        if more > 0 {
            self.number("more", more);
        }
    }

    /// A value that prints printable ASCII without quotes or backslashes.
    pub(super) fn display(&mut self, name: &str, value: &impl fmt::Display) {
        self.name(name);
        self.out.push(b'"');
        // Writing into a vector cannot fail.
        let _ = write!(Bytes(self.out), "{value}");
        self.out.push(b'"');
    }

    pub(super) fn names<'n>(&mut self, name: &str, values: impl Iterator<Item = &'n str>) {
        self.name(name);
        self.out.push(b'[');
        for (index, value) in values.enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            self.quoted(value);
        }
        self.out.push(b']');
    }

    pub(super) fn object(&mut self, name: &str, fill: impl FnOnce(&mut Object<'_>)) {
        self.name(name);
        let mut inner = Object::begin(self.out);
        fill(&mut inner);
        inner.end();
    }

    fn quoted(&mut self, value: &str) {
        self.out.push(b'"');
        let mut rest = value.as_bytes();
        while let Some(at) = rest.iter().position(|b| matches!(b, b'"' | b'\\') || *b < 0x20) {
            let (clean, tail) = rest.split_at(at);
            self.out.extend_from_slice(clean);
            if let Some((byte, after)) = tail.split_first() {
                match byte {
                    b'"' | b'\\' => self.out.extend_from_slice(&[b'\\', *byte]),
                    control => {
                        let _ = write!(Bytes(self.out), "\\u{control:04x}");
                    }
                }
                rest = after;
            }
        }
        self.out.extend_from_slice(rest);
        self.out.push(b'"');
    }
}

/// How long a text is once it stands between quotes.
fn escaped_len(text: &str) -> usize {
    text.bytes()
        .map(|byte| match byte {
            b'"' | b'\\' => 2,
            control if control < 0x20 => 6,
            _ => 1,
        })
        .sum()
}

fn decimal(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [b'0'; 20];
    let mut used = 0;
    for slot in digits.iter_mut().rev() {
        *slot = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
        used += 1;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - used..).unwrap_or_default());
}

struct Bytes<'a>(&'a mut Vec<u8>);

impl fmt::Write for Bytes<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_decimal() {
        for value in [0, 7, 10, 4096, u64::MAX] {
            let mut out = Vec::new();
            decimal(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }

    proptest! {
        #[test]
        fn any_text_is_one_json_string(text: String) {
            let mut out = Vec::new();
            let mut object = Object::begin(&mut out);
            object.free(&text, &text);
            object.end();
            let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(&value[&text], &serde_json::Value::String(text));
        }
    }
}
