//! What is configured of an issuer of tokens (`[[issuer]]`).

use crate::fault::Fault;
use holdfast_core::caller::Credential;
use holdfast_identity::issued::{Algorithm, KeySet};
use http::Uri;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Keys are not believed for longer than this without a look at what they are: 30 days.
const LONGEST: u64 = 30 * 86_400;

/// An issuer of tokens (JSON Web Tokens) that are believed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerTable {
    /// What its tokens say in `iss`, to the letter.
    pub issuer: String,
    /// Whom a token must be for that is shown to the native API; empty: none is taken there.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// How it signs.
    #[serde(default = "usual")]
    pub algorithms: Vec<String>,
    /// Where its key set is; empty: nowhere, or where the discovery document says.
    #[serde(default)]
    pub keys_url: String,
    /// Where its discovery document is; empty: none is asked for.
    #[serde(default)]
    pub discovery_url: String,
    /// The hosts besides that of `discovery_url` where a discovery document may say that the key set is.
    #[serde(default)]
    pub keys_hosts: Vec<String>,
    /// A key set in a file: alone, or for when the URL gives none; empty: none.
    #[serde(default)]
    pub keys_file: PathBuf,
    /// The authorities of those hosts' certificates, PEM; empty: those of the machine.
    #[serde(default)]
    pub ca_file: PathBuf,
    /// The most seconds from one reading of the keys to the next.
    #[serde(default = "an_hour")]
    pub refresh_seconds: u64,
    /// For how many seconds they are believed after they were read last.
    #[serde(default = "a_day")]
    pub stale_seconds: u64,
}

fn usual() -> Vec<String> {
    vec![Algorithm::Rs256.name().to_owned()]
}

const fn an_hour() -> u64 {
    3600
}

const fn a_day() -> u64 {
    86_400
}

/// Where an issuer's keys are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A key set.
    Keys(Uri),
    /// A document that says where it is: at one of these hosts.
    Discovery(Uri, BTreeSet<String>),
}

/// An issuer as configured, read.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) issuer: Box<str>,
    pub(super) audiences: Arc<[String]>,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) place: Option<Place>,
    pub(super) keys_file: Option<PathBuf>,
    pub(super) ca_file: PathBuf,
    pub(super) refresh: Duration,
    pub(super) stale: Duration,
}

impl IssuerTable {
    /// An issuer that a protocol brings along: believed by the protocol alone, with the usual settings.
    pub(crate) fn of_keys(issuer: String, keys_url: String, ca_file: PathBuf) -> Self {
        Self {
            issuer,
            audiences: vec![],
            algorithms: usual(),
            keys_url,
            discovery_url: String::new(),
            keys_hosts: vec![],
            keys_file: PathBuf::new(),
            ca_file,
            refresh_seconds: an_hour(),
            stale_seconds: a_day(),
        }
    }

    pub(super) fn read(&self) -> Result<Settings, Fault> {
        self.settings().map_err(|fault| {
            Fault::new(format!("the `[[issuer]]` `{}` is refused", self.issuer)).because(fault)
        })
    }

    fn settings(&self) -> Result<Settings, Fault> {
        let Self {
            issuer,
            audiences,
            algorithms,
            keys_url,
            discovery_url,
            keys_hosts,
            keys_file,
            ca_file,
            refresh_seconds,
            stale_seconds,
        } = self;
        let is_name = (1..=Credential::MAX_ISSUER).contains(&issuer.len())
            && issuer.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        if !is_name {
            return Err(Fault::new("`issuer` can be in no token")
                .remedy("copy `iss` from one of its tokens, or `issuer` from its discovery document"));
        }
        if audiences.iter().any(String::is_empty) {
            return Err(Fault::new("`audiences` has an empty name").remedy("name whom tokens are for"));
        }
        let known = |name: &String| {
            Algorithm::from_name(name).ok_or_else(|| {
                let known = Algorithm::ALL.map(Algorithm::name).join("`, `");
                Fault::new(format!("`{name}` in `algorithms` is not known"))
                    .remedy(format!("name those that the issuer signs with, of `{known}`"))
            })
        };
        let algorithms = algorithms.iter().map(known).collect::<Result<Vec<_>, _>>()?;
        if algorithms.is_empty() {
            return Err(Fault::new("`algorithms` is empty").remedy("leave it out for `RS256`"));
        }
        let place = match (keys_url.is_empty(), discovery_url.is_empty()) {
            (true, true) => None,
            (false, true) => Some(Place::Keys(https("keys_url", keys_url)?)),
            (true, false) => {
                let uri = https("discovery_url", discovery_url)?;
                let mut hosts: BTreeSet<String> = host(&uri).into_iter().collect();
                for listed in keys_hosts {
                    hosts.insert(
                        https("keys_hosts", &format!("https://{listed}")).map(|uri| host(&uri))?.ok_or_else(
                            || Fault::new("`keys_hosts` has no host").remedy("write `HOST` or `HOST:PORT`"),
                        )?,
                    );
                }
                Some(Place::Discovery(uri, hosts))
            }
            (false, false) => {
                return Err(Fault::new("both `keys_url` and `discovery_url` are set")
                    .remedy("leave one of them out: a document is needed only to find the keys"));
            }
        };
        if !keys_hosts.is_empty() && discovery_url.is_empty() {
            return Err(Fault::new("`keys_hosts` is set without a `discovery_url`").remedy("leave it out"));
        }
        let keys_file = (!keys_file.as_os_str().is_empty()).then(|| keys_file.clone());
        if place.is_none() && keys_file.is_none() {
            return Err(Fault::new("nothing says where its keys are")
                .remedy("set `keys_url`, `discovery_url` or `keys_file`"));
        }
        if *refresh_seconds == 0 || stale_seconds < refresh_seconds || *stale_seconds > LONGEST {
            return Err(Fault::new("`refresh_seconds` and `stale_seconds` do not fit").remedy(format!(
                "read keys once a second at most, and believe them for at least that time and at most {LONGEST} s"
            )));
        }
        Ok(Settings {
            issuer: issuer.as_str().into(),
            audiences: audiences.clone().into(),
            algorithms,
            place,
            keys_file,
            ca_file: ca_file.clone(),
            refresh: Duration::from_secs(*refresh_seconds),
            stale: Duration::from_secs(*stale_seconds),
        })
    }
}

