//! `holdfast caller`.

use super::word;
use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::issue;
use crate::output::note;
use crate::xks_credential::{XksCredential, unread};
use clap::{Args, Subcommand};
use holdfast_core::caller::CallerKind;
use holdfast_core::command::{MAX_SIGNING_SECONDS, MAX_TOKEN_SECONDS};
use holdfast_sdk::field::{CredentialText, List, Name, Word};
use holdfast_sdk::message::PutCaller;
use holdfast_sdk::{CallerName, GroupName, Tenant, TokenId};
use holdfast_wire::xks;
use std::path::PathBuf;
use std::time::Duration;

/// Callers.
#[derive(Debug, Subcommand)]
pub(crate) enum CallerCommand {
    /// List callers
    List,
    Put(Put),
    /// Stop a caller for now
    Suspend(Named),
    /// Let a caller call again
    Resume(Named),
    /// Remove a caller for ever
    ///
    /// Whoever was registered by an issuer's subject comes in by the same tokens as the caller that is anybody of that issuer, where there is one. To keep them out,
    /// suspend them instead.
    Remove(Named),
    Token(Token),
    SigningToken(SigningToken),
    RevokeToken(RevokeToken),
}

/// One caller.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// The caller
    name: CallerName,
}

/// Register a caller, or change a registration
///
/// Registers a caller with all of its credentials and groups; what is not named any more is gone. Its tokens stay.
#[derive(Debug, Args)]
pub(crate) struct Put {
    /// The caller
    name: CallerName,
    /// What it is for, which never changes: application, custodian or auditor
    #[arg(long, default_value = "application", value_parser = word::<CallerKind>)]
    kind: CallerKind,
    /// A group that policies can speak of
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<GroupName>,
    /// A URI in its certificate, issued by one of the tenant's trust anchors
    #[arg(long, value_name = "URI")]
    uri: Vec<String>,
    /// A DNS name in its certificate, in the same way
    #[arg(long, value_name = "NAME")]
    dns: Vec<String>,
    /// Its own certificate (PEM), whoever issued it
    #[arg(long, value_name = "FILE")]
    certificate: Vec<PathBuf>,
    /// An issuer of tokens that the gateway believes: the `iss` of its tokens (JWT); may be given several times
    #[arg(long = "issuer", value_name = "URL")]
    issuers: Vec<String>,
    /// Whom such a token must be about: its `sub`, to the letter
    #[arg(long = "subject", value_name = "SUB", requires = "issuers")]
    subjects: Vec<String>,
    /// Any token of these issuers, but those about subjects that other callers are registered with
    #[arg(long, requires = "issuers", conflicts_with = "subjects")]
    any_subject: bool,
    /// Make certificate and key for it, in this directory
    #[arg(long, value_name = "DIR")]
    issue: Option<PathBuf>,
}

/// Issue a bearer token, which is shown once
#[derive(Debug, Args)]
pub(crate) struct Token {
    /// The caller
    name: CallerName,
    /// For how long, at most a day, such as 15min or 8h
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    lifetime: Duration,
}

/// Issue a token that requests are signed with, for a provider
///
/// An access key id and a secret, as AWS Signature Version 4 has them: for an external key store of AWS KMS. The secret is shown once, and
/// kept nowhere. Several are valid at once: issue a new one, tell the provider, and revoke the old one with `caller revoke-token`.
#[derive(Debug, Args)]
pub(crate) struct SigningToken {
    /// The caller
    name: CallerName,
    /// For how long, at most two years, such as 90days
    #[arg(long, value_name = "TIME", default_value = "365days", value_parser = humantime::parse_duration)]
    lifetime: Duration,
    /// Write them to this file, which nobody else can read, as AWS KMS's console takes them
    #[arg(long, value_name = "FILE", requires = "uri_path")]
    to: Option<PathBuf>,
    /// The store's path that stands in that file, such as /acme/kms/xks/v1
    #[arg(long, value_name = "PATH", requires = "to")]
    uri_path: Option<String>,
}

/// Revoke a token
#[derive(Debug, Args)]
pub(crate) struct RevokeToken {
    /// The caller
    name: CallerName,
    /// The token's id, from `holdfast caller list`
    token: TokenId,
}

