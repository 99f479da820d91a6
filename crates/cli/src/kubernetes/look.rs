//! How it is learned how the key stands: its record is read again and again, and what new work will be encrypted under is tried before Status says it.

use super::clock::since_boot;
use super::plugin::Plugin;
use super::standing::{Good, Standing};
use super::verdict::{Verdict, refused};
use holdfast_core::action::Action;
use holdfast_core::lifecycle::KeyState;
use holdfast_sdk::field::{Bytes, SecretBytes};
use holdfast_sdk::message::{Decrypt, Encrypt, Key};
use holdfast_sdk::{Error, Secret};
use holdfast_wire::kubernetes::grpc::Code;
use holdfast_wire::kubernetes::{KekId, MAX_CIPHERTEXT, Refused};
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// When to look again while nobody answers.
const SOON: Duration = Duration::from_secs(1);
/// And while it is stopped: as often as an API server asks whether that is over.
const LATER: Duration = Duration::from_secs(10);
/// However often somebody asks for it.
const AT_MOST_EVERY: Duration = Duration::from_millis(500);
/// What is tried to be encrypted; no secret.
const TRIAL: &[u8; 32] = b"holdfast kubernetes-kms: a trial";

/// Why it is not known how the key stands.
enum Unseen {
    /// Nobody answers.
    Lost(Refused),
    /// The gateway refuses.
    Stopped(Refused),
    /// It can't be used, but what it encrypted can still be decrypted.
    Unusable(Refused),
}

impl From<Error> for Unseen {
    fn from(error: Error) -> Self {
        let why = refused(&error);
        match Verdict::of(&error) {
            Verdict::Lost => Self::Lost(why),
            Verdict::Stopped => Self::Stopped(why),
            Verdict::Unfit | Verdict::Refused => Self::Unusable(why),
        }
    }
}

/// Looks at the key for ever: every so often, and when somebody asks for it. `again` finds another way to the gateway, and is told whether the last one
/// failed; `told` hears each change.
pub(crate) async fn keep_looking(
    plugin: &Plugin,
    every: Duration,
    mut again: impl FnMut(bool),
    mut told: impl FnMut(&Standing),
) -> Infallible {
    let mut name = "";
    loop {
        let begun = Instant::now();
        plugin.leases.sweep(since_boot());
        learn(plugin).await;
        let standing = plugin.standing.borrow().clone();
        if standing.name() != name {
            name = standing.name();
            told(&standing);
        }
        let next = match &standing {
            Standing::Good(Good { lost: None, .. }) => every,
            Standing::Good(Good { lost: Some(_), .. }) | Standing::Unknown(_) => SOON.min(every),
            Standing::Stopped(_) => LATER.min(every),
        };
        tokio::select! {
            () = sleep_until(begun + next) => {}
            () = plugin.look.notified() => sleep_until(begun + AT_MOST_EVERY).await,
        }
        again(plugin.standing.borrow().is_lost());
    }
}

/// Looks once.
async fn learn(plugin: &Plugin) {
    let asked = since_boot();
    let seen = look(plugin, asked).await;
    match seen {
        Ok(good) => {
            plugin.standing.send_replace(Standing::Good(good));
        }
        Err(Unseen::Lost(why)) => {
            plugin.standing.send_modify(|standing| *standing = standing.lost(why));
        }
        Err(Unseen::Stopped(why)) => {
            plugin.forget(&why);
            plugin.standing.send_replace(Standing::Stopped(why));
        }
        Err(Unseen::Unusable(why)) => {
            plugin.standing.send_replace(Standing::Stopped(why));
        }
    }
}

