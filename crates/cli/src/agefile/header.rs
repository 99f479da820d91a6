//! The header of an age file (C2SP age §"Header"), taken apart so that one stanza can be exchanged and everything else kept byte for byte.

use super::AGE_MAGIC;
use super::stanza::FileStanza;
use age_core::format::{FileKey, Stanza};
use age_core::secrecy::ExposeSecret as _;
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use std::io::{self, BufRead, Read as _};

/// The most bytes of a header.
const MAX_HEADER: u64 = 1 << 20;
/// Characters in a full line of a stanza's body.
const COLUMNS: usize = 64;
/// What ends a header, before its code.
const END: &[u8] = b"---";

/// A header.
#[derive(Debug)]
pub(crate) struct Header {
    pieces: Vec<Piece>,
    mac: Vec<u8>,
}

/// One stanza.
#[derive(Debug)]
enum Piece {
    /// Somebody else's, as it stands in the file.
    Other(Vec<u8>),
    /// Ours, as it stands in the file, and what it says.
    Ours(Vec<u8>, FileStanza),
}

/// Why there is no header to work with.
#[derive(Debug)]
pub(crate) enum NoHeader {
    /// The file cannot be read.
    Io(io::Error),
    /// It is not of the form.
    Malformed(String),
}

impl From<io::Error> for NoHeader {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn malformed(problem: &str) -> NoHeader {
    NoHeader::Malformed(problem.to_owned())
}

impl Header {
    /// Reads a header, and leaves the stream where the payload begins.
    pub(crate) fn read(mut file: impl BufRead) -> Result<Self, NoHeader> {
        let mut file = file.by_ref().take(MAX_HEADER);
        let mut line = || {
            let mut line = vec![];
            file.read_until(b'\n', &mut line)?;
            if line.last() == Some(&b'\n') { Ok(line) } else { Err(malformed("the header is cut off")) }
        };
        if line()? != AGE_MAGIC {
            return Err(malformed("not an age file of version 1"));
        }
        let mut pieces = vec![];
        let mut next = line()?;
        while next.starts_with(b"-> ") {
            let mut raw = next;
            loop {
                next = line()?;
                if next.starts_with(b"-> ") || next.starts_with(END) {
                    break;
                }
                raw.extend_from_slice(&next);
                if next.len() <= COLUMNS {
                    next = line()?;
                    break;
                }
            }
            pieces.push(Piece::read(raw)?);
        }
        let mac = next
            .strip_prefix(END)
            .and_then(|rest| rest.strip_prefix(b" "))
            .and_then(|rest| rest.strip_suffix(b"\n"));
        let mac = mac.and_then(|mac| STANDARD_NO_PAD.decode(mac).ok()).filter(|mac| mac.len() == 32);
        Ok(Self { pieces, mac: mac.ok_or_else(|| malformed("the header has no end"))? })
    }

    /// Our stanzas, in order.
    pub(crate) fn ours(&self) -> impl Iterator<Item = &FileStanza> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Ours(_, stanza) => Some(stanza),
            Piece::Other(_) => None,
        })
    }

    /// Whether its code was made with this file key: then it is this file's key, and nobody without it has changed the header.
    pub(crate) fn verifies(&self, file_key: &FileKey) -> bool {
        code_key(file_key).is_some_and(|key| hmac::verify(&key, &self.signed(|_, _| None), &self.mac).is_ok())
    }

    /// The header with other stanzas in the place of ours, each by its place among ours, and its code made anew.
    pub(crate) fn exchanged(
        &self,
        file_key: &FileKey,
        new: impl Fn(usize, &FileStanza) -> Option<FileStanza>,
    ) -> Option<Vec<u8>> {
        let mut header = self.signed(new);
        let code = hmac::sign(&code_key(file_key)?, &header);
        header.push(b' ');
        header.extend_from_slice(STANDARD_NO_PAD.encode(code.as_ref()).as_bytes());
        header.push(b'\n');
        Some(header)
    }

    /// What the code covers.
    fn signed(&self, new: impl Fn(usize, &FileStanza) -> Option<FileStanza>) -> Vec<u8> {
        let mut bytes = AGE_MAGIC.to_vec();
        let mut place = 0;
        for piece in &self.pieces {
            match piece {
                Piece::Other(raw) => bytes.extend_from_slice(raw),
                Piece::Ours(raw, stanza) => {
                    match new(place, stanza) {
                        Some(stanza) => write(&stanza.into_stanza(), &mut bytes),
                        None => bytes.extend_from_slice(raw),
                    }
                    place += 1;
                }
            }
        }
        bytes.extend_from_slice(END);
        bytes
    }
}

impl Piece {
    fn read(raw: Vec<u8>) -> Result<Self, NoHeader> {
        let text = std::str::from_utf8(&raw).map_err(|_| malformed("a stanza is no text"))?;
        let mut lines = text.lines();
        let mut words = lines.next().unwrap_or_default().split(' ').skip(1).map(str::to_owned);
        let tag = words.next().unwrap_or_default();
        let args = words.collect();
        let body: String = lines.collect();
        let body = STANDARD_NO_PAD.decode(body).map_err(|_| malformed("a stanza's body is no base64"))?;
        match FileStanza::read(&Stanza { tag, args, body }) {
            None => Ok(Self::Other(raw)),
            Some(Ok(stanza)) => Ok(Self::Ours(raw, stanza)),
            Some(Err(problem)) => Err(NoHeader::Malformed(problem)),
        }
    }
}

