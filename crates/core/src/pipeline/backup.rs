//! Backups: written under a recorded command, and counted from when somebody has opened them.

use super::Pipeline;
use super::plan::{Planned, vanished};
use super::proof::Intent;
use super::record::{Facts, Scene};
use crate::command::{Done, VerifiedBackup};
use crate::error::{Error, ErrorKind, Stage};
use crate::event::Committed;
use crate::id::TenantId;
use crate::port::{Archive, Archived, Ports, State, StateChange};
use crate::tenant::{TakenBackup, TenantRecord};

impl<P: Ports> Pipeline<P> {
    /// The backup itself is written here, between intent and outcome; what is committed is which commit it holds.
    pub(super) async fn plan_backup(
        &self,
        scene: &Scene<'_, P>,
        facts: &mut Facts,
        intent: &Intent,
    ) -> Result<Planned, Error> {
        let gateway = &scene.caller.tenant;
        of_the_gateway(gateway)?;
        let archived = self.engines.archive.write(intent).await?;
        facts.subject = Some(archived.name.clone());
        // The file is nothing that can be guessed, so whoever holds it finds its record.
        facts.output = Some(Committed::Sha256 { digest: archived.digest, bytes: archived.bytes });
        self.reload(gateway).await?;
        let before = self.tenant(gateway).ok_or_else(|| vanished(gateway))?.data.record.clone();
        let Archived { name, bytes: _, digest, state, keep_days } = &archived;
        let mut backups = before.backups.clone();
        backups.push(TakenBackup {
            name: name.clone(),
            commit: state.sequence,
            taken: scene.inbound.now,
            expires: keep_days.map(|days| scene.inbound.now.plus_seconds(u64::from(days) * 86_400)),
            sha256: *digest,
        });
        backups.drain(..backups.len().saturating_sub(TakenBackup::MAX_REMEMBERED));
        let record = TenantRecord {
            backups,
            // Of two at once the later commit counts, whichever ends last.
            backed_up: before.backed_up.max(Some(archived.state.sequence)),
            epoch: before.epoch.next(),
            ..before.clone()
        };
        let changes = vec![StateChange::Tenant { record, expected: Some(before.epoch) }];
        let done = Done::BackedUp(archived, scene.inbound.now);
        // A conflict is not planned anew: that would write a second file.
        Ok(Planned { changes, done, reload: Some(gateway.clone()), compares: true })
    }

    /// A backup protects from when it is known that it opens: what was written and cannot be read protects nothing.
    pub(super) async fn plan_verified(
        &self,
        scene: &Scene<'_, P>,
        facts: &mut Facts,
        verified: &VerifiedBackup,
    ) -> Result<Planned, Error> {
        let gateway = &scene.caller.tenant;
        of_the_gateway(gateway)?;
        let VerifiedBackup { sha256, bytes, commit, proof: _ } = verified;
        facts.input = Some(Committed::Sha256 { digest: *sha256, bytes: *bytes });
        self.engines.archive.check(verified)?;
        // Of this gateway, and of a time that has not come yet: another history.
        if *commit > self.engines.state.position().sequence {
            let detail = format!("the backup is of commit {commit}, and the state has not come so far");
            return Err(Error::new(ErrorKind::Conflict, Stage::Resolve, detail)
                .remedy("look whether an older state was put back; follow `docs/operate/rollback.md`"));
        }
        self.reload(gateway).await?;
        let before = self.tenant(gateway).ok_or_else(|| vanished(gateway))?.data.record.clone();
        let record = TenantRecord {
            // An older one that is looked at later takes nothing away.
            verified: before.verified.max(Some(*commit)),
            epoch: before.epoch.next(),
            ..before.clone()
        };
        let done = Done::Tenant(gateway.clone(), record.epoch);
        let changes = vec![StateChange::Tenant { record, expected: Some(before.epoch) }];
        Ok(Planned { changes, done, reload: Some(gateway.clone()), compares: false })
    }
}

fn of_the_gateway(tenant: &TenantId) -> Result<(), Error> {
    if tenant.is_gateway() {
        return Ok(());
    }
    let detail = "a backup is of the whole gateway, not of one tenant";
    Err(Error::new(ErrorKind::Unsupported, Stage::Resolve, detail).remedy("ask an operator of the gateway"))
}
