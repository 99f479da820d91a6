//! What lies around a backup for custodians: a tar archive that says in clear whose backup it is, holds each custodian's share encrypted to
//! them, and the backup itself encrypted to a key that nobody has until enough of them open theirs.

use crate::fault::Fault;
use crate::shares::{MAX_SEALED, NewCustodian, seal_text};
use age::armor::Format;
use age::x25519::{Identity, Recipient};
use holdfast_core::port::World;
use holdfast_core::{CallerName, InstanceId};
use holdfast_keystore::root::RootKey;
use holdfast_keystore::root::backup::{self, BackupId, BackupKey, BackupShare, BackupSharing};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};
use zeroize::Zeroizing;

/// The version of this layout: after those of backups that one recipient opens.
pub(super) const FORMAT: u32 = 3;
/// First in the archive.
pub(super) const HEAD: &str = "backup.toml";
/// Last in it.
const SEALED: &str = "sealed.age";
/// What a tar archive is made of, and what it ends with at least.
const BLOCK: u64 = 512;
const END: u64 = 2 * BLOCK;
/// The most bytes of the head.
const MAX_HEAD: u64 = 1 << 20;

/// What a backup says of itself in clear.
#[derive(Debug, Clone)]
pub(super) struct Head {
    /// Which backup, of which instance, and how many custodians open it.
    pub(super) of: BackupSharing,
    /// When it was taken, RFC 3339.
    pub(super) taken: String,
    /// The recipient of what is sealed: its key is what the shares give.
    pub(super) recipient: String,
    pub(super) custodians: Vec<Holder>,
}

/// A custodian of the backup.
#[derive(Debug, Clone)]
pub(super) struct Holder {
    pub(super) name: CallerName,
    pub(super) recipient: String,
    pub(super) number: u8,
    /// What their share is recognised by: SHA-256 of its text.
    pub(super) commitment: [u8; 32],
}

/// All of it but what is sealed.
pub(super) struct Envelope {
    pub(super) head: Head,
    /// By number.
    pub(super) shares: BTreeMap<u8, Vec<u8>>,
}

/// As the head stands in the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadFile {
    format: u32,
    instance: String,
    backup: String,
    taken: String,
    threshold: u8,
    recipient: String,
    custodian: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    recipient: String,
    number: u8,
    sha256: String,
}

impl Envelope {
    /// Makes a key for one backup, shares it, and forgets it: gives the recipient that is left of it.
    ///
    /// # Errors
    /// For custodians to whom nothing can be handed out, and without entropy.
    pub(super) fn make<W: World>(
        (instance, threshold, taken): (InstanceId, u8, String),
        root: Option<&RootKey>,
        custodians: &[NewCustodian],
        world: &W,
    ) -> Result<(Self, Recipient), Fault> {
        let of = BackupSharing { instance, backup: BackupId::new(world)?, threshold };
        let key = BackupKey::generate(world)?;
        let recipient = identity(&key)?.to_public();
        let count = u8::try_from(custodians.len()).unwrap_or(u8::MAX);
        let handed = backup::split(&key, root, &of, count, world)?;
        let (mut holders, mut shares) = (Vec::with_capacity(handed.len()), BTreeMap::new());
        for (custodian, share) in custodians.iter().zip(handed) {
            let NewCustodian { name, recipient } = custodian;
            shares.insert(share.number(), seal_text(&share.to_text(), recipient, Format::AsciiArmor)?);
            holders.push(Holder {
                name: name.clone(),
                recipient: recipient.to_string(),
                number: share.number(),
                commitment: share.commitment(),
            });
        }
        let head = Head { of, taken, recipient: recipient.to_string(), custodians: holders };
        Ok((Self { head, shares }, recipient))
    }

