//! `root.hsm`: a root key that keys of the configured tokens have sealed, always beside custodians' shares. Nothing in it is secret or trusted.

use super::{Refused, Start, hex, or_by_shares, unhex};
use crate::authentic::{Authentic, Authenticator, Mac};
use crate::config::Config;
use crate::directory::Directory;
use crate::fault::Fault;
use crate::process;
use crate::shares::Roster;
use crate::world::SystemWorld;
use holdfast_core::pipeline::DeviceUnsealing;
use holdfast_core::port::World as _;
use holdfast_core::{CallerName, Error, ErrorKind, InstanceId, Stage};
use holdfast_keystore::pkcs11::Pool;
use holdfast_keystore::pkcs11::root_key::{self, InToken};
use holdfast_keystore::root::{RootKey, SealerId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// The version of this file.
const FORMAT: u32 = 1;
/// What its code is bound to.
const NAME: &str = "root.hsm";
/// How it is called in records.
const HSM: &str = "hsm";
/// How long a start waits for a token before it says that it is sealed.
const FIRST: Duration = Duration::from_secs(5);
/// How often tokens are asked that are not there.
const AGAIN: Duration = Duration::from_millis(500);

/// A root key that tokens have sealed, each with a key of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InTokens {
    /// The gateway that it is of.
    pub instance: InstanceId,
    /// The public name of the root key.
    pub root: SealerId,
    /// When it was sealed, RFC 3339.
    pub made: String,
    /// Whose shares gave the root key for that; nobody's for the founding's.
    pub bound_by: Vec<CallerName>,
    /// The tokens: any one of them opens it.
    pub tokens: Vec<InToken>,
    /// By whom all this was written: who had the root key. `None` of what an earlier build wrote.
    pub mac: Option<Mac>,
}

/// As it stands in the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    instance: String,
    root: String,
    made: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    bound_by: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
    token: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    serial: String,
    id: String,
    nonce: String,
    sealed: String,
}

impl InTokens {
    /// Reads the text of the file.
    ///
    /// # Errors
    /// Names what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let File { format, instance, root, made, bound_by, mac, token } =
            toml::from_str(text).map_err(|error| Fault::new(error.to_string()))?;
        if format != FORMAT {
            return Err(Fault::new(format!("it has format {format}, and this build knows {FORMAT}")));
        }
        let name =
            |text: String| text.parse().map_err(|_| Fault::new(format!("`{text}` is no custodian's name")));
        let read = |Row { name, serial, id, nonce, sealed }: Row| {
            let refused = || Fault::new(format!("what `{name}` has sealed is none"));
            Ok(InToken {
                id: unhex(&id).and_then(|id| id.try_into().ok()).ok_or_else(refused)?,
                nonce: unhex(&nonce).and_then(|nonce| nonce.try_into().ok()).ok_or_else(refused)?,
                sealed: unhex(&sealed).ok_or_else(refused)?,
                serial,
                name,
            })
        };
        Ok(Self {
            instance: instance.parse().map_err(|_| Fault::new(format!("`{instance}` is no instance")))?,
            root: SealerId::parse(&root).ok_or_else(|| Fault::new("`root` is no name of a root key"))?,
            made,
            bound_by: bound_by.into_iter().map(name).collect::<Result<_, _>>()?,
            tokens: token.into_iter().map(read).collect::<Result<_, Fault>>()?,
            mac: match mac {
                None => None,
                Some(mac) => Some(mac.parse().map_err(|()| Fault::new("`mac` is no code"))?),
            },
        })
    }

    /// The text of the file.
    ///
    /// # Errors
    /// When it cannot be written as text.
    pub fn to_text(&self) -> Result<String, Fault> {
        let file = File { mac: self.mac.as_ref().map(ToString::to_string), ..self.said() };
        toml::to_string(&file).map_err(|error| Fault::new("`root.hsm` cannot be written").because(error))
    }

    /// The same, with its code.
    ///
    /// # Errors
    /// When it cannot be written as text.
    fn signed(self, root: &RootKey) -> Result<Self, Error> {
        let mac = Some(Authenticator::new(root)?.mac(NAME, &self.said())?);
        Ok(Self { mac, ..self })
    }

    /// Whether who wrote it had this root key.
    ///
    /// # Errors
    /// `key-store-unavailable` where its code says that they had not.
    pub fn check(&self, root: &RootKey) -> Result<Authentic, Error> {
        Authenticator::new(root)?.check(NAME, &self.said(), self.mac)
    }

    /// All that it says, but for its code.
    fn said(&self) -> File {
        let Self { instance, root, made, bound_by, tokens, mac: _ } = self;
        let row = |InToken { name, serial, id, nonce, sealed }: &InToken| Row {
            name: name.clone(),
            serial: serial.clone(),
            id: hex(id),
            nonce: hex(nonce),
            sealed: hex(sealed),
        };
        File {
            format: FORMAT,
            instance: instance.to_string(),
            root: root.to_string(),
            made: made.clone(),
            bound_by: bound_by.iter().map(ToString::to_string).collect(),
            mac: None,
            token: tokens.iter().map(row).collect(),
        }
    }

    /// What each token's ciphertext is bound to.
    fn aad(&self) -> Vec<u8> {
        aad(self.instance)
    }

    /// When and by whom it was bound is believed of what opened and has a code.
    fn told(&self, refused: Option<String>) -> DeviceUnsealing {
        let is_known = refused.is_none() && self.mac.is_some();
        let (made, bound_by) = match is_known {
            true => (self.made.clone(), self.bound_by.clone()),
            false => (String::new(), vec![]),
        };
        let names: Vec<_> = self.tokens.iter().map(|token| token.name.as_str()).collect();
        DeviceUnsealing {
            at: SystemWorld::new().now(),
            device: HSM,
            bound_to: names.join(" "),
            made,
            bound_by,
            refused,
        }
    }
}

