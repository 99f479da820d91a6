//! HTTPS towards issuers: one document at a time, bounded in time and size, from nowhere but where the configuration says.

use super::table::{Place, Settings, host, is_https};
use crate::fault::Fault;
use crate::https::{self, Https};
use crate::outside::chain;
use bytes::Bytes;
use holdfast_identity::issued::KeySet;
use http::header::CACHE_CONTROL;
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long one document may take, connection included.
const PATIENCE: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(10);

/// A way to one issuer.
pub(super) struct Client(Https);

/// A key set, and for how long the issuer says that it will stay as it is.
pub(super) type Fetched = (KeySet, Option<Duration>);

impl Client {
    pub(super) fn new(settings: &Settings) -> Result<Self, Fault> {
        Ok(Self(https::client(&settings.ca_file, "the issuer's", IDLE)?))
    }

    /// The keys as they are now, or why there are none.
    pub(super) async fn keys(&self, issuer: &str, place: &Place) -> Result<Fetched, String> {
        let (keys, age) = match place {
            Place::Keys(uri) => self.get(uri).await?,
            Place::Discovery(uri, hosts) => {
                let (document, _) = self.get(uri).await?;
                self.get(&found(&document, issuer, hosts)?).await?
            }
        };
        Ok((KeySet::parse_of(issuer, &keys).map_err(|why| format!("what it gave are no keys: {why}"))?, age))
    }

    /// One document. A redirection is an answer like other wrong ones.
    async fn get(&self, uri: &Uri) -> Result<(Bytes, Option<Duration>), String> {
        let exchange = async {
            let mut request = Request::new(Full::default());
            *request.uri_mut() = uri.clone();
            let response = self.0.request(request).await.map_err(|error| chain(&error))?;
            if response.status() != StatusCode::OK {
                return Err(format!("`{uri}` answered {}", response.status().as_u16()));
            }
            let age = max_age(response.headers());
            let body = Limited::new(response.into_body(), KeySet::MAX_BYTES).collect().await;
            Ok((body.map_err(|error| chain(&*error))?.to_bytes(), age))
        };
        match tokio::time::timeout(PATIENCE, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("`{uri}` did not answer within {} s", PATIENCE.as_secs())),
        }
    }
}

/// Where a discovery document (OpenID Connect Discovery 1.0 §3) says that the keys are, if it may say so.
fn found(document: &[u8], of: &str, hosts: &BTreeSet<String>) -> Result<Uri, String> {
    #[derive(Deserialize)]
    struct Document {
        issuer: String,
        jwks_uri: String,
    }
    let Ok(Document { issuer, jwks_uri }) = serde_json::from_slice(document) else {
        return Err("the discovery document has no `issuer` or no `jwks_uri`".to_owned());
    };
    if issuer != of {
        return Err("the discovery document is another issuer's".to_owned());
    }
    let uri: Option<Uri> = jwks_uri.parse().ok().filter(is_https);
    let is_named = |uri: &Uri| host(uri).is_some_and(|host| hosts.contains(&host));
    uri.filter(is_named).ok_or_else(|| {
        "the discovery document says that the keys are at a host that `keys_hosts` does not name".to_owned()
    })
}

/// For how long an answer stays as it is (RFC 9111 §5.2.2.1), if it says.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(CACHE_CONTROL).into_iter().filter_map(|value| value.to_str().ok());
    let mut directives = values.flat_map(|value| value.split(',')).map(str::trim);
    let seconds = directives.find_map(|directive| {
        let (name, seconds) = directive.split_once('=')?;
        name.eq_ignore_ascii_case("max-age").then(|| seconds.trim_matches('"').parse::<u64>().ok())?
    });
    seconds.map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_leads_nowhere_but_where_the_configuration_says() {
        let hosts = ["idp:443".to_owned(), "keys:8443".to_owned()].into();
        let document = |issuer: &str, uri: &str| {
            format!(r#"{{"issuer":"{issuer}","jwks_uri":"{uri}","other":1}}"#).into_bytes()
        };
        let find = |issuer, uri| found(&document(issuer, uri), "https://idp", &hosts);
        assert_eq!(find("https://idp", "https://idp/k").unwrap(), "https://idp/k");
        assert!(find("https://idp", "https://IDP:443/k").is_ok());
        assert!(find("https://idp", "https://keys:8443/k").is_ok());
        for (issuer, uri) in [
            ("https://other", "https://idp/k"),
            ("https://idp", "http://idp/k"),
            ("https://idp", "https://keys/k"),
            ("https://idp", "https://idp@evil/k"),
            ("https://idp", "https://169.254.169.254/k"),
            ("https://idp", "file:///etc/passwd"),
            ("https://idp", "/k"),
        ] {
            assert!(find(issuer, uri).is_err(), "{uri}");
        }
        assert!(found(b"{}", "https://idp", &hosts).is_err());
    }

    #[test]
    fn how_long_an_answer_stays_as_it_is() {
        let age = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CACHE_CONTROL, http::HeaderValue::from_static(value));
            }
            max_age(&headers).map(|age| age.as_secs())
        };
        assert_eq!(age(&["public, max-age=21600, must-revalidate"]), Some(21_600));
        assert_eq!(age(&["public", "Max-Age=\"5\""]), Some(5));
        assert_eq!(age(&["no-store", "s-maxage=7"]), None);
        assert_eq!(age(&["max-age=-1"]), None);
    }
}
