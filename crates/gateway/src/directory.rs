//! The data directory: what lies where, and what it is for ever.
//!
//! ```text
//! DIR/instance.toml   who this gateway is; written last, so its presence says that founding was completed
//! DIR/root.key        the embedded root key, 0600; or instead of it:
//! DIR/root.shares     who has a share of the root key, and how many open it; nothing of it is secret
//! DIR/shares/         each custodian's share, encrypted to them
//! DIR/root.next       the next root key, sealed under the one in force, while it is put in force
//! DIR/log.seeds/      what the logs' keys come from, sealed under a root key that is not the first
//! DIR/root.tpm        the root key as this machine's TPM has sealed it, alone or beside the shares; of no use without that TPM
//! DIR/root.hsm        the root key as keys of the tokens have sealed it, beside the shares; of no use without one of them
//! DIR/sealed          there while a custodian's order to seal is in force
//! DIR/sealed.ready    the same file otherwise, so that it takes no room on a full disk
//! DIR/seal.orders     orders to seal that no log has yet
//! DIR/lock            held by the one process that serves the directory
//! DIR/state/          the embedded state
//! DIR/wal/            the log's write-ahead file
//! DIR/audit/TENANT/   each tenant's log, as C2SP tlog-tiles
//! DIR/openings/       keys of commitments, erasable
//! DIR/sinks/SINK/     how far each sink has come
//! DIR/tls/            the server's certificate and key
//! DIR/credentials/    what `init` issued, to be handed out and removed
//! DIR/log.known       how many entries each log had when the write-ahead file last let go of some
//! DIR/growth          what was measured of its size
//! DIR/dev.env         in a dev directory: how to reach it
//! ```

use crate::fault::Fault;
use crate::shares::Roster;
use holdfast_core::InstanceId;
use holdfast_keystore::root::SealerId;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The newest layout that this build can serve.
const LAYOUT: u32 = 1;

/// What a directory is, for ever.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The layout's version: an older build refuses a newer one.
    pub layout: u32,
    /// The instance, part of each log's origin.
    #[serde(with = "instance_text")]
    pub instance: InstanceId,
    /// Whether it is a dev directory: plain `serve` refuses it.
    pub dev: bool,
    /// The first part of each log's origin.
    pub origin: String,
    /// When it was founded, RFC 3339.
    pub founded: String,
    /// The build that founded it.
    pub build: String,
    /// The instance under which the state's rows are sealed, if the gateway came back from a backup of another instance.
    #[serde(with = "instance_text_if_any", default, skip_serializing_if = "Option::is_none")]
    pub state_of: Option<InstanceId>,
}

