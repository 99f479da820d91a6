//! `holdfast audit`.

mod attestation;
mod check;
mod event;
mod mirror;
mod prove;
mod reconcile;
mod search;
mod source;
mod tail;
mod vendor;
mod verify;
mod verify_proof;

pub(in crate::command) use attestation::Attest;

use crate::app::App;
use crate::failure::Failure;
use clap::Subcommand;

/// The audit log.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    Verify(verify::Verify),
    Mirror(mirror::Mirror),
    Prove(prove::Prove),
    Check(check::Check),
    VerifyProof(verify_proof::VerifyProof),
    VerifyAttestation(attestation::VerifyAttestation),
    Tail(tail::Tail),
    Search(search::Search),
    Reconcile(reconcile::Reconcile),
}

impl AuditCommand {
    pub(crate) fn run(self, app: &App) -> Result<(), Failure> {
        match self {
            Self::Verify(verify) => verify.run(app),
            Self::Mirror(mirror) => mirror.run(app),
            Self::Prove(prove) => prove.run(app),
            Self::Check(check) => check.run(app),
            Self::VerifyProof(verify_proof) => verify_proof.run(app),
            Self::VerifyAttestation(verify) => verify.run(app),
            Self::Tail(tail) => tail.run(app),
            Self::Search(search) => search.run(app),
            Self::Reconcile(reconcile) => reconcile.run(app),
        }
    }
}
