//! As much of the protocol buffers' encoding as a few small messages need. Reading borrows, so that no plaintext is copied.
//!
//! Source: the encoding guide of protobuf.dev. Groups, which proto3 has not, are refused.

/// Bytes that are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// A field's value as it stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A number: of a field that is not known here, as none of ours is one.
    Number,
    /// Bytes, a string or a message.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    pub(super) fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Number => Err(Malformed),
        }
    }

    pub(super) fn text(self) -> Result<&'a str, Malformed> {
        str::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }
}

/// The fields of a message in their order; ends after the first that cannot be read.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn field(&mut self) -> Result<(u64, Value<'a>), Malformed> {
        let tag = self.varint()?;
        let number = tag >> 3;
        // Field numbers have 29 bits.
        if number == 0 || number >= 1 << 29 {
            return Err(Malformed);
        }
        let value = match tag & 7 {
            0 => self.varint().map(|_| Value::Number)?,
            1 => self.take(8).map(|_| Value::Number)?,
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Number)?,
            _ => return Err(Malformed),
        };
        Ok((number, value))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first().ok_or(Malformed)?;
            self.rest = rest;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if shift == 63 && bits > 1 {
                return Err(Malformed);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// The length of a field of bytes, its tag included.
pub(super) fn length(value: &[u8]) -> usize {
    // A tag of one byte, and a length of ten at most.
    value.len().saturating_add(11)
}

/// Writes a field of bytes or text with a number below 16. What is empty is left out, as proto3 has it.
pub(super) fn put(into: &mut Vec<u8>, number: u8, value: &[u8]) {
    if value.is_empty() {
        return;
    }
    open(into, number, value.len());
    into.extend_from_slice(value);
}

/// Writes what stands before a field of so many bytes.
pub(super) fn open(into: &mut Vec<u8>, number: u8, length: usize) {
    into.push(number << 3 | 2);
    varint(into, length as u64);
}

/// The length of what [`put`] writes.
pub(super) fn put_length(value: &[u8]) -> usize {
    let mut head = vec![];
    open(&mut head, 1, value.len());
    if value.is_empty() { 0 } else { head.len().saturating_add(value.len()) }
}

/// Writes a number that is not negative, with a field's number below 16. Zero is left out.
pub(super) fn put_number(into: &mut Vec<u8>, number: u8, value: u64) {
    if value > 0 {
        into.push(number << 3);
        varint(into, value);
    }
}

fn varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Vec<(u64, Value<'_>)>, Malformed> {
        Fields::of(bytes).collect()
    }

    #[test]
    fn fields_of_every_kind_are_passed_and_groups_are_refused() {
        let bytes = [0x08, 0x96, 0x01, 0x11, 1, 2, 3, 4, 5, 6, 7, 8, 0x1a, 1, b'x', 0x25, 1, 2, 3, 4];
        let expected = [(1, Value::Number), (2, Value::Number), (3, Value::Bytes(b"x")), (4, Value::Number)];
        assert_eq!(read(&bytes).unwrap(), expected);
        for wrong in [
            &[0x0b][..],                                                               // a group begins
            &[0x0c],                                                                   // and ends
            &[0x0e],          // a kind that there is not
            &[0x02, 0],       // field 0
            &[0x0a],          // no length
            &[0x0a, 2, b'x'], // cut off
            &[0x08],          // no value
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], // longer than memory
            &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], // more than 64 bits
            &[0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01], // eleven bytes
        ] {
            assert_eq!(read(wrong), Err(Malformed), "{wrong:x?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(values in proptest::collection::vec(
            (1_u8..16, proptest::collection::vec(any::<u8>(), 1..400)), 0..8)
        ) {
            let mut bytes = vec![];
            for (number, value) in &values {
                put(&mut bytes, *number, value);
            }
            let expected: Vec<_> =
                values.iter().map(|(number, value)| (u64::from(*number), Value::Bytes(value))).collect();
            prop_assert_eq!(read(&bytes).unwrap(), expected);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _read = read(&bytes);
        }
    }
}