mod instance_text_if_any {
    use holdfast_core::InstanceId;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(
        id: &Option<InstanceId>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match id {
            Some(id) => serializer.collect_str(id),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<InstanceId>, D::Error> {
        String::deserialize(deserializer)?.parse().map(Some).map_err(D::Error::custom)
    }
}

mod instance_text {
    use holdfast_core::InstanceId;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(id: &InstanceId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<InstanceId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Identity {
    /// A new one of this build's layout.
    pub fn new(instance: InstanceId, dev: bool, origin: &str, founded: String) -> Self {
        let origin = if dev { format!("dev.{origin}") } else { origin.to_owned() };
        Self {
            layout: LAYOUT,
            instance,
            dev,
            origin,
            founded,
            build: crate::BUILD.to_owned(),
            state_of: None,
        }
    }

    /// What the gateway becomes when it comes back from a backup: another instance, whose logs have other origins.
    pub fn restored(&self, instance: InstanceId, restored: String) -> Self {
        Self {
            layout: LAYOUT,
            instance,
            founded: restored,
            build: crate::BUILD.to_owned(),
            state_of: Some(self.sealing_instance()),
            ..self.clone()
        }
    }

    /// The instance under which the state's rows are sealed.
    pub fn sealing_instance(&self) -> InstanceId {
        self.state_of.unwrap_or(self.instance)
    }

    /// Reads the text of `instance.toml`.
    pub(crate) fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The origin of a tenant's log (C2SP tlog-checkpoint): `ORIGIN/INSTANCE/TENANT`.
    pub fn log_origin(&self, tenant: &holdfast_core::TenantId) -> String {
        format!("{}/{}/{tenant}", self.origin, self.instance)
    }
}

/// A data directory.
#[derive(Debug, Clone)]
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    /// Whether a custodian has ordered the gateway to be sealed, and no custodians have opened it since.
    pub(crate) fn is_sealed_by_order(&self) -> bool {
        self.seal_mark().exists()
    }

    /// Keeps the mark of that ready: it takes another name then, and no room.
    pub(crate) fn keep_mark_ready(&self) {
        let ready = self.ready_mark();
        if self.seal_mark().exists() || ready.exists() {
            return;
        }
        if let Err(fault) = write_private(&ready, b"by order of a custodian\n") {
            tracing::warn!(%fault, "the mark of a seal cannot be kept ready: on a full disk a seal would not outlast the process");
        }
    }

    /// Remembers that order beyond the end of the process; gives whether it is on the disk. What cannot be written is in force all the same.
    #[must_use]
    pub(crate) fn mark_sealed(&self) -> bool {
        let mark = self.seal_mark();
        let marked = match fs::rename(self.ready_mark(), &mark) {
            Err(_) if !mark.exists() => write_private(&mark, b"by order of a custodian\n"),
            Ok(()) | Err(_) => fs::File::open(self.path())
                .and_then(|directory| directory.sync_all())
                .map_err(|error| Fault::io("cannot write", &mark, error)),
        };
        if let Err(fault) = &marked {
            tracing::error!(%fault, "that the gateway is sealed is not on the disk: a device may open its next start");
        }
        marked.is_ok()
    }

    /// Custodians have opened it.
    pub(crate) fn clear_seal(&self) {
        match fs::rename(self.seal_mark(), self.ready_mark()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, "the mark of a seal is still there: custodians are asked again at the next start");
            }
            Ok(()) | Err(_) => {}
        }
    }

    fn seal_mark(&self) -> PathBuf {
        self.path().join("sealed")
    }

    fn ready_mark(&self) -> PathBuf {
        self.path().join("sealed.ready")
    }

    /// The orders to seal that no log has yet.
    pub(crate) fn seal_orders(&self) -> PathBuf {
        self.path().join("seal.orders")
    }

    /// The directory at this path; nothing is touched yet.
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_path_buf() }
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The root key's file.
    pub fn root_key(&self) -> PathBuf {
        self.root.join("root.key")
    }

    /// The public list of the root key's shares, where it is in shares.
    pub fn root_shares(&self) -> PathBuf {
        self.root.join("root.shares")
    }

    /// The root key as a TPM has sealed it, where one has.
    pub fn root_tpm(&self) -> PathBuf {
        self.root.join("root.tpm")
    }

    /// The root key as tokens have sealed it, where they have.
    pub fn root_hsm(&self) -> PathBuf {
        self.root.join("root.hsm")
    }

    /// The shares themselves, each encrypted to its custodian.
    pub fn shares(&self) -> PathBuf {
        self.root.join("shares")
    }

    /// The next generation of them, while it is handed out.
    pub(crate) fn new_shares(&self) -> PathBuf {
        self.root.join("shares.new")
    }

    /// The next root key, while it is put in force.
    pub(crate) fn next_root(&self) -> PathBuf {
        self.root.join("root.next")
    }

    /// The seeds of the logs' keys under the root key of that name.
    pub(crate) fn log_seeds(&self, root: &SealerId) -> PathBuf {
        self.root.join("log.seeds").join(root.to_string())
    }

    /// Who has the root key's shares; `None` where it is in a file.
    ///
    /// # Errors
    /// When the list is none, or the root key lies beside it after all.
    pub fn roster(&self) -> Result<Option<Roster>, Fault> {
        let path = self.root_shares();
        if !path.exists() {
            return Ok(None);
        }
        // A root key in one piece is about to give way to one in shares: it leads to that one.
        if self.root_key().exists() && self.next_root().exists() {
            return Ok(None);
        }
        if self.root_key().exists() {
            let problem = format!("`{}` lies beside `{}`", self.root_key().display(), path.display());
            return Err(Fault::new(problem)
                .remedy("remove the root key's file: the root key is in shares, and nobody is to have it in one piece"));
        }
        Roster::read(&path).map(Some)
    }

