//! `holdfast seal`.

use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::note;
use clap::Args;
use holdfast_gateway::shares::custodian::open_share;
use holdfast_sdk::Client;
use holdfast_sdk::field::{Bounded, Bytes};
use holdfast_sdk::message::{AskToSeal, OrderSeal};
use std::path::PathBuf;

/// Stop everything: have a gateway give its root key up
///
/// For a gateway whose root key is in shares. One custodian of it is enough, and needs no certificate: the gateway asks what only your age
/// identity opens, and your share does not leave this machine. When this returns, nothing leaves the gateway any more; it waits, sealed,
/// until its custodians run `holdfast unseal`. One that waits already, for shares or for its device, is opened by no device any more.
#[derive(Debug, Args)]
pub(crate) struct SealGateway {
    /// Your share, as it was given to you
    #[arg(long, value_name = "FILE")]
    share: PathBuf,
    /// The file with your age identity
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
}

impl SealGateway {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let client = app.client()?;
        app.block_on(self.order(app, &client))
    }

    async fn order(self, app: &App, client: &Client) -> Result<(), Failure> {
        let Self { share, identity } = self;
        let opened = open_share(&share, &identity)?;
        let seal = client.seal().await?;
        // One that waits for shares takes the order as well: a device could open it.
        if seal.sealed && seal.generation.is_none() {
            note("the gateway is being sealed already");
            return Ok(());
        }
        let (generation, number) = opened.number();
        let (generation, share) = (Bounded(generation.into()), Bounded(number.into()));
        let challenge = client.ask_to_seal(&AskToSeal { generation, share }).await?.body.challenge.0;
        if challenge.len() > MAX_CHALLENGE {
            return Err(Failure::new(Exit::Integrity, "what came from the gateway is no challenge")
                .remedy("nothing was answered; look who stands between you and the gateway"));
        }
        let answer = Bytes(opened.order_seal(&challenge, &identity)?.to_vec());
        let done = client.order_seal(&OrderSeal { generation, share, answer }).await?.body;
        match app.printer.is_json() {
            true => app.printer.record(&done)?,
            false => app.printer.entry(&format!("sealed by order of {}", done.custodian.0))?,
        }
        if let Some(remedy) = &done.remedy {
            note(remedy);
        } else if done.durability.0 != holdfast_core::command::Durability::Durable {
            note("the log could not take the order yet: it is recorded when the gateway is opened again");
        }
        note("nothing leaves the gateway any more; its custodians open it again with `holdfast unseal`");
        Ok(())
    }
}

/// No challenge is longer.
const MAX_CHALLENGE: usize = 4 << 10;
