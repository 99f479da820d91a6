//! Where the demo is played: a gateway of its own, founded like any other, on a free loopback port.

use super::{Narrator, at, wrong};
use crate::exit::Exit;
use crate::failure::Failure;
use holdfast_gateway::config::Config;
use holdfast_gateway::directory::Directory;
use holdfast_gateway::init::{self, Founder, Plan};
use holdfast_gateway::serve::{self, Options, Running};
use holdfast_sdk::Client;
use std::net::SocketAddr;
use std::path::PathBuf;
use tempfile::TempDir;

/// The running gateway and what its founding left.
pub(super) struct Stage {
    place: TempDir,
    running: Running,
    url: String,
    ca: Vec<u8>,
    /// The operator's certificate and key.
    operator: (Vec<u8>, Vec<u8>),
}

impl Stage {
    pub(super) async fn set(narrator: &mut Narrator<'_>) -> Result<Self, Failure> {
        let step = "found a gateway";
        let place = TempDir::with_prefix("holdfast-demo-").map_err(|error| {
            Failure::new(Exit::Failure, "there is no room for temporary files").because(&error)
        })?;
        let directory = Directory::at(&place.path().join("gateway"));
        let plan = Plan {
            origin: "demo.holdfast.example".to_owned(),
            server_names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            operators: vec![Founder { name: "operator".parse()?, certificate: None }],
            tenant: None,
            shares: None,
            tpm: None,
        };
        let founded = init::init(&directory, &plan).await.map_err(at(step))?;
        narrator.done(step, &format!("instance {}, one operator, no tenant", founded.instance));

        let step = "serve it";
        let mut config = Config { data: directory.path().to_path_buf(), ..Config::default() };
        config.listen.address = SocketAddr::from(([127, 0, 0, 1], 0));
        config.admin.enabled = false;
        let running = serve::start(Options { config, dev: false }).await.map_err(at(step))?;
        let read = |path: PathBuf| std::fs::read(&path).map_err(|error| Failure::file("read", &path, &error));
        let credentials = directory.credentials();
        let operator = (read(credentials.join("operator.pem"))?, read(credentials.join("operator.key"))?);
        let url = format!("https://{}", running.address);
        let stage = Self { place, running, url, ca: read(founded.ca)?, operator };
        let probe = stage.operator()?.probe().await.map_err(at(step))?;
        narrator.done(step, &format!("{} with {} and {}", stage.url, probe.version, probe.key_exchange));
        Ok(stage)
    }

    /// A client that shows this certificate.
    pub(super) fn client(&self, certificate: &[u8], key: &[u8]) -> Result<Client, Failure> {
        Ok(Client::builder(&self.url).ca_pem(self.ca.clone()).identity_pem(certificate, key).connect()?)
    }

    /// The operator's client.
    pub(super) fn operator(&self) -> Result<Client, Failure> {
        let (certificate, key) = &self.operator;
        self.client(certificate, key)
    }

    /// A path in the demo's directory, outside of the gateway's own.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// Ends the gateway and leaves nothing behind.
    pub(super) async fn strike(self, narrator: &mut Narrator<'_>) -> Result<(), Failure> {
        let step = "shut down";
        let Self { place, running, .. } = self;
        let path = place.path().to_path_buf();
        let ended = running.shut_down().await.map_err(at(step));
        place
            .close()
            .map_err(|error| wrong(step, format!("`{}` is still there: {error}", path.display())))?;
        ended?;
        narrator.done(step, "everything that was accepted is finished; nothing is left behind");
        Ok(())
    }
}
