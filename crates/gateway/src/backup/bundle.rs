//! What lies in a backup, and under which names.

use crate::directory::Identity;
use crate::fault::Fault;
use holdfast_core::port::Committed;
use holdfast_core::{CallerName, InstanceId, TenantId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use zeroize::Zeroizing;

/// The version of this layout with the root key in a file.
const FORMAT: u32 = 1;
/// And with the root key in shares, which older builds cannot restore.
const FORMAT_SHARES: u32 = 2;
/// And without it: it is in the shares of the backup's own custodians, around this archive.
const FORMAT_CUSTODIANS: u32 = 3;
/// And with the root key sealed by a TPM, without shares.
const FORMAT_TPM: u32 = 4;
/// First in the archive, so that whoever reads it knows what comes.
const MANIFEST: &str = "manifest.json";
const IDENTITY: &str = "instance.toml";
const ROOT_KEY: &str = "root.key";
const ROOT_SHARES: &str = "root.shares";
const ROOT_TPM: &str = "root.tpm";
/// Last, since it is as large as it is.
const STATE: &str = "state/holdfast.db";
/// What the server's certificate and key are called, for the directory and the archive.
const TLS: [&str; 3] = ["ca.pem", "server.pem", "server.key"];
/// No member but the state is larger.
const SMALL: u64 = 1 << 20;

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The layout's version.
    pub format: u32,
    /// The instance that it is of.
    pub instance: String,
    /// When it was taken, RFC 3339.
    pub taken: String,
    /// The commit of the state in it.
    pub commit: u64,
    /// The build that wrote it.
    pub build: String,
    /// Which backup, as it stands in clear around one for custodians.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
}

impl Manifest {
    pub(super) fn new(instance: InstanceId, taken: String, state: Committed, root: &Root) -> Self {
        let build = crate::BUILD.to_owned();
        let format = match root {
            Root::Key(_) => FORMAT,
            Root::Shares { .. } => FORMAT_SHARES,
            Root::Custodians => FORMAT_CUSTODIANS,
            Root::Tpm(_) => FORMAT_TPM,
        };
        Self { format, instance: instance.to_string(), taken, commit: state.sequence, build, backup: None }
    }
}

/// A tenant's log as it was: the newest checkpoint and the key that it is signed with.
#[derive(Debug, Clone)]
pub(super) struct KnownLog {
    pub(super) checkpoint: Vec<u8>,
    pub(super) vkey: String,
}

/// How the root key is kept.
pub(super) enum Root {
    /// As it is: whoever opens the backup has it.
    Key(Zeroizing<Vec<u8>>),
    /// In shares: their public list, and the shares, each encrypted to its custodian.
    Shares { roster: Vec<u8>, shares: BTreeMap<String, Vec<u8>> },
    /// Not at all: it is in the shares of the backup's custodians.
    Custodians,
    /// Sealed by the TPM of the machine: the backup has no way to it.
    Tpm(Vec<u8>),
}

/// Everything in a backup but the state.
pub(super) struct Bundle {
    pub(super) manifest: Manifest,
    pub(super) identity: Identity,
    pub(super) root: Root,
    pub(super) tls: BTreeMap<String, Zeroizing<Vec<u8>>>,
    pub(super) logs: BTreeMap<TenantId, KnownLog>,
}

/// The files below `DIR/tls` that a backup takes along.
pub(super) fn tls_files() -> impl Iterator<Item = &'static str> {
    TLS.into_iter()
}

impl Bundle {
    /// Writes the archive, the state last from this file.
    pub(super) fn write(&self, state: &Path, to: impl Write) -> std::io::Result<()> {
        let Self { manifest, identity, root, tls, logs } = self;
        let mut archive = tar::Builder::new(to);
        let manifest = serde_json::to_vec_pretty(manifest)?;
        let identity = toml::to_string(identity).map_err(std::io::Error::other)?;
        member(&mut archive, MANIFEST, &manifest)?;
        member(&mut archive, IDENTITY, identity.as_bytes())?;
        match root {
            Root::Key(key) => member(&mut archive, ROOT_KEY, key)?,
            Root::Tpm(bound) => member(&mut archive, ROOT_TPM, bound)?,
            Root::Shares { roster, shares } => {
                member(&mut archive, ROOT_SHARES, roster)?;
                for (name, share) in shares {
                    member(&mut archive, &format!("shares/{name}.age"), share)?;
                }
            }
            Root::Custodians => {}
        }
        for (name, bytes) in tls {
            member(&mut archive, &format!("tls/{name}"), bytes)?;
        }
        for (tenant, KnownLog { checkpoint, vkey }) in logs {
            member(&mut archive, &format!("audit/{tenant}/checkpoint"), checkpoint)?;
            member(&mut archive, &format!("audit/{tenant}/log.vkey"), vkey.as_bytes())?;
        }
        let mut file = std::fs::File::open(state)?;
        let mut header = header(file.metadata()?.len());
        archive.append_data(&mut header, STATE, &mut file)?;
        archive.into_inner()?.flush()
    }