/// An address that is believed because the configuration names it: over TLS, without a name and password in it.
fn https(setting: &str, text: &str) -> Result<Uri, Fault> {
    let uri: Option<Uri> = text.parse().ok();
    uri.filter(is_https).ok_or_else(|| {
        Fault::new(format!("`{text}` in `{setting}` is no address of keys"))
            .remedy("write `https://HOST/PATH`, without a user in it")
    })
}

pub(super) fn is_https(uri: &Uri) -> bool {
    uri.scheme_str() == Some("https")
        && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
}

/// Host and port of an address, to be compared.
pub(super) fn host(uri: &Uri) -> Option<String> {
    Some(format!("{}:{}", uri.host()?.to_ascii_lowercase(), uri.port_u16().unwrap_or(443)))
}

/// An issuer's key set in a file.
pub(super) fn read_file(issuer: &str, path: &PathBuf) -> Result<Arc<KeySet>, Fault> {
    let text = std::fs::read(path).map_err(|error| Fault::io("cannot read", path, error))?;
    KeySet::parse_of(issuer, &text).map(Arc::new).map_err(|why| {
        Fault::new(format!("`{}` holds no keys of an issuer: {why}", path.display()))
            .remedy("give the issuer's JSON Web Key Set, as its `jwks_uri` has it")
    })
}

/// Whether the tables of a configuration make sense.
///
/// # Errors
/// For the first that does not, and for an issuer that stands there twice.
pub(crate) fn check(tables: &[IssuerTable]) -> Result<(), Fault> {
    let mut names = BTreeSet::new();
    for table in tables {
        let Settings { issuer, .. } = table.read()?;
        if !names.insert(issuer) {
            return Err(Fault::new(format!("two `[[issuer]]` are `{}`", table.issuer))
                .remedy("put what they say into one"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const ONE: &str = "[[issuer]]\nissuer = \"https://idp\"\nkeys_url = \"https://idp/keys\"\n";

    #[test]
    fn what_makes_no_sense_is_refused_with_a_remedy() {
        assert!(Config::parse(ONE).is_ok());
        for (text, said) in [
            (ONE.replace("\"https://idp\"", "\"\""), "can be in no token"),
            (ONE.replace("\"https://idp\"", "\"a#b\""), "can be in no token"),
            (ONE.replace("https://idp/keys", "http://idp/keys"), "no address"),
            (ONE.replace("https://idp/keys", "https://me@idp/keys"), "no address"),
            (ONE.replace("https://idp/keys", ""), "nothing says where"),
            (format!("{ONE}discovery_url = \"https://idp/d\""), "both"),
            (format!("{ONE}keys_hosts = [\"other\"]"), "keys_hosts"),
            (format!("{ONE}algorithms = []"), "algorithms"),
            (format!("{ONE}algorithms = [\"none\"]"), "none"),
            (format!("{ONE}algorithms = [\"HS256\"]"), "HS256"),
            (format!("{ONE}audiences = [\"\"]"), "audiences"),
            (format!("{ONE}refresh_seconds = 0"), "do not fit"),
            (format!("{ONE}stale_seconds = 60"), "do not fit"),
            (format!("{ONE}stale_seconds = 9999999"), "do not fit"),
            (format!("{ONE}{ONE}"), "two `[[issuer]]`"),
        ] {
            let fault = Config::parse(&text).unwrap_err();
            assert!(format!("{fault:?}").contains(said), "{said}: {fault:?}");
        }
    }

    #[test]
    fn a_document_leads_to_its_own_host_and_to_those_that_are_named() {
        let text = "[[issuer]]\nissuer = \"i\"\ndiscovery_url = \"https://IDP/d\"\nkeys_hosts = [\"keys.example:8443\"]\n";
        let settings = Config::parse(text).unwrap().issuer[0].read().unwrap();
        let Some(Place::Discovery(_, hosts)) = settings.place else { panic!() };
        assert_eq!(hosts, ["idp:443", "keys.example:8443"].map(str::to_owned).into());
    }

    /// The examples in the reference file, made ready.
    #[test]
    fn the_reference_file_shows_an_issuer_with_every_setting() {
        let example = crate::config::example("issuer");
        let shown: Vec<&str> =
            example.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name).collect();
        let table = Config::parse(ONE).unwrap().issuer.remove(0);
        let mut all: Vec<String> = toml::Table::try_from(&table).unwrap().keys().cloned().collect();
        all.sort();
        let mut shown: Vec<String> = shown.into_iter().map(str::to_owned).collect();
        shown.sort();
        assert_eq!(shown, all);
    }
}
