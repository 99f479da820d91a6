//! Users' private RSA keys, as administrators bring them: PEM of PKCS#8 or PKCS#1, or that or the DER itself in base64.

use super::claim::LENIENT;
use super::der::{INTEGER, OCTETS, RSA, SEQUENCE, element, write};
use base64::Engine as _;
use holdfast_core::Secret;

/// The most bytes of a private key's text.
pub const MAX_TEXT: usize = 16 << 10;

/// The key as DER PKCS#8 (RFC 5208); `None` for what is none of these forms. Whether the numbers fit together is not looked at here.
pub fn pkcs8(text: &Secret) -> Option<Secret> {
    let text = core::str::from_utf8(text.expose()).ok().filter(|text| text.len() <= MAX_TEXT)?;
    if text.trim_start().starts_with("-----") {
        return pem(text);
    }
    let mut decoded = Secret::new(vec![0; base64::decoded_len_estimate(text.len())]);
    let length = LENIENT.decode_slice(text, decoded.expose_mut()).ok()?;
    decoded.expose_mut().truncate(length);
    match core::str::from_utf8(decoded.expose()) {
        Ok(text) if text.trim_start().starts_with("-----") => pem(text),
        Ok(_) | Err(_) => from_der(decoded),
    }
}

fn pem(text: &str) -> Option<Secret> {
    let labels = ["PRIVATE KEY", "RSA PRIVATE KEY"];
    let der = labels.iter().find_map(|label| crate::pem::decode_secret(text, label))?;
    from_der(der)
}

/// PKCS#8 as it is, and PKCS#1 (RFC 8017 appendix A.1.2) with what says that it is RSA.
fn from_der(der: Secret) -> Option<Secret> {
    let (body, _nothing) = element(SEQUENCE, der.expose()).filter(|(_, rest)| rest.is_empty())?;
    let (version, after) = element(INTEGER, body)?;
    if version != [0] {
        return None;
    }
    if after.starts_with(RSA) {
        return Some(der);
    }
    // A modulus: a number.
    element(INTEGER, after)?;
    let mut key = Secret::new(Vec::with_capacity(der.len().saturating_add(8)));
    write(OCTETS, &[der.expose()], key.expose_mut())?;
    let mut made = Secret::new(Vec::with_capacity(key.len().saturating_add(32)));
    write(SEQUENCE, &[&[INTEGER, 1, 0], RSA, key.expose()], made.expose_mut())?;
    Some(made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    #[test]
    fn whatever_form_it_has_it_is_the_same_key() {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let der = der.as_ref();
        let (body, _) = element(SEQUENCE, der).unwrap();
        let (inner, _) = element(OCTETS, body[3..].strip_prefix(RSA).unwrap()).unwrap();
        let forms = [
            crate::pem::encode(der, "PRIVATE KEY"),
            crate::pem::encode(inner, "RSA PRIVATE KEY").replace('\n', "\r\n"),
            STANDARD.encode(der),
            STANDARD.encode(inner),
            STANDARD.encode(crate::pem::encode(inner, "RSA PRIVATE KEY")).trim_end_matches('=').to_owned(),
        ];
        for form in forms {
            assert_eq!(pkcs8(&Secret::from(form.as_bytes())).unwrap().expose(), der);
        }
        for bad in [
            crate::pem::encode(der, "EC PRIVATE KEY"),
            STANDARD.encode(&der[1..]),
            STANDARD.encode([der, &[0]].concat()),
            "AAAA".into(),
            String::new(),
            "not base64!".into(),
        ] {
            assert!(pkcs8(&Secret::from(bad.as_bytes())).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text: Vec<u8>) {
            pkcs8(&Secret::new(text.clone()));
            pkcs8(&Secret::from(STANDARD.encode(text).as_bytes()));
        }
    }
}
