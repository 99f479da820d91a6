//! `holdfast unseal`.

use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::lines::Lines;
use crate::output::note;
use clap::Args;
use holdfast_gateway::shares::custodian::open_share;
use holdfast_gateway::shares::{Fingerprint, Recipient};
use holdfast_sdk::Client;
use holdfast_sdk::field::Bytes;
use holdfast_sdk::message::{GiveShare, Seal};
use std::path::PathBuf;
use std::time::Duration;

/// How often to ask whether the gateway is open.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// How many of the answers may be missed, one after the other.
const MISSED: u32 = 10;

/// Give a sealed gateway your share of its root key
///
/// Compares the gateway's fresh key with the fingerprint that its console shows, opens your share with your age identity, encrypts it to that
/// key and gives it. A custodian of the root key needs no certificate for that. The last share that is needed opens the gateway.
#[derive(Debug, Args)]
pub(crate) struct Unseal {
    /// Your share, as it was given to you
    #[arg(long, value_name = "FILE")]
    share: PathBuf,
    /// The file with your age identity
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    /// What the gateway's console shows, learned from somebody who sees it; asked for on a terminal
    #[arg(long, value_parser = fingerprint)]
    fingerprint: Option<Fingerprint>,
}

pub(super) fn fingerprint(text: &str) -> Result<Fingerprint, String> {
    text.parse().map_err(|error: holdfast_core::Error| error.detail().to_owned())
}

impl Unseal {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let client = app.client()?;
        app.block_on(self.give(app, &client))
    }

    async fn give(self, app: &App, client: &Client) -> Result<(), Failure> {
        let Self { share, identity, fingerprint } = self;
        let seal = settled(client).await?;
        let recipient = match (seal.sealed, seal.opening, seal.recipient) {
            (true, false, Some(recipient)) => recipient,
            (true, _, _) => {
                note("enough shares are in, yours is not needed");
                return opened(client).await;
            }
            (false, _, _) => {
                return Err(Failure::new(Exit::State, "the gateway is not sealed")
                    .remedy("nothing is to be done: it has its root key"));
            }
        };
        let shown = match fingerprint {
            Some(fingerprint) => fingerprint,
            None => ask().await?,
        };
        let key: Recipient = match recipient.parse() {
            Ok(key) if Fingerprint::of(&recipient) == shown => key,
            Ok(_) | Err(_) => {
                let problem = "the key that was offered is not the one that the gateway's console shows";
                return Err(Failure::new(Exit::Integrity, problem).remedy(
                    "your share was not opened. Look at the console again: after each start it shows another fingerprint; \
                     if it is the same, somebody stands between you and the gateway",
                ));
            }
        };
        let sealed = open_share(&share, &identity)?.seal_to(&key)?;
        let seal = client.give_share(&GiveShare { share: Bytes(sealed) }).await?.body;
        tell(app, &seal)?;
        if seal.opening { opened(client).await } else { Ok(()) }
    }
}

/// What the gateway says of its seal; one that is just being sealed has no fresh key yet, and ends its connections.
async fn settled(client: &Client) -> Result<Seal, Failure> {
    let mut may_miss = 0;
    loop {
        match client.seal().await {
            Ok(seal) if seal.sealed && !seal.opening && seal.recipient.is_none() => may_miss = MISSED,
            Ok(seal) => return Ok(seal.body),
            Err(error) if may_miss == 0 => return Err(error.into()),
            Err(_) => may_miss -= 1,
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// Asks whoever sits there for what the console shows.
pub(super) async fn ask() -> Result<Fingerprint, Failure> {
    let wanted = || {
        Failure::usage("the fingerprint is not given")
            .remedy("give what the gateway's console shows with `--fingerprint`; learn it from somebody who sees it, not from the network")
    };
    let mut lines = Lines::of_stdin()?;
    if !lines.is_terminal() {
        return Err(wanted());
    }
    let line = lines.next("the fingerprint that the gateway's console shows:").await?.ok_or_else(wanted)?;
    fingerprint(&line).map_err(Failure::usage)
}

/// How far it is: `2 of 3 shares: alice, bob`.
fn tell(app: &App, seal: &Seal) -> Result<(), Failure> {
    if app.printer.is_json() {
        return app.printer.record(seal);
    }
    let names: Vec<_> = seal.custodians.iter().flatten().map(|name| name.0.as_str()).collect();
    let threshold = seal.threshold.unwrap_or_default();
    app.printer.entry(&format!("{} of {threshold} shares: {}", names.len(), names.join(", ")))
}

/// Waits until the gateway is open. Its connections end with the seal, so that an answer may be missed.
async fn opened(client: &Client) -> Result<(), Failure> {
    let mut missed = 0;
    loop {
        match client.seal().await {
            Ok(seal) if !seal.sealed => break,
            Ok(_) => missed = 0,
            Err(_) if missed < MISSED => missed += 1,
            Err(error) => {
                note("enough shares were in, and the gateway has not opened: its own log says why");
                return Err(error.into());
            }
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
    note("the gateway is open");
    Ok(())
}
