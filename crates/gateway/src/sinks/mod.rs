//! The sinks of a gateway: started with it, stopped after its last entries are published. None of them makes it unready.

mod table;

pub use table::SinkTable;
pub(crate) use table::check;

use crate::fault::Fault;
use crate::world::SystemWorld;
use holdfast_audit::Refusal;
use holdfast_audit::sink::{Feed, Health, Sink};
use holdfast_core::TenantId;
use holdfast_core::port::World as _;
use holdfast_wire::native::message::Part;
use std::time::Duration;

/// How long a shutdown waits for sinks to take what is left.
const PATIENCE: Duration = Duration::from_secs(5);

/// Every sink of a gateway.
pub struct Sinks(Vec<Sink>);

impl Sinks {
    /// Starts them.
    ///
    /// # Errors
    /// When a cursor is not what was written.
    pub fn start(tables: &[SinkTable], feed: &Feed, world: &SystemWorld) -> Result<Self, Fault> {
        let start = |table: &SinkTable| {
            let mut seed = [0; 8];
            world.fill(&mut seed)?;
            let (settings, destination) = table.read(u64::from_ne_bytes(seed))?;
            let name = settings.name.clone();
            let refused = |refusal: Refusal| {
                let problem = format!(
                    "the sink `{name}` cannot start: `{}`: {}",
                    refusal.file.display(),
                    refusal.problem
                );
                Fault::new(problem).remedy(refusal.remedy)
            };
            Sink::start(feed.clone(), settings, destination).map_err(refused)
        };
        tables.iter().map(start).collect::<Result<_, _>>().map(Self)
    }

    /// How each does, by its name.
    pub fn health(&self) -> Vec<(String, Health)> {
        self.0.iter().map(|sink| (sink.name().to_string(), sink.health())).collect()
    }

    /// The first entry of a tenant's log that one of them still needs. Reads the disk.
    pub fn needed(&self, tenant: &TenantId) -> Option<u64> {
        let log = tenant.as_str().parse().ok()?;
        self.0.iter().filter_map(|sink| sink.needs_from(&log)).min()
    }

    /// Each as a part of the status.
    pub fn parts(&self) -> Vec<Part> {
        self.health().into_iter().map(|(name, health)| part(&name, &health)).collect()
    }

    /// Hands over what is published, for a bounded time, and stops them all. Blocks.
    pub fn stop(&self) {
        std::thread::scope(|scope| {
            for sink in &self.0 {
                scope.spawn(|| {
                    if !sink.stop(PATIENCE) {
                        let name = sink.name();
                        tracing::warn!(sink = %name, "it has not got everything; it goes on after the next start");
                    }
                });
            }
        });
    }
}

fn part(name: &str, health: &Health) -> Part {
    let Health { published: _, position: _, lag, behind, exported, skipped, failures: _, problem } = health;
    let mut detail = format!("{exported} entries exported since the start");
    if *lag > 0 {
        detail = format!("{detail}, {lag} behind for {} s", behind.as_secs());
    }
    if *skipped > 0 {
        detail = format!("{detail}, {skipped} skipped: they were removed from the log before");
    }
    if let Some(problem) = problem {
        detail = format!("{detail}: {problem}");
    }
    Part { name: format!("sink {name}"), ready: problem.is_none(), detail: Some(detail) }
}
