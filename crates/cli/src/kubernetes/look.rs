//! How it is learned how the key stands: its record is read again and again, and what new work is encrypted under is tried before Status says it,
//! whenever there is doubt, and every so often: the record tells no stop of the tenant, no policy and no token that is away.

use super::clock::since_boot;
use super::plugin::Plugin;
use super::standing::{Good, Standing};
use super::verdict::{Verdict, refused};
use holdfast_core::action::Action;
use holdfast_core::lifecycle::KeyState;
use holdfast_sdk::field::{Bytes, SecretBytes};
use holdfast_sdk::message::{Decrypt, Encrypt, Key};
use holdfast_sdk::{Error, KeyName, Secret};
use holdfast_wire::kubernetes::grpc::Code;
use holdfast_wire::kubernetes::{KekId, MAX_CIPHERTEXT, Refused};
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// When to look again while nobody answers.
const SOON: Duration = Duration::from_secs(1);
/// And while it is stopped, or a gateway answers that cannot work: as often as an API server asks whether that is over.
const LATER: Duration = Duration::from_secs(10);
/// How old the last trial gets at most, where the lease is not shorter and the next look not later.
const TRIAL_WITHIN: Duration = Duration::from_secs(300);
/// However often somebody asks for it.
const AT_MOST_EVERY: Duration = Duration::from_millis(500);
/// What is tried to be encrypted; no secret.
const TRIAL: &[u8; 32] = b"holdfast kubernetes-kms: a trial";

/// Why it is not known how the key stands.
enum Unseen {
    /// Nobody answers.
    Lost(Refused),
    /// A gateway answers, which cannot work now.
    Unable(Refused),
    /// It was rotated in the middle of the look.
    Changed,
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
            Verdict::Unfit | Verdict::Refused if Verdict::is_of_the_key(&error) => Self::Unusable(why),
            // A defect, there or here, is nobody's order: what is known stays known within its lease.
            Verdict::Unfit | Verdict::Refused => Self::Unable(why),
        }
    }
}

/// What was seen.
enum Seen {
    /// What Status says, in a record that had been written this often.
    Same { epoch: u64 },
    /// What was tried.
    Tried(Good),
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
        let next = learn(plugin, every).await;
        let standing = plugin.standing.borrow().clone();
        if standing.name() != name {
            name = standing.name();
            told(&standing);
        }
        tokio::select! {
            () = sleep_until(begun + next.min(every)) => {}
            () = plugin.look.notified() => sleep_until(begun + AT_MOST_EVERY).await,
        }
        again(plugin.standing.borrow().is_lost());
    }
}

/// Looks once, and gives when to look again at the latest.
async fn learn(plugin: &Plugin, every: Duration) -> Duration {
    let asked = since_boot();
    match look(plugin, asked, every).await {
        Ok(Seen::Same { epoch }) => {
            // Unless a call was told otherwise meanwhile, which only a trial undoes.
            plugin.standing.send_modify(|standing| standing.confirm(asked, epoch));
            every
        }
        Ok(Seen::Tried(good)) => {
            plugin.standing.send_replace(Standing::Good(good));
            every
        }
        Err(Unseen::Lost(why)) => {
            plugin.standing.send_modify(|standing| *standing = standing.lost(why));
            SOON
        }
        Err(Unseen::Unable(why)) => {
            plugin.standing.send_modify(|standing| *standing = standing.lost(why));
            LATER
        }
        Err(Unseen::Changed) => {
            plugin.doubt();
            SOON
        }
        Err(Unseen::Stopped(why)) => {
            plugin.forget(&why);
            plugin.standing.send_replace(Standing::Stopped(why));
            LATER
        }
        Err(Unseen::Unusable(why)) => {
            plugin.standing.send_replace(Standing::Stopped(why));
            LATER
        }
    }
}

async fn look(plugin: &Plugin, asked: Duration, every: Duration) -> Result<Seen, Unseen> {
    // Before the questions: what a call is told meanwhile is for the next look.
    let is_in_doubt = plugin.is_in_doubt();
    let gateway = plugin.gateway();
    let record = in_time(gateway.key(&plugin.key)).await?;
    usable(&plugin.key, &record)?;
    let before = match &*plugin.standing.borrow() {
        Standing::Good(good) if good.lost.is_none() => Some(good.clone()),
        Standing::Good(_) | Standing::Unknown(_) | Standing::Stopped(_) => None,
    };
    let epoch = record.epoch;
    // The same record, without a gap in which a gateway could have come back from a backup, says the same.
    let same = before.as_ref().filter(|before| before.epoch == epoch).map(|before| before.kek_id.clone());
    let kek_id = match same {
        Some(kek_id) => kek_id,
        None => named(plugin, &record).await?,
    };
    let within = plugin.leases.lease().min(TRIAL_WITHIN);
    if let Some(before) = before
        && before.kek_id == kek_id
        && !is_in_doubt
        && asked.saturating_sub(before.tried).saturating_add(every) <= within
    {
        return Ok(Seen::Same { epoch });
    }
    let is_news = plugin.standing.borrow().kek_id().ok() != Some(&kek_id);
    attempt(plugin, &kek_id).await.map_err(|unseen| match unseen {
        // Its record could be read.
        Unseen::Lost(why) => Unseen::Unable(why),
        Unseen::Unable(_) | Unseen::Changed | Unseen::Stopped(_) | Unseen::Unusable(_) => unseen,
    })?;
    if is_news {
        tracing::info!(key_id = %kek_id, "new work is encrypted under this from now on");
    }
    Ok(Seen::Tried(Good { kek_id, epoch, answered: asked, tried: asked, lost: None }))
}

