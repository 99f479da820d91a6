//! Where a TPM is and which of its registers count, as a person writes it; and what a tool says of them.

use super::Measured;
use core::fmt;
use holdfast_core::{Error, ErrorKind, Stage};
use std::str::FromStr;

/// Registers of a PC's TPM (TCG PC Client Platform TPM Profile §4.6): 0 to 23.
pub const MAX_PCRS: u8 = 24;

/// Where a TPM is. A closed list: what the tools would take besides runs programs and loads libraries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A device, of the kernel's resource manager (`/dev/tpmrm0`) or the bare one (`/dev/tpm0`).
    Device(String),
    /// A software TPM (swtpm) behind a socket: as the tools take it, behind `swtpm:`.
    Software(String),
}

impl Place {
    /// Whether somebody tidies up behind whoever speaks to it.
    pub(super) fn is_managed(&self) -> bool {
        match self {
            Self::Device(path) => path.contains("tpmrm"),
            Self::Software(_) => false,
        }
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::Device("/dev/tpmrm0".to_owned())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(path) => write!(f, "device:{path}"),
            Self::Software(at) => write!(f, "swtpm:{at}"),
        }
    }
}

impl FromStr for Place {
    type Err = Error;

    /// Of `/dev/…`, `device:/dev/…`, `swtpm:path=/…` or `swtpm:host=…,port=…`.
    ///
    /// # Errors
    /// `malformed` for anything else.
    fn from_str(text: &str) -> Result<Self, Error> {
        let path = text.strip_prefix("device:").unwrap_or(text);
        let is_plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
        if path.starts_with("/dev/") && !path.contains("..") && is_plain(path) {
            return Ok(Self::Device(path.to_owned()));
        }
        match text.strip_prefix("swtpm:") {
            Some(at) if is_plain(at) && (at.starts_with("path=/") || at.starts_with("host=")) => {
                Ok(Self::Software(at.to_owned()))
            }
            Some(_) | None => Err(refused(format!("`{text}` is no place of a TPM")).remedy(
                "name a device such as `/dev/tpmrm0`, or a software TPM as `swtpm:path=/…` or `swtpm:host=…,port=…`",
            )),
        }
    }
}

/// The hash of a bank of registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bank {
    /// SHA-256 (FIPS 180-4).
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Bank {
    const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }
}

impl fmt::Display for Bank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Registers of one bank, at least one, in order: `sha256:0,7`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pcrs {
    bank: Bank,
    indexes: Vec<u8>,
}

impl Pcrs {
    /// The bank.
    pub const fn bank(&self) -> Bank {
        self.bank
    }

    /// Their numbers, in order.
    pub fn indexes(&self) -> &[u8] {
        &self.indexes
    }
}

impl Default for Pcrs {
    /// PCR 7: the state of Secure Boot and the keys that it trusts (TCG PC Client Platform Firmware Profile §3.3.4.8). It stays the same when a
    /// kernel or a boot loader that they signed is updated.
    fn default() -> Self {
        Self { bank: Bank::Sha256, indexes: vec![7] }
    }
}

impl fmt::Display for Pcrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let indexes: Vec<_> = self.indexes.iter().map(u8::to_string).collect();
        write!(f, "{}:{}", self.bank, indexes.join(","))
    }
}

impl FromStr for Pcrs {
    type Err = Error;

    /// # Errors
    /// `malformed` for another form, a bank that is too weak or unknown, and numbers that are none or come twice.
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| {
            refused(format!("`{text}` names no registers: {why}"))
                .remedy("write a bank and numbers from 0 to 23, such as `sha256:7` or `sha256:0,2,7`")
        };
        let (bank, list) = text.split_once(':').ok_or_else(|| wrong("a bank and a list are wanted"))?;
        let bank = Bank::ALL.into_iter().find(|known| known.name() == bank);
        let bank = bank.ok_or_else(|| wrong("the bank is `sha256`, `sha384` or `sha512`"))?;
        let mut indexes = vec![];
        for number in list.split(',') {
            let is_plain = number.len() <= 2 && number.bytes().all(|b| b.is_ascii_digit());
            let index = number.parse().ok().filter(|index| is_plain && *index < MAX_PCRS);
            indexes.push(index.ok_or_else(|| wrong(&format!("`{number}` is no register")))?);
        }
        indexes.sort_unstable();
        let count = indexes.len();
        indexes.dedup();
        if indexes.len() < count {
            return Err(wrong("one comes twice"));
        }
        Ok(Self { bank, indexes })
    }
}

/// What `tpm2_pcrread` says: `7 : 0xAB…`, a line each.
pub(super) fn read_measured(text: &str) -> Vec<Measured> {
    let line = |line: &str| {
        let (index, value) = line.split_once(':')?;
        let value = value.trim().strip_prefix("0x")?.to_ascii_lowercase();
        let is_hex = value.bytes().all(|b| b.is_ascii_hexdigit());
        Some(Measured { index: index.trim().parse().ok()?, value }).filter(|_| is_hex)
    };
    text.lines().filter_map(line).collect()
}

fn refused(detail: String) -> Error {
    Error::new(ErrorKind::Malformed, Stage::Start, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_read_in_one_form_and_written_in_order() {
        let pcrs: Pcrs = "sha256:7,0,23".parse().unwrap();
        assert_eq!((pcrs.to_string().as_str(), pcrs.indexes()), ("sha256:0,7,23", &[0, 7, 23][..]));
        assert_eq!("sha384:1".parse::<Pcrs>().unwrap().bank(), Bank::Sha384);
        assert_eq!(Pcrs::default(), "sha256:7".parse().unwrap());
        for wrong in [
            "",
            "7",
            "sha256:",
            "sha1:7",
            "sha256:24",
            "sha256:7,7",
            "sha256:7,",
            "sha256:+7",
            "sha256:007",
            "SHA256:7",
            "sha256:7 ",
        ] {
            let error = wrong.parse::<Pcrs>().unwrap_err();
            assert!(
                error.kind() == ErrorKind::Malformed && error.remedy_text().contains("sha256:7"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_place_runs_no_program_and_loads_no_library() {
        assert_eq!("/dev/tpmrm0".parse::<Place>().unwrap(), Place::default());
        for good in ["device:/dev/tpm0", "swtpm:path=/run/t", "swtpm:host=127.0.0.1,port=2321"] {
            assert_eq!(good.parse::<Place>().unwrap().to_string(), good);
        }
        for wrong in [
            "",
            "cmd:touch /x",
            "/tmp/x.so",
            "libtss2-tcti-cmd.so",
            "device:/etc/passwd",
            "/dev/../etc/x",
            "swtpm:",
            "swtpm:path=x",
            "tabrmd",
            "mssim:host=x",
            "/dev/a b",
        ] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_the_tool_says_of_registers_is_read() {
        let said = "  sha256:\n    7 : 0x00AB\n    10: 0xFF\n  sha1:\n";
        let found = read_measured(said);
        assert_eq!(
            found,
            [(7, "00ab"), (10, "ff")].map(|(index, value)| Measured { index, value: value.to_owned() })
        );
        assert!(!found[0].is_blank() && Measured { index: 7, value: "0000".to_owned() }.is_blank());
        assert!(read_measured("7 : 0xZZ\nx : 0x00\n300 : 0x00\n").is_empty());
    }
}
