//! `holdfast key`.

use super::adopt::Adopt;
use super::archive::{Archive, Archived, Unarchive};
use super::audit::Attest;
use super::import::ImportCommand;
use super::inventory::Inventory;
use super::word;
use crate::agefile::Name as AgeName;
use crate::app::App;
use crate::failure::Failure;
use crate::input;
use crate::output::note;
use clap::{Args, Subcommand};
use holdfast_core::algorithm::{Algorithm, Purpose};
use holdfast_core::destruction::WaitingPeriod;
use holdfast_core::key::{Labels, Legacy};
use holdfast_core::lifecycle::{Transition, VersionVerb};
use holdfast_core::protocol::Protocol;
use holdfast_core::schedule::RotationPeriod;
use holdfast_sdk::field::{Bounded, LabelMap, LegacyList, LegacyWord, Name, Time, VersionNumber, Word};
use holdfast_sdk::message::{CreateKey, Destruction, Erasure, Key, LabelKey, ScheduleKey, TransitionVersion};
use holdfast_sdk::{KeyName, KeyVersion, Tenant};
use serde::Serialize;

/// Keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// List keys by name
    List,
    /// Read a key's record
    Show(Named),
    /// List a key's versions
    Versions(Named),
    Create(Create),
    /// Bring key material that was made elsewhere
    #[command(subcommand)]
    Import(ImportCommand),
    Adopt(Adopt),
    Label(Label),
    /// Make a new version, which new work takes from then on; old data still opens
    Rotate(Named),
    /// Give new work back to the active version before the one that it takes; everything goes on opening
    Rollback(Named),
    Inventory(Inventory),
    Schedule(Schedule),
    Activate(Activate),
    /// Stop a key for now: nothing of it leaves any more once this returns
    Suspend(Named),
    /// Let a key be used again
    Resume(Named),
    Deactivate(Deactivate),
    /// Stop a key because others may know it
    Compromise(Named),
    Destroy(Destroy),
    /// Take the order to destroy a key back while it waits: it is again what it was
    CancelDestruction(Named),
    Archive(Archive),
    Archived(Archived),
    Unarchive(Unarchive),
    Public(Public),
    Attest(Attest),
    /// Write the recipient by which age and rage encrypt to a key
    Recipient(ForAge),
    /// Write the identity by which age and rage decrypt with a key; it holds no secret
    Identity(ForAge),
}

/// One key.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// The key
    key: KeyName,
}

/// Create a key with its first version
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Its name, which never changes
    key: KeyName,
    /// Its algorithm [default: the key store's, xaes-256-gcm in software and aes-256-gcm in a token]
    #[arg(long, value_parser = word::<Algorithm>, hide_possible_values = true)]
    algorithm: Option<Algorithm>,
    /// What it is for [default: the algorithm's first purpose]
    #[arg(long, value_parser = word::<Purpose>)]
    purpose: Option<Purpose>,
    /// Its material may leave custody one day
    #[arg(long)]
    exportable: bool,
    /// A legacy operation that it shall be able to do: rsa-pkcs1-decrypt or sha1-oaep
    #[arg(long, value_parser = word::<LegacyWord>)]
    legacy: Vec<LegacyWord>,
    /// A label that policies can speak of
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = input::pair)]
    labels: Vec<(String, String)>,
    /// It starts unused, to be activated later
    #[arg(long)]
    prepared: bool,
    /// Each of its versions has an emergency copy, which custodians open together; it is made in the gateway's memory, and says so for ever
    #[arg(long, conflicts_with = "exportable")]
    emergency_copy: bool,
    /// The one protocol that it works through, for ever: native, aws-xks, google-cse, ms-dke or azure-ekm [default: each that takes such keys]
    #[arg(long, value_parser = word::<Protocol>)]
    protocol: Option<Protocol>,
}

