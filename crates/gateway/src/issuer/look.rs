//! A look at where issuers' keys are, from where this runs and without a gateway: for whoever sets one up.

use super::fetch::Client;
use super::table::{IssuerTable, read_file};
use crate::config::Config;
use crate::fault::Fault;
use crate::google_cse;

/// Everybody whose tokens a gateway of this configuration believes: those of `[[issuer]]`, and those that protocols bring along.
pub fn believed(config: &Config) -> Vec<IssuerTable> {
    google_cse::believed(&config.issuer, &config.google_cse)
}

/// Reads an issuer's keys as the gateway would, and tells how many there are, and where.
///
/// # Errors
/// When there are none: neither at the address nor in the file.
pub async fn look(table: &IssuerTable) -> Result<String, Fault> {
    let settings = table.read()?;
    let file = settings.keys_file.as_ref().map(|path| read_file(&settings.issuer, path)).transpose()?;
    let file = file.map(|keys| format!("{} keys, in its file", keys.len()));
    let Some(place) = &settings.place else { return Ok(file.unwrap_or_default()) };
    let read = match Client::new(&settings) {
        Ok(client) => client.keys(&settings.issuer, place).await,
        Err(fault) => Err(fault.to_string()),
    };
    match (read, file) {
        (Ok((keys, _)), _) => Ok(format!("{} keys, at its address", keys.len())),
        (Err(problem), Some(file)) => Ok(format!("{file}; its address gives none: {problem}")),
        (Err(problem), None) => Err(Fault::new(problem)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &str =
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    #[tokio::test]
    async fn keys_are_found_in_a_file_whatever_the_address_gives_and_not_nowhere() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), KEYS).unwrap();
        let found = async |file: &str, url: &str| {
            let text = format!("[[issuer]]\nissuer = \"i\"\nkeys_file = \"{file}\"\nkeys_url = \"{url}\"\n");
            look(&Config::parse(&text).unwrap().issuer[0]).await.map_err(|fault| fault.to_string())
        };
        let (path, nowhere) = (file.path().display().to_string(), "https://127.0.0.1:1/keys");
        assert_eq!(found(&path, "").await.unwrap(), "1 keys, in its file");
        assert!(
            found(&path, nowhere).await.unwrap().starts_with("1 keys, in its file; its address gives none: ")
        );
        assert!(!found("", nowhere).await.unwrap_err().is_empty());
    }
}
