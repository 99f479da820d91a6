//! `holdfast pool`.

use super::kek::KekCommand;
use crate::app::App;
use crate::failure::Failure;
use crate::output::note;
use clap::Subcommand;
use holdfast_core::MemberName;
use holdfast_core::port::Membership;
use holdfast_sdk::message::{Member, MemberLatency, Pool, Sweep};
use serde::Serialize;

#[derive(Debug, Subcommand)]
pub(crate) enum PoolCommand {
    /// Show the members, how they fare, and why one does not work
    ///
    /// Times are in microseconds, as p50/p99, of symmetric operations, elliptic curves and RSA; a dash where nothing is known.
    Status,
    /// Take a member out: what is under way is finished, nothing new is asked of it
    ///
    /// Until it is let in again, across restarts too. The last member that works cannot be taken out.
    Drain {
        /// The member, as `holdfast pool status` names it
        member: MemberName,
    },
    /// Let a member work again that was taken out, or that is out because it gave a wrong result
    Join {
        /// The member, as `holdfast pool status` names it
        member: MemberName,
    },
    /// Give single tokens one wrapping key, under which keys travel between them; a security officer's commands, at the token
    #[command(subcommand)]
    Kek(KekCommand),
}

impl PoolCommand {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        match self {
            Self::Status => show(app, &app.block_on(app.client()?.pool())?.body),
            Self::Drain { member } => set(app, &member, Membership::Drained),
            Self::Join { member } => set(app, &member, Membership::Joined),
            Self::Kek(kek) => kek.run(app),
        }
    }
}

fn set(app: &App, member: &MemberName, to: Membership) -> Result<(), Failure> {
    app.printer.record(&app.block_on(app.client()?.move_member(member, to))?.body)
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
    if let Some(sweep) = &pool.sweep {
        note(&of_copies(sweep));
    }
    Ok(())
}

fn of_copies(sweep: &Sweep) -> String {
    let Sweep { begun, ended, versions, held, brought, lacking, failed } = sweep;
    let when = match ended {
        Some(ended) => format!("were looked through until {ended}"),
        None => format!("are being looked through since {begun}"),
    };
    let mut told =
        format!("the copies of {versions} key versions {when}: {held} were there, {brought} were brought");
    if lacking + failed > 0 {
        told.push_str(&format!(
            "; {lacking} are missing, {failed} could not be looked for: see the gateway's own log"
        ));
    }
    told
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
