//! Users' private RSA keys, as administrators bring them: PEM of PKCS#8 or PKCS#1, or that or the DER itself in base64.

use super::claim::LENIENT;
use super::der::{BITS, INTEGER, OCTETS, RSA, SEQUENCE, element, write};
use super::format::{MAX_NAME, MAX_WRAPPED_PRIVATE_KEY};
use crate::base64_secret;
use aws_lc_rs::digest::{SHA256, digest};
use holdfast_core::Secret;

/// The most bytes of a private key's text.
pub const MAX_TEXT: usize = 16 << 10;

/// The most bytes of a key as DER: what is wrapped has a header with a perimeter, a nonce and a tag besides.
pub const MAX: usize = MAX_WRAPPED_PRIVATE_KEY - (11 + MAX_NAME + 32) - (24 + 16);

/// SHA-256 of the SubjectPublicKeyInfo (RFC 5280 §4.1.2.7) that a key's own numbers make, as PKCS#8 has them; `None` where they are not there.
pub fn spki_hash(pkcs8: &Secret) -> Option<[u8; 32]> {
    let (body, _nothing) = element(SEQUENCE, pkcs8.expose()).filter(|(_, rest)| rest.is_empty())?;
    let (_version, body) = element(INTEGER, body)?;
    let (key, _attributes) = element(OCTETS, body.strip_prefix(RSA)?)?;
    let (numbers, _nothing) = element(SEQUENCE, key)?;
    let (_version, numbers) = element(INTEGER, numbers)?;
    let (modulus, numbers) = element(INTEGER, numbers)?;
    let (exponent, _private) = element(INTEGER, numbers)?;
    let [mut public, mut bits, mut spki] = [const { Vec::new() }; 3];
    write(INTEGER, &[modulus], &mut public)?;
    write(INTEGER, &[exponent], &mut public)?;
    write(SEQUENCE, &[&public], &mut bits)?;
    let mut whole = RSA.to_vec();
    write(BITS, &[&[0], &bits], &mut whole)?;
    write(SEQUENCE, &[&whole], &mut spki)?;
    digest(&SHA256, &spki).as_ref().try_into().ok()
}

/// The key as DER PKCS#8 (RFC 5208); `None` for what is none of these forms. Whether the numbers fit together is not looked at here.
pub fn pkcs8(text: &Secret) -> Option<Secret> {
    let text = core::str::from_utf8(text.expose()).ok().filter(|text| text.len() <= MAX_TEXT)?;
    if text.trim_start().starts_with("-----") {
        return pem(text);
    }
    let decoded = base64_secret::decode(&LENIENT, text)?;
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
    use super::super::format::{Blob, Bound, Kind};
    use super::super::message;
    use super::super::path::Method;
    use super::*;
    use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    use aws_lc_rs::signature::KeyPair as _;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use holdfast_core::{ErrorKind, KeyVersion};
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

    #[test]
    fn the_hash_is_that_of_the_public_half() {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let expected: [u8; 32] = digest(&SHA256, public.as_ref()).as_ref().try_into().unwrap();
        assert_eq!(spki_hash(&Secret::from(der.as_ref())), Some(expected));
        for cut in 0..der.as_ref().len() {
            assert_eq!(spki_hash(&Secret::from(&der.as_ref()[..cut])), None);
        }
    }

    /// The largest key that is taken, under the longest perimeter.
    #[test]
    fn what_is_wrapped_has_at_most_8_kib_in_base64() {
        let bound = Bound {
            kind: Kind::PrivateKey([7; 32]),
            key: [1; 4],
            perimeter: "p".repeat(MAX_NAME).into(),
            resource: "".into(),
        };
        let blob = bound.blob(KeyVersion::FIRST, &vec![0; 24 + MAX + 16]);
        assert_eq!((blob.len(), STANDARD.encode(&blob).len()), (MAX_WRAPPED_PRIVATE_KEY, 8192));
        assert!(Blob::parse(&blob).is_ok());
        // As much room as a key can fill: with attributes, which are none of its numbers.
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let (body, _) = element(SEQUENCE, der.as_ref()).unwrap();
        let with = |attributes: usize| {
            let mut made = vec![];
            write(
                SEQUENCE,
                &[
                    body,
                    &[0xa0, 0x82],
                    &u16::try_from(attributes).unwrap().to_be_bytes(),
                    &vec![0; attributes],
                ],
                &mut made,
            );
            made
        };
        let fits = MAX - with(1000).len() + 1000;
        for (attributes, is_taken) in [(fits, true), (fits + 1, false)] {
            let key = STANDARD.encode(with(attributes));
            let body = format!(r#"{{"authentication":"t","private_key":"{key}"}}"#);
            let (_, asks) = message::decode(Method::WrapPrivateKey, body.as_bytes());
            assert_eq!(asks.is_ok(), is_taken, "{attributes}: {asks:?}");
            assert!(is_taken || asks.unwrap_err().kind() == ErrorKind::TooLarge);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text: Vec<u8>) {
            spki_hash(&Secret::new(text.clone()));
            pkcs8(&Secret::new(text.clone()));
            pkcs8(&Secret::from(STANDARD.encode(text).as_bytes()));
        }
    }
}
