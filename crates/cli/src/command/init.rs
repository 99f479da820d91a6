//! `holdfast init`.

use super::share::prove_all;
use crate::app::App;
use crate::failure::Failure;
use crate::lines::Lines;
use crate::output::note;
use clap::Args;
use holdfast_gateway::directory::Directory;
use holdfast_gateway::init::{self, Founder, Plan, Shares};
use holdfast_gateway::shares::NewCustodian;
use holdfast_sdk::{CallerName, TenantId};
use std::path::PathBuf;

/// Found a gateway: its directory, its log's first entry, everybody's credentials
///
/// Founds a gateway in an empty directory on this machine: root key, server certificate, the log's first entry, and everybody's
/// credentials. There is no default administrator and no bootstrap token: whoever is named here is registered, nobody else.
///
/// With `--shares` the root key is in no file: each custodian of it gets a share, encrypted to their own age recipient, and the founding ends
/// when each has proven that they can open theirs (docs/operate/ceremony.md). Without a terminal, answers come from stdin: a line
/// `NAME PROOF` each.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The data directory, made if it is not there
    #[arg(long, value_name = "DIR", default_value = "/var/lib/holdfast")]
    data: PathBuf,
    /// A host name of your own, with which each log's origin begins; this machine's unless told
    #[arg(long, value_name = "NAME")]
    origin: Option<String>,
    /// A name or address in the server's certificate; this machine's and the loopback addresses unless told
    #[arg(long = "server-name", value_name = "NAME")]
    server_names: Vec<String>,
    /// Who runs the gateway; with a certificate (PEM) if they have one, otherwise one is issued
    #[arg(long = "operator", value_name = "NAME[=CERT]", value_parser = founder, default_value = "operator")]
    operators: Vec<Founder>,
    /// A first tenant; operators can create more later
    #[arg(long = "first-tenant", value_name = "NAME", requires = "custodians")]
    first_tenant: Option<String>,
    /// Who owns the first tenant's keys; with a certificate (PEM) if they have one, otherwise one is issued
    #[arg(long = "custodian", value_name = "NAME[=CERT]", value_parser = founder, requires = "first_tenant")]
    custodians: Vec<Founder>,
    /// Have the root key in so many shares instead of a file
    #[arg(long, value_name = "N", requires = "threshold", requires = "root_custodians", value_parser = clap::value_parser!(u8).range(2..))]
    shares: Option<u8>,
    /// How many of the shares open it
    #[arg(long, value_name = "N", requires = "shares", value_parser = clap::value_parser!(u8).range(2..))]
    threshold: Option<u8>,
    /// Who gets a share of the root key, and their own age recipient; as often as there are shares
    #[arg(long = "root-custodian", value_name = "NAME=age1…", requires = "shares")]
    root_custodians: Vec<NewCustodian>,
}

/// `NAME` or `NAME=CERT`.
fn founder(text: &str) -> Result<Founder, String> {
    let (name, file) = text.split_once('=').map_or((text, None), |(name, file)| (name, Some(file)));
    let name: CallerName = name.parse().map_err(|error: holdfast_core::id::InvalidId| error.to_string())?;
    let read = |file: &str| std::fs::read(file).map_err(|error| format!("cannot read `{file}`: {error}"));
    Ok(Founder { name, certificate: file.map(read).transpose()? })
}

impl Init {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let Self {
            data,
            origin,
            server_names,
            operators,
            first_tenant,
            custodians,
            shares,
            threshold,
            root_custodians,
        } = self;
        let shares = in_shares(shares, threshold, root_custodians)?;
        let host = host_name();
        let server_names = if server_names.is_empty() {
            let mut names = vec![host.clone()];
            names.extend(
                ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into_iter().filter(|name| *name != host),
            );
            names
        } else {
            server_names
        };
        let tenant: Option<(TenantId, Vec<Founder>)> = match first_tenant {
            Some(name) => Some((name.parse()?, custodians)),
            None => None,
        };
        let sharing = shares.as_ref().map(|shares| (shares.threshold, shares.custodians.len()));
        let plan = Plan { origin: origin.unwrap_or(host), server_names, operators, tenant, shares };
        let directory = Directory::at(&data);
        let founded = app.block_on(async {
            let mut begun = init::begin(&directory, &plan)?;
            if let Some(ceremony) = begun.ceremony() {
                prove_all(ceremony, &mut Lines::of_stdin()?).await?;
            }
            Ok::<_, Failure>(begun.finish().await?)
        })?;

        if app.printer.is_json() {
            return app.printer.json_value(&serde_json::json!({
                "instance": founded.instance.to_string(),
                "data": data,
                "authority": founded.ca,
                "root_key": match sharing {
                    None => serde_json::json!({ "file": directory.root_key() }),
                    Some((threshold, of)) => {
                        serde_json::json!({ "shares": of, "threshold": threshold, "directory": directory.shares() })
                    }
                },
                "issued": founded.issued,
            }));
        }
        let mut rows = vec![
            row("instance", &founded.instance.to_string()),
            row("data directory", &data.display().to_string()),
            row("authority of the server", &founded.ca.display().to_string()),
        ];
        if let Some((threshold, of)) = sharing {
            let shares = format!("{threshold} of {of} shares, {}", directory.shares().display());
            rows.push(row("root key", &shares));
        }
        for certificate in &founded.issued {
            let name = certificate.file_stem().unwrap_or_default().to_string_lossy();
            let with_key =
                format!("{}, {}", certificate.display(), certificate.with_extension("key").display());
            rows.push(row(&format!("credential of {name}"), &with_key));
        }
        app.printer.rows(&["what", "where"], rows)?;
        note("next:");
        note(
            "  hand each person their own .pem and .key over a channel that you trust, with the authority's file; then remove them here",
        );
        note(&match sharing {
            None => format!(
                "  back up `{}` apart from the rest: without it no key can be opened, with it all can",
                directory.root_key().display()
            ),
            Some((threshold, of)) => format!(
                "  each custodian keeps their own file of `{}`, and their identity apart from it: {threshold} of {of} open the root key at each \
                 start, and without them nobody does",
                directory.shares().display()
            ),
        });
        note(&format!("  holdfast serve --data {}", data.display()));
        Ok(())
    }
}

fn in_shares(
    shares: Option<u8>,
    threshold: Option<u8>,
    custodians: Vec<NewCustodian>,
) -> Result<Option<Shares>, Failure> {
    let (Some(shares), Some(threshold)) = (shares, threshold) else { return Ok(None) };
    if custodians.len() != usize::from(shares) {
        let problem = format!("{shares} shares are wanted, for {} custodians", custodians.len());
        return Err(Failure::usage(problem)
            .remedy("name each with `--root-custodian NAME=age1…`, as many as `--shares` says"));
    }
    Ok(Some(Shares { threshold, custodians }))
}

fn row(what: &str, value: &str) -> Vec<String> {
    vec![what.to_owned(), value.to_owned()]
}

/// This machine's name as far as it can stand in a certificate; `localhost` otherwise.
fn host_name() -> String {
    let name =
        std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_ascii_lowercase();
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if name.is_empty() || !name.chars().all(fits) { "localhost".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_founder_may_bring_a_certificate() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let brought = founder(&format!("bob={}", file.path().display())).unwrap();
        assert!(brought.name.as_str() == "bob" && brought.certificate.is_some());
        assert!(founder("alice").unwrap().certificate.is_none());
        assert!(founder("a b").is_err() && founder("alice=/nowhere").is_err());
    }
}
