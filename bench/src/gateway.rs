//! The gateway under load: a dev directory with everything on, used as anybody uses it.

use crate::Turns;
use crate::load::{self, Exchange, Length, Measured, Target};
use crate::machine::Server;
use crate::report::Sum;
use anyhow::{Context as _, Result};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

/// Connections that set things up.
const SETTING_UP: usize = 32;

/// A running gateway.
pub(crate) struct Gateway {
    pub(crate) server: Server,
    pub(crate) target: Target,
    /// What `dev.env` says.
    pub(crate) environment: HashMap<String, String>,
    /// From the process's start to its first word.
    pub(crate) started_in: Duration,
    holdfast: PathBuf,
    data: PathBuf,
}

/// Starts `holdfast serve --dev` in a directory, which it founds if need be.
pub(crate) async fn start(holdfast: &Path, data: &Path) -> Result<Gateway> {
    start_with(holdfast, data, None).await
}

/// The same, with a configuration.
pub(crate) async fn start_with(holdfast: &Path, data: &Path, config: Option<&Path>) -> Result<Gateway> {
    let begin = Instant::now();
    let mut child = Command::new(holdfast)
        .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--admin", "off", "--data"])
        .arg(data)
        .args(config.iter().flat_map(|config| [Path::new("--config"), config]))
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start `{}`", holdfast.display()))?;
    let stdout = child.stdout.take().context("no standard output")?;
    let mut lines = BufReader::new(stdout).lines();
    let ready = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await?;
    ready?.context("the gateway ended before it served")?;
    let started_in = begin.elapsed();
    let text = std::fs::read_to_string(data.join("dev.env"))?;
    let environment: HashMap<String, String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("export ")?.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))
        .collect();
    let url = environment.get("HOLDFAST_URL").context("no HOLDFAST_URL in dev.env")?;
    let address = url.trim_start_matches("https://").parse()?;
    // The rest of what it says is of no interest, and must not block it.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok(Gateway {
        server: Server::new(child),
        target: Target { address },
        environment,
        started_in,
        holdfast: holdfast.to_owned(),
        data: data.to_owned(),
    })
}

impl Gateway {
    /// Stops it and starts it again on its directory, with nothing in memory.
    pub(crate) async fn restart(self) -> Result<Self> {
        let Self { server, holdfast, data, .. } = self;
        server.end().await?;
        start(&holdfast, &data).await
    }

    /// A request to the tenant `dev`.
    pub(crate) fn request(&self, method: &str, path: &str, body: &str) -> Exchange {
        let token = self.environment.get("HOLDFAST_TOKEN").map(String::as_str);
        let path = format!("/v1/tenants/dev{path}");
        Exchange::new(method, &path, &self.target.address.to_string(), token, body)
    }

    /// Asks once and gives the answer.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: &str) -> Result<serde_json::Value> {
        Ok(serde_json::from_slice(&load::ask(self.target, &self.request(method, path, body)).await?)?)
    }

    /// Creates keys.
    pub(crate) async fn create(&self, names: impl Iterator<Item = String>, algorithm: &str) -> Result<()> {
        let body = |name| format!(r#"{{"name":"{name}","algorithm":"{algorithm}"}}"#);
        let requests: Vec<_> = names.map(|name| self.request("POST", "/keys", &body(name))).collect();
        load::run(self.target, &requests, SETTING_UP, Length::Once).await?;
        Ok(())
    }

    /// Encrypts 32 bytes with a context.
    pub(crate) fn encrypt(&self, key: &str) -> Exchange {
        let body =
            r#"{"plaintext":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=","context":{"table":"salaries"}}"#;
        self.request("POST", &format!("/keys/{key}/encrypt"), body)
    }

    /// Signs 32 bytes.
    pub(crate) fn sign(&self, key: &str) -> Exchange {
        let body = r#"{"message":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}"#;
        self.request("POST", &format!("/keys/{key}/sign"), body)
    }

    /// One request again and again over so many connections, in turns of which the first does not count.
    pub(crate) async fn closed(&self, exchange: &Exchange, connections: usize, turns: Turns) -> Result<Sum> {
        let mut sum = Sum::default();
        for turn in 0..=turns.count {
            let (measured, cpu) = self.turn(exchange, connections, turns.each).await?;
            if turn > 0 {
                sum.add(measured, cpu);
            }
        }
        Ok(sum)
    }

    /// One such turn, and its workers' CPU with the gateway's.
    pub(crate) async fn turn(
        &self,
        exchange: &Exchange,
        connections: usize,
        time: Duration,
    ) -> Result<(Measured, Duration)> {
        let before = self.server.cpu_with_children()?;
        let measured = load::run_aside(self.target, exchange, connections, time).await?;
        Ok((measured, self.server.cpu_with_children()?.saturating_sub(before)))
    }

    /// The same at a steady rate.
    pub(crate) async fn steady(
        &self,
        exchange: &Exchange,
        rate: (u32, u32),
        time: Duration,
    ) -> Result<(Measured, Duration)> {
        let before = self.server.cpu_with_children()?;
        let measured = load::paced_aside(self.target, exchange, rate, time).await?;
        Ok((measured, self.server.cpu_with_children()?.saturating_sub(before)))
    }
}
