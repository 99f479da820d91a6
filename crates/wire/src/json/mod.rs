//! A strict JSON reader (RFC 8259) for requests: it pulls what is expected and refuses everything else.
//!
//! Why not a general deserialiser: its messages quote the value that they refuse, it takes the last of two equal names in silence, and
//! it leaves unescaped text behind in memory. This one names the field, refuses repetition, and wipes whatever it had to copy.

mod fault;
mod nullable;
mod text;

pub(crate) use fault::Fault;
pub(crate) use nullable::{Optional, OptionalSecret};
pub(crate) use text::Text;
use text::{plain_run, unescape};

/// How deep objects and arrays may stand in each other. Our own messages need five.
const MAX_DEPTH: usize = 16;

/// A place in a document.
pub(crate) struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

/// Something that a request can hold.
pub(crate) trait Read: Sized {
    /// Reads one value.
    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault>;
}

impl<'a> Reader<'a> {
    /// At the start of a document.
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, Fault> {
        let text = core::str::from_utf8(bytes).map_err(|_| Fault::malformed("the body is not UTF-8"))?;
        Ok(Self { text, at: 0, depth: 0 })
    }

    /// Reads a whole document that is one value.
    pub(crate) fn whole<T: Read>(bytes: &'a [u8]) -> Result<T, Fault> {
        let mut reader = Self::new(bytes)?;
        let value = T::read(&mut reader)?;
        reader.finish()?;
        Ok(value)
    }

    /// At the end: nothing but white space may follow.
    pub(crate) fn finish(mut self) -> Result<(), Fault> {
        match self.peek() {
            None => Ok(()),
            Some(_) => {
                Err(Fault::malformed(format!("bytes after the end of the JSON value, at {}", self.at)))
            }
        }
    }

    /// Reads an object, handing each name to `each`, which reads its value.
    pub(crate) fn object(
        &mut self,
        mut each: impl FnMut(&mut Self, &str) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.sequence(b'{', b'}', "an object", |reader| {
            if reader.peek() != Some(b'"') {
                return Err(reader.not_json());
            }
            let name = reader.text()?;
            if reader.peek() != Some(b':') {
                return Err(reader.not_json());
            }
            reader.at += 1;
            each(reader, &name)
        })
    }

    /// Reads an array, calling `each` before every element, with its index.
    pub(crate) fn array(
        &mut self,
        mut each: impl FnMut(&mut Self, usize) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut index = 0;
        self.sequence(b'[', b']', "an array", |reader| {
            each(reader, index).map_err(|fault| fault.within(&format!("[{index}]")))?;
            index += 1;
            Ok(())
        })
    }

    /// Reads a field of an object into its slot, once.
    pub(crate) fn field<T: Read>(&mut self, name: &'static str, slot: &mut Option<T>) -> Result<(), Fault> {
        if slot.is_some() {
            return Err(Fault::malformed("stands there twice").within(name));
        }
        *slot = Some(T::read(self).map_err(|fault| fault.within(name))?);
        Ok(())
    }

