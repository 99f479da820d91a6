//! Signed notes (C2SP signed-note v1.0.0): a text, an empty line, signature lines.

use crate::cosignature;
use crate::key::{KeyKind, Signer, VerifierKey, is_key_name};
use crate::text;

/// Largest note that is read, in bytes.
pub const MAX_NOTE: usize = 256 * 1024;
/// Most signature lines that are read; the standard asks for at least 16.
pub const MAX_SIGNATURES: usize = 64;

/// Why a note was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The bytes are not a signed note.
    #[error("not a signed note: {0}; fetch the file again from its source")]
    Malformed(&'static str),
    /// A known key's signature does not fit the text.
    #[error("the signature by `{0}` does not fit the text; the note was changed or is another log's")]
    BadSignature(String),
    /// No known key signed.
    #[error("no signature by a known key; give the verifier key of the log that signed this note")]
    Unsigned,
}

/// A signature line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    /// The name of the key that signed.
    pub name: String,
    /// The key's id: the first four bytes of a hash over name, type and key.
    pub key_id: [u8; 4],
    /// The signature without the id; its shape depends on the key's type.
    pub signature: Vec<u8>,
}

/// A note with its signatures, none of them checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

/// A checked signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The key's name.
    pub name: String,
    /// The time a cosignature states, POSIX seconds; none for a log's own signature.
    pub time: Option<u64>,
}

impl Note {
    /// Signs a text, which MUST end in a newline.
    ///
    /// # Errors
    /// [`NoteError::Malformed`] if the text can't be a note's.
    pub fn sign(text: &str, signer: &Signer) -> Result<Self, NoteError> {
        check_text(text)?;
        let key = signer.verifier();
        let line = NoteSignature {
            name: key.name().to_owned(),
            key_id: key.id(),
            signature: signer.sign(text.as_bytes()),
        };
        Ok(Self { text: text.to_owned(), signatures: vec![line] })
    }

    /// Reads a note strictly: UTF-8, no control characters but newline, split at the last empty line.
    ///
    /// # Errors
    /// [`NoteError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > MAX_NOTE {
            return Err(NoteError::Malformed("it is larger than 256 KiB"));
        }
        let note = std::str::from_utf8(bytes).map_err(|_| NoteError::Malformed("it is not UTF-8"))?;
        let blank = note.rfind("\n\n").ok_or(NoteError::Malformed("no empty line before the signatures"))?;
        let (text, rest) = note.split_at(blank + 1);
        check_text(text)?;
        let rest = rest.strip_prefix('\n').unwrap_or(rest);
        let lines = text::lines(rest).ok_or(NoteError::Malformed("the last line does not end"))?;
        let signatures = lines.map(signature_line).collect::<Result<Vec<_>, _>>()?;
        if signatures.len() > MAX_SIGNATURES {
            return Err(NoteError::Malformed("more than 64 signatures"));
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// The text with its last newline: what signatures cover.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signature lines, in order.
    #[must_use]
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Adds a signature line, such as a witness's.
    pub fn add(&mut self, line: NoteSignature) {
        self.signatures.push(line);
    }

    /// Keeps the first line of each of these keys and no other.
    pub fn keep_only(&mut self, keys: &[&VerifierKey]) {
        let mut kept: Vec<NoteSignature> = Vec::new();
        for line in self.signatures.drain(..) {
            let is = |name: &str, id: [u8; 4]| line.name == name && line.key_id == id;
            let known = keys.iter().any(|key| is(key.name(), key.id()));
            if known && !kept.iter().any(|kept| is(&kept.name, kept.key_id)) {
                kept.push(line);
            }
        }
        self.signatures = kept;
    }

    /// Checks the lines of the known keys and names those that signed; unknown keys' lines are passed over.
    ///
    /// # Errors
    /// [`NoteError::BadSignature`] if a known key's line does not fit, [`NoteError::Unsigned`] if there is none.
    pub fn verify(&self, keys: &[&VerifierKey]) -> Result<Vec<Signed>, NoteError> {
        let mut signed: Vec<Signed> = Vec::new();
        for line in &self.signatures {
            let known = keys.iter().find(|key| key.name() == line.name && key.id() == line.key_id);
            let Some(key) = known else { continue };
            let bad = || NoteError::BadSignature(line.name.clone());
            let time = match key.kind() {
                KeyKind::Note if key.signed(self.text.as_bytes(), &line.signature) => None,
                KeyKind::Note => return Err(bad()),
                KeyKind::Cosignature => {
                    Some(cosignature::check(&self.text, key, &line.signature).ok_or_else(bad)?)
                }
            };
            signed.push(Signed { name: line.name.clone(), time });
        }
        if signed.is_empty() { Err(NoteError::Unsigned) } else { Ok(signed) }
    }
}

impl std::fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, key_id, signature } = self;
        write!(f, "\u{2014} {name} {}", text::base64(&[key_id.as_slice(), signature].concat()))
    }
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// Texts end in a newline and hold no control character but that.
fn check_text(text: &str) -> Result<(), NoteError> {
    if !text.ends_with('\n') {
        return Err(NoteError::Malformed("the text does not end in a newline"));
    }
    if text.bytes().any(|byte| byte < 0x20 && byte != b'\n') {
        return Err(NoteError::Malformed("the text holds a control character"));
    }
    Ok(())
}

fn signature_line(line: &str) -> Result<NoteSignature, NoteError> {
    let malformed = NoteError::Malformed("a line after the empty one is not a signature");
    let parts = line.strip_prefix("\u{2014} ").and_then(|line| line.split_once(' '));
    let Some((name, value)) = parts.filter(|(name, _)| is_key_name(name)) else { return Err(malformed) };
    let value = text::from_base64(value).ok_or(malformed.clone())?;
    match value.split_first_chunk::<4>() {
        Some((key_id, signature)) if !signature.is_empty() => {
            Ok(NoteSignature { name: name.to_owned(), key_id: *key_id, signature: signature.to_vec() })
        }
        Some(_) | None => Err(malformed),
    }
}
