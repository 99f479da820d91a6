//! The gateway under load: a dev directory with everything on, its keys made through its own command line.

use crate::load::{Exchange, Target};
use crate::machine::Server;
use anyhow::{Context as _, Result, bail};
use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

/// A running gateway with its keys.
pub(crate) struct Gateway {
    pub(crate) server: Server,
    pub(crate) target: Target,
    environment: HashMap<String, String>,
}

/// Starts `holdfast serve --dev` in a fresh directory, and makes the keys.
pub(crate) async fn start(holdfast: &Path, directory: &Path) -> Result<Gateway> {
    let data = directory.join("data");
    let mut child = Command::new(holdfast)
        .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--admin", "off", "--data"])
        .arg(&data)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start `{}`", holdfast.display()))?;
    let stdout = child.stdout.take().context("no standard output")?;
    let mut lines = BufReader::new(stdout).lines();
    let ready = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await?;
    ready?.context("the gateway ended before it served")?;
    let text = std::fs::read_to_string(data.join("dev.env"))?;
    let environment: HashMap<String, String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("export ")?.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))
        .collect();
    for (name, algorithm) in [("bench-encrypt", "xaes-256-gcm"), ("bench-sign", "ecdsa-p256")] {
        let made = Command::new(holdfast)
            .args(["key", "create", name, "--algorithm", algorithm])
            .envs(&environment)
            .stdout(Stdio::null())
            .status()
            .await?;
        if !made.success() {
            bail!("`holdfast key create {name}` failed");
        }
    }
    let url = environment.get("HOLDFAST_URL").context("no HOLDFAST_URL in dev.env")?;
    let address = url.trim_start_matches("https://").parse()?;
    // The rest of what it says is of no interest, and must not block it.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok(Gateway { server: Server::new(child), target: Target { address }, environment })
}

impl Gateway {
    fn request(&self, path: &str, body: &str) -> Exchange {
        let token = self.environment.get("HOLDFAST_TOKEN").map(String::as_str);
        Exchange::post(path, &self.target.address.to_string(), token, body)
    }

    /// Encrypts 32 bytes with a context.
    pub(crate) fn encrypt_request(&self) -> Exchange {
        let body =
            r#"{"plaintext":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=","context":{"table":"salaries"}}"#;
        self.request("/v1/tenants/dev/keys/bench-encrypt/encrypt", body)
    }

    /// Signs 32 bytes.
    pub(crate) fn sign_request(&self) -> Exchange {
        let body = r#"{"message":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}"#;
        self.request("/v1/tenants/dev/keys/bench-sign/sign", body)
    }
}
