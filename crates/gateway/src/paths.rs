//! Paths of doors, held apart where the gateway starts: whatever a request asks for under one host is one door's.

use crate::azure_ekm::AzureEkmTable;
use crate::external_store::AwsXksTable;
use crate::fault::Fault;
use crate::google_cse::GoogleCseTable;
use crate::ms_dke::MsDkeTable;
use holdfast_wire::cse::url::ServiceUrl;
use holdfast_wire::native::routes::ROUTES;

/// What one door answers.
#[derive(Debug)]
struct Claim {
    /// What kind of door it is: those of one kind are held apart where they are read.
    kind: &'static str,
    /// How an operator knows it.
    name: String,
    /// Under which host, without its port; `None`: under each.
    host: Option<String>,
    /// Whether that host is its own, where nobody looks for what is under each.
    is_alone: bool,
    /// Whether nobody gets a handshake under that host without a certificate for this door.
    is_guarded: bool,
    /// This path, and all below it.
    path: String,
}

/// Checks that no door answers what is another's of another kind, the native API among them.
///
/// # Errors
/// For the first two that do.
pub(crate) fn check(
    cse: &[GoogleCseTable],
    xks: &[AwsXksTable],
    dke: &[MsDkeTable],
    ekm: &[AzureEkmTable],
) -> Result<(), Fault> {
    let claims: Vec<Claim> = native()
        .chain(cse.iter().filter_map(of_cse))
        .chain(xks.iter().map(of_xks))
        .chain(of_dke(dke))
        .chain(ekm.iter().map(of_ekm))
        .collect();
    for (at, claim) in claims.iter().enumerate() {
        let rest = claims.iter().skip(at.saturating_add(1));
        if let Some(other) = rest.filter(|other| other.kind != claim.kind).find(|other| meet(claim, other)) {
            let Claim { name, path, .. } = other;
            // Whoever guards a host has all of it.
            if let Some(host) = claim.host.as_ref().filter(|_| claim.is_guarded || other.is_guarded) {
                return Err(Fault::new(format!("{name} has the host `{host}` of {}", claim.name)).remedy(
                    "give each a host of its own: who asks for the `server_name` of an `[[azure_ekm]]` must show a certificate of its authorities, and is served nothing else",
                ));
            }
            return Err(Fault::new(format!("{name} has the path `{path}`, which overlaps with {}", claim.name))
                .remedy("give each a path that is neither the other's nor below it; a `[[google_cse]]` whose host is nobody else's can have `own_host`"));
        }
    }
    Ok(())
}