/// Replace a key's labels
#[derive(Debug, Args)]
pub(crate) struct Label {
    /// The key
    key: KeyName,
    /// All of its labels from now on
    #[arg(value_name = "NAME=VALUE", value_parser = input::pair)]
    labels: Vec<(String, String)>,
    /// Only if the key's record still has this epoch
    #[arg(long, value_name = "EPOCH")]
    expected_epoch: Option<u64>,
}

/// One key, or one of its versions.
#[derive(Debug, Args)]
pub(crate) struct OrVersion {
    /// The key
    key: KeyName,
    /// This version alone
    #[arg(long, value_name = "VERSION", value_parser = version)]
    version: Option<KeyVersion>,
}

/// Put a prepared key into use, or a deactivated version among those that a rollback finds
///
/// A key, or its newest version, that no verified backup holds is put into use by itself when one does; sooner only with `--unprotected`.
#[derive(Debug, Args)]
pub(crate) struct Activate {
    #[command(flatten)]
    of: OrVersion,
    /// Although no verified backup holds it: what it protects is lost with the machine. This stands in the audit log
    #[arg(long, conflicts_with = "version")]
    unprotected: bool,
}

/// No new protection by a key; what it protected still opens
///
/// With `--version`, that version alone: nothing needs it any more, as the last inventory says. It still opens, so what was overlooked shows in the audit log.
#[derive(Debug, Args)]
pub(crate) struct Deactivate {
    #[command(flatten)]
    of: OrVersion,
    #[command(flatten)]
    guard: Guard,
}

/// Say how often a key is rotated by itself
#[derive(Debug, Args)]
pub(crate) struct Schedule {
    /// The key
    key: KeyName,
    /// How old its newest version may become, in days: 90d
    #[arg(long, value_name = "DAYS", value_parser = days, required_unless_present = "off", conflicts_with = "off")]
    every: Option<u64>,
    /// As old as it likes
    #[arg(long)]
    off: bool,
}

/// Stop a key, and erase its material for ever, with all that only it can open
///
/// It stops at once, and waits as long as the gateway's configuration says before it is erased; `holdfast key cancel-destruction` takes that back meanwhile. With `--version`, that of a deactivated version alone, which the last inventory does not need: at once.
#[derive(Debug, Args)]
pub(crate) struct Destroy {
    #[command(flatten)]
    of: OrVersion,
    #[command(flatten)]
    guard: Guard,
    /// How long it waits, in days: 30d; never shorter than the gateway's configuration says [default: as long as that]
    #[arg(long, value_name = "DAYS", value_parser = waiting, conflicts_with = "version")]
    after: Option<WaitingPeriod>,
    /// The key's name again: nothing brings it back afterwards
    #[arg(long, value_name = "KEY")]
    confirm: KeyName,
}

/// What stands before the end of a version.
#[derive(Debug, Args)]
pub(crate) struct Guard {
    /// Although no inventory says that nothing needs the version; this stands in the audit log
    #[arg(long, requires = "version")]
    without_inventory: bool,
}

/// Write the public half to stdout, PEM
#[derive(Debug, Args)]
pub(crate) struct Public {
    /// The key
    key: KeyName,
    /// Of which version [default: the newest]
    #[arg(long = "key-version", value_name = "VERSION", value_parser = version)]
    version: Option<KeyVersion>,
}

/// Names a key for age.
#[derive(Debug, Args)]
pub(crate) struct ForAge {
    /// The key
    key: KeyName,
    /// What files are bound to beside the key: recipient and identity must have the same
    #[arg(long, value_name = "NAME=VALUE", value_parser = input::pair)]
    context: Vec<(String, String)>,
}

/// A version's number.
pub(crate) fn version(text: &str) -> Result<KeyVersion, String> {
    text.parse().ok().and_then(KeyVersion::new).ok_or_else(|| "expected a version, from 1".to_owned())
}