    /// Writes the archive; `seal` writes what is sealed, whose length is known only then.
    pub(super) fn write<F: Write + Seek>(
        &self,
        file: &mut F,
        seal: impl FnOnce(&mut F) -> io::Result<()>,
    ) -> io::Result<()> {
        let Self { head, shares } = self;
        member(file, HEAD, head.to_text()?.as_bytes())?;
        for (number, share) in shares {
            member(file, &share_name(*number), share)?;
        }
        let at = file.stream_position()?;
        file.write_all(header(SEALED, 0)?.as_bytes())?;
        seal(file)?;
        let length = file.stream_position()?.saturating_sub(at + BLOCK);
        let rest = padding(length) + END;
        io::copy(&mut io::repeat(0).take(rest), file)?;
        file.seek(SeekFrom::Start(at))?;
        file.write_all(header(SEALED, length)?.as_bytes())?;
        file.seek(SeekFrom::End(0)).map(|_| ())
    }

    /// Reads it up to what is sealed, and gives what reads that.
    ///
    /// # Errors
    /// When it is cut or damaged, or of a newer build.
    pub(super) fn read(from: Box<dyn Read + Send>) -> Result<(Self, SealedPart), Fault> {
        let mut archive = tar::Archive::new(from);
        let (mut head, mut shares, mut length) = (None, BTreeMap::new(), None);
        for entry in archive.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            if name == SEALED {
                length = Some(entry.size());
                break;
            }
            if entry.size() > MAX_HEAD {
                return Err(strange(&format!("`{name}`, which is too large")));
            }
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(broken)?;
            let number = name.strip_prefix("shares/").and_then(|name| name.strip_suffix(".age"));
            match number.and_then(|number| number.parse::<u8>().ok()) {
                Some(number) if name == share_name(number) && bytes.len() <= MAX_SEALED => {
                    shares.insert(number, bytes);
                }
                Some(_) | None if name == HEAD => {
                    head = Some(Head::parse(&String::from_utf8_lossy(&bytes))?);
                }
                Some(_) | None => return Err(strange(&format!("`{name}`, which is nothing of a backup's"))),
            }
        }
        let missing = |what: &str| strange(&format!("no `{what}`"));
        let head = head.ok_or_else(|| missing(HEAD))?;
        let length = length.ok_or_else(|| missing(SEALED))?;
        if let Some(holder) = head.custodians.iter().find(|holder| !shares.contains_key(&holder.number)) {
            return Err(missing(&share_name(holder.number)));
        }
        let padding = padding(length) + END;
        Ok((Self { head, shares }, SealedPart { from: archive.into_inner(), left: length, padding }))
    }
}

/// Reads what is sealed, and then sees that nothing is missing behind it.
pub(super) struct SealedPart {
    from: Box<dyn Read + Send>,
    left: u64,
    padding: u64,
}

impl Read for SealedPart {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let cut = || io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends too early");
        if out.is_empty() {
            return Ok(0);
        }
        if self.left > 0 {
            let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(out.len());
            let (out, _) = out.split_at_mut(most);
            let read = self.from.read(out)?;
            if read == 0 {
                return Err(cut());
            }
            self.left = self.left.saturating_sub(u64::try_from(read).unwrap_or(u64::MAX));
            return Ok(read);
        }
        let mut rest = Vec::new();
        (&mut self.from).take(self.padding + 1).read_to_end(&mut rest)?;
        let is_whole = u64::try_from(rest.len()).is_ok_and(|length| length == self.padding);
        if !is_whole || rest.iter().any(|byte| *byte != 0) {
            return Err(cut());
        }
        self.padding = 0;
        Ok(0)
    }
}

impl Head {
    fn to_text(&self) -> io::Result<String> {
        let Self { of: BackupSharing { instance, backup, threshold }, taken, recipient, custodians } = self;
        let row = |holder: &Holder| {
            let Holder { name, recipient, number, commitment } = holder;
            let sha256 = commitment.iter().map(|byte| format!("{byte:02x}")).collect();
            Row { name: name.to_string(), recipient: recipient.clone(), number: *number, sha256 }
        };
        let file = HeadFile {
            format: FORMAT,
            instance: instance.to_string(),
            backup: backup.to_string(),
            taken: taken.clone(),
            threshold: *threshold,
            recipient: recipient.clone(),
            custodian: custodians.iter().map(row).collect(),
        };
        toml::to_string(&file).map_err(io::Error::other)
    }

