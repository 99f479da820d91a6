//! Bearer tokens as text: `hf_`, the token's id, `_`, its secret in base64url without padding (RFC 4648 §5).
//!
//! The prefix lets scanners of repositories and logs find a leaked token.

use crate::base64_secret;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use holdfast_core::{Error, ErrorKind, Secret, Stage, TokenId};
use zeroize::Zeroizing;

const PREFIX: &str = "hf_";
const ID_LEN: usize = 26;
/// The most bytes of a secret that is looked at.
const MAX_SECRET: usize = 64;

/// A token's text.
pub fn write(id: TokenId, secret: &Secret) -> Zeroizing<String> {
    let len = PREFIX.len() + ID_LEN + 1 + secret.len().div_ceil(3) * 4;
    let mut text = Zeroizing::new(String::with_capacity(len));
    text.push_str(PREFIX);
    text.extend(id.text().map(char::from));
    text.push('_');
    URL_SAFE_NO_PAD.encode_string(secret.expose(), &mut text);
    text
}

/// A token's parts; `None` for what is no token's text.
pub fn parse(text: &str) -> Option<(TokenId, Secret)> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_at_checked(ID_LEN)?;
    let secret =
        secret.strip_prefix('_').filter(|secret| (1..=MAX_SECRET.div_ceil(3) * 4).contains(&secret.len()))?;
    let secret = base64_secret::decode(&URL_SAFE_NO_PAD, secret)?;
    Some((id.parse().ok()?, secret))
}

/// The token of an `Authorization` header (RFC 6750 §2.1).
///
/// # Errors
/// `unauthenticated` for another scheme, and for what is no token of ours.
pub fn from_authorization(header: &str) -> Result<(TokenId, Secret), Error> {
    let token = header.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    token.and_then(|(_, text)| parse(text.trim_matches(' '))).ok_or_else(|| {
        Error::new(
            ErrorKind::Unauthenticated,
            Stage::Decode,
            "the `Authorization` header holds no token of ours",
        )
    })
}

/// Whether a text has the form of an issuer's token (a JSON Web Token in compact form): three parts of base64url with dots between. None of
/// ours has a dot.
pub fn is_issued(text: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    text.split('.').count() == 3 && text.split('.').all(is_part)
}

/// The token of an issuer in an `Authorization` header, if it holds one.
pub fn issued_from_authorization(header: &str) -> Option<&str> {
    let (_, text) = header.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))?;
    Some(text.trim_matches(' ')).filter(|text| is_issued(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn looks_like_this() {
        let text = write(TokenId::from_bytes([0; 16]), &Secret::new(vec![255; 32]));
        assert_eq!(*text, "hf_00000000000000000000000000___________________________________________8");
    }

    #[test]
    fn another_scheme_is_none_of_ours() {
        let text = write(TokenId::from_bytes([1; 16]), &Secret::new(vec![2; 32]));
        assert!(from_authorization(&format!("Bearer {}", *text)).is_ok());
        assert!(from_authorization(&format!("bearer  {}", *text)).is_ok());
        for bad in [
            format!("Basic {}", *text),
            (*text).clone(),
            format!("Bearer {}x!", *text),
            "Bearer ".into(),
            String::new(),
        ] {
            let error = from_authorization(&bad).unwrap_err();
            assert!(!error.chain().contains(&text[30..]), "{error}");
        }
    }

    #[test]
    fn ours_and_an_issuers_are_told_apart() {
        let ours = format!("Bearer {}", *write(TokenId::from_bytes([1; 16]), &Secret::new(vec![255; 64])));
        assert_eq!(issued_from_authorization(&ours), None);
        assert_eq!(issued_from_authorization("bearer  ey.ey.x "), Some("ey.ey.x"));
        for none in ["Basic ey.ey.x", "Bearer ey.ey", "Bearer ey.ey.x.y", "Bearer ey..x", "Bearer ey.e y.x"] {
            assert_eq!(issued_from_authorization(none), None, "{none}");
        }
        assert!(from_authorization("Bearer ey.ey.x").is_err());
        assert!(from_authorization(&format!("{ours}.ey.x")).is_err(), "and never both");
    }

    proptest! {
        #[test]
        fn leads_back(id: [u8; 16], secret in proptest::collection::vec(any::<u8>(), 1..=64)) {
            let secret = Secret::new(secret);
            prop_assert_eq!(parse(&write(TokenId::from_bytes(id), &secret)), Some((TokenId::from_bytes(id), secret)));
        }

        #[test]
        fn any_text_is_parsed_or_refused(text: String) {
            parse(&text);
            parse(&format!("hf_00000000000000000000000000_{text}"));
        }
    }
}
