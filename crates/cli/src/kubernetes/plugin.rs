//! What each call of an API server is answered.

use super::clock::since_boot;
use super::lease::{Leases, Name};
use super::metrics::Metrics;
use super::server::{Calls, Noted};
use super::standing::Standing;
use super::verdict::{Verdict, refused};
use holdfast_core::OperationId;
use holdfast_sdk::field::{Bytes, ContextPairs, SecretBytes};
use holdfast_sdk::message::{CiphertextAnswer, Decrypt, Encrypt};
use holdfast_sdk::{Answered, Error, KeyName, Secret, Tenant};
use holdfast_wire::kubernetes::client::path;
use holdfast_wire::kubernetes::grpc::Code;
use holdfast_wire::kubernetes::{
    Call, ClusterName, DecryptRequest, EncryptRequest, KekId, MAX_CIPHERTEXT, MAX_MESSAGE, Refused, context,
    decode, decrypt_response, encrypt_response, status_response,
};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout_at};
use zeroize::Zeroizing;

/// The first pause before a question is repeated; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(400);
/// How often Encrypt begins again when the key was rotated meanwhile.
const ROTATIONS: u32 = 3;
/// How long a gateway has to have been silent before that says anything of it: who calls decides how long a call may take.
const EVIDENCE: Duration = Duration::from_millis(500);

/// What an answer is made of.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The message; wiped, as it may hold a seed.
    pub(crate) message: Zeroizing<Vec<u8>>,
    /// What its record in the audit log is found by; none where no gateway was asked.
    pub(crate) operation: Option<OperationId>,
}

/// The plugin of one API server.
pub(crate) struct Plugin {
    pub(crate) key: KeyName,
    pub(crate) cluster: ClusterName,
    pub(crate) leases: Leases,
    pub(crate) metrics: Metrics,
    /// What Status says, and who waits for it to change.
    pub(crate) standing: watch::Sender<Standing>,
    /// Has the key looked at now.
    pub(crate) look: Notify,
    /// Whether a call was told what the key's record does not say.
    doubt: AtomicBool,
    /// How long no gateway may answer before Status says so.
    grace: Duration,
    gateway: RwLock<Tenant>,
}

impl Calls for Plugin {
    const MAX_MESSAGE: usize = MAX_MESSAGE;

    fn method(of: &str) -> &'static str {
        match of {
            path::STATUS => "Status",
            path::ENCRYPT => "Encrypt",
            path::DECRYPT => "Decrypt",
            _ => "",
        }
    }

    fn measure(&self, noted: &Noted, code: Code, took: Duration) {
        self.metrics.count(noted.method, code, took);
        if code == Code::Ok && noted.method == "Decrypt" && noted.operation.is_none() {
            self.metrics.count_lease();
        }
    }

    async fn perform(
        &self,
        of: &str,
        body: &[u8],
        until: Instant,
        noted: &mut Noted,
    ) -> Result<Zeroizing<Vec<u8>>, Refused> {
        let call = decode(of, body)?;
        let Answer { message, operation } = match &call {
            Call::Status => {
                noted.is_routine = true;
                self.status()?
            }
            Call::Encrypt(asked) => {
                noted.uid = asked.uid.to_owned();
                self.encrypt(asked, until).await?
            }
            Call::Decrypt(asked) => {
                noted.uid = asked.uid.to_owned();
                self.decrypt(asked, until).await?
            }
        };
        noted.by = if operation.is_some() { "gateway" } else { "lease" };
        noted.operation = operation;
        Ok(message)
    }
}

/// Why a question has no answer.
enum Miss {
    /// Nobody could be asked, or nobody who can work now.
    Lost(Refused),
    /// There was too little time for anybody to answer.
    Hurried(Refused),
    /// It was refused.
    Refused(Refused),
}

impl Plugin {
    pub(crate) fn new(
        gateway: Tenant,
        key: KeyName,
        cluster: ClusterName,
        lease: Duration,
        grace: Duration,
    ) -> Self {
        let nobody_yet = Refused::new(Code::Unavailable, "no gateway has answered yet; send again");
        Self {
            key,
            cluster,
            leases: Leases::new(lease),
            metrics: Metrics::default(),
            standing: watch::Sender::new(Standing::Unknown(nobody_yet)),
            look: Notify::new(),
            doubt: AtomicBool::new(false),
            grace,
            gateway: RwLock::new(gateway),
        }
    }