    /// A tenant's log.
    pub fn log(&self, tenant: &holdfast_core::TenantId) -> PathBuf {
        self.root.join("audit").join(tenant.as_str())
    }

    /// The server's own certificate and key.
    pub fn tls(&self) -> PathBuf {
        self.root.join("tls")
    }

    /// What `init` issued.
    pub fn credentials(&self) -> PathBuf {
        self.root.join("credentials")
    }

    /// Looks whether the log's write-ahead file is where a founded directory has it: opening it would begin a new one in its place.
    ///
    /// # Errors
    /// When it is missing.
    pub fn has_log(&self) -> Result<(), Fault> {
        let path = self.root.join("wal");
        let is_segment = |entry: fs::DirEntry| entry.path().extension().is_some_and(|end| end == "wal");
        match fs::read_dir(&path).map(|entries| entries.flatten().any(is_segment)) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Fault::new(format!("`{}` holds no segment of the log", path.display()))
                .remedy("put back what was there, or follow `docs/operate/rollback.md`")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Fault::new(format!("the log's directory `{}` is missing", path.display()))
                    .remedy("put back what was there, or follow `docs/operate/rollback.md`"))
            }
            Err(error) => Err(Fault::io("cannot read", &path, error)),
        }
    }

    fn identity_file(&self) -> PathBuf {
        self.root.join("instance.toml")
    }

    /// What the directory is; `None` where nothing has been founded.
    ///
    /// # Errors
    /// When the file cannot be read, or was written by a newer build.
    pub fn identity(&self) -> Result<Option<Identity>, Fault> {
        let path = self.identity_file();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Fault::io("cannot read", &path, error)),
        };
        let identity = Identity::parse(&text).map_err(|error| {
            Fault::new(format!("`{}` is not an instance's identity", path.display()))
                .remedy("restore the file from a backup of the directory")
                .because(error)
        })?;
        if identity.layout > LAYOUT {
            let problem = format!(
                "`{}` has layout {}, and this build knows layouts up to {LAYOUT}",
                self.root.display(),
                identity.layout
            );
            return Err(
                Fault::new(problem).remedy("run the build that last served the directory, or a newer one")
            );
        }
        Ok(Some(identity))
    }

    /// Makes the directory, for its owner only; an existing one must be empty.
    ///
    /// # Errors
    /// When it holds something, or cannot be made.
    pub fn prepare(&self) -> Result<(), Fault> {
        if let Some(identity) = self.identity()? {
            let problem = format!("`{}` holds gateway {} already", self.root.display(), identity.instance);
            return Err(Fault::new(problem).remedy("run `holdfast serve`, or name another directory"));
        }
        match fs::read_dir(&self.root).map(|mut entries| entries.next().is_some()) {
            Ok(true) => {
                let problem = format!("`{}` is not empty and holds no complete gateway", self.root.display());
                Err(Fault::new(problem).remedy(
                    "name another directory; if an earlier `init` was interrupted there, remove it first",
                ))
            }
            Ok(false) => Ok(()),
            Err(_) => fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&self.root)
                .map_err(|error| Fault::io("cannot make", &self.root, error)),
        }
    }

    /// Writes what the directory is: the last step of founding.
    ///
    /// # Errors
    /// When the file cannot be written durably.
    pub fn seal(&self, identity: &Identity) -> Result<(), Fault> {
        let text = toml::to_string(identity)
            .map_err(|error| Fault::new("the instance's identity cannot be written").because(error))?;
        write_private(&self.identity_file(), text.as_bytes())
    }
}

/// Writes a file for its owner only: to a temporary name, synced, renamed, the directory synced.
///
/// # Errors
/// When any of that fails.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Fault> {
    let wrong = |error| Fault::io("cannot write", path, error);
    let named = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = named.unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(wrong)?;
    // A name of its own for each file: two may be written at once.
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    // A leftover of an interrupted write is nobody's.
    let _ = fs::remove_file(&temporary);
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).map_err(wrong)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(wrong)?;
    fs::rename(&temporary, path).map_err(wrong)?;
    fs::File::open(parent).and_then(|directory| directory.sync_all()).map_err(wrong)
}
