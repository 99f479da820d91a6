//! `holdfast audit reconcile`: what a provider says it did with your keys, beside what was recorded here.

mod cloud_trail;

use crate::app::App;
use crate::failure::Failure;
use clap::Args;
use std::path::PathBuf;

/// Compare AWS's CloudTrail with the log
///
/// Joins CloudTrail's KMS events with the log's records by the id of their request, and lists what only one side has seen. Only requests for KMS keys
/// that the log knows are looked for, and only in the time that the files speak of. Ends with 6 where something is listed.
#[derive(Debug, Args)]
pub(crate) struct Reconcile {
    /// A file that CloudTrail has written, unpacked (JSON with `Records`)
    #[arg(long = "aws-cloudtrail", value_name = "FILE", required = true)]
    cloudtrail: Vec<PathBuf>,
    /// Look for this KMS key too, of which the log knows nothing
    #[arg(long = "kms-key", value_name = "ARN")]
    kms_keys: Vec<String>,
    /// The log's directory [default: the gateway's log]
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

impl Reconcile {
    pub(super) fn run(self, app: &App) -> Result<(), Failure> {
        let Self { cloudtrail, kms_keys, log } = self;
        cloud_trail::run(app, &cloudtrail, kms_keys, log.as_deref())
    }
}
