//! Base64 that nobody may see what it says: decoded straight into memory that is wiped.

use base64::Engine;
use holdfast_core::Secret;

/// What a text says in an alphabet; `None` unless it is of its form. The room is that of the whole from the start: a vector that grew would leave a copy behind.
pub(crate) fn decode(alphabet: &impl Engine, text: impl AsRef<[u8]>) -> Option<Secret> {
    let text = text.as_ref();
    let mut bytes = Secret::new(vec![0; base64::decoded_len_estimate(text.len())]);
    let length = alphabet.decode_slice(text, bytes.expose_mut()).ok()?;
    bytes.expose_mut().truncate(length);
    Some(bytes)
}
