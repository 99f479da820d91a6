//! As much of gRPC over HTTP/2 as unary calls need: the five bytes before a message, status codes, deadlines, paths.
//!
//! Source: `PROTOCOL-HTTP2.md` and `statuscodes.md` of grpc/grpc.

use super::status::Refused;
use core::time::Duration;
use std::fmt::Write as _;
use zeroize::Zeroizing;

/// The media type; a suffix such as `+proto` may follow.
pub const CONTENT_TYPE: &str = "application/grpc";
/// The header with the time that a caller waits.
pub const TIMEOUT_HEADER: &str = "grpc-timeout";
/// The trailer with the [`Code`].
pub const STATUS_TRAILER: &str = "grpc-status";
/// The trailer with words for it.
pub const MESSAGE_TRAILER: &str = "grpc-message";
/// What stands before a message: whether it is compressed, and its length.
pub const PREFIX_LEN: usize = 5;

/// How a call ended. Of gRPC's codes those that are ever given here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// It did what it should.
    Ok = 0,
    /// The request is wrong whatever the state of things.
    InvalidArgument = 3,
    /// There was no time left.
    DeadlineExceeded = 4,
    /// The caller may not.
    PermissionDenied = 7,
    /// The request is too large.
    ResourceExhausted = 8,
    /// Somebody has to change something first.
    FailedPrecondition = 9,
    /// There is no such method here.
    Unimplemented = 12,
    /// A defect of Holdfast.
    Internal = 13,
    /// Not now.
    Unavailable = 14,
}

impl Code {
    /// The number that stands in the trailer.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Its name as gRPC has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Internal => "INTERNAL",
            Self::Unavailable => "UNAVAILABLE",
        }
    }
}

/// The one message of a unary request's body.
///
/// # Errors
/// `INVALID_ARGUMENT` unless it is exactly one; `UNIMPLEMENTED` for a compressed one, which no API server sends.
pub fn message(body: &[u8]) -> Result<&[u8], Refused> {
    let malformed = || Refused::new(Code::InvalidArgument, "the body is not one gRPC message");
    let ([compressed, length @ ..], message) =
        body.split_first_chunk::<PREFIX_LEN>().ok_or_else(malformed)?;
    match compressed {
        0 if usize::try_from(u32::from_be_bytes(*length)) == Ok(message.len()) => Ok(message),
        1 => Err(Refused::new(Code::Unimplemented, "the message is compressed, which is not supported here")),
        _ => Err(malformed()),
    }
}

/// A message as it stands in a body. Wiped, as it may hold a plaintext.
pub fn framed(message: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut body = Zeroizing::new(Vec::with_capacity(PREFIX_LEN.saturating_add(message.len())));
    body.push(0);
    // No message here is anywhere near 4 GiB.
    body.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    body.extend_from_slice(message);
    body
}

/// How long a caller waits, by the header: at most eight digits and a unit. `None` for anything else.
pub fn timeout(header: &str) -> Option<Duration> {
    let (digits, unit) = header.split_at_checked(header.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value.checked_mul(3600)?)),
        "M" => Some(Duration::from_secs(value.checked_mul(60)?)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

/// Words as the trailer takes them: percent-encoded but for printable ASCII.
pub fn trailer_text(words: &str) -> String {
    let mut text = String::with_capacity(words.len());
    for byte in words.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => text.push(char::from(byte)),
            // A `String` takes everything.
            _ => drop(write!(text, "%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_one_message() {
        assert_eq!(*framed(b"abc"), [0, 0, 0, 0, 3, b'a', b'b', b'c']);
        assert_eq!(message(&framed(b"abc")).unwrap(), b"abc");
        assert_eq!(message(&framed(b"")).unwrap(), b"");
        let two = [&framed(b"a")[..], &framed(b"b")[..]].concat();
        for wrong in [&b""[..], b"\0\0\0\0", b"\0\0\0\0\x02a", b"\0\0\0\0\0a", b"\x02\0\0\0\0", &two] {
            assert_eq!(message(wrong).unwrap_err().code, Code::InvalidArgument, "{wrong:?}");
        }
        assert_eq!(message(b"\x01\0\0\0\x01a").unwrap_err().code, Code::Unimplemented);
    }

    #[test]
    fn a_deadline_has_a_unit() {
        assert_eq!(timeout("3S"), Some(Duration::from_secs(3)));
        assert_eq!(timeout("2999984u"), Some(Duration::from_micros(2_999_984)));
        assert_eq!(timeout("99999999n"), Some(Duration::from_nanos(99_999_999)));
        assert_eq!(timeout("1M"), Some(Duration::from_secs(60)));
        assert_eq!(timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(timeout("5m"), Some(Duration::from_millis(5)));
        for wrong in ["", "S", "3", "-3S", "+3S", "3 S", "999999999S", "3s", "3é"] {
            assert_eq!(timeout(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn words_fit_a_trailer() {
        assert_eq!(trailer_text("key `k` is 100% gone"), "key `k` is 100%25 gone");
        assert_eq!(trailer_text("é\n"), "%C3%A9%0A");
    }
}