    fn parse(text: &str) -> Result<Self, Fault> {
        let unreadable = || strange(&format!("a `{HEAD}` that is none"));
        // Its format first: a newer one may have other fields.
        let table: toml::Table = toml::from_str(text).map_err(|_| unreadable())?;
        let format = table.get("format").and_then(toml::Value::as_integer).ok_or_else(unreadable)?;
        if format != i64::from(FORMAT) {
            let problem = format!("the backup has format {format}, and this build knows {FORMAT}");
            return Err(Fault::new(problem).remedy("restore it with the build that wrote it, or a newer one"));
        }
        let HeadFile { format: _, instance, backup, taken, threshold, recipient, custodian } =
            toml::from_str(text).map_err(|error| unreadable().because(error))?;
        let of = BackupSharing {
            instance: instance.parse().map_err(|_| unreadable())?,
            backup: backup.parse()?,
            threshold,
        };
        let custodians: Vec<_> =
            custodian.into_iter().map(Row::read).collect::<Option<_>>().ok_or_else(unreadable)?;
        let numbers: std::collections::BTreeSet<_> = custodians.iter().map(|holder| holder.number).collect();
        let is_distinct = numbers.len() == custodians.len() && !numbers.contains(&0);
        if !is_distinct || threshold < 2 || usize::from(threshold) > custodians.len() {
            return Err(unreadable());
        }
        Ok(Self { of, taken, recipient, custodians })
    }

    /// Whose share this says to be, by its number.
    pub(super) fn holder(&self, share: &BackupShare) -> Option<&Holder> {
        self.custodians.iter().find(|holder| holder.number == share.number())
    }
}

impl Row {
    fn read(self) -> Option<Holder> {
        let Self { name, recipient, number, sha256 } = self;
        let mut commitment = [0; 32];
        let is_hex = sha256.len() == 64 && sha256.bytes().all(|b| b.is_ascii_hexdigit());
        for (index, out) in commitment.iter_mut().enumerate() {
            let digits = sha256.get(2 * index..2 * index + 2).filter(|_| is_hex)?;
            *out = u8::from_str_radix(digits, 16).ok()?;
        }
        Some(Holder { name: name.parse().ok()?, recipient, number, commitment })
    }
}

/// A backup's key as the age identity that it is.
///
/// # Errors
/// None for 32 bytes.
pub(super) fn identity(key: &BackupKey) -> Result<Identity, Fault> {
    let failed = || Fault::new("the backup's key is no age identity");
    let hrp = bech32::Hrp::parse("age-secret-key-").map_err(|error| failed().because(error))?;
    let text = bech32::encode_upper::<bech32::Bech32>(hrp, key.expose());
    let text = Zeroizing::new(text.map_err(|error| failed().because(error))?);
    text.parse().map_err(|error: &str| failed().because(error))
}

fn share_name(number: u8) -> String {
    format!("shares/{number}.age")
}

fn broken(error: io::Error) -> Fault {
    Fault::new("the backup cannot be read to its end")
        .remedy("give the file as it was written; compare its SHA-256 with the record in the log")
        .because(error)
        .damaged()
}

fn strange(what: &str) -> Fault {
    Fault::new(format!("the backup holds {what}"))
        .remedy("give a file that `holdfast backup` wrote")
        .damaged()
}

/// What fills the last block.
fn padding(length: u64) -> u64 {
    length.next_multiple_of(BLOCK).saturating_sub(length)
}

fn header(name: &str, length: u64) -> io::Result<tar::Header> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name)?;
    header.set_size(length);
    header.set_mode(0o600);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    Ok(header)
}

fn member(file: &mut impl Write, name: &str, bytes: &[u8]) -> io::Result<()> {
    let length = u64::try_from(bytes.len()).map_err(io::Error::other)?;
    file.write_all(header(name, length)?.as_bytes())?;
    file.write_all(bytes)?;
    io::copy(&mut io::repeat(0).take(padding(length)), file).map(|_| ())
}
