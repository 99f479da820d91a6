//! `holdfast tenant`.

use super::retention::RetentionCommand;
use crate::app::App;
use crate::failure::Failure;
use crate::input::Input;
use crate::issue;
use crate::output::note;
use clap::{Args, Subcommand};
use holdfast_core::caller::CallerKind;
use holdfast_sdk::CallerName;
use holdfast_sdk::field::{CredentialText, List, Name, PolicyText, Word};
use holdfast_sdk::message::{CreateTenant, NewCaller};
use std::path::PathBuf;

/// Tenants.
#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    Create(Create),
    /// Read the tenant's record
    Show,
    /// Stop everything of the tenant
    Suspend,
    /// Let its keys be used again
    Resume,
    /// Say for how long its log is kept
    #[command(subcommand)]
    Retention(RetentionCommand),
}

/// Create a tenant with those who will own it; an operator's command
///
/// Creates a tenant. Its custodians are recognised by certificates that they bring, or that are made here for them.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Its name
    name: String,
    /// A custodian, with their certificate (PEM); without one, `--issue` makes one
    #[arg(long = "custodian", value_name = "NAME[=CERT]", required = true)]
    custodians: Vec<String>,
    /// An auditor, in the same way
    #[arg(long = "auditor", value_name = "NAME[=CERT]")]
    auditors: Vec<String>,
    /// Make certificate and key for those who bring none, in this directory
    #[arg(long, value_name = "DIR")]
    issue: Option<PathBuf>,
    /// The first policy, in Cedar; custodians administer and auditors read unless told
    #[arg(long, value_name = "FILE")]
    policy: Option<Input>,
}

impl TenantCommand {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        match self {
            Self::Create(create) => create.run(app),
            Self::Retention(command) => command.run(app),
            Self::Show => {
                let tenant = app.tenant()?;
                app.printer.record(&app.block_on(tenant.read())?.body)
            }
            Self::Suspend => {
                let tenant = app.tenant()?;
                app.printer.record(&app.block_on(tenant.suspend())?.body)
            }
            Self::Resume => {
                let tenant = app.tenant()?;
                app.printer.record(&app.block_on(tenant.resume())?.body)
            }
        }
    }
}

impl Create {
    fn run(self, app: &App) -> Result<(), Failure> {
        let Self { name, custodians, auditors, issue, policy } = self;
        let custodians = custodians.iter().map(|text| (text, CallerKind::Custodian));
        let auditors = auditors.iter().map(|text| (text, CallerKind::Auditor));
        let mut callers = vec![];
        for (text, kind) in custodians.chain(auditors) {
            let (name, credential) = person(text, issue.as_ref())?;
            callers.push(NewCaller {
                name: Name(name),
                kind: Word(kind),
                groups: None,
                credentials: Some(List(vec![credential])),
            });
        }
        let policy = policy.map(|input| input.read_text()).transpose()?;
        let new = CreateTenant {
            tenant: Name(name.parse()?),
            callers: List(callers),
            anchors: None,
            policy: policy.map(|text| PolicyText(text.into())),
        };
        let client = app.client()?;
        app.printer.record(&app.block_on(client.create_tenant(&new))?.body)
    }
}

/// `NAME=CERT`, or `NAME` for whom a credential is made.
fn person(text: &str, issue: Option<&PathBuf>) -> Result<(CallerName, CredentialText), Failure> {
    match (text.split_once('='), issue) {
        (Some((name, file)), _) => Ok((name.parse()?, issue::credential_of(&PathBuf::from(file))?)),
        (None, Some(dir)) => {
            let name = text.parse()?;
            let (credential, file) = issue::issue(dir, &name)?;
            note(&format!(
                "made {} and its .key: hand both to `{name}` and remove them here",
                file.display()
            ));
            Ok((name, credential))
        }
        (None, None) => Err(Failure::usage(format!("`{text}` brings no certificate"))
            .remedy(format!("give it as `{text}=CERT.pem`, or let one be made with `--issue DIR`"))),
    }
}