/// So many days, such as `90d`.
fn days(text: &str) -> Result<u64, String> {
    let number = text.strip_suffix('d').unwrap_or(text).parse().ok();
    let range = u64::from(RotationPeriod::MIN_DAYS)..=u64::from(RotationPeriod::MAX_DAYS);
    number.filter(|days| range.contains(days)).ok_or_else(|| {
        format!("expected days, from {}d to {}d", RotationPeriod::MIN_DAYS, RotationPeriod::MAX_DAYS)
    })
}

/// So many days that a key waits, such as `30d`.
fn waiting(text: &str) -> Result<WaitingPeriod, String> {
    let number = text.strip_suffix('d').unwrap_or(text).parse().ok();
    number
        .and_then(WaitingPeriod::of_days)
        .ok_or_else(|| format!("expected days, up to {}d", WaitingPeriod::MAX_DAYS))
}

/// What listings show.
const COLUMNS: [&str; 6] = ["name", "algorithm", "purpose", "state", "newest_version", "labels"];

impl KeyCommand {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let (key, verb) = match self {
            Self::List => return list(app),
            Self::Show(Named { key }) => {
                let tenant = app.tenant()?;
                return shown(app, &app.block_on(tenant.key(&key))?.body);
            }
            Self::Versions(Named { key }) => return versions(app, &key),
            Self::Create(create) => {
                let tenant = app.tenant()?;
                return made(app, &app.block_on(tenant.create_key(&create.into_request()?))?.body);
            }
            Self::Import(import) => return import.run(app),
            Self::Adopt(adopt) => return adopt.run(app),
            Self::Archive(archive) => return archive.run(app),
            Self::Archived(archived) => return archived.run(app),
            Self::Unarchive(unarchive) => return unarchive.run(app),
            Self::Label(Label { key, labels, expected_epoch }) => {
                let request = LabelKey { labels: LabelMap(labelled(labels)?), expected_epoch };
                let tenant = app.tenant()?;
                return app.printer.record(&app.block_on(tenant.label_key(&key, &request))?.body);
            }
            Self::Rotate(Named { key }) => {
                let tenant = app.tenant()?;
                return made(app, &app.block_on(tenant.rotate_key(&key))?.body);
            }
            Self::Public(public) => return public.run(app),
            Self::Attest(attest) => return attest.run(app),
            Self::Recipient(of) => return app.printer.line(&of.name(app)?.recipient()),
            Self::Identity(of) => {
                let name = of.name(app)?;
                note(&format!("# recipient: {}", name.recipient()));
                return app.printer.line(&name.identity());
            }
            Self::Rollback(Named { key }) => {
                let tenant = app.tenant()?;
                return app.printer.record(&app.block_on(tenant.roll_back_key(&key))?.body);
            }
            Self::Inventory(inventory) => return inventory.run(app),
            Self::Schedule(Schedule { key, every, off: _ }) => {
                let schedule = ScheduleKey { every_days: every.map(Bounded) };
                let tenant = app.tenant()?;
                return app.printer.record(&app.block_on(tenant.schedule_key(&key, &schedule))?.body);
            }
            Self::Activate(Activate { of: OrVersion { key, version: Some(version) }, .. }) => {
                return move_version(app, &key, version, VersionVerb::Activate, false);
            }
            Self::Activate(Activate { of: OrVersion { key, version: None }, unprotected: true }) => {
                let tenant = app.tenant()?;
                return app.printer.record(&app.block_on(tenant.activate_unprotected(&key))?.body);
            }
            Self::Activate(Activate { of: OrVersion { key, version: None }, unprotected: false }) => {
                (key, Transition::Activate)
            }
            Self::Suspend(Named { key }) => (key, Transition::Suspend),
            Self::Resume(Named { key }) => (key, Transition::Resume),
            Self::Deactivate(Deactivate { of: OrVersion { key, version }, guard }) => match version {
                Some(version) => {
                    let verb = VersionVerb::Deactivate;
                    return move_version(app, &key, version, verb, guard.without_inventory);
                }
                None => (key, Transition::Deactivate),
            },
            Self::Compromise(Named { key }) => (key, Transition::Compromise),
            Self::Destroy(Destroy { of: OrVersion { key, .. }, confirm, .. }) if key != confirm => {
                return Err(Failure::usage(format!("`--confirm {confirm}` is not `{key}`"))
                    .remedy("repeat the name of the key that shall be destroyed"));
            }
            Self::Destroy(Destroy { of: OrVersion { key, version }, guard, after, .. }) => match version {
                Some(version) => {
                    return move_version(app, &key, version, VersionVerb::Destroy, guard.without_inventory);
                }
                None => (key, Transition::Destroy(after)),
            },
            Self::CancelDestruction(Named { key }) => (key, Transition::CancelDestruction),
        };
        let tenant = app.tenant()?;
        shown(app, &app.block_on(tenant.transition_key(&key, verb))?.body)
    }
}