/// Which tokens, in words.
impl fmt::Display for InTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |token: &InToken| format!("`{}` (serial {})", token.name, token.serial);
        let names: Vec<_> = self.tokens.iter().map(name).collect();
        write!(f, "sealed by the tokens {}", names.join(", "))
    }
}

impl Directory {
    /// The root key as tokens have sealed it; `None` where none have.
    ///
    /// # Errors
    /// `key-store-unavailable`, when the file is none.
    pub fn in_tokens(&self) -> Result<Option<InTokens>, Error> {
        let path = self.root_hsm();
        if !path.exists() {
            return Ok(None);
        }
        let refused = |why: Box<dyn std::error::Error + Send + Sync>| {
            let detail = format!("`{}` is refused", path.display());
            unavailable(detail).remedy("put `root.hsm` back as it was written last").because(why)
        };
        let text = std::fs::read_to_string(&path).map_err(|error| refused(error.into()))?;
        InTokens::parse(&text).map(Some).map_err(|fault| refused(fault.to_string().into()))
    }
}

fn aad(instance: InstanceId) -> Vec<u8> {
    format!("holdfast/root-hsm/v1/{instance}").into_bytes()
}

fn unavailable(detail: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::KeyStoreUnavailable, Stage::Start, detail)
}

/// The configured tokens, each behind a worker of its own.
fn pool(config: &Config, directory: &Directory) -> Result<Pool, Error> {
    let started = config.pool.start(&config.token, directory.path());
    let started = started.map_err(|fault| {
        unavailable(fault.to_string()).remedy(fault.remedy_text().unwrap_or("look at `[[token]]`").to_owned())
    })?;
    started.ok_or_else(|| {
        unavailable("the configuration has no `[[token]]`")
            .remedy("name the tokens that have sealed the root key")
    })
}

/// Has the configured tokens seal a root key.
pub(crate) async fn seal_in_tokens(
    (instance, root): (InstanceId, &RootKey),
    bound_by: Vec<CallerName>,
    config: &Config,
    directory: &Directory,
) -> Result<InTokens, Fault> {
    let pool = pool(config, directory)?;
    let world = SystemWorld::new();
    let tokens = root_key::seal(&pool, root, &aad(instance), &world).await?;
    let made = world.now().to_string();
    Ok(InTokens { instance, root: root.id()?, made, bound_by, tokens, mac: None }.signed(root)?)
}

/// Has any of the configured tokens open it, within seconds.
pub(super) async fn open_in_tokens(
    of: &InTokens,
    config: &Config,
    directory: &Directory,
) -> Result<RootKey, Error> {
    let pool = pool(config, directory)?;
    match tokio::time::timeout(FIRST, opened(&pool, of)).await {
        Ok(opened) => opened,
        Err(_) => Err(not_opened(&pool)),
    }
}

/// Removes the tokens' own keys of what was sealed before.
pub(crate) async fn forget_in_tokens(of: &InTokens, config: &Config, directory: &Directory) {
    if let Ok(pool) = pool(config, directory) {
        for member in pool.members() {
            // Whoever is not there keeps a key that opens nothing which is still in force.
            let _up = member.ready(FIRST).await;
        }
        root_key::forget(&pool, &of.tokens).await;
    }
}

