//! `holdfast init`.

use super::share::prove_all;
use crate::app::App;
use crate::failure::Failure;
use crate::lines::Lines;
use crate::output::note;
use clap::{Args, ValueEnum};
use holdfast_gateway::device::{Pcrs, Place};
use holdfast_gateway::directory::Directory;
use holdfast_gateway::init::{self, Founded, Founder, Plan, Shares, Tpm};
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
///
/// With `--root tpm` this machine's TPM has sealed it, bound to what the machine measures when it starts: it opens by itself on this machine as it is, and
/// nowhere else. With `--root hsm` the tokens of the configuration have, each with a key of its own: any one of them opens it. Give `--shares` as well, as the second way for the day on which the firmware or the machine is another (docs/operate/root.md).
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
    /// Where the root key is
    #[arg(long, value_name = "WHERE", value_enum, default_value_t = Root::File)]
    root: Root,
    /// The gateway's configuration, which names the tokens; with `--root hsm`
    #[arg(long, value_name = "FILE", required_if_eq("root", "hsm"))]
    config: Option<PathBuf>,
    /// The TPM: a device, or `swtpm:path=/…` [default: /dev/tpmrm0]
    #[arg(long, value_name = "PLACE", value_parser = super::bind::place, requires = "root")]
    tpm: Option<Place>,
    /// The TPM's registers that it is bound to [default: sha256:7, the state of Secure Boot]
    #[arg(long, value_name = "BANK:LIST", value_parser = super::bind::pcrs, requires = "root")]
    pcrs: Option<Pcrs>,
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

/// Where a root key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Root {
    /// In a file, unless it is in shares: to try things
    File,
    /// Sealed by this machine's TPM 2.0
    Tpm,
    /// Sealed by the tokens of the configuration, beside shares
    Hsm,
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
            root,
            config,
            tpm,
            pcrs,
            shares,
            threshold,
            root_custodians,
        } = self;
        let shares = in_shares(shares, threshold, root_custodians)?;
        let tpm = by_tpm(root, tpm, pcrs)?;
        let config = match (root, config) {
            (Root::Hsm, Some(config)) => Some(super::bind::configuration(&config)?),
            (Root::Hsm | Root::File | Root::Tpm, _) => None,
        };
        if config.is_some() && shares.is_none() {
            return Err(Failure::usage("a root key that tokens seal must be in shares as well")
                .remedy("give `--shares` too: tokens fail, and nothing else would open it"));
        }
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
        let plan = Plan { origin: origin.unwrap_or(host), server_names, operators, tenant, shares, tpm };
        let directory = Directory::at(&data);
        let founded = app.block_on(async {
            let mut begun = init::begin(&directory, &plan)?;
            if let Some(config) = &config {
                begun.seal_in_tokens(config).await?;
            }
            let proven = match begun.ceremony() {
                Some(ceremony) => prove_all(ceremony, &mut Lines::of_stdin()?).await,
                None => Ok(()),
            };
            if let (Err(_), Some(config)) = (&proven, &config) {
                begun.forget_tokens(config).await;
            }
            proven?;
            Ok::<_, Failure>(begun.finish().await?)
        })?;

        if app.printer.is_json() {
            return app.printer.json_value(&serde_json::json!({
                "instance": founded.instance.to_string(),
                "data": data,
                "authority": founded.ca,
                "root_key": root_key(&directory, sharing, &founded),
                "issued": founded.issued,
            }));
        }
        let mut rows = vec![
            row("instance", &founded.instance.to_string()),
            row("data directory", &data.display().to_string()),
            row("authority of the server", &founded.ca.display().to_string()),
        ];
        if let Some(tokens) = &founded.in_tokens {
            rows.push(row("root key", &tokens.to_string()));
        }
        if let Some(bound) = &founded.bound {
            rows.push(row("root key", &bound.to_string()));
        }
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
        if let Some(bound) = &founded.bound {
            super::bind::warn(bound, sharing.is_some());
        }
        note(&match sharing {
            None if founded.bound.is_some() => {
                "  read docs/operate/root.md before the firmware of this machine is updated".to_owned()
            }
            None => format!(
                "  back up `{}` apart from the rest: without it no key can be opened, with it all can",
                directory.root_key().display()
            ),
            Some((threshold, of)) if founded.bound.is_some() || founded.in_tokens.is_some() => format!(
                "  each custodian keeps their own file of `{}`, and their identity apart from it: {threshold} of {of} open the root key on the day on which nothing else does",
                directory.shares().display()
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

fn by_tpm(root: Root, tpm: Option<Place>, pcrs: Option<Pcrs>) -> Result<Option<Tpm>, Failure> {
    match root {
        Root::Tpm => Ok(Some(Tpm { place: tpm.unwrap_or_default(), pcrs: pcrs.unwrap_or_default() })),
        Root::File | Root::Hsm if tpm.is_some() || pcrs.is_some() => {
            Err(Failure::usage("`--tpm` and `--pcrs` are of a root key that a TPM seals")
                .remedy("give `--root tpm` with them"))
        }
        Root::File | Root::Hsm => Ok(None),
    }
}

/// How the root key is kept, for programs.
fn root_key(directory: &Directory, sharing: Option<(u8, usize)>, founded: &Founded) -> serde_json::Value {
    let mut kept = serde_json::Map::new();
    if let Some(tokens) = &founded.in_tokens {
        kept.insert("hsm".to_owned(), super::bind::in_tokens(tokens));
    }
    if let Some(bound) = &founded.bound {
        kept.insert("tpm".to_owned(), super::bind::about(bound));
    }
    if let Some((threshold, of)) = sharing {
        kept.insert("shares".to_owned(), of.into());
        kept.insert("threshold".to_owned(), threshold.into());
        kept.insert("directory".to_owned(), serde_json::json!(directory.shares()));
    }
    if kept.is_empty() {
        kept.insert("file".to_owned(), serde_json::json!(directory.root_key()));
    }
    kept.into()
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
