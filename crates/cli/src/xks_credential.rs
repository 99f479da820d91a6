//! The file with an external key store's path and credential, as AWS KMS's console takes it: for its owner only.

use crate::exit::Exit;
use crate::failure::Failure;
use holdfast_gateway::directory::write_private;
use holdfast_sdk::message::SigningTokenIssued;
use holdfast_sdk::{CallerName, Secret, TokenId};
use holdfast_wire::sigv4;
use holdfast_wire::xks::path;
use serde::{Deserialize, Serialize};
use std::path::Path;
use zeroize::Zeroizing;

/// A store's prefix, and what its requests are signed with.
pub(crate) struct XksCredential {
    /// What stands before `/kms/xks/v1` in the path.
    pub(crate) prefix: String,
    /// The access key id.
    pub(crate) id: String,
    /// The secret access key, as its text.
    pub(crate) secret: Secret,
}

/// AWS's own words for them.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct ForConsole<'a> {
    xks_proxy_uri_path: &'a str,
    #[serde(borrow)]
    xks_proxy_authentication_credential: Credential<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Credential<'a> {
    access_key_id: &'a str,
    raw_secret_access_key: &'a str,
}

impl XksCredential {
    pub(crate) fn of(prefix: &str, issued: &SigningTokenIssued) -> Self {
        let secret = Secret::from(issued.secret_access_key.0.as_bytes());
        Self { prefix: prefix.to_owned(), id: issued.access_key_id.clone(), secret }
    }

    /// The token that it is.
    pub(crate) fn token(&self) -> Option<TokenId> {
        sigv4::parse_access_key_id(&self.id)
    }

    /// Writes the file, mode 0600.
    pub(crate) fn write(&self, file: &Path) -> Result<(), Failure> {
        let Self { prefix, id, secret } = self;
        let failed = |error: &dyn std::error::Error| {
            Failure::new(Exit::Failure, "a credential cannot be written").because(error)
        };
        let secret = str::from_utf8(secret.expose()).map_err(|error| failed(&error))?;
        let console = ForConsole {
            xks_proxy_uri_path: &format!("{prefix}{}", path::BASE),
            xks_proxy_authentication_credential: Credential {
                access_key_id: id,
                raw_secret_access_key: secret,
            },
        };
        let text = serde_json::to_vec(&console).map(Zeroizing::new).map_err(|error| failed(&error))?;
        Ok(write_private(file, &text)?)
    }

    /// Reads such a file.
    pub(crate) fn read(file: &Path) -> Result<Self, Failure> {
        let text = std::fs::read(file).map(Zeroizing::new);
        let text = text.map_err(|error| Failure::file("read", file, &error))?;
        let refused = || {
            Failure::usage(format!(
                "`{}` is no file of an external key store's path and credential",
                file.display()
            ))
            .remedy("name another one; `holdfast caller signing-token --to` writes them")
        };
        // What is wrong with it is not told: it could be the secret.
        let console: ForConsole<'_> = serde_json::from_slice(&text).map_err(|_| refused())?;
        let ForConsole { xks_proxy_uri_path, xks_proxy_authentication_credential: credential } = console;
        let prefix = xks_proxy_uri_path.strip_suffix(path::BASE).filter(|prefix| path::is_prefix(prefix));
        let prefix = prefix.ok_or_else(refused)?.to_owned();
        let secret = Secret::from(credential.raw_secret_access_key.as_bytes());
        Ok(Self { prefix, id: credential.access_key_id.to_owned(), secret })
    }
}

/// What to do about a token whose secret could not be written.
pub(crate) fn unread(caller: &CallerName, issued: &SigningTokenIssued) -> String {
    let id = issued.id.0;
    format!("nobody has its secret: run `holdfast caller revoke-token {caller} {id}`, and try again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_rest_is_refused_without_a_word_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("credential");
        let credential = XksCredential {
            prefix: "/acme".into(),
            id: "A".repeat(26),
            secret: Secret::from(&b"s3cr3t"[..]),
        };
        credential.write(&file).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(r#""XksProxyUriPath":"/acme/kms/xks/v1""#), "{text}");
        let read = XksCredential::read(&file).unwrap();
        assert_eq!(
            (&read.prefix, &read.id, read.secret.expose()),
            (&credential.prefix, &credential.id, &b"s3cr3t"[..])
        );
        for bad in [text.replace("AccessKeyId", "Other"), text.replace("/v1", "/v2"), text.replace('}', "")] {
            std::fs::write(&file, bad).unwrap();
            let failure = XksCredential::read(&file).map(|_| ()).unwrap_err();
            assert!(!format!("{failure:?}").contains("s3cr3t"));
        }
    }
}
