//! One line of an inventory: a JSON object with a ciphertext, of which nothing else is touched.

use super::tally::Failed;
use crate::exit::Exit;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast_core::context::Context;
use holdfast_sdk::field::ContextPairs;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

/// What a line says.
pub(super) struct Line {
    pub(super) ciphertext: Vec<u8>,
    /// Its own context, if it has one.
    pub(super) context: Option<ContextPairs>,
    /// Where the ciphertext's text stands in the line, quotes included.
    place: Range<usize>,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    ciphertext: Cow<'a, str>,
    #[serde(default, borrow)]
    context: Option<BTreeMap<Cow<'a, str>, Cow<'a, str>>>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    id: Option<serde_json::Value>,
}

impl Line {
    /// Reads a line without its end.
    pub(super) fn read(line: &[u8]) -> Result<Self, Box<Failed>> {
        let text = std::str::from_utf8(line).map_err(|_| malformed("no UTF-8"))?;
        let fields: Fields<'_> = serde_json::from_str(text)
            .map_err(|error| malformed(&format!("no object with a `ciphertext`: {error}")))?;
        let place = place(text).ok_or_else(|| malformed("`ciphertext` is not written plainly"))?;
        let ciphertext = STANDARD
            .decode(fields.ciphertext.as_bytes())
            .map_err(|_| malformed("`ciphertext` is not standard base64 with padding"))?;
        let context = fields.context.map(|pairs| {
            let pairs = pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
            Context::new(pairs).map(ContextPairs).map_err(|error| malformed(error.detail()))
        });
        let context = context.transpose()?.filter(|context| !context.0.is_empty());
        Ok(Self { ciphertext, context, place })
    }

    /// The same line with another ciphertext.
    pub(super) fn with(&self, line: &[u8], ciphertext: &[u8], into: &mut Vec<u8>) {
        into.extend_from_slice(line.get(..self.place.start).unwrap_or_default());
        into.push(b'"');
        into.extend_from_slice(STANDARD.encode(ciphertext).as_bytes());
        into.push(b'"');
        into.extend_from_slice(line.get(self.place.end..).unwrap_or_default());
    }
}

/// What a line calls itself, if it does.
pub(super) fn id(line: &[u8]) -> Option<serde_json::Value> {
    serde_json::from_slice::<Named>(line).ok()?.id
}

fn malformed(detail: &str) -> Box<Failed> {
    let help = "mend the line, or take it out of the inventory";
    Failed::new(Exit::Usage, "malformed", detail, help)
}

/// Where the value of the outermost `ciphertext` stands in what is known to be an object.
fn place(text: &str) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (0_usize, 0_usize);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                let end = end_of_string(bytes, at)?;
                let is_name = depth == 1 && text.get(at..end) == Some("\"ciphertext\"");
                let after = || end + bytes.get(end..).map_or(0, blanks);
                if is_name && bytes.get(after()) == Some(&b':') {
                    let colon = after();
                    let start = colon + 1 + bytes.get(colon + 1..).map_or(0, blanks);
                    return Some(start..end_of_string(bytes, start)?);
                }
                at = end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    None
}

fn blanks(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count()
}

/// Behind the closing quote of the string that begins here.
fn end_of_string(bytes: &[u8], start: usize) -> Option<usize> {
    let mut rest = bytes.iter().enumerate().skip(start);
    if rest.next()?.1 != &b'"' {
        return None;
    }
    while let Some((at, byte)) = rest.next() {
        match byte {
            b'\\' => drop(rest.next()),
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn replaced(line: &str) -> String {
        let read = Line::read(line.as_bytes()).unwrap_or_else(|failed| panic!("{line}: {}", failed.detail));
        let mut new = vec![];
        read.with(line.as_bytes(), b"new", &mut new);
        String::from_utf8(new).unwrap()
    }

    #[test]
    fn nothing_but_the_ciphertext_is_touched() {
        for (line, new) in [
            (r#"{"ciphertext":"b2xk"}"#, r#"{"ciphertext":"bmV3"}"#),
            (
                r#" { "b" : 1.50 , "ciphertext" : "b2xk" , "a":[ ] } "#,
                r#" { "b" : 1.50 , "ciphertext" : "bmV3" , "a":[ ] } "#,
            ),
            (
                r#"{"x":{"ciphertext":"no"},"y":["ciphertext"],"z":"ciphertext","ciphertext":"b2xk","é":"\"}"}"#,
                r#"{"x":{"ciphertext":"no"},"y":["ciphertext"],"z":"ciphertext","ciphertext":"bmV3","é":"\"}"}"#,
            ),
            (r#"{"ciphertext":"\/\/\/\/"}"#, r#"{"ciphertext":"bmV3"}"#),
        ] {
            assert_eq!(replaced(line), new);
        }
    }

    #[test]
    fn what_is_no_such_line_is_refused() {
        for line in [
            "",
            "{}",
            "null",
            "[]",
            r#""ciphertext""#,
            r#"{"ciphertext":1}"#,
            r#"{"ciphertext":"*"}"#,
            r#"{"ciphertext":"b2xk","ciphertext":"b2xk"}"#,
            r#"{"ciphertext":"b2xk","context":{"":"x"}}"#,
            r#"{"ciphertext":"b2xk","context":[]}"#,
            r#"{"ciphertext":"b2xk"} x"#,
            r#"{"cipher\u0074ext":"b2xk"}"#,
        ] {
            assert!(Line::read(line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn a_context_and_an_id_are_read() {
        let line = br#"{"id":[7,"x"],"context":{"b":"2","a":"\u00e9"},"ciphertext":"b2xk"}"#;
        let read = Line::read(line).unwrap();
        let context = read.context.unwrap().0;
        assert_eq!(context.pairs().collect::<Vec<_>>(), [("a", "é"), ("b", "2")]);
        assert_eq!(id(line), Some(serde_json::json!([7, "x"])));
        assert!(Line::read(br#"{"ciphertext":"b2xk","context":{}}"#).unwrap().context.is_none());
    }

    proptest! {
        #[test]
        fn any_other_fields_stay(name in "\\PC{0,9}", value in "\\PC{0,9}", before: bool) {
            prop_assume!(name != "ciphertext" && name != "context");
            let other = format!("{}:{}", serde_json::json!(name), serde_json::json!(value));
            let both = |ours: &str| if before { format!("{{{other},{ours}}}") } else { format!("{{{ours},{other}}}") };
            prop_assert_eq!(replaced(&both(r#""ciphertext":"b2xk""#)), both(r#""ciphertext":"bmV3""#));
        }

        #[test]
        fn any_bytes_are_a_line_or_refused(bytes: Vec<u8>) {
            let _ = Line::read(&bytes);
        }
    }
}
