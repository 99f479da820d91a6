//! The messages: what an API server sends, read and checked, and what it is answered, written.

use super::grpc::{self, Code};
use super::protobuf::{self, Fields, Malformed};
use super::status::Refused;
use zeroize::Zeroizing;

/// The longest ciphertext that an API server takes, in bytes.
pub const MAX_CIPHERTEXT: usize = 1024;
/// The longest `key_id` that an API server takes, in bytes.
pub const MAX_KEY_ID: usize = 1024;
/// The longest plaintext, in bytes: API servers send 32, and what is made of it must fit [`MAX_CIPHERTEXT`].
pub const MAX_PLAINTEXT: usize = 512;
/// The longest uid, in bytes: API servers send 36.
const MAX_UID: usize = 256;
/// The longest body, in bytes: 32 KiB of annotations, and room for the rest.
pub const MAX_MESSAGE: usize = 64 << 10;

/// What is asked.
#[derive(Debug, PartialEq, Eq)]
pub enum Call<'a> {
    /// Whether all is well, and under what new work is encrypted.
    Status,
    /// To encrypt a seed.
    Encrypt(EncryptRequest<'a>),
    /// To decrypt one.
    Decrypt(DecryptRequest<'a>),
}

/// A seed to be encrypted.
#[derive(PartialEq, Eq)]
pub struct EncryptRequest<'a> {
    /// The seed: 1 to [`MAX_PLAINTEXT`] bytes.
    pub plaintext: &'a [u8],
    /// What the API server calls this call; never empty.
    pub uid: &'a str,
}

impl core::fmt::Debug for EncryptRequest<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("EncryptRequest").field("uid", &self.uid).finish_non_exhaustive()
    }
}

/// A seed to be decrypted, as it was given by Encrypt.
#[derive(Debug, PartialEq, Eq)]
pub struct DecryptRequest<'a> {
    /// 1 to [`MAX_CIPHERTEXT`] bytes.
    pub ciphertext: &'a [u8],
    /// What the API server calls this call; never empty.
    pub uid: &'a str,
    /// 1 to [`MAX_KEY_ID`] bytes.
    pub key_id: &'a str,
}

/// Reads a request by its path and its body.
///
/// # Errors
/// `UNIMPLEMENTED` for another path; `INVALID_ARGUMENT` for what is no such message, or has a value that cannot be.
pub fn decode<'a>(path: &str, body: &'a [u8]) -> Result<Call<'a>, Refused> {
    let read = match path {
        "/v2.KeyManagementService/Status" => status,
        "/v2.KeyManagementService/Encrypt" => encrypt,
        "/v2.KeyManagementService/Decrypt" => decrypt,
        _ => return Err(Refused::new(Code::Unimplemented, "there is no such method; this is KMS v2")),
    };
    read(grpc::message(body)?)
}

fn invalid(words: &str) -> Refused {
    Refused::new(Code::InvalidArgument, words)
}

impl From<Malformed> for Refused {
    fn from(_: Malformed) -> Self {
        invalid("the message is not of this method")
    }
}

fn status(message: &[u8]) -> Result<Call<'_>, Refused> {
    Fields::of(message).try_for_each(|field| field.map(drop))?;
    Ok(Call::Status)
}

fn encrypt(message: &[u8]) -> Result<Call<'_>, Refused> {
    let mut request = EncryptRequest { plaintext: &[], uid: "" };
    for field in Fields::of(message) {
        match field? {
            (1, value) => request.plaintext = value.bytes()?,
            (2, value) => request.uid = value.text()?,
            _ => {}
        }
    }
    check_uid(request.uid)?;
    match request.plaintext.len() {
        1..=MAX_PLAINTEXT => Ok(Call::Encrypt(request)),
        0 => Err(invalid("`plaintext` is empty")),
        _ => Err(invalid("`plaintext` is longer than 512 bytes")),
    }
}

fn decrypt(message: &[u8]) -> Result<Call<'_>, Refused> {
    let mut request = DecryptRequest { ciphertext: &[], uid: "", key_id: "" };
    let mut is_annotated = false;
    for field in Fields::of(message) {
        match field? {
            (1, value) => request.ciphertext = value.bytes()?,
            (2, value) => request.uid = value.text()?,
            (3, value) => request.key_id = value.text()?,
            (4, value) => {
                Fields::of(value.bytes()?).try_for_each(|field| field.map(drop))?;
                is_annotated = true;
            }
            _ => {}
        }
    }
    check_uid(request.uid)?;
    if !(1..=MAX_CIPHERTEXT).contains(&request.ciphertext.len()) {
        return Err(invalid("`ciphertext` has not 1 to 1024 bytes"));
    }
    if !(1..=MAX_KEY_ID).contains(&request.key_id.len()) {
        return Err(invalid("`key_id` has not 1 to 1024 bytes"));
    }
    // None were given, so somebody has put them there.
    if is_annotated {
        return Err(invalid("there are `annotations`, and Holdfast gives none"));
    }
    Ok(Call::Decrypt(request))
}

fn check_uid(uid: &str) -> Result<(), Refused> {
    match uid.len() {
        1..=MAX_UID => Ok(()),
        0 => Err(invalid("`uid` is empty")),
        _ => Err(invalid("`uid` is longer than 256 bytes")),
    }
}

/// What Status is answered: `healthz` is `ok` or what is the matter.
pub fn status_response(healthz: &str, key_id: &str) -> Vec<u8> {
    let mut message = vec![];
    protobuf::put(&mut message, 1, b"v2");
    protobuf::put(&mut message, 2, healthz.as_bytes());
    protobuf::put(&mut message, 3, key_id.as_bytes());
    message
}

/// What Encrypt is answered. Annotations there are none: the ciphertext says what opens it.
pub fn encrypt_response(ciphertext: &[u8], key_id: &str) -> Vec<u8> {
    let mut message = vec![];
    protobuf::put(&mut message, 1, ciphertext);
    protobuf::put(&mut message, 2, key_id.as_bytes());
    message
}

/// What Decrypt is answered; wiped.
pub fn decrypt_response(plaintext: &[u8]) -> Zeroizing<Vec<u8>> {
    // Room for all of it from the start, so that it never moves.
    let mut message = Zeroizing::new(Vec::with_capacity(protobuf::length(plaintext)));
    protobuf::put(&mut message, 1, plaintext);
    message
}