async fn look(plugin: &Plugin, asked: Duration) -> Result<Good, Unseen> {
    let gateway = plugin.gateway();
    let record = in_time(gateway.key(&plugin.key)).await?;
    usable(plugin, &record)?;
    let before = match &*plugin.standing.borrow() {
        Standing::Good(good) => Some(good.clone()),
        Standing::Unknown(_) | Standing::Stopped(_) => None,
    };
    // The same record, without a gap in which a gateway could have come back from a backup, says the same.
    if let Some(Good { kek_id, epoch, lost: None, .. }) = &before
        && *epoch == record.epoch
    {
        return Ok(Good { kek_id: kek_id.clone(), epoch: *epoch, answered: asked, lost: None });
    }
    let version = KekId::version_of(&record);
    let page = in_time(gateway.versions(&plugin.key, version.previous(), Some(1))).await?;
    let made = page.versions.first().filter(|found| found.version.0 == version).map(|found| found.created.0);
    let made =
        made.ok_or_else(|| Unseen::Lost(Refused::new(Code::Unavailable, "the key changes; send again")))?;
    let kek_id = KekId::of(&record, made);
    if before.is_none_or(|before| before.kek_id != kek_id) {
        attempt(plugin, &kek_id).await?;
        tracing::info!(key_id = %kek_id, "new work is encrypted under this from now on");
    }
    Ok(Good { kek_id, epoch: record.epoch, answered: asked, lost: None })
}

/// Whether its state permits new work.
fn usable(plugin: &Plugin, record: &Key) -> Result<(), Unseen> {
    let state: KeyState = record.state.0;
    if state.permits(Action::Encrypt).is_ok() {
        return Ok(());
    }
    let words = format!(
        "key `{}` is {}; ask a custodian of the tenant whether and when it will be active",
        plugin.key,
        state.name()
    );
    let why = Refused::new(Code::FailedPrecondition, words);
    match state.permits(Action::Decrypt) {
        Ok(()) => Err(Unseen::Unusable(why)),
        Err(_) => Err(Unseen::Stopped(why)),
    }
}

/// Encrypts and decrypts once under a name that Status has not said yet, so that it says none whose ciphertexts would not open.
async fn attempt(plugin: &Plugin, kek_id: &KekId) -> Result<(), Unseen> {
    let gateway = plugin.gateway();
    let context = || plugin.bound(kek_id.as_str()).map(Some).map_err(Unseen::Unusable);
    let encrypt =
        Encrypt { plaintext: SecretBytes(Secret::from(&TRIAL[..])), context: context()?, padding: None };
    let sealed = in_time(gateway.use_key(&plugin.key, &encrypt)).await?;
    let ciphertext = sealed.ciphertext.0.as_slice();
    if sealed.key_version.0 != kek_id.version() {
        return Err(Unseen::Lost(Refused::new(
            Code::Unavailable,
            "the key was rotated just now; send again",
        )));
    }
    let unfit = |words: String| Unseen::Unusable(Refused::new(Code::FailedPrecondition, words));
    if ciphertext.len() > MAX_CIPHERTEXT {
        let (key, length) = (&plugin.key, ciphertext.len());
        return Err(unfit(format!(
            "key `{key}` makes ciphertexts of {length} bytes, and an API server takes {MAX_CIPHERTEXT}; use one of the default algorithm"
        )));
    }
    let decrypt = Decrypt {
        ciphertext: Bytes(ciphertext.to_vec()),
        context: context()?,
        padding: None,
        key_version: None,
    };
    let opened = in_time(gateway.use_key(&plugin.key, &decrypt)).await?;
    match opened.plaintext.0.expose() == TRIAL {
        true => Ok(()),
        false => Err(unfit("what was encrypted came back as something else; report it".to_owned())),
    }
}

async fn in_time<T>(question: impl Future<Output = Result<T, Error>>) -> Result<T, Unseen> {
    match timeout(PATIENCE, question).await {
        Ok(answered) => answered.map_err(Unseen::from),
        Err(_) => Err(Unseen::Lost(Refused::new(
            Code::DeadlineExceeded,
            format!("the gateway gave no answer in {} seconds; send again", PATIENCE.as_secs()),
        ))),
    }
}
