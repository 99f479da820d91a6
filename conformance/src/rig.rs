//! A founded gateway over any ports, with people in it, and short words for what they do.
//!
//! Tenant `acme` has the applications `alice` (who may use every key) and `bob` (who may do nothing), the custodians `carol` and `dora`,
//! and the auditor `audrey`; tenant `other` has the same people, who are others. The gateway's operator is `olga`. Each proves itself with
//! [`crate::doubles::token`].

use crate::doubles::{Journal, Keys, Records, Registry, Rules, Sim, TestPorts, Vault, token};
use holdfast_core::algorithm::Algorithm;
use holdfast_core::caller::{CallerKind, CallerRecord, Credential, TokenForm};
use holdfast_core::command::{Command, Done, NewKey, NewTenant, Outcome};
use holdfast_core::context::Context;
use holdfast_core::key::{Key, Labels, Legacy};
use holdfast_core::lifecycle::Transition;
use holdfast_core::operation::{Answer, Operation, Output};
use holdfast_core::peer::Proof;
use holdfast_core::pipeline::{Call, Engines, Founding, Inbound, Pipeline, Recovery, Released};
use holdfast_core::port::{AuditLog, KeyStore, State, World};
use holdfast_core::query::{Found, Query};
use holdfast_core::tenant::Anchor;
use holdfast_core::{Error, InstanceId, KeyName, KeyVersion, Protocol, Secret, TenantId};
use std::sync::Arc;

/// Alice uses every key, custodians administer and read, auditors read, and bob may do nothing.
pub const POLICY: &str = "permit alice use *
permit kind:custodian administer *
permit kind:custodian read *
permit kind:auditor read *";

/// The certificate of the authority that tenant `acme` trusts; `other` trusts another.
pub const AUTHORITY: &[u8] = b"acme's own authority";

/// A gateway with people.
pub struct Rig<K: KeyStore = Keys, S: State = Records, L: AuditLog = Journal> {
    /// Its law.
    pub pipeline: Pipeline<TestPorts<K, S, L>>,
    /// Its clock and entropy.
    pub world: Sim,
    /// Who is recognised.
    pub registry: Registry,
    /// The first tenant.
    pub acme: TenantId,
    /// The second tenant.
    pub other: TenantId,
    /// The gateway itself.
    pub gateway: TenantId,
}

/// A registration with the token and the certificate of that name.
pub fn person(tenant: &str, name: &str, kind: CallerKind, world: &Sim) -> CallerRecord {
    let (_, _, kept) = token(&format!("{tenant}/{name}"), world.now().plus_seconds(1_000_000));
    CallerRecord {
        name: name.parse().unwrap(),
        kind,
        groups: vec![],
        credentials: vec![Credential::Uri(format!("spiffe://{tenant}/{name}").into())],
        tokens: vec![kept],
        suspended: false,
    }
}

/// A tenant with the people of the rig.
pub fn people(tenant: &str, policy: &str, world: &Sim) -> NewTenant {
    let kinds = [
        ("alice", CallerKind::Application),
        ("bob", CallerKind::Application),
        ("carol", CallerKind::Custodian),
        ("dora", CallerKind::Custodian),
        ("audrey", CallerKind::Auditor),
    ];
    let authority = if tenant == "acme" { AUTHORITY } else { b"another's authority" };
    NewTenant {
        tenant: tenant.parse().unwrap(),
        callers: kinds.iter().map(|(name, kind)| person(tenant, name, *kind, world)).collect(),
        anchors: vec![Anchor {
            name: "own".parse().unwrap(),
            certificate: Arc::from(authority),
            revocations: None,
        }],
        policy: Some(Arc::from(policy)),
    }
}

impl Rig {
    /// A gateway in memory, under [`POLICY`].
    pub fn new() -> Self {
        Self::under(POLICY)
    }

    /// A gateway in memory, whose tenants have this policy.
    pub fn under(policy: &str) -> Self {
        let founding = Self::found(Keys::default(), Records::default(), Journal::default(), policy);
        crate::task::now(founding).unwrap()
    }

    /// The process dies and another one opens what it left. Of the entries that waited, the first `lucky` survive.
    ///
    /// # Errors
    /// What [`Pipeline::open`] refuses.
    pub fn crash(self, lucky: usize) -> Result<Self, Error> {
        let Engines { keys, state, log, .. } = self.pipeline.engines();
        let (keys, state, log, world) = (keys.clone(), state.clone(), log.clone(), self.world.clone());
        drop(self);
        state.reading.release();
        state.committing.release();
        keys.performing.release();
        log.crash(lucky);
        state.heal();
        keys.heal();
        keys.restart();
        let recovery = log.recovery();
        crate::task::now(Self::open(keys, state, log, world, recovery))
    }
}