impl CallerCommand {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let tenant = app.tenant()?;
        match self {
            Self::List => {
                let callers = app.block_on(tenant.callers())?;
                app.printer.list(&callers.callers, &["name", "kind", "groups", "credentials", "suspended"])
            }
            Self::Put(put) => {
                let (name, caller) = put.into_request()?;
                app.printer.record(&app.block_on(tenant.put_caller(&name, &caller))?.body)
            }
            Self::Suspend(Named { name }) => {
                app.printer.record(&app.block_on(tenant.suspend_caller(&name))?.body)
            }
            Self::Resume(Named { name }) => {
                app.printer.record(&app.block_on(tenant.resume_caller(&name))?.body)
            }
            Self::Remove(Named { name }) => {
                app.printer.record(&app.block_on(tenant.remove_caller(&name))?.body)
            }
            Self::Token(Token { name, lifetime }) => {
                let seconds = lifetime.as_secs();
                if !(1..=MAX_TOKEN_SECONDS).contains(&seconds) {
                    return Err(Failure::usage("a token lives for a second to a day")
                        .remedy("give `--lifetime 8h`, for example"));
                }
                let issued = app.block_on(tenant.issue_token(&name, seconds))?;
                if app.printer.is_json() {
                    return app.printer.product(&issued.body);
                }
                note(&format!(
                    "token {} of `{name}` until {}; it is shown once:",
                    issued.id.0, issued.expires.0
                ));
                app.printer.line(&issued.token.0)
            }
            Self::SigningToken(token) => token.run(app, &tenant),
            Self::RevokeToken(RevokeToken { name, token }) => {
                app.printer.record(&app.block_on(tenant.revoke_token(&name, token))?.body)
            }
        }
    }
}

impl SigningToken {
    fn run(self, app: &App, tenant: &Tenant) -> Result<(), Failure> {
        let Self { name, lifetime, to, uri_path } = self;
        let seconds = lifetime.as_secs();
        if !(1..=MAX_SIGNING_SECONDS).contains(&seconds) {
            return Err(Failure::usage("a signing token lives for a second to two years")
                .remedy("give `--lifetime 365days`, for example"));
        }
        let file = match (&to, uri_path.as_deref()) {
            (Some(file), Some(path)) => {
                let prefix = path.strip_suffix(xks::path::BASE).filter(|prefix| xks::path::is_prefix(prefix));
                let prefix = prefix.ok_or_else(|| {
                    Failure::usage(format!("`{path}` is no path of an external key store"))
                        .remedy("give the `prefix` of its `[[aws_xks]]` with `/kms/xks/v1` behind it")
                })?;
                if file.exists() {
                    return Err(Failure::new(Exit::State, format!("`{}` is there already", file.display()))
                        .remedy("name another file, or remove it if nobody needs it any more"));
                }
                Some((file, prefix))
            }
            (_, _) => None,
        };
        let issued = app.block_on(tenant.issue_signing_token(&name, seconds))?;
        let told = format!("token {} of `{name}` until {}", issued.id.0, issued.expires.0);
        if let Some((file, prefix)) = file {
            let credential = XksCredential::of(prefix, &issued.body);
            credential.write(file).map_err(|fault| fault.remedy(unread(&name, &issued.body)))?;
            note(&format!(
                "{told}: `{}` has its secret, for the console or `aws kms`; remove it then",
                file.display()
            ));
            return app.printer.line(&issued.access_key_id);
        }
        if !app.printer.is_json() {
            note(&format!("{told}; its secret is shown once:"));
        }
        app.printer.product(&issued.body)
    }
}

impl Put {
    fn into_request(self) -> Result<(CallerName, PutCaller), Failure> {
        let Self { name, kind, groups, uri, dns, certificate, issuers, subjects, any_subject, issue } = self;
        let named = |text: String| {
            // The client's own reader knows the grammar.
            serde_json::from_value::<CredentialText>(serde_json::Value::String(text.clone())).map_err(
                |error| {
                    Failure::usage(format!("`{text}` names nobody"))
                        .because(&error)
                        .remedy("compare `holdfast caller put --help`")
                },
            )
        };
        let mut credentials = vec![];
        for uri in uri {
            credentials.push(named(format!("uri:{uri}"))?);
        }
        for dns in dns {
            credentials.push(named(format!("dns:{dns}"))?);
        }
        for issuer in issuers {
            if subjects.is_empty() && !any_subject {
                return Err(Failure::usage(format!(
                    "nobody is named whom tokens of `{issuer}` must be about"
                ))
                .remedy("give `--subject SUB`, or `--any-subject` if every token of the issuer will do"));
            }
            for subject in &subjects {
                credentials.push(named(format!("subject:{issuer}#{subject}"))?);
            }
            if any_subject {
                credentials.push(named(format!("issuer:{issuer}"))?);
            }
        }
        for file in certificate {
            credentials.push(issue::credential_of(&file)?);
        }
        if let Some(dir) = issue {
            let (credential, file) = issue::issue(&dir, &name)?;
            note(&format!(
                "made {} and its .key: hand both to `{name}` and remove them here",
                file.display()
            ));
            credentials.push(credential);
        }
        let groups = groups.into_iter().map(Name).collect();
        let caller =
            PutCaller { kind: Word(kind), groups: Some(List(groups)), credentials: Some(List(credentials)) };
        Ok((name, caller))
    }
}