    /// Reads an archive; the state goes to this file, which MUST NOT exist. Nothing but what a backup holds is accepted.
    pub(super) fn read(from: impl Read, state: &Path) -> Result<Self, Fault> {
        let broken = |error: std::io::Error| {
            Fault::new("the backup cannot be read to its end")
                .remedy("give the file as it was written; compare its SHA-256 with the record in the log")
                .because(error)
                .damaged()
        };
        let strange = |what: &str| {
            Fault::new(format!("the backup holds {what}"))
                .remedy("give a file that `holdfast backup` wrote")
                .damaged()
        };
        let (mut manifest, mut identity, mut has_state) = (None, None, false);
        let (mut root_key, mut roster, mut bound, mut shares) = (None, None, None, BTreeMap::new());
        let (mut tls, mut checkpoints, mut vkeys) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut archive = tar::Archive::new(from);
        for entry in archive.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            if name == STATE {
                write_state(&mut entry, state, broken)?;
                has_state = true;
                continue;
            }
            if entry.size() > SMALL {
                return Err(strange(&format!("`{name}`, which is too large")));
            }
            let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(entry.size()).unwrap_or(0)));
            entry.read_to_end(&mut bytes).map_err(broken)?;
            let unreadable = || strange(&format!("a `{name}` that is none"));
            match *name.split('/').collect::<Vec<_>>() {
                [MANIFEST] => {
                    let found: Manifest = serde_json::from_slice(&bytes).map_err(|_| unreadable())?;
                    if found.format > FORMAT_TPM {
                        let problem = format!(
                            "the backup has format {}, and this build knows {FORMAT_TPM}",
                            found.format
                        );
                        return Err(Fault::new(problem)
                            .remedy("restore it with the build that wrote it, or a newer one"));
                    }
                    manifest = Some(found);
                }
                [IDENTITY] => {
                    let text = String::from_utf8_lossy(&bytes);
                    identity = Some(Identity::parse(&text).map_err(|_| unreadable())?);
                }
                [ROOT_KEY] => root_key = Some(bytes),
                [ROOT_TPM] => bound = Some(bytes.to_vec()),
                [ROOT_SHARES] => roster = Some(bytes.to_vec()),
                ["shares", file] => {
                    let name = file.strip_suffix(".age").ok_or_else(unreadable)?;
                    let name: CallerName = name.parse().map_err(|_| unreadable())?;
                    shares.insert(name.to_string(), bytes.to_vec());
                }
                ["tls", file] if TLS.contains(&file) => drop(tls.insert(file.to_owned(), bytes)),
                ["audit", tenant, "checkpoint"] => {
                    checkpoints.insert(tenant.parse().map_err(|_| unreadable())?, bytes.to_vec());
                }
                ["audit", tenant, "log.vkey"] => {
                    let vkey = String::from_utf8_lossy(&bytes).trim_end().to_owned();
                    vkeys.insert(tenant.parse::<TenantId>().map_err(|_| unreadable())?, vkey);
                }
                _ => return Err(strange(&format!("`{name}`, which is nothing of a gateway's"))),
            }
        }
        // To its very end: only there is known that nothing was cut off.
        std::io::copy(&mut archive.into_inner(), &mut std::io::sink()).map_err(broken)?;
        let missing = |what: &str| strange(&format!("no `{what}`"));
        if !has_state {
            return Err(missing(STATE));
        }
        let mut logs = BTreeMap::new();
        for (tenant, checkpoint) in checkpoints {
            let vkey = vkeys.remove(&tenant).ok_or_else(|| missing(&format!("audit/{tenant}/log.vkey")))?;
            logs.insert(tenant, KnownLog { checkpoint, vkey });
        }
        let manifest = manifest.ok_or_else(|| missing(MANIFEST))?;
        Ok(Self {
            identity: identity.ok_or_else(|| missing(IDENTITY))?,
            root: match (root_key, roster, bound, manifest.format) {
                (None, None, None, FORMAT_CUSTODIANS) => Root::Custodians,
                (Some(key), None, None, _) => Root::Key(key),
                (None, Some(roster), None, _) => Root::Shares { roster, shares },
                (None, None, Some(bound), _) => Root::Tpm(bound),
                (None, None, None, _) => return Err(missing(ROOT_KEY)),
                (Some(_) | None, _, _, _) => return Err(strange("a root key that is kept in two ways")),
            },
            manifest,
            tls,
            logs,
        })
    }
}

fn header(bytes: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes);
    header.set_mode(0o600);
    header.set_entry_type(tar::EntryType::Regular);
    header
}

fn member(archive: &mut tar::Builder<impl Write>, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let length = u64::try_from(bytes.len()).map_err(std::io::Error::other)?;
    archive.append_data(&mut header(length), name, bytes)
}

/// What cannot be read is the backup's fault, what cannot be written this machine's.
fn write_state(
    from: &mut impl Read,
    to: &Path,
    broken: impl Fn(std::io::Error) -> Fault,
) -> Result<(), Fault> {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    let wrong = |error| Fault::io("cannot write", to, error);
    if let Some(parent) = to.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(wrong)?;
    }
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(wrong)?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut buffer).map_err(&broken)?;
        match buffer.get(..read) {
            None | Some([]) => break,
            Some(bytes) => file.write_all(bytes).map_err(wrong)?,
        }
    }
    file.sync_all().map_err(wrong)
}