/// A key; to a person also what its end means.
fn shown(app: &App, key: &Key) -> Result<(), Failure> {
    app.printer.record(key)?;
    if app.printer.is_json() {
        return Ok(());
    }
    let Name(name) = &key.name;
    if key.emergency_copy == Some(true) && key.destruction.is_some() {
        note(
            "a backup from before, with its custodians and those of the emergency copies, brings the key back, as long as there is such a backup",
        );
    }
    if let Some(Destruction { due: Time(due), .. }) = &key.destruction {
        note(&format!(
            "`{name}` waits to be destroyed, until {due} at least; `holdfast key cancel-destruction {name}` takes that back"
        ));
    }
    if let Some(Erasure { pending_on, left_with, .. }) = &key.erasure {
        let listed = |members: &[Name<holdfast_core::MemberName>]| {
            members.iter().map(|Name(member)| format!("`{member}`")).collect::<Vec<_>>().join(", ")
        };
        if !pending_on.is_empty() {
            let members = listed(pending_on);
            note(&format!(
                "destroyed, and not yet erased from {members}: that happens as soon as it is seen"
            ));
        }
        if !left_with.is_empty() {
            let members = listed(left_with);
            note(&format!(
                "{members} had left the pool before and may hold it still: nobody asks there, so initialise or destroy the device"
            ));
        }
    }
    if key.archive.as_ref().is_some_and(|archive| archive.stored.is_some() && archive.opens) {
        note(&format!(
            "the material of `{name}` is in its archive alone; `holdfast key unarchive` brings it back"
        ));
    }
    let in_force: Vec<_> = key.sealed_under.iter().filter(|sealing| !sealing.is_retired()).collect();
    if !in_force.is_empty() {
        let ids: Vec<_> = in_force.iter().map(|sealing| format!("`{}`", sealing.id)).collect();
        note(&format!(
            "copies of what lay on the disk still open with sealing key {}: it is retired by itself, usually within minutes",
            ids.join(", ")
        ));
    }
    Ok(())
}

/// All keys; in the table a state says whether its key waits to be destroyed, and whether it has an emergency copy.
fn list(app: &App) -> Result<(), Failure> {
    let keys = all(app, &app.tenant()?)?;
    if app.printer.is_json() {
        return app.printer.list(&keys, &COLUMNS);
    }
    let rows = keys.into_iter().map(|key| {
        let Word(state) = key.state;
        let state = match &key.destruction {
            Some(Destruction { due: Time(due), .. }) => format!("{state}, destroyed from {due} on"),
            None => state.to_string(),
        };
        let state = match key.emergency_copy {
            Some(true) => format!("{state}, with an emergency copy"),
            Some(false) | None => state,
        };
        let state = match key.protocol {
            Some(Word(protocol)) => format!("{state}, for {} alone", protocol.name()),
            None => state,
        };
        Listed { state, key }
    });
    app.printer.list(&rows.collect::<Vec<_>>(), &COLUMNS)
}

/// A key in a table.
#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    key: Key,
    /// Over the key's own.
    state: String,
}