    /// The way to the gateway.
    pub(crate) fn gateway(&self) -> Tenant {
        self.gateway.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes another way from now on: certificate or authority were renewed.
    pub(crate) fn go_by(&self, gateway: Tenant) {
        *self.gateway.write().unwrap_or_else(PoisonError::into_inner) = gateway;
    }

    /// Whether all is well, and under what new work is encrypted; from memory.
    ///
    /// # Errors
    /// When there is nothing that new work can be encrypted under.
    pub(crate) fn status(&self) -> Result<Answer, Refused> {
        let standing = self.standing.borrow();
        let (healthz, kek_id) = standing.health(since_boot(), self.grace)?;
        Ok(Answer { message: Zeroizing::new(status_response(&healthz, kek_id.as_str())), operation: None })
    }

    /// Encrypts a seed under what Status says.
    ///
    /// # Errors
    /// When it is refused, or cannot be done in time.
    pub(crate) async fn encrypt(
        &self,
        asked: &EncryptRequest<'_>,
        until: Instant,
    ) -> Result<Answer, Refused> {
        for _ in 0..ROTATIONS {
            let kek_id = self.standing.borrow().kek_id()?.clone();
            let request = Encrypt {
                plaintext: SecretBytes(Secret::from(asked.plaintext)),
                context: Some(self.bound(kek_id.as_str())?),
                padding: None,
            };
            let (key, request) = (&self.key, &request);
            let sent = self.ask(Instant::now(), until, true, |gateway| async move {
                gateway.use_key(key, request).await
            });
            let answered: Answered<CiphertextAnswer> = sent.await.map_err(|miss| match miss {
                Miss::Lost(refused) | Miss::Hurried(refused) | Miss::Refused(refused) => refused,
            })?;
            let operation = answered.operation;
            if answered.key_version.0 != kek_id.version() {
                // It was rotated, or rolled back. What is bound to the earlier name is thrown away; Status has to say the next one first.
                self.renamed(&kek_id, until).await?;
                continue;
            }
            let ciphertext = answered.ciphertext.0.as_slice();
            if ciphertext.len() > MAX_CIPHERTEXT {
                let words = format!(
                    "the gateway gave {} bytes, and an API server takes {MAX_CIPHERTEXT}",
                    ciphertext.len()
                );
                return Err(Refused::new(Code::Internal, words));
            }
            let message = Zeroizing::new(encrypt_response(ciphertext, kek_id.as_str()));
            return Ok(Answer { message, operation });
        }
        let words = format!("key `{}` is rotated again and again; send again", self.key);
        Err(Refused::new(Code::Unavailable, words))
    }

    /// Decrypts a seed. The gateway is asked each time; what is leased is given only where nobody can be asked.
    ///
    /// # Errors
    /// When it is refused, or cannot be done in time.
    pub(crate) async fn decrypt(
        &self,
        asked: &DecryptRequest<'_>,
        until: Instant,
    ) -> Result<Answer, Refused> {
        if !KekId::is_one(asked.key_id) {
            let words = "`key_id` is none that Holdfast gives; check which provider has encrypted the object";
            return Err(Refused::new(Code::InvalidArgument, words));
        }
        let name = Name::of(asked.ciphertext, asked.key_id);
        let moment = self.leases.asked(since_boot());
        let leased = || self.leases.find(&name, since_boot());
        let is_leased = leased().is_some();
        let given = |seed: &Secret| Answer { message: decrypt_response(seed.expose()), operation: None };
        if is_leased
            && self.standing.borrow().is_lost()
            && let Some(seed) = leased()
        {
            return Ok(given(&seed));
        }
        let request = Decrypt {
            ciphertext: Bytes(asked.ciphertext.to_vec()),
            context: Some(self.bound(asked.key_id)?),
            padding: None,
            key_version: None,
        };
        // Who has a lease to fall back on asks once, and for half of the time.
        let now = Instant::now();
        let half = now + (until.saturating_duration_since(now) / 2).max(EVIDENCE);
        let patience = if is_leased { half.min(until) } else { until };
        let (key, request) = (&self.key, &request);
        let sent =
            self.ask(now, patience, !is_leased, |gateway| async move { gateway.use_key(key, request).await });
        match sent.await {
            Ok(answered) => {
                let seed = answered.plaintext.0.expose();
                self.leases.keep(name, moment, seed);
                Ok(Answer { message: decrypt_response(seed), operation: answered.operation })
            }
            // Looked for again: a stop may have ended it meanwhile.
            Err(Miss::Lost(refused)) => leased().map(|seed| given(&seed)).ok_or(refused),
            Err(Miss::Hurried(refused)) => Err(refused),
            Err(Miss::Refused(refused)) => {
                self.leases.end(&name);
                Err(refused)
            }
        }
    }

    /// What binds a ciphertext of this cluster under a `key_id`.
    pub(crate) fn bound(&self, key_id: &str) -> Result<ContextPairs, Refused> {
        context(&self.cluster, key_id).map_err(|error| Refused::new(Code::InvalidArgument, error.detail()))
    }

    /// Sends a question until there is an answer, a refusal, or no time left.
    async fn ask<T, F>(
        &self,
        begun: Instant,
        until: Instant,
        is_patient: bool,
        send: impl Fn(Tenant) -> F,
    ) -> Result<Answered<T>, Miss>
    where
        F: Future<Output = Result<Answered<T>, Error>>,
    {
        let mut pause = FIRST_PAUSE;
        let mut last = None;
        loop {
            let Ok(outcome) = timeout_at(until, send(self.gateway())).await else {
                let unanswered =
                    || Refused::new(Code::DeadlineExceeded, "the gateway gave no answer in time; send again");
                if last.is_none() && until.saturating_duration_since(begun) < EVIDENCE {
                    return Err(Miss::Hurried(unanswered()));
                }
                let why = last.unwrap_or_else(unanswered);
                self.lost(&why);
                return Err(Miss::Lost(why));
            };
            let error = match outcome {
                Ok(answered) => return Ok(answered),
                Err(error) => error,
            };
            let why = refused(&error);
            match Verdict::of(&error) {
                Verdict::Lost => {
                    self.lost(&why);
                    if !is_patient || Instant::now() + pause >= until {
                        return Err(Miss::Lost(why));
                    }
                    last = Some(why);
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Verdict::Stopped => {
                    self.forget(&why);
                    self.doubt();
                    return Err(Miss::Refused(why));
                }
                Verdict::Unfit => {
                    self.doubt();
                    return Err(Miss::Refused(why));
                }
                Verdict::Refused => return Err(Miss::Refused(why)),
            }
        }
    }

    /// Waits until Status says another name than this one.
    async fn renamed(&self, kek_id: &KekId, until: Instant) -> Result<(), Refused> {
        let mut standing = self.standing.subscribe();
        self.look.notify_one();
        let another = standing.wait_for(|standing| standing.kek_id().ok() != Some(kek_id));
        let waited = timeout_at(until, another).await.map(|_| ());
        waited.map_err(|_| {
            let words = format!(
                "key `{}` was rotated, and what it is now could not be learned in time; send again",
                self.key
            );
            Refused::new(Code::Unavailable, words)
        })
    }

    /// Nobody could be asked.
    pub(crate) fn lost(&self, why: &Refused) {
        let is_news = self.standing.send_if_modified(|standing| {
            let was_lost = standing.is_lost();
            *standing = standing.lost(why.clone());
            !was_lost
        });
        // What is known to be lost is looked at again without being asked to.
        if is_news {
            self.doubt();
        }
    }

    /// Has the key tried now, as its record does not say what a call was told.
    pub(crate) fn doubt(&self) {
        self.doubt.store(true, Ordering::Release);
        self.look.notify_one();
    }

    /// Whether there was doubt since this was asked last.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.doubt.swap(false, Ordering::AcqRel)
    }

    /// Somebody has stopped it: nothing that is leased is given any more.
    pub(crate) fn forget(&self, why: &Refused) {
        let wiped = self.leases.forget();
        if wiped > 0 {
            tracing::warn!(wiped, %why, "refused: no seed is leased any more");
        }
    }
}
