//! Strict readers of the small text formats: standard base64 in its one canonical form, decimals without leading
//! zeros.

use crate::merkle::Hash;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Standard base64 with padding (RFC 4648 §4).
pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Reads standard base64; refuses missing padding, stray bits and anything else that would not be written back so.
pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    // The engine refuses non-zero trailing bits and missing padding: what decodes is canonical.
    STANDARD.decode(text).ok()
}

/// Reads a hash in base64.
pub(crate) fn hash(text: &str) -> Option<Hash> {
    from_base64(text)?.try_into().ok().map(Hash)
}

/// Reads a decimal without sign or leading zeros.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits && (text == "0" || !text.starts_with('0'))).then(|| text.parse().ok()).flatten()
}

/// The lines of a text that MUST end in a newline, without their newlines.
pub(crate) fn lines(text: &str) -> Option<std::str::Split<'_, char>> {
    text.strip_suffix('\n').map(|text| text.split('\n'))
}