/// Shows a key of which a version was made, and says what that waits for.
fn made(app: &App, key: &Key) -> Result<(), Failure> {
    app.printer.record(key)?;
    if key.waits_for_backup == Some(true) {
        note(&format!(
            "version {} is put into use when a verified backup holds it: `holdfast backup`, then `holdfast backup verify`",
            key.newest_version.0
        ));
    }
    Ok(())
}

/// An order about one version.
fn move_version(
    app: &App,
    key: &KeyName,
    version: KeyVersion,
    verb: VersionVerb,
    without_inventory: bool,
) -> Result<(), Failure> {
    let order = TransitionVersion {
        version: VersionNumber(version),
        without_inventory: without_inventory.then_some(true),
    };
    let tenant = app.tenant()?;
    app.printer.record(&app.block_on(tenant.transition_version(key, verb, &order))?.body)
}

/// All keys, page by page.
fn all(app: &App, tenant: &Tenant) -> Result<Vec<Key>, Failure> {
    let mut keys = vec![];
    let mut after = None;
    loop {
        let page = app.block_on(tenant.keys(after.as_ref(), None))?.body;
        keys.extend(page.keys);
        match page.next {
            Some(next) => after = Some(next.0),
            None => return Ok(keys),
        }
    }
}

fn versions(app: &App, key: &KeyName) -> Result<(), Failure> {
    let tenant = app.tenant()?;
    let mut versions = vec![];
    let mut after = None;
    loop {
        let page = app.block_on(tenant.versions(key, after, None))?.body;
        versions.extend(page.versions);
        match page.next {
            Some(next) => after = Some(next.0),
            None => return app.printer.list(&versions, &["version", "state", "created"]),
        }
    }
}

pub(super) fn labelled(pairs: Vec<(String, String)>) -> Result<Labels, Failure> {
    let mut labels = Labels::new();
    for (name, value) in pairs {
        if labels.insert(name.as_str().into(), value.into()).is_some() {
            return Err(
                Failure::usage(format!("label `{name}` is given twice")).remedy("give each label once")
            );
        }
    }
    Ok(labels)
}

/// The legacy operations that are named.
pub(super) fn allowed(words: Vec<LegacyWord>) -> Legacy {
    let mut allowed = Legacy::default();
    for word in words {
        match word {
            LegacyWord::RsaPkcs1Decrypt => allowed.rsa_pkcs1_decrypt = true,
            LegacyWord::Sha1Oaep => allowed.sha1_oaep = true,
        }
    }
    allowed
}

impl Create {
    fn into_request(self) -> Result<CreateKey, Failure> {
        let Self { key, algorithm, purpose, exportable, legacy, labels, prepared, emergency_copy, protocol } =
            self;
        Ok(CreateKey {
            name: Name(key),
            algorithm: algorithm.map(Word),
            purpose: purpose.map(Word),
            exportable: Some(exportable),
            legacy: Some(LegacyList(allowed(legacy))),
            labels: Some(LabelMap(labelled(labels)?)),
            prepared: Some(prepared),
            emergency_copy: emergency_copy.then_some(true),
            protocol: protocol.map(Word),
        })
    }
}

impl Public {
    fn run(self, app: &App) -> Result<(), Failure> {
        let Self { key, version } = self;
        let tenant = app.tenant()?;
        let answer = app.block_on(tenant.public_key(&key, version))?;
        match &answer.public_key_pem {
            Some(pem) if !app.printer.is_json() => app.printer.line(pem.trim_end()),
            None if !app.printer.is_json() => app.printer.line(&input::encoded(&answer.public_key.0)),
            Some(_) | None => app.printer.product(&answer.body),
        }
    }
}

impl ForAge {
    fn name(self, app: &App) -> Result<AgeName, Failure> {
        let Self { key, context } = self;
        let tenant = app.tenant_name()?.ok_or_else(|| {
            Failure::usage("no tenant is named").remedy("name it with `--tenant` or HOLDFAST_TENANT")
        })?;
        AgeName::new(tenant, key, context)
    }
}
