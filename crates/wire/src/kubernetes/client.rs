//! The other side of it: what an API server sends, written, and what it is answered, read. For tests of a plugin as an API server would.

use super::grpc;
use super::protobuf::{self, Fields, Malformed};
use zeroize::Zeroizing;

/// The paths of the calls.
pub mod path {
    /// Status.
    pub const STATUS: &str = "/v2.KeyManagementService/Status";
    /// Encrypt.
    pub const ENCRYPT: &str = "/v2.KeyManagementService/Encrypt";
    /// Decrypt.
    pub const DECRYPT: &str = "/v2.KeyManagementService/Decrypt";
}

/// What Status said.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// `v2`.
    pub version: String,
    /// `ok`, or what is the matter.
    pub healthz: String,
    /// Under what new work is encrypted.
    pub key_id: String,
}

/// What Encrypt said.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Encrypted {
    /// The ciphertext.
    pub ciphertext: Vec<u8>,
    /// Under what it was encrypted.
    pub key_id: String,
}

/// The body of a Status.
pub fn status() -> Zeroizing<Vec<u8>> {
    grpc::framed(&[])
}

/// The body of an Encrypt.
pub fn encrypt(plaintext: &[u8], uid: &str) -> Zeroizing<Vec<u8>> {
    let mut message =
        Zeroizing::new(Vec::with_capacity(protobuf::length(plaintext) + protobuf::length(uid.as_bytes())));
    protobuf::put(&mut message, 1, plaintext);
    protobuf::put(&mut message, 2, uid.as_bytes());
    grpc::framed(&message)
}

/// The body of a Decrypt.
pub fn decrypt(ciphertext: &[u8], uid: &str, key_id: &str) -> Zeroizing<Vec<u8>> {
    let mut message = vec![];
    protobuf::put(&mut message, 1, ciphertext);
    protobuf::put(&mut message, 2, uid.as_bytes());
    protobuf::put(&mut message, 3, key_id.as_bytes());
    grpc::framed(&message)
}

/// Reads what Status was answered; `None` for what is no such message.
pub fn read_status(body: &[u8]) -> Option<Status> {
    let mut status = Status::default();
    each(body, |number, value| {
        let slot = match number {
            1 => &mut status.version,
            2 => &mut status.healthz,
            3 => &mut status.key_id,
            _ => return Ok(()),
        };
        value.text()?.clone_into(slot);
        Ok(())
    })?;
    Some(status)
}

/// Reads what Encrypt was answered; `None` for what is no such message.
pub fn read_encrypted(body: &[u8]) -> Option<Encrypted> {
    let mut encrypted = Encrypted::default();
    each(body, |number, value| {
        match number {
            1 => encrypted.ciphertext = value.bytes()?.to_vec(),
            2 => value.text()?.clone_into(&mut encrypted.key_id),
            _ => {}
        }
        Ok(())
    })?;
    Some(encrypted)
}

/// Reads the plaintext that Decrypt was answered; `None` for what is no such message.
pub fn read_decrypted(body: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut plaintext = Zeroizing::new(vec![]);
    each(body, |number, value| {
        if number == 1 {
            plaintext = Zeroizing::new(value.bytes()?.to_vec());
        }
        Ok(())
    })?;
    Some(plaintext)
}

fn each(body: &[u8], mut field: impl FnMut(u64, protobuf::Value<'_>) -> Result<(), Malformed>) -> Option<()> {
    let message = grpc::message(body).ok()?;
    Fields::of(message).try_for_each(|read| read.and_then(|(number, value)| field(number, value))).ok()
}

/// The words of a trailer, percent-encoded as [`grpc::trailer_text`] writes them.
pub fn trailer_words(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let escaped = after.split_at_checked(2).filter(|_| *first == b'%');
        let value = escaped.and_then(|(digits, rest)| {
            Some((u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?, rest))
        });
        let (byte, left) = value.unwrap_or((*first, after));
        bytes.push(byte);
        rest = left;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::{Call, decode, decrypt_response, encrypt_response, status_response};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_one_side_writes_the_other_one_reads() {
        assert_eq!(decode(path::STATUS, &status()), Ok(Call::Status));
        let body = encrypt(b"seed", "u-1");
        let Ok(Call::Encrypt(asked)) = decode(path::ENCRYPT, &body) else { panic!() };
        assert_eq!((asked.plaintext, asked.uid), (&b"seed"[..], "u-1"));
        let body = decrypt(b"sealed", "u-2", "k");
        let Ok(Call::Decrypt(asked)) = decode(path::DECRYPT, &body) else { panic!() };
        assert_eq!((asked.ciphertext, asked.uid, asked.key_id), (&b"sealed"[..], "u-2", "k"));

        let read = read_status(&grpc::framed(&status_response("ok", "k"))).unwrap();
        assert_eq!((&*read.version, &*read.healthz, &*read.key_id), ("v2", "ok", "k"));
        let read = read_encrypted(&grpc::framed(&encrypt_response(b"sealed", "k"))).unwrap();
        assert_eq!((&*read.ciphertext, &*read.key_id), (&b"sealed"[..], "k"));
        assert_eq!(&**read_decrypted(&grpc::framed(&decrypt_response(b"seed"))).unwrap(), b"seed");
        assert!(read_status(b"\0\0\0\0\x01").is_none() && read_decrypted(&grpc::framed(b"\x08")).is_none());
    }

    proptest! {
        #[test]
        fn words_come_back(words: String) {
            prop_assert_eq!(trailer_words(&grpc::trailer_text(&words)), words);
        }

        #[test]
        fn any_answer_is_read_or_refused(body: Vec<u8>) {
            let _either = (read_status(&body), read_encrypted(&body), read_decrypted(&body), trailer_words(&String::from_utf8_lossy(&body)));
        }
    }
}
