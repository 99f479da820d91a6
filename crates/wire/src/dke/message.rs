//! The request to decrypt, and its answer. Unknown fields are passed over, names that stand there twice are not.

use super::document::JSON;
use crate::json::{Fault, Optional, Read, Reader};
use crate::native::encode::Response;
use crate::native::field::SecretBytes;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast_core::operation::{Answer, Output};
use holdfast_core::{Error, ErrorKind, Stage};
use serde::Serialize;

/// The one algorithm there is: OAEP with SHA-256, and with MGF1 over SHA-256, which the name does not say.
pub const ALGORITHM: &str = "RSA-OAEP-256";

/// A request, read.
#[derive(Debug)]
pub struct Request {
    /// The ciphertext; empty where there is a fault.
    pub ciphertext: Vec<u8>,
    /// What is wrong with the algorithm or the ciphertext: told to who may use the key, and to nobody else.
    pub fault: Option<Error>,
}

#[derive(Default)]
struct Fields {
    alg: Option<Optional>,
    value: Option<Optional>,
}

impl Read for Fields {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let mut fields = Self::default();
        reader.object(|reader, name| match name {
            "alg" => reader.field("alg", &mut fields.alg),
            "value" => reader.field("value", &mut fields.value),
            _ => reader.skip().map(drop),
        })?;
        Ok(fields)
    }
}

/// Reads a request.
///
/// # Errors
/// `malformed` for what is no JSON, or has other types than it must.
pub fn decode(body: &[u8]) -> Result<Request, Error> {
    let Fields { alg, value } = Reader::whole(body).map_err(Fault::into_error)?;
    let given = |field: Option<Optional>| field.and_then(|Optional(text)| text);
    let ciphertext = given(value).and_then(|text| STANDARD.decode(text.as_bytes()).ok());
    let wrong = |detail: String| Error::new(ErrorKind::Malformed, Stage::Decode, detail);
    let found = match (given(alg).as_deref(), ciphertext) {
        (Some(ALGORITHM), Some(ciphertext)) => Ok(ciphertext),
        (Some(ALGORITHM), None) => Err(wrong("`value`: expected standard base64 with padding".to_owned())),
        (Some(_) | None, _) => Err(wrong(format!("`alg`: expected `{ALGORITHM}`"))),
    };
    Ok(match found {
        Ok(ciphertext) => Request { ciphertext, fault: None },
        Err(fault) => Request { ciphertext: Vec::new(), fault: Some(fault) },
    })
}

#[derive(Serialize)]
struct Decrypted {
    value: SecretBytes,
}

/// What was decrypted: bytes whose meaning is the client's alone.
///
/// # Errors
/// `internal` for an output that this protocol has no place for.
pub fn answer(answer: Answer) -> Result<Response, Error> {
    let Answer { output: Output::Plaintext(plain), .. } = answer else {
        let detail = "an output that this protocol does not have";
        return Err(Error::new(ErrorKind::Internal, Stage::Answer, detail));
    };
    let size = plain.len().saturating_mul(4) / 3 + 64;
    let mut response = Response::sized(200, &Decrypted { value: SecretBytes(plain) }, size, true);
    response.content_type = JSON;
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::encode::Body;
    use holdfast_core::Secret;
    use proptest::prelude::*;

    const REQUEST: &str = include_str!("../../../../fixtures/ms-dke/request.json");

    #[test]
    fn the_exchange_byte_for_byte() {
        let request = decode(REQUEST.as_bytes()).unwrap();
        assert!(request.fault.is_none());
        assert_eq!(request.ciphertext.len(), 256);
        let blob = hex::decode(
            "2c00ffff20001000404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f60616263",
        );
        let output = Output::Plaintext(Secret::new(blob.unwrap()));
        let told = answer(Answer { output, algorithm: None, version: None, integrity: None }).unwrap();
        let Response { status: 200, content_type: JSON, body: Body::Secret(bytes), .. } = told else {
            panic!()
        };
        let expected = include_str!("../../../../fixtures/ms-dke/answer.json").trim_end();
        assert_eq!(std::str::from_utf8(bytes.as_ref()).unwrap(), expected);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for bad in [
            "",
            "x",
            "[]",
            "null",
            "\"\"",
            "{",
            r#"{"alg":1}"#,
            r#"{"value":{}}"#,
            r#"{"alg":"a","alg":"a"}"#,
            r#"{"value":"","value":""}"#,
            "{}x",
            "{\"alg\":\"\u{1}\"}",
        ] {
            assert_eq!(decode(bad.as_bytes()).unwrap_err().kind(), ErrorKind::Malformed, "{bad}");
        }
        assert!(decode(b"\xff").is_err());
        for (bad, says) in [
            ("{}", "alg"),
            (r#"{"alg":"RSA-OAEP-256"}"#, "value"),
            (r#"{"alg":"RSA-OAEP-256","value":null}"#, "value"),
            (r#"{"alg":"RSA-OAEP-256","value":"a"}"#, "value"),
            (r#"{"alg":"RSA-OAEP-256","value":"_-8="}"#, "value"),
            (r#"{"alg":"RSA-OAEP-256","value":"AQ"}"#, "value"),
            (r#"{"alg":"rsa-oaep-256","value":"AQ=="}"#, "alg"),
            (r#"{"alg":"RSA-OAEP","value":"AQ=="}"#, "alg"),
            (r#"{"alg":null,"value":"AQ=="}"#, "alg"),
        ] {
            let Request { ciphertext, fault } = decode(bad.as_bytes()).unwrap();
            assert!(ciphertext.is_empty() && fault.unwrap().to_string().contains(says), "{bad}");
        }
        let more = r#"{"new":[{"alg":1}],"alg":"RSA-OAEP-256","value":"AQ==","kid":null}"#;
        assert_eq!(decode(more.as_bytes()).unwrap().ciphertext, [1]);
    }

    proptest! {
        #[test]
        fn anything_is_read_or_refused(body: Vec<u8>, text: String) {
            let _read = decode(&body);
            let _read = decode(text.as_bytes());
        }
    }
}
