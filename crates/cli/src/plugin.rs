//! `age-plugin-holdfast`: the plugin protocol of age (C2SP age-plugin), spoken over stdin and stdout with `age` or `rage`.
//!
//! Gateway, tenant and credential come from the same environment variables as for `holdfast`.

use crate::agefile::{FileStanza, KeyService, Name, PLUGIN, Unopened};
use crate::app::App;
use crate::args::Global;
use crate::environment::Environment;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::note;
use age_core::format::{FileKey, Stanza};
use age_plugin::identity::{self, IdentityPluginV1};
use age_plugin::recipient::{self, RecipientPluginV1};
use age_plugin::{Callbacks, PluginHandler, run_state_machine};
use clap::Parser;
use std::collections::{HashMap, HashSet};
use std::io;
use std::process::ExitCode;

/// Lets age and rage open and make files under Holdfast's keys: put this program in the PATH, and give age what
/// `holdfast key recipient` and `holdfast key identity` print. Configured by the same HOLDFAST_ variables as `holdfast`.
#[derive(Debug, Parser)]
#[command(name = "age-plugin-holdfast", version, max_term_width = 100)]
struct Options {
    /// The state machine to run: what age itself passes
    #[arg(long, value_name = "STATE MACHINE")]
    age_plugin: Option<String>,
}

/// Runs the plugin.
pub(crate) fn main(environment: Environment) -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => return crate::told(&error).into(),
    };
    let Some(machine) = options.age_plugin else {
        note("age starts this program by itself; see `age-plugin-holdfast --help`");
        return Exit::Usage.into();
    };
    let app = match App::new(Global { timeout: 30, ..Global::default() }, environment) {
        Ok(app) => app,
        Err(failure) => return failure.report(false).into(),
    };
    match run_state_machine(&machine, Handler { app }) {
        Ok(()) => Exit::Ok.into(),
        Err(error) => Failure::new(Exit::Failure, "the conversation with age broke")
            .because(&error)
            .report(false)
            .into(),
    }
}

struct Handler {
    app: App,
}

impl PluginHandler for Handler {
    type RecipientV1 = Wrapper;
    type IdentityV1 = Unwrapper;

    fn recipient_v1(self) -> io::Result<Wrapper> {
        Ok(Wrapper { app: self.app, names: vec![] })
    }

    fn identity_v1(self) -> io::Result<Unwrapper> {
        Ok(Unwrapper { app: self.app, identities: vec![] })
    }
}

const NOT_OURS: &str =
    "not of Holdfast's form; get it anew with `holdfast key recipient` or `holdfast key identity`";

/// Wraps file keys to recipients.
struct Wrapper {
    app: App,
    names: Vec<Name>,
}

impl RecipientPluginV1 for Wrapper {
    fn add_recipient(
        &mut self,
        index: usize,
        plugin_name: &str,
        bytes: &[u8],
    ) -> Result<(), recipient::Error> {
        match Name::from_bytes(bytes).filter(|_| plugin_name == PLUGIN) {
            Some(name) => {
                self.names.push(name);
                Ok(())
            }
            None => Err(recipient::Error::Recipient { index, message: NOT_OURS.to_owned() }),
        }
    }

    fn add_identity(
        &mut self,
        index: usize,
        plugin_name: &str,
        bytes: &[u8],
    ) -> Result<(), recipient::Error> {
        match Name::from_bytes(bytes).filter(|_| plugin_name == PLUGIN) {
            Some(name) => {
                self.names.push(name);
                Ok(())
            }
            None => {
                let message =
                    "this identity names no key to encrypt to; give a recipient of `holdfast key recipient`";
                Err(recipient::Error::Identity { index, message: message.to_owned() })
            }
        }
    }

    fn labels(&mut self) -> HashSet<String> {
        HashSet::new()
    }

    fn wrap_file_keys(
        &mut self,
        file_keys: Vec<FileKey>,
        _callbacks: impl Callbacks<recipient::Error>,
    ) -> io::Result<Result<Vec<Vec<Stanza>>, Vec<recipient::Error>>> {
        let service = KeyService::new(&self.app);
        let mut files = vec![];
        for file_key in &file_keys {
            let mut stanzas = vec![];
            for (index, name) in self.names.iter().enumerate() {
                match service.wrap(name, file_key) {
                    Ok(stanza) => stanzas.push(stanza.into_stanza()),
                    Err(failure) => {
                        return Ok(Err(vec![recipient::Error::Recipient {
                            index,
                            message: failure.to_string(),
                        }]));
                    }
                }
            }
            files.push(stanzas);
        }
        Ok(Ok(files))
    }
}

/// Unwraps file keys by identities. One that names no key is for whatever a file names.
struct Unwrapper {
    app: App,
    identities: Vec<Option<Name>>,
}

impl Unwrapper {
    /// The pairs that a stanza may be bound to: one set for each identity that is for it.
    fn contexts(&self, stanza: &FileStanza) -> Vec<Vec<(String, String)>> {
        let fits = |name: &Name| name.tenant == stanza.tenant && name.key == stanza.key;
        let of = |identity: &Option<Name>| match identity {
            None => Some(vec![]),
            Some(name) => fits(name).then(|| name.context.clone()),
        };
        let mut contexts: Vec<_> = self.identities.iter().filter_map(of).collect();
        contexts.sort();
        contexts.dedup();
        contexts
    }

    /// The file key of one file, or why there is none; nothing if no stanza is for us.
    fn unwrap(&self, file_index: usize, stanzas: &[Stanza]) -> Option<Result<FileKey, Vec<identity::Error>>> {
        let narrower = "use an identity that names the key (`holdfast key identity KEY`)";
        match KeyService::new(&self.app).open(stanzas, |stanza| self.contexts(stanza), narrower) {
            Ok(file_key) => Some(Ok(file_key)),
            Err(unopened) if unopened.is_empty() => None,
            Err(unopened) => {
                let told = unopened.into_iter().map(|Unopened { place, failure, .. }| {
                    identity::Error::Stanza { file_index, stanza_index: place, message: failure.to_string() }
                });
                Some(Err(told.collect()))
            }
        }
    }
}

impl IdentityPluginV1 for Unwrapper {
    fn add_identity(&mut self, index: usize, plugin_name: &str, bytes: &[u8]) -> Result<(), identity::Error> {
        let name = match bytes {
            [] => Some(None),
            bytes => Name::from_bytes(bytes).map(Some),
        };
        match name.filter(|_| plugin_name == PLUGIN) {
            Some(identity) => {
                self.identities.push(identity);
                Ok(())
            }
            None => Err(identity::Error::Identity { index, message: NOT_OURS.to_owned() }),
        }
    }

    fn unwrap_file_keys(
        &mut self,
        files: Vec<Vec<Stanza>>,
        _callbacks: impl Callbacks<identity::Error>,
    ) -> io::Result<HashMap<usize, Result<FileKey, Vec<identity::Error>>>> {
        let opened = files
            .iter()
            .enumerate()
            .filter_map(|(index, stanzas)| Some((index, self.unwrap(index, stanzas)?)));
        Ok(opened.collect())
    }
}