    /// Reads a string.
    pub(crate) fn text(&mut self) -> Result<Text<'a>, Fault> {
        if self.peek() != Some(b'"') {
            return Err(self.expected("text"));
        }
        let rest = self.text.get(self.at + 1..).unwrap_or_default();
        let run = plain_run(rest.as_bytes());
        match rest.as_bytes().get(run) {
            Some(b'"') => {
                self.at += run + 2;
                Ok(Text::Borrowed(rest.get(..run).unwrap_or_default()))
            }
            Some(b'\\') => {
                let (text, used) = unescape(rest).ok_or_else(|| Fault::malformed("bad escape in text"))?;
                self.at += used + 2;
                Ok(Text::Owned(text))
            }
            Some(_) => Err(Fault::malformed("control character in text that must be escaped")),
            None => Err(Fault::malformed("text without an end")),
        }
    }

    /// Reads a whole number from 0 to 2^64 − 1, without sign, fraction or exponent.
    pub(crate) fn integer(&mut self) -> Result<u64, Fault> {
        const WHOLE: &str = "a whole number";
        self.peek();
        let number = self.number().filter(|text| !text.is_empty()).ok_or_else(|| self.expected(WHOLE))?;
        if !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Fault::malformed("expected a whole number without sign, fraction or exponent"));
        }
        number.parse().map_err(|_| Fault::malformed("expected a whole number below 2^64"))
    }

    /// Reads `true` or `false`.
    pub(crate) fn boolean(&mut self) -> Result<bool, Fault> {
        self.peek();
        if self.word("true") {
            Ok(true)
        } else if self.word("false") {
            Ok(false)
        } else {
            Err(self.expected("`true` or `false`"))
        }
    }

    /// Passes over `null`, if that stands here.
    pub(crate) fn null(&mut self) -> bool {
        self.peek();
        self.word("null")
    }

    /// Passes over any value, checking that it is JSON, and returns how it stands there.
    pub(crate) fn skip(&mut self) -> Result<&'a str, Fault> {
        let first = self.peek();
        let start = self.at;
        match first {
            Some(b'{') => self.object(|reader, _| reader.skip().map(drop))?,
            Some(b'[') => self.array(|reader, _| reader.skip().map(drop))?,
            Some(b'"') => drop(self.text()?),
            Some(_) if self.word("true") || self.word("false") || self.word("null") => {}
            Some(_) if self.number().is_some() => {}
            Some(_) | None => return Err(self.not_json()),
        }
        Ok(self.text.get(start..self.at).unwrap_or_default())
    }

    /// A reader of a part that [`Self::skip`] has returned.
    pub(crate) fn of(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    fn sequence(
        &mut self,
        open: u8,
        close: u8,
        what: &'static str,
        mut element: impl FnMut(&mut Self) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if self.peek() != Some(open) {
            return Err(self.expected(what));
        }
        if self.depth == MAX_DEPTH {
            return Err(Fault::malformed("objects and arrays stand too deep in each other"));
        }
        self.at += 1;
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(());
        }
        self.depth += 1;
        loop {
            element(self)?;
            let after = self.peek();
            if after != Some(b',') && after != Some(close) {
                return Err(self.not_json());
            }
            self.at += 1;
            if after == Some(close) {
                self.depth -= 1;
                return Ok(());
            }
        }
    }

    /// Passes over white space; the next byte, which stays.
    fn peek(&mut self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.at..)?;
        let blank = rest.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')).count();
        self.at += blank;
        rest.get(blank).copied()
    }

    fn word(&mut self, word: &str) -> bool {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let ends = |rest: &str| !rest.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        let found = rest.strip_prefix(word).is_some_and(ends);
        if found {
            self.at += word.len();
        }
        found
    }

    /// Passes over a number (RFC 8259 §6), if one stands here.
    fn number(&mut self) -> Option<&'a str> {
        let rest = self.text.get(self.at..)?;
        let bytes = rest.as_bytes();
        let digits = |from: usize| {
            bytes.get(from..).unwrap_or_default().iter().take_while(|b| b.is_ascii_digit()).count()
        };
        let mut end = usize::from(bytes.first() == Some(&b'-'));
        let whole = digits(end);
        let leading_zero = whole > 1 && bytes.get(end) == Some(&b'0');
        if whole == 0 || leading_zero {
            return None;
        }
        end += whole;
        if bytes.get(end) == Some(&b'.') {
            let fraction = digits(end + 1);
            if fraction == 0 {
                return None;
            }
            end += 1 + fraction;
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            let exponent = digits(end + 1 + sign);
            if exponent == 0 {
                return None;
            }
            end += 1 + sign + exponent;
        }
        if bytes.get(end).is_some_and(|b| b.is_ascii_alphanumeric()) {
            return None;
        }
        self.at += end;
        rest.get(..end)
    }

    /// A value of another type, or no value at all.
    fn expected(&mut self, what: &str) -> Fault {
        match self.peek() {
            Some(b'{' | b'[' | b'"' | b't' | b'f' | b'n' | b'-' | b'0'..=b'9') => {
                Fault::malformed(format!("expected {what}"))
            }
            Some(_) | None => self.not_json(),
        }
    }

    fn not_json(&self) -> Fault {
        if self.at >= self.text.len() {
            Fault::malformed("the JSON value ends too early")
        } else {
            Fault::malformed(format!("not JSON at byte {}", self.at))
        }
    }
}

#[cfg(test)]
mod tests;
