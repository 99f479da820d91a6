//! PEM (RFC 7468), strict: one block of one label, standard base64.

use crate::base64_secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast_core::Secret;

/// The bytes of the only block, which has this label; `None` for anything else.
pub(crate) fn decode(text: &str, label: &str) -> Option<Vec<u8>> {
    let body = text.trim().strip_prefix("-----BEGIN ")?.strip_prefix(label)?.strip_prefix("-----")?;
    let body = body.strip_suffix("-----")?.strip_suffix(label)?.strip_suffix("-----END ")?;
    let compact: String = body.split_ascii_whitespace().collect();
    STANDARD.decode(compact).ok().filter(|bytes| !bytes.is_empty())
}

/// The same of a block that nobody may see.
pub(crate) fn decode_secret(text: &str, label: &str) -> Option<Secret> {
    let body = text.trim().strip_prefix("-----BEGIN ")?.strip_prefix(label)?.strip_prefix("-----")?;
    let body = body.strip_suffix("-----")?.strip_suffix(label)?.strip_suffix("-----END ")?;
    let mut compact = Secret::new(Vec::with_capacity(body.len()));
    for line in body.split_ascii_whitespace() {
        compact.expose_mut().extend_from_slice(line.as_bytes());
    }
    base64_secret::decode(&STANDARD, compact.expose()).filter(|bytes| !bytes.is_empty())
}

/// A block: lines of 64 characters.
pub(crate) fn encode(bytes: &[u8], label: &str) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in bytes.chunks(48) {
        STANDARD.encode_string(line, &mut text);
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_block_of_the_right_label() {
        let block = encode(&[7; 100], "CERTIFICATE");
        assert_eq!(decode(&block, "CERTIFICATE"), Some(vec![7; 100]));
        assert_eq!(decode(&block.replace('\n', "\r\n"), "CERTIFICATE"), Some(vec![7; 100]));
        assert_eq!(decode(&block, "X509 CRL"), None);
        assert_eq!(decode(&(block.clone() + &block), "CERTIFICATE"), None);
        assert_eq!(decode(&block.replace("END", "end"), "CERTIFICATE"), None);
        assert_eq!(decode("-----BEGIN CERTIFICATE----------END CERTIFICATE-----", "CERTIFICATE"), None);
    }

    proptest! {
        #[test]
        fn leads_back(bytes in proptest::collection::vec(any::<u8>(), 1..300)) {
            prop_assert_eq!(decode(&encode(&bytes, "PUBLIC KEY"), "PUBLIC KEY"), Some(bytes));
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            decode(&text, "CERTIFICATE");
        }
    }
}
