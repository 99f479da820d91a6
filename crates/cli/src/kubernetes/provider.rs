//! What each call of the Secrets Store CSI driver is answered: what a SecretProviderClass holds sealed, opened by the gateway for the pod.
//!
//! It has no credential of its own: it shows the pod's token, for as long as one call lasts, and keeps nothing.

use super::server::{Calls, Noted};
use super::verdict::refused;
use crate::app::Place;
use crate::failure::Failure;
use holdfast_sdk::{Client, Error, TenantId};
use holdfast_wire::kubernetes::Refused;
use holdfast_wire::kubernetes::csi::{
    Asked, Call, Failed, Form, MAX_MESSAGE, Mount, Reason, Volume, decode, failure_response, path,
    version_response,
};
use holdfast_wire::kubernetes::grpc::Code;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

/// The provider of one node.
pub(crate) struct Provider {
    pub(crate) gateway: Place,
    /// Whose keys open what a class says, unless it says whose itself.
    pub(crate) tenant: Option<TenantId>,
    /// Whom pods' tokens must be for.
    pub(crate) audience: String,
}

/// Why there are no files.
enum Miss {
    /// The driver is told why.
    Failed(Failed),
    /// The driver is to ask again.
    Later(Refused),
}

impl From<Failed> for Miss {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

impl Calls for Provider {
    const MAX_MESSAGE: usize = MAX_MESSAGE;

    fn method(of: &str) -> &'static str {
        match of {
            path::VERSION => "Version",
            path::MOUNT => "Mount",
            _ => "",
        }
    }

    /// Nothing is: mounts are rare, and each stands in the gateway's log.
    fn measure(&self, _: &Noted, _: Code, _: Duration) {}

    async fn perform(
        &self,
        of: &str,
        body: &[u8],
        until: Instant,
        noted: &mut Noted,
    ) -> Result<Zeroizing<Vec<u8>>, Refused> {
        match decode(of, body)? {
            Call::Version => {
                noted.is_routine = true;
                Ok(Zeroizing::new(version_response(env!("CARGO_PKG_VERSION"))))
            }
            Call::Mount(asked) => {
                noted.by = "gateway";
                match self.mount(&asked, until, noted).await {
                    Ok(message) => Ok(message),
                    Err(Miss::Later(refused)) => Err(refused),
                    Err(Miss::Failed(Failed { reason, words })) => {
                        tracing::warn!(pod = ?noted.uid, reason = reason.code(), %words, "no files");
                        Ok(Zeroizing::new(failure_response(reason)))
                    }
                }
            }
        }
    }
}

impl Provider {
    /// A way to the gateway that shows this token, and gives up after this time.
    ///
    /// # Errors
    /// When the gateway's authorities cannot be read, or its address is none.
    pub(crate) fn client(&self, token: &str, patience: Duration) -> Result<Client, Failure> {
        Ok(self.gateway.builder()?.token(token).timeout(patience).connect()?)
    }

    /// Whether there is a way to the gateway at all, whoever calls.
    ///
    /// # Errors
    /// As [`Provider::client`].
    pub(crate) fn check(&self) -> Result<(), Failure> {
        self.gateway.builder()?.connect().map(drop).map_err(Failure::from)
    }

    async fn mount(
        &self,
        asked: &Asked<'_>,
        until: Instant,
        noted: &mut Noted,
    ) -> Result<Zeroizing<Vec<u8>>, Miss> {
        let Mount { tenant, token, pod, objects } = asked.read(&self.audience)?;
        noted.uid = pod;
        let tenant = tenant.or_else(|| self.tenant.clone()).ok_or_else(|| {
            let words =
                "nobody says whose keys open it: neither `tenant` of the SecretProviderClass nor `--tenant`";
            Failed::new(Reason::InvalidObjects, words)
        })?;
        let left = until.saturating_duration_since(Instant::now());
        let client = self.client(&token, left).map_err(|failure| {
            Failed::new(Reason::Failed, format!("the gateway cannot be asked: {failure}"))
        })?;
        let gateway = client.tenant(tenant);
        let mut volume = Volume::default();
        for object in &objects {
            let pairs: Vec<_> = object.context.pairs().collect();
            let (key, ciphertext) = (&object.key, object.ciphertext.as_slice());
            let opening = async {
                match object.form {
                    Form::Encrypted => gateway.decrypt(key, ciphertext, &pairs).await,
                    Form::Wrapped => gateway.unwrap(key, ciphertext, &pairs).await,
                }
            };
            let late =
                || Miss::Later(Refused::new(Code::DeadlineExceeded, "the gateway gave no answer in time"));
            let opened = timeout_at(until, opening).await.map_err(|_| late())?;
            let opened = opened.map_err(|error| miss(&object.name, &error))?;
            noted.operation = opened.operation;
            volume.put(object, opened.plaintext.0.expose())?;
        }
        Ok(volume.into_message())
    }
}

/// What follows from a failure of the gateway.
fn miss(object: &str, error: &Error) -> Miss {
    let Refused { code, words } = refused(error);
    let words = format!("`{object}`: {words}");
    match error.as_problem().and(error.kind()).map(Reason::of) {
        Some(Some(reason)) => Miss::Failed(Failed::new(reason, words)),
        Some(None) => Miss::Later(Refused::new(Code::Unavailable, words)),
        // Nobody has answered, or nobody whom one can understand.
        None if matches!(code, Code::Unavailable | Code::DeadlineExceeded) => {
            Miss::Later(Refused::new(Code::Unavailable, words))
        }
        None => Miss::Failed(Failed::new(Reason::Failed, words)),
    }
}