/// Whether a request could mean either.
fn meet(one: &Claim, other: &Claim) -> bool {
    let is_host = match (&one.host, &other.host) {
        (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
        (None, None) => true,
        (Some(_), None) => !one.is_alone,
        (None, Some(_)) => !other.is_alone,
    };
    is_host && (is_within(&one.path, &other.path) || is_within(&other.path, &one.path))
}

/// Whether a path is this one, or below it.
fn is_within(path: &str, this: &str) -> bool {
    path.strip_prefix(this).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether the native API answers some of what is under this path, at each host that is not another's own.
pub fn is_natives(path: &str) -> bool {
    native().any(|claim| is_within(&claim.path, path) || is_within(path, &claim.path))
}

/// The native API's, up to the first segment that can be anything.
fn native() -> impl Iterator<Item = Claim> {
    ROUTES.into_iter().flatten().map(|route| {
        let path = route.path.split_once("/{").map_or(route.path, |(path, _)| path);
        let name = "the native API".to_owned();
        Claim { kind: "native", name, host: None, is_alone: false, is_guarded: false, path: path.to_owned() }
    })
}

fn of_cse(table: &GoogleCseTable) -> Option<Claim> {
    let url = ServiceUrl::of(&table.kacls_url)?;
    let name = format!("the `[[google_cse]]` `{url}`");
    let host = without_port(url.authority()).to_owned();
    let (host, path) = (Some(host), url.path().to_owned());
    Some(Claim { kind: "google_cse", name, host, is_alone: table.own_host, is_guarded: false, path })
}

fn of_xks(table: &AwsXksTable) -> Claim {
    let AwsXksTable { prefix, server_name, .. } = table;
    Claim {
        kind: "aws_xks",
        name: format!("the `[[aws_xks]]` with the prefix `{prefix}`"),
        host: (!server_name.is_empty()).then(|| server_name.clone()),
        is_alone: false,
        is_guarded: false,
        path: format!("{prefix}/kms/xks/v1"),
    }
}

/// A path for each key, which is what clients know.
fn of_dke(tables: &[MsDkeTable]) -> impl Iterator<Item = Claim> {
    tables.iter().flat_map(|table| {
        let url = &table.public_url;
        let rest = url.strip_prefix("https://").unwrap_or(url);
        let (host, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        table.keys.iter().map(move |key| Claim {
            kind: "ms_dke",
            name: format!("`{key}` of the `[[ms_dke]]` `{url}`"),
            host: Some(without_port(host).to_owned()),
            is_alone: false,
            is_guarded: false,
            path: format!("{prefix}/{key}"),
        })
    })
}

/// Its host, by which the guard of its certificates is found, serves nothing else.
fn of_ekm(table: &AzureEkmTable) -> Claim {
    let host = &table.server_name;
    let name = format!("the `[[azure_ekm]]` of `{host}`");
    Claim {
        kind: "azure_ekm",
        name,
        host: Some(host.clone()),
        is_alone: true,
        is_guarded: true,
        path: String::new(),
    }
}

/// What stands in front of the gateway may have other ports.
fn without_port(authority: &str) -> &str {
    authority.split_once(':').map_or(authority, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn checked(text: &str) -> Result<(), String> {
        let config: Config = toml::from_str(text).unwrap();
        check(&config.google_cse, &config.aws_xks, &config.ms_dke, &config.azure_ekm)
            .map_err(|fault| format!("{fault:?}"))
    }

    fn cse(url: &str) -> String {
        format!(
            "[[google_cse]]\nkacls_url = \"{url}\"\ntenant = \"a\"\ncaller = \"cse\"\nkey = \"k\"\nowner_domains = [\"d\"]\naudiences = [\"u\"]\nproviders = [\"i\"]\n"
        )
    }

    fn alone(url: &str) -> String {
        cse(url) + "own_host = true\n"
    }

    fn xks(prefix: &str, more: &str) -> String {
        format!(
            "[[aws_xks]]\nprefix = \"{prefix}\"\ntenant = \"a\"\ncaller = \"kms\"\nregions = [\"r\"]\n{more}"
        )
    }

    fn dke(url: &str) -> String {
        format!(
            "[[ms_dke]]\npublic_url = \"{url}\"\ntenant = \"a\"\ncaller = \"dke\"\nkeys = [\"legal\", \"other\"]\nissuers = [\"i\"]\n"
        )
    }

    fn ekm(host: &str) -> String {
        format!(
            "[[azure_ekm]]\nserver_name = \"{host}\"\ntenant = \"a\"\ncaller = \"ekm\"\nclient_ca_file = \"c\"\nclient_common_names = [\"n\"]\n"
        )
    }

    #[test]
    fn no_door_answers_what_is_anothers() {
        let named = "server_name = \"xks.example\"\n";
        for (one, other, meets) in [
            // The native API is under every host, but for those that a service says are its own.
            (cse("https://kacls.example/cse"), String::new(), None),
            (cse("https://kacls.example"), String::new(), Some("the native API")),
            (alone("https://kacls.example"), String::new(), None),
            (alone("https://kacls.example/v1"), String::new(), None),
            (cse("https://kacls.example/v1"), String::new(), Some("the native API")),
            (cse("https://kacls.example/v1/tenants/a"), String::new(), Some("the native API")),
            (cse("https://kacls.example/v11"), String::new(), None),
            (alone("https://one.example"), dke("https://one.example"), Some("`legal` of the `[[ms_dke]]`")),
            (cse("https://one.example:8443/p"), dke("https://ONE.example/p"), Some("`legal` of")),
            (cse("https://one.example/legal"), dke("https://one.example"), Some("`legal` of")),
            (cse("https://one.example/other/x"), dke("https://one.example"), Some("`other` of")),
            (cse("https://one.example/legally"), dke("https://one.example"), None),
            (cse("https://one.example/p"), dke("https://two.example/p"), None),
            (cse("https://one.example/p"), xks("/p", ""), Some("the prefix `/p`")),
            (cse("https://one.example/kms"), xks("", ""), Some("the prefix ``")),
            (alone("https://one.example/p"), xks("/p", ""), None),
            (cse("https://one.example/p"), xks("/q", ""), None),
            (alone("https://xks.example"), xks("/p", named), Some("the prefix `/p`")),
            (cse("https://one.example/p"), xks("/p", named), None),
            (dke("https://one.example/p"), xks("/p/legally", ""), None),
            (dke("https://one.example/p/kms/xks/v1"), xks("/p", ""), Some("`legal` of")),
            // A proxy of Azure has its host for itself.
            (ekm("ekm.example"), String::new(), None),
            (ekm("ekm.example"), dke("https://one.example"), None),
            (ekm("ekm.example"), dke("https://ekm.example"), Some("`[[azure_ekm]]` of `ekm.example`")),
            (ekm("ekm.example"), cse("https://EKM.example/p"), Some("`[[azure_ekm]]` of")),
            (ekm("ekm.example"), xks("", ""), None),
            (ekm("ekm.example"), xks("", "server_name = \"other.example\"\n"), None),
            (
                ekm("ekm.example"),
                xks("", "server_name = \"EKM.example\"\n"),
                Some("give each a host of its own"),
            ),
            (
                ekm("ekm.example"),
                xks("/p", "server_name = \"ekm.example\"\n"),
                Some("`[[azure_ekm]]` of `ekm.example`"),
            ),
        ] {
            // In whatever order they stand.
            for text in [format!("{one}{other}"), format!("{other}{one}")] {
                let refused = checked(&text).err();
                assert_eq!(refused.is_some(), meets.is_some(), "{text}{refused:?}");
                assert!(refused.unwrap_or_default().contains(meets.unwrap_or_default()), "{text}");
            }
        }
    }
}