fn not_opened(pool: &Pool) -> Error {
    let why = pool.check().err().unwrap_or_else(|| "they do not hold the key that sealed it".into());
    unavailable("no token has opened the root key")
        .remedy("bring one of the tokens back: the gateway then opens by itself")
        .because(why.to_string())
}

/// Waits until one of them opens it, for as long as somebody waits.
///
/// # Errors
/// `key-store-unavailable`, when one has, and `root.hsm` is not as it was written.
async fn opened(pool: &Pool, of: &InTokens) -> Result<RootKey, Error> {
    let mut said = String::new();
    loop {
        let error = match root_key::open(pool, &of.tokens, &of.aad()).await {
            // One without a code opens, and nothing that it says is believed.
            Ok(root) if root.id().ok() == Some(of.root) => {
                let (Authentic::Yes | Authentic::Unknown) = of.check(&root)?;
                return Ok(root);
            }
            Ok(_) => unavailable("a token opened another root key than `root.hsm` names"),
            Err(error) => error,
        };
        let chain = error.chain();
        if chain != said {
            tracing::debug!(error = chain, "no token opens the root key yet");
            said = chain;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// How a start comes to a root key that tokens have sealed.
pub(super) async fn start(
    directory: &Directory,
    roster: Option<Roster>,
    config: &Config,
) -> Result<Start, Fault> {
    process::protect_memory();
    let roster = roster.ok_or_else(|| {
        Fault::new("`root.hsm` has no `root.shares` beside it").remedy("put back what was there")
    })?;
    let of = match directory.in_tokens() {
        Ok(of) => of.filter(|of| of.root == roster.of.root).ok_or_else(|| {
            unavailable("`root.hsm` is of another root key than the shares beside it")
                .remedy("put `root.hsm` back as it was written last")
        }),
        Err(error) => Err(error),
    };
    let sealed = |error: Error, told: &dyn Fn(String) -> DeviceUnsealing, returning| {
        let error = or_by_shares(error);
        tracing::warn!(error = error.chain(), remedy = error.remedy_text(), "the root key was not opened");
        Start::Sealed(roster.clone(), Refused { told: Some(told(error.detail().to_owned())), returning })
    };
    let of = match of {
        Ok(of) => of,
        Err(error) => {
            let unknown = |refused| DeviceUnsealing { device: HSM, ..super::told(None, Some(refused)) };
            return Ok(sealed(error, &unknown, None));
        }
    };
    let told = |refused| of.told(Some(refused));
    let pool = match pool(config, directory) {
        Ok(pool) => pool,
        Err(error) => return Ok(sealed(error, &told, None)),
    };
    match tokio::time::timeout(FIRST, opened(&pool, &of)).await {
        Ok(Ok(root)) => Ok(Start::Opened(root, of.told(None))),
        Ok(Err(error)) => Ok(sealed(error, &told, None)),
        Err(_) => {
            let error = not_opened(&pool);
            let waits = of.clone();
            let returning = tokio::spawn(async move {
                match opened(&pool, &waits).await {
                    Ok(root) => (root, waits.told(None)),
                    Err(error) => {
                        let remedy = error.remedy_text();
                        tracing::error!(error = error.chain(), remedy, "the root key was not opened");
                        // Shares open it.
                        std::future::pending().await
                    }
                }
            });
            Ok(sealed(error, &told, Some(returning)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_what_is_none_is_refused() {
        let made = InTokens {
            instance: "01JDCZRGZKA9Q6W8T2V4X6Y8Z0".parse().unwrap(),
            root: SealerId::parse("0011223344556677").unwrap(),
            made: "2026-11-27T00:00:00Z".to_owned(),
            bound_by: vec!["alice".parse().unwrap()],
            tokens: vec![InToken {
                name: "hsm-a".to_owned(),
                serial: "0815".to_owned(),
                id: [1; 16],
                nonce: [2; 12],
                sealed: vec![3; 48],
            }],
            mac: None,
        };
        let text = made.to_text().unwrap();
        assert_eq!(InTokens::parse(&text).unwrap(), made, "{text}");
        for (from, to) in [
            ("format = 1", "format = 2"),
            ("format = 1", "format = 1\nmore = 1"),
            ("root = \"", "root = \"0"),
            ("instance = \"", "instance = \"0"),
            ("id = \"", "id = \"00"),
            ("nonce = \"", "nonce = \"00"),
            ("sealed = \"", "sealed = \"0"),
        ] {
            assert!(text.contains(from), "{from}\n{text}");
            assert!(InTokens::parse(&text.replacen(from, to, 1)).is_err(), "{to}");
        }
    }
}
