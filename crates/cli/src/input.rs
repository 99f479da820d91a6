//! Inputs: a file or `-` for stdin. Nothing that is secret stands on the command line.

use crate::failure::Failure;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast_core::context::Context;
use holdfast_core::operation::MAX_INPUT;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Where bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// Stdin.
    Stdin,
    /// A file.
    File(PathBuf),
}

impl std::str::FromStr for Input {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if text == "-" { Self::Stdin } else { Self::File(PathBuf::from(text)) })
    }
}

impl Input {
    fn path(&self) -> &Path {
        match self {
            Self::Stdin => Path::new("-"),
            Self::File(path) => path,
        }
    }

    /// Opens it to be read as a stream, with its length where that is known.
    pub(crate) fn open(&self) -> Result<(Box<dyn Read + Send>, Option<u64>), Failure> {
        match self {
            Self::Stdin => Ok((Box::new(io::stdin()), None)),
            Self::File(path) => {
                let file = File::open(path).map_err(|error| Failure::file("read", path, &error))?;
                let metadata = file.metadata().map_err(|error| Failure::file("read", path, &error))?;
                if metadata.is_dir() {
                    return Err(
                        Failure::usage(format!("`{}` is a directory", path.display())).remedy("name a file")
                    );
                }
                let length = metadata.is_file().then_some(metadata.len());
                Ok((Box::new(file), length))
            }
        }
    }

    /// All of it, as far as one operation takes it.
    pub(crate) fn read(&self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let (bytes, rest) = self.read_up_to(MAX_INPUT)?;
        match rest {
            None => Ok(bytes),
            Some(_) => {
                Err(Failure::usage(format!("`{}` has more than {MAX_INPUT} bytes", self.path().display()))
                    .remedy(
                        "encrypt large data with `holdfast encrypt FILE`; sign its digest with `--digest`",
                    ))
            }
        }
    }

    /// At most so many bytes, and the rest of the stream if there is more.
    #[expect(clippy::type_complexity, reason = "a pair that is taken apart at once")]
    pub(crate) fn read_up_to(
        &self,
        max: usize,
    ) -> Result<(Zeroizing<Vec<u8>>, Option<Box<dyn Read + Send>>), Failure> {
        let (mut stream, _) = self.open()?;
        // Room for all of it from the start: a vector that grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(max + 1));
        let limit = u64::try_from(max + 1).unwrap_or(u64::MAX);
        let read = stream.by_ref().take(limit).read_to_end(&mut bytes);
        read.map_err(|error| Failure::file("read", self.path(), &error))?;
        let more = bytes.len() > max;
        Ok((bytes, more.then_some(stream)))
    }

    /// All of it as text.
    pub(crate) fn read_text(&self) -> Result<String, Failure> {
        let (mut stream, _) = self.open()?;
        let mut text = String::new();
        let read = stream.by_ref().take(8 << 20).read_to_string(&mut text);
        read.map_err(|error| Failure::file("read", self.path(), &error))?;
        Ok(text)
    }

    /// Bytes that may stand there as they are or in base64, as this command prints them.
    pub(crate) fn read_encoded(&self) -> Result<Vec<u8>, Failure> {
        let bytes = self.read_up_to(2 * MAX_INPUT)?.0;
        Ok(decoded(&bytes))
    }
}

/// Base64 decoded, anything else as it is. Bytes that begin with Holdfast's magic are never base64.
pub(crate) fn decoded(bytes: &[u8]) -> Vec<u8> {
    let text: Vec<u8> = bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(&text).ok().filter(|decoded| !decoded.is_empty()).unwrap_or_else(|| bytes.to_vec())
}

/// Bytes as this command prints them.
pub(crate) fn encoded(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A pair on the command line, `NAME=VALUE`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err("expected NAME=VALUE".to_owned()),
    }
}

/// Pairs as the client takes them.
pub(crate) fn borrowed(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
    pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// Pairs as an encryption context, sorted by name.
pub(crate) fn context(pairs: &[(String, String)]) -> Result<Context, Failure> {
    let owned = pairs.iter().map(|(name, value)| (Box::from(name.as_str()), Box::from(value.as_str())));
    Context::new(owned.collect()).map_err(|error| {
        Failure::usage(error.detail())
            .remedy("give each name once, at most 64 pairs and 8192 bytes of them all")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_taken_for_what_it_holds() {
        assert_eq!(decoded(b"SEZDAQ==\n"), b"HFC\x01");
        assert_eq!(decoded(b"HFC\x01\x01\x01"), b"HFC\x01\x01\x01");
        assert_eq!(decoded(b""), b"");
    }

    #[test]
    fn a_pair_needs_a_name() {
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(pair("a").is_err() && pair("=b").is_err());
    }
}