impl Default for Rig {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: KeyStore, S: State, L: AuditLog> Rig<K, S, L> {
    /// Founds a gateway in empty ports.
    ///
    /// # Errors
    /// Whatever the ports fail with.
    pub async fn found(keys: K, state: S, log: L, policy: &str) -> Result<Self, Error> {
        let world = Sim::new(1);
        let registry = Registry::default();
        let founding = Founding {
            instance: InstanceId::from_bytes([7; 16]),
            build: "test",
            operators: vec![person(TenantId::GATEWAY, "olga", CallerKind::Operator, &world)],
            tenants: vec![people("acme", policy, &world), people("other", policy, &world)],
            shares: None,
        };
        let engines = Self::engines(keys, state, log, &world, &registry);
        let pipeline = Pipeline::found(engines, false, founding).await?;
        Ok(Self::around(pipeline, world, registry))
    }

    /// Opens a gateway that was founded in these ports.
    ///
    /// # Errors
    /// What [`Pipeline::open`] refuses.
    pub async fn open(keys: K, state: S, log: L, world: Sim, recovery: Recovery) -> Result<Self, Error> {
        let registry = Registry::default();
        let engines = Self::engines(keys, state, log, &world, &registry);
        let pipeline = Pipeline::open(engines, false, recovery).await?;
        Ok(Self::around(pipeline, world, registry))
    }

    fn engines(keys: K, state: S, log: L, world: &Sim, registry: &Registry) -> Engines<TestPorts<K, S, L>> {
        let archive = Vault::default();
        Engines {
            identify: registry.clone(),
            decide: Rules::default(),
            keys,
            state,
            log,
            archive,
            world: world.clone(),
        }
    }

    fn around(pipeline: Pipeline<TestPorts<K, S, L>>, world: Sim, registry: Registry) -> Self {
        Self {
            pipeline,
            world,
            registry,
            acme: "acme".parse().unwrap(),
            other: "other".parse().unwrap(),
            gateway: TenantId::gateway(),
        }
    }

    /// The key store.
    pub fn keys(&self) -> &K {
        &self.pipeline.engines().keys
    }

    /// The state.
    pub fn state(&self) -> &S {
        &self.pipeline.engines().state
    }

    /// The log.
    pub fn log(&self) -> &L {
        &self.pipeline.engines().log
    }

    /// A request of somebody at `acme`, through the native API.
    pub fn inbound(&self, who: &str) -> Inbound<'_> {
        self.inbound_at(&self.acme, who)
    }

    /// A request of somebody at a tenant.
    pub fn inbound_at<'a>(&self, tenant: &'a TenantId, who: &str) -> Inbound<'a> {
        let (id, secret, _) = token(&format!("{tenant}/{who}"), self.world.now());
        self.inbound_with(tenant, Proof::Bearer { id, secret })
    }

    /// A request with any proof of identity.
    pub fn inbound_with<'a>(&self, tenant: &'a TenantId, proof: Proof<'a>) -> Inbound<'a> {
        Inbound {
            operation: self.pipeline.new_operation().unwrap(),
            tenant,
            proof,
            source: Some("192.0.2.7".parse().unwrap()),
            protocol: Protocol::Native,
            protocol_request: None,
            request: &NO_CONTEXT,
            trace: None,
            now: self.world.now(),
            ticks: self.world.ticks(),
            only: None,
            wants_receipt: false,
        }
    }

    /// Uses a key; the answer is still on its way out.
    ///
    /// # Errors
    /// What the pipeline refuses.
    pub async fn release(
        &self,
        who: &str,
        key: &str,
        operation: Operation,
    ) -> Result<Released<Answer>, Error> {
        let inbound = self.inbound(who);
        self.pipeline.use_key(&inbound, call(key, operation)).await
    }

    /// Uses a key.
    ///
    /// # Errors
    /// What the pipeline refuses.
    pub async fn use_key(&self, who: &str, key: &str, operation: Operation) -> Result<Answer, Error> {
        Ok(self.release(who, key, operation).await?.into_parts().0)
    }

    /// Uses a key, and gives the bytes that come of it.
    ///
    /// # Errors
    /// What the pipeline refuses.
    pub async fn bytes(&self, who: &str, key: &str, operation: Operation) -> Result<Vec<u8>, Error> {
        Ok(bytes(self.use_key(who, key, operation).await?))
    }

    /// Random bytes.
    ///
    /// # Errors
    /// What the pipeline refuses.
    pub async fn random(&self, who: &str, length: usize) -> Result<Vec<u8>, Error> {
        let inbound = self.inbound(who);
        Ok(bytes(self.pipeline.use_key(&inbound, Call::Random { length }).await?.into_parts().0))
    }

    /// Gives a command.
    ///
    /// # Errors
    /// What the pipeline refuses.
    pub async fn command(&self, who: &str, command: Command) -> Result<Outcome, Error> {
        let inbound = self.inbound(who);
        Ok(self.pipeline.command(&inbound, command).await?.into_parts().0)
    }

    /// Reads records.
    ///
    /// # Errors
    /// What the pipeline refuses.
    pub async fn query(&self, who: &str, query: Query) -> Result<Found, Error> {
        let inbound = self.inbound(who);
        Ok(self.pipeline.query(&inbound, query).await?.into_parts().0)
    }

    /// Lets carol create a key.
    ///
    /// # Errors
    /// What the pipeline refuses.
    pub async fn create(&self, new: NewKey) -> Result<Key, Error> {
        let outcome = self.command("carol", Command::CreateKey(new)).await?;
        let Done::Key(key, _) = outcome.done else { panic!("a key") };
        Ok(*key)
    }

    /// Lets carol move a key to another state.
    ///
    /// # Errors
    /// What the pipeline refuses.
    pub async fn transition(&self, key: &str, verb: Transition) -> Result<Outcome, Error> {
        self.command("carol", transition(key, verb)).await
    }
}