/// A stanza as age writes it: full lines, and a shorter one at the end, empty if need be.
fn write(stanza: &Stanza, into: &mut Vec<u8>) {
    let Stanza { tag, args, body } = stanza;
    into.extend_from_slice(format!("-> {tag}").as_bytes());
    for arg in args {
        into.push(b' ');
        into.extend_from_slice(arg.as_bytes());
    }
    into.push(b'\n');
    let body = STANDARD_NO_PAD.encode(body);
    let mut rest = body.as_bytes();
    while let Some((line, more)) = rest.split_at_checked(COLUMNS) {
        into.extend_from_slice(line);
        into.push(b'\n');
        rest = more;
    }
    into.extend_from_slice(rest);
    into.push(b'\n');
}

/// The key of a header's code: HKDF-SHA-256 of the file key, without a salt, for `header`.
fn code_key(file_key: &FileKey) -> Option<hmac::Key> {
    let secret = Salt::new(HKDF_SHA256, &[]).extract(file_key.expose_secret());
    Some(secret.expand(&[b"header"], hmac::HMAC_SHA256).ok()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use age::{Decryptor, Encryptor, Identity, Recipient};
    use std::collections::HashSet;
    use std::io::{Cursor, Write as _};

    fn ours(version: u8) -> FileStanza {
        let mut wrapped = b"HFC\x01\x01\x01".to_vec();
        wrapped.extend([7; 16]);
        wrapped.extend([0, 0, 0, version]);
        wrapped.extend([9; 32 + 56]);
        FileStanza { tenant: "acme".parse().unwrap(), key: "payroll".parse().unwrap(), wrapped }
    }

    /// Writes our stanza, and keeps the file key.
    struct Keeps(std::cell::RefCell<Option<[u8; 16]>>);

    impl Recipient for Keeps {
        fn wrap_file_key(&self, key: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), age::EncryptError> {
            *self.0.borrow_mut() = Some(*key.expose_secret());
            Ok((vec![ours(1).into_stanza()], HashSet::new()))
        }
    }

    /// Opens by whichever key it has, if our stanza is of this version.
    struct Has([u8; 16], u8);

    impl Identity for Has {
        fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, age::DecryptError>> {
            let read = FileStanza::read(stanza)?.unwrap();
            assert_eq!(read, ours(self.1));
            Some(Ok(FileKey::new(Box::new(self.0))))
        }
    }

    fn encrypted(data: &[u8], others: &[&dyn Recipient]) -> (Vec<u8>, [u8; 16]) {
        let keeps = Keeps(None.into());
        let recipients = others.iter().copied().chain([&keeps as &dyn Recipient]);
        let mut file = vec![];
        let mut writer = Encryptor::with_recipients(recipients).unwrap().wrap_output(&mut file).unwrap();
        writer.write_all(data).unwrap();
        writer.finish().unwrap();
        let key = keeps.0.take().unwrap();
        (file, key)
    }

    fn opened(file: &[u8], identity: &dyn Identity) -> Vec<u8> {
        let mut data = vec![];
        let decryptor = Decryptor::new_buffered(Cursor::new(file)).unwrap();
        decryptor.decrypt(std::iter::once(identity)).unwrap().read_to_end(&mut data).unwrap();
        data
    }

    #[test]
    fn a_stanza_is_exchanged_and_the_file_opens_for_all() {
        let friend = age::x25519::Identity::generate();
        let (file, key) = encrypted(b"data", &[&friend.to_public()]);
        let mut stream = Cursor::new(&file);
        let header = Header::read(&mut stream).unwrap();
        let payload = stream.position() as usize;
        assert_eq!(header.ours().collect::<Vec<_>>(), [&ours(1)]);
        let file_key = FileKey::new(Box::new(key));
        assert!(header.verifies(&file_key));
        let same = header.exchanged(&file_key, |_, _| None).unwrap();
        assert_eq!(same, file[..payload]);
        let mut new = header.exchanged(&file_key, |_, _| Some(ours(2))).unwrap();
        new.extend_from_slice(&file[payload..]);
        assert_eq!(opened(&new, &Has(key, 2)), b"data");
        assert_eq!(opened(&new, &friend), b"data");
        assert!(Header::read(&new[..]).unwrap().verifies(&file_key));
    }

    #[test]
    fn another_file_key_and_a_changed_header_do_not_verify() {
        let (file, key) = encrypted(b"", &[]);
        let header = Header::read(&file[..]).unwrap();
        let mut other = key;
        other[0] ^= 1;
        assert!(!header.verifies(&FileKey::new(Box::new(other))));
        let at = file.windows(7).position(|part| part == b"payroll").unwrap();
        let mut renamed = file;
        renamed[at] = b'q';
        assert!(!Header::read(&renamed[..]).unwrap().verifies(&FileKey::new(Box::new(key))));
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let (file, _) = encrypted(b"", &[]);
        let end = file.windows(3).position(|part| part == b"---").unwrap();
        for cut in 0..end + 40 {
            assert!(matches!(Header::read(&file[..cut]), Err(NoHeader::Malformed(_))), "{cut}");
        }
        assert!(Header::read(&b"age-encryption.org/v2\n"[..]).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_header_or_refused(tail: Vec<u8>) {
            let mut bytes = AGE_MAGIC.to_vec();
            bytes.extend(tail);
            let _ = Header::read(&bytes[..]);
        }
    }
}
