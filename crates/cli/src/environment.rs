//! The environment, read once: where the gateway is, and as whom to speak to it.

use std::ffi::OsString;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// What the environment says. An option of the command line always counts more.
#[derive(Default)]
pub(crate) struct Environment {
    /// `HOLDFAST_URL`: the gateway's address.
    pub(crate) url: Option<String>,
    /// `HOLDFAST_CACERT`: the authority that it is trusted by.
    pub(crate) cacert: Option<PathBuf>,
    /// `HOLDFAST_CERT`: the caller's certificate.
    pub(crate) cert: Option<PathBuf>,
    /// `HOLDFAST_KEY`: its private key.
    pub(crate) key: Option<PathBuf>,
    /// `HOLDFAST_TOKEN`: the caller's bearer token.
    pub(crate) token: Option<Zeroizing<String>>,
    /// `HOLDFAST_TENANT`: the tenant.
    pub(crate) tenant: Option<String>,
    /// `HOLDFAST_WITNESS`: keys of the witnesses that must have cosigned a log.
    pub(crate) witness: Option<String>,
    /// `NOTIFY_SOCKET`: where systemd waits for readiness.
    pub(crate) notify_socket: Option<OsString>,
}

impl Environment {
    /// What this process's environment says; an empty variable says nothing.
    pub(crate) fn of_this_process() -> Self {
        let os = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let text = |name| os(name).and_then(|value| value.into_string().ok());
        Self {
            url: text("HOLDFAST_URL"),
            cacert: os("HOLDFAST_CACERT").map(PathBuf::from),
            cert: os("HOLDFAST_CERT").map(PathBuf::from),
            key: os("HOLDFAST_KEY").map(PathBuf::from),
            token: text("HOLDFAST_TOKEN").map(Zeroizing::new),
            tenant: text("HOLDFAST_TENANT"),
            witness: text("HOLDFAST_WITNESS"),
            notify_socket: os("NOTIFY_SOCKET"),
        }
    }

    /// The witnesses, a key each; a key holds no space.
    pub(crate) fn witnesses(&self) -> Vec<String> {
        self.witness.iter().flat_map(|keys| keys.split_whitespace()).map(str::to_owned).collect()
    }
}