/// A name.
pub fn name(text: &str) -> KeyName {
    text.parse().unwrap()
}

/// The order to issue a bearer token.
pub fn issue_token(caller: &str, seconds: u64) -> Command {
    Command::IssueToken { caller: caller.parse().unwrap(), seconds, form: TokenForm::Bearer }
}

/// The order to move a key to another state.
pub fn transition(key: &str, verb: Transition) -> Command {
    Command::TransitionKey { key: name(key), verb }
}

/// A key as it is created unless told otherwise.
pub fn new_key(key: &str, algorithm: Algorithm) -> NewKey {
    NewKey {
        name: name(key),
        algorithm: Some(algorithm),
        purpose: None,
        exportable: false,
        legacy: Legacy::default(),
        labels: Labels::new(),
        prepared: false,
        emergency_copy: false,
        protocol: None,
    }
}

/// A context.
/// Nothing: most requests have none.
pub static NO_CONTEXT: Context = Context::EMPTY;

/// A context of these pairs.
pub fn context(pairs: &[(&str, &str)]) -> Context {
    Context::new(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()).unwrap()
}

/// A use of a key.
pub fn call(key: &str, operation: Operation) -> Call {
    Call::Key { key: name(key), operation }
}

/// Encrypt.
pub fn encrypt(plaintext: &[u8], context: Context) -> Operation {
    Operation::Encrypt { plaintext: Secret::from(plaintext), context, padding: None }
}

/// Decrypt.
pub fn decrypt(ciphertext: &[u8], context: Context) -> Operation {
    Operation::Decrypt { ciphertext: ciphertext.to_vec(), context, padding: None, bare: None }
}

/// Wrap.
pub fn wrap(bytes: &[u8], context: Context) -> Operation {
    Operation::Wrap { bytes: Secret::from(bytes), context, padding: None }
}

/// Unwrap.
pub fn unwrap(ciphertext: &[u8], context: Context) -> Operation {
    Operation::Unwrap { ciphertext: ciphertext.to_vec(), context, padding: None, bare: None }
}

/// Make a data key.
pub fn data_key(length: usize, with_plaintext: bool, context: Context) -> Operation {
    Operation::DataKey { length, with_plaintext, context }
}

/// Rewrap, to another key if one is named.
pub fn rewrap(ciphertext: &[u8], context: Context, target: Option<&str>) -> Operation {
    Operation::Rewrap { ciphertext: ciphertext.to_vec(), context, target: target.map(name) }
}

/// Sign.
pub fn sign(message: &[u8]) -> Operation {
    Operation::Sign { message: message.to_vec(), is_digest: false, scheme: None }
}

/// Verify, with the newest version unless told.
pub fn verify(message: &[u8], signature: &[u8], version: Option<u32>) -> Operation {
    let version = version.and_then(KeyVersion::new);
    Operation::Verify {
        message: message.to_vec(),
        is_digest: false,
        scheme: None,
        signature: signature.to_vec(),
        version,
    }
}

/// The bytes of an answer: of a data key the ciphertext, of an encapsulation the secret.
pub fn bytes(answer: Answer) -> Vec<u8> {
    match answer.output {
        Output::Ciphertext(bytes) | Output::Signature(bytes, _) | Output::Mac(bytes) => bytes,
        Output::DataKey { ciphertext, plaintext: _ } => ciphertext,
        Output::Plaintext(secret)
        | Output::SharedSecret(secret)
        | Output::Random(secret)
        | Output::Encapsulated { ciphertext: _, secret } => secret.expose().to_vec(),
        Output::PublicKey(bytes) => bytes.to_vec(),
        Output::Valid(valid) => vec![u8::from(valid)],
    }
}
