//! `holdfast pool`.

use crate::app::App;
use crate::failure::Failure;
use crate::output::note;
use clap::Subcommand;
use holdfast_core::MemberName;
use holdfast_core::port::Membership;
use holdfast_sdk::message::{Member, MemberLatency, Pool};
use serde::Serialize;

#[derive(Debug, Subcommand)]
pub(crate) enum PoolCommand {
    /// Show the members, how they fare, and why one does not work
    ///
    /// Times are in microseconds, as p50/p99, of symmetric operations, elliptic curves and RSA; a dash where nothing is known.
    Status,
    /// Take a member out: what is under way is finished, nothing new is asked of it
    ///
    /// Until it is let in again or the gateway is started again; to keep it out, take it out of the configuration. The last member that works
    /// cannot be taken out.
    Drain {
        /// The member, as `holdfast pool status` names it
        member: MemberName,
    },
    /// Let a member work again that was taken out, or that is out because it gave a wrong result
    Join {
        /// The member, as `holdfast pool status` names it
        member: MemberName,
    },
}

impl PoolCommand {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        let client = app.client()?;
        let moved = |member: &MemberName, to| app.block_on(client.move_member(member, to));
        match self {
            Self::Status => show(app, &app.block_on(client.pool())?.body),
            Self::Drain { member } => app.printer.record(&moved(&member, Membership::Drained)?.body),
            Self::Join { member } => app.printer.record(&moved(&member, Membership::Joined)?.body),
        }
    }
}

/// A member in a row.
#[derive(Serialize)]
struct Row<'a> {
    member: &'a str,
    state: &'a str,
    busy: String,
    answered: u64,
    failed: u64,
    late: u64,
    restarts: u64,
    symmetric: String,
    curve: String,
    rsa: String,
    detail: &'a str,
}

fn show(app: &App, pool: &Pool) -> Result<(), Failure> {
    if app.printer.is_json() {
        return app.printer.record(pool);
    }
    if pool.members.is_empty() {
        note("custody is in software: there is no pool; `[[token]]` in the configuration names a token");
        return Ok(());
    }
    let rows: Vec<_> = pool.members.iter().map(row).collect();
    let columns = [
        "member",
        "state",
        "busy",
        "answered",
        "failed",
        "late",
        "restarts",
        "symmetric",
        "curve",
        "rsa",
        "detail",
    ];
    app.printer.list(&rows, &columns)?;
    note(&format!(
        "a new key must be held by {} of them; {} operations were hedged, {} were asked of another member",
        pool.copies, pool.hedged, pool.retried
    ));
    Ok(())
}

fn row(member: &Member) -> Row<'_> {
    let time = |operations: &str| {
        let of = member.latency.iter().find(|latency| latency.operations == operations);
        match of {
            Some(MemberLatency { p50_us, p99_us, .. }) if *p50_us > 0 => format!("{p50_us}/{p99_us}"),
            Some(_) | None => "-".to_owned(),
        }
    };
    Row {
        member: &member.name,
        state: &member.state,
        busy: format!("{} of {}", member.in_flight, member.sessions),
        answered: member.answered,
        failed: member.failed,
        late: member.late,
        restarts: member.restarts,
        symmetric: time("symmetric"),
        curve: time("curve"),
        rsa: time("rsa"),
        detail: member.why.as_deref().or(member.token.as_deref()).unwrap_or_default(),
    }
}
