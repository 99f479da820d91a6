//! `holdfast key archive`, `archived` and `unarchive`.

use super::backup::open::{Table, open, source, told};
use crate::app::App;
use crate::atomic::Target;
use crate::failure::Failure;
use crate::output::note;
use clap::Args;
use holdfast_core::KeyName;
use holdfast_gateway::backup::{Found, KeyContent};
use holdfast_sdk::field::{Bytes, List, Name, VersionNumber};
use holdfast_sdk::message::{ArchivedVersion, ConfirmArchive, UnarchiveKey};
use std::path::PathBuf;

/// Write an archive of a deactivated key
///
/// The archive is encrypted for those who open the gateway's backups (`[backup]` of its configuration), and what is in it is sealed besides: it
/// can be brought back to this gateway alone, as long as the key is not destroyed. The key keeps its material until
/// `holdfast key archived` has shown that the archive opens.
#[derive(Debug, Args)]
pub(crate) struct Archive {
    /// The key
    key: KeyName,
    /// Where the archive goes
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
}

/// An archive, and who opens it.
#[derive(Debug, Args)]
struct File {
    /// The archive
    archive: PathBuf,
    /// A file with an age identity that opens it; several times for several custodians
    #[arg(long = "identity", value_name = "FILE")]
    identities: Vec<PathBuf>,
}

/// Open an archive and leave the key's material to it
///
/// Opens the archive, with the identities of enough custodians or with the shares that they bring (`holdfast backup share`), and shows the gateway
/// that it opens. From then on the archive alone has the material: keep several copies of it.
#[derive(Debug, Args)]
pub(crate) struct Archived {
    #[command(flatten)]
    file: File,
}

/// Open an archive and bring the key's material back
///
/// Brings back every version that was not destroyed meanwhile, in the state in which the key is now. The archive opens no more afterwards.
#[derive(Debug, Args)]
pub(crate) struct Unarchive {
    #[command(flatten)]
    file: File,
}

impl File {
    fn open(self, app: &App) -> Result<KeyContent, Failure> {
        let Self { archive, identities } = self;
        let (from, is_stdin) = source(&archive)?;
        let found = Found::of(from).map_err(told)?;
        let opened = open(app, (found, is_stdin), &identities, &mut Table::default(), &|_| ())?;
        KeyContent::read(opened).map_err(told)
    }
}

impl Archive {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { key, to, force } = self;
        let tenant = app.tenant()?;
        // A file that is there is no reason to make an archive that nobody gets.
        let mut output = Target::File { path: to.clone(), force }.begin()?;
        let archived = app.block_on(tenant.archive_key(&key))?.body;
        std::io::Write::write_all(&mut output, &archived.bundle.0)
            .map_err(|error| Failure::file("write", &to, &error))?;
        output.finish()?;
        app.printer.record(&archived.key)?;
        note(
            "the key has its material still: `holdfast key archived` with the file, and those who open it, leaves it to the archive",
        );
        Ok(())
    }
}

impl Archived {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let tenant = app.tenant()?;
        let content = self.file.open(app)?;
        let (key, code) = (content.key().map_err(told)?, content.code().map_err(told)?);
        let confirm = ConfirmArchive { code: Bytes(code) };
        app.printer.record(&app.block_on(tenant.confirm_archive(&key, &confirm))?.body)?;
        note(
            "the archive alone has the key's material now, and no backup that is written from now on has it: keep several copies",
        );
        Ok(())
    }
}

impl Unarchive {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let tenant = app.tenant()?;
        let content = self.file.open(app)?;
        let key = content.key().map_err(told)?;
        let versions = content.versions().map_err(told)?.into_iter();
        let versions = versions.map(|(number, sealed)| ArchivedVersion {
            version: VersionNumber(number),
            sealed: Bytes(sealed),
        });
        let archive = Name(content.archive().map_err(told)?);
        let unarchive = UnarchiveKey { archive, versions: List(versions.collect()) };
        app.printer.record(&app.block_on(tenant.unarchive_key(&key, &unarchive))?.body)
    }
}