/// What new work is encrypted under, by its record and by when its version was made.
async fn named(plugin: &Plugin, record: &Key) -> Result<KekId, Unseen> {
    let gateway = plugin.gateway();
    let version = KekId::version_of(record);
    let page = in_time(gateway.versions(&plugin.key, version.previous(), Some(1))).await?;
    let made = page.versions.first().filter(|found| found.version.0 == version).map(|found| found.created.0);
    made.map(|made| KekId::of(record, made)).ok_or(Unseen::Changed)
}

/// Whether its state permits new work.
fn usable(key: &KeyName, record: &Key) -> Result<(), Unseen> {
    if record.archive.as_ref().is_some_and(|archive| archive.stored.is_some()) {
        let words = format!(
            "key `{key}` is archived; ask a custodian of the tenant to take it back from its archive"
        );
        return Err(Unseen::Stopped(Refused::new(Code::FailedPrecondition, words)));
    }
    let state: KeyState = record.state.0;
    if state.permits(Action::Encrypt).is_ok() {
        return Ok(());
    }
    let words = format!(
        "key `{key}` is {}; ask a custodian of the tenant whether and when it will be active",
        state.name()
    );
    let why = Refused::new(Code::FailedPrecondition, words);
    match state.permits(Action::Decrypt) {
        Ok(()) => Err(Unseen::Unusable(why)),
        Err(_) => Err(Unseen::Stopped(why)),
    }
}

/// Encrypts and decrypts once under a name, so that Status says none whose ciphertexts would not open.
async fn attempt(plugin: &Plugin, kek_id: &KekId) -> Result<(), Unseen> {
    let gateway = plugin.gateway();
    let context = || plugin.bound(kek_id.as_str()).map(Some).map_err(Unseen::Unusable);
    let encrypt =
        Encrypt { plaintext: SecretBytes(Secret::from(&TRIAL[..])), context: context()?, padding: None };
    let sealed = in_time(gateway.use_key(&plugin.key, &encrypt)).await?;
    let ciphertext = sealed.ciphertext.0.as_slice();
    if sealed.key_version.0 != kek_id.version() {
        return Err(Unseen::Changed);
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn record(state: &str, archive: Value) -> Key {
        let mut record = json!({
            "name": "kubernetes", "id": "01JDCZRGZKA9Q6W8T2V4X6Y8Z0", "algorithm": "xaes-256-gcm", "purpose": "encrypt",
            "state": state, "newest_version": 1, "exportable": false, "legacy": [], "labels": {}, "custody": "software",
            "created": "2026-11-28T00:00:00.000000Z", "epoch": 3,
        });
        if !archive.is_null() {
            record["archive"] = archive;
        }
        serde_json::from_value(record).unwrap()
    }

    /// What is in an archive opens nothing, whatever its state would permit.
    #[test]
    fn an_archived_key_is_stopped() {
        let key: KeyName = "kubernetes".parse().unwrap();
        let archive = |stored: Option<&str>| {
            let mut archive = json!({
                "id": "01JDCZRGZKA9Q6W8T2V4X6Y8Z1", "made": "2026-11-28T00:00:00.000000Z", "sha256": "AAAA", "opens": true,
            });
            if let Some(stored) = stored {
                archive["stored"] = stored.into();
            }
            archive
        };
        let of = |state, archive| usable(&key, &record(state, archive));
        assert!(of("active", Value::Null).is_ok());
        assert!(matches!(of("deactivated", Value::Null), Err(Unseen::Unusable(_))));
        // One that was only made, and not confirmed, leaves the key where it is.
        assert!(matches!(of("deactivated", archive(None)), Err(Unseen::Unusable(_))));
        for state in ["deactivated", "active"] {
            let Err(Unseen::Stopped(why)) = of(state, archive(Some("2026-11-28T00:00:00.000000Z"))) else {
                panic!("{state}")
            };
            assert!(why.words.contains("is archived"), "{}", why.words);
        }
    }
}
