//! What the end of one version costs, and what others notice of it: its tenant's sealing key is replaced, and every other version taken to the
//! next one, under requests at a steady rate.

use crate::gateway::{self, Gateway};
use crate::load::{self, Exchange, Measured};
use crate::report::{Noticed, Report, Resealing};
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

/// Encryptions a second, and over how many connections.
const USES: (u32, u32) = (500, 16);
/// Commands a second: each waits for the one writer of the state, as a step does.
const COMMANDS: (u32, u32) = (20, 4);
/// How long they go on before it is looked whether the sealing key is retired: by so much the figure is too long at most.
const TURN: Duration = Duration::from_millis(500);
/// How long it may take at most.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Whose first version is destroyed.
const GONE: &str = "gone";

/// Measures with so many other versions, and before for a while with none that moves.
pub(crate) async fn measure(
    holdfast: &Path,
    within: &Path,
    (versions, before): (u64, Duration),
    report: &mut Report,
) -> Result<()> {
    let gateway = gateway::start(holdfast, &within.join("resealing")).await?;
    let named = ["used", "turned", GONE].map(str::to_owned).into_iter();
    gateway.create(named.chain((0..versions).map(|number| format!("key-{number}"))), "xaes-256-gcm").await?;
    // A first version waits for nothing when its key has another one.
    gateway.ask("POST", &format!("/keys/{GONE}/rotate"), "{}").await?;
    let order = r#"{"version":1,"without_inventory":true}"#;
    gateway.ask("POST", &format!("/keys/{GONE}/deactivate-version"), order).await?;

    let mut alone = Load::new(&gateway);
    while alone.elapsed < before {
        alone.turn(&gateway).await?;
    }
    gateway.ask("POST", &format!("/keys/{GONE}/destroy-version"), order).await?;
    let begin = Instant::now();
    let mut meanwhile = Load::new(&gateway);
    while !is_retired(&gateway).await? {
        if begin.elapsed() > PATIENCE {
            bail!("the sealing key is not retired after {PATIENCE:?}");
        }
        meanwhile.turn(&gateway).await?;
    }
    // Those that were made for it and by the load before; what is made meanwhile is under the next one at once.
    let moved = versions + 3 + u64::try_from(alone.commands.len())?;
    let cpu = meanwhile.cpu_beyond(&alone);
    report.resealing = Some(Resealing::new(
        (moved, meanwhile.elapsed, cpu),
        [
            Noticed::new("encrypt", USES.0, alone.uses, meanwhile.uses),
            Noticed::new("rotate a key", COMMANDS.0, alone.commands, meanwhile.commands),
        ],
    ));
    Ok(())
}

async fn is_retired(gateway: &Gateway) -> Result<bool> {
    let key = gateway.ask("GET", &format!("/keys/{GONE}"), "").await?;
    let state = key.pointer("/sealed_under/0/state").and_then(Value::as_str);
    Ok(state.with_context(|| format!("nothing lay under a sealing key: {key}"))? == "retired")
}

/// Requests at a steady rate, and what the gateway spent meanwhile.
struct Load {
    encrypt: Exchange,
    rotate: Exchange,
    uses: Vec<u32>,
    commands: Vec<u32>,
    elapsed: Duration,
    cpu: Duration,
}

impl Load {
    fn new(gateway: &Gateway) -> Self {
        Self {
            encrypt: gateway.encrypt("used"),
            rotate: gateway.request("POST", "/keys/turned/rotate", "{}"),
            uses: vec![],
            commands: vec![],
            elapsed: Duration::ZERO,
            cpu: Duration::ZERO,
        }
    }

    async fn turn(&mut self, gateway: &Gateway) -> Result<()> {
        let (begin, cpu) = (Instant::now(), gateway.server.cpu()?);
        let steady =
            |exchange, (rate, connections)| load::paced(gateway.target, exchange, connections, rate, TURN);
        let (uses, commands) = tokio::try_join!(steady(&self.encrypt, USES), steady(&self.rotate, COMMANDS))?;
        let (Measured { latencies: uses, .. }, Measured { latencies: commands, .. }) = (uses, commands);
        self.uses.extend(uses);
        self.commands.extend(commands);
        self.elapsed += begin.elapsed();
        self.cpu += gateway.server.cpu()?.saturating_sub(cpu);
        Ok(())
    }

    /// What was spent beyond what these requests cost alone.
    fn cpu_beyond(&self, alone: &Self) -> Duration {
        let requests = alone.cpu.mul_f64(self.elapsed.as_secs_f64() / alone.elapsed.as_secs_f64());
        self.cpu.saturating_sub(requests)
    }
}
