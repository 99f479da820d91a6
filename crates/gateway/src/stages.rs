//! The stages of a request, made visible: each port in a wrapper that opens a span and takes the time.
//!
//! Core knows nothing of traces and metrics; what it does through a port is what takes time.

use crate::metrics::Latencies;
use holdfast_core::adoption::{ObjectDigest, Sought};
use holdfast_core::algorithm::Algorithm;
use holdfast_core::caller::{Caller, CallerRecord};
use holdfast_core::emergency::{Approved, CopyState, OpenedCopy, RequestCopy};
use holdfast_core::import::Wrapped;
use holdfast_core::key::{Custody, Generated, KeyMaterial, NewVersion, SealedHandle};
use holdfast_core::peer::Proof;
use holdfast_core::pipeline::{Change, Intent, Permit, Use};
use holdfast_core::port::{
    Absence, AuditLog, ChangedSealing, Copies, Decide, Decision, End, Examined, Expiry, Health, Identified,
    Identify, KeyStore, Mark, Membership, Position, Priority, Question, Remains,
};
use holdfast_core::query::{AuditPath, Explanation};
use holdfast_core::receipt::{SignedReceipt, Statement};
use holdfast_core::sealing_key::SealingKeyId;
use holdfast_core::tenant::Anchor;
use holdfast_core::work::{Product, Work};
use holdfast_core::{Error, KeyId, KeyVersion, MemberName, Secret, Stage, TenantId, Timestamp, TokenId};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;
use tracing::{Instrument as _, Span, debug_span};

/// How long each stage takes.
#[derive(Debug, Clone, Default)]
pub struct Stages {
    /// Finding out who asks.
    pub identify: Latencies,
    /// Asking the policy.
    pub decide: Latencies,
    /// The key store's work.
    pub perform: Latencies,
    /// From an event's place in the log to its durability.
    pub record: Latencies,
}

/// A port whose calls are seen.
#[derive(Debug)]
pub struct Seen<T> {
    inner: T,
    latencies: Latencies,
}

impl<T> Seen<T> {
    /// Wraps a port; what it does is counted in `latencies`.
    pub fn new(inner: T, latencies: &Latencies) -> Self {
        Self { inner, latencies: latencies.clone() }
    }
}

impl<T> std::ops::Deref for Seen<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

fn span(stage: Stage) -> Span {
    debug_span!("stage", name = stage.name())
}

fn micros_since(begin: Instant) -> u64 {
    u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX)
}

impl<T: Identify> Identify for Seen<T> {
    type Prepared = T::Prepared;

    fn prepare(&self, callers: &[Arc<CallerRecord>], anchors: &[Anchor]) -> Result<T::Prepared, Error> {
        self.inner.prepare(callers, anchors)
    }

    fn replace(&self, before: &Anchor, after: &Anchor) -> Result<(), Error> {
        self.inner.replace(before, after)
    }

    fn signing_secret(&self, id: TokenId) -> Result<Secret, Error> {
        self.inner.signing_secret(id)
    }

    fn identify(
        &self,
        prepared: &T::Prepared,
        proof: &Proof<'_>,
        now: Timestamp,
    ) -> Result<Identified, Error> {
        let begin = Instant::now();
        let result = span(Stage::Identify).in_scope(|| self.inner.identify(prepared, proof, now));
        self.latencies.observe(micros_since(begin));
        result
    }
}

impl<T: Decide> Decide for Seen<T> {
    type Prepared = T::Prepared;

    fn tenant_policy(&self) -> &'static str {
        self.inner.tenant_policy()
    }

    fn gateway_policy(&self) -> &'static str {
        self.inner.gateway_policy()
    }

    async fn prepare(&self, tenant: &TenantId, text: &Arc<str>) -> Result<T::Prepared, Error> {
        self.inner.prepare(tenant, text).await
    }

    async fn examine(
        &self,
        author: &Caller,
        callers: &[Arc<CallerRecord>],
        text: &Arc<str>,
    ) -> Result<Examined, Error> {
        self.inner.examine(author, callers, text).await
    }

    fn renew(&self, prepared: &T::Prepared) -> T::Prepared {
        self.inner.renew(prepared)
    }

    fn explain(&self, prepared: &T::Prepared, question: &Question<'_>) -> Explanation {
        self.inner.explain(prepared, question)
    }

    fn decide(&self, prepared: &T::Prepared, question: &Question<'_>) -> Decision {
        let begin = Instant::now();
        let decision = span(Stage::Decide).in_scope(|| self.inner.decide(prepared, question));
        self.latencies.observe(micros_since(begin));
        decision
    }
}

impl<T: KeyStore> KeyStore for Seen<T> {
    async fn enroll(&self, permit: &Permit<Change>, tenant: &TenantId) -> Result<SealedHandle, Error> {
        self.inner.enroll(permit, tenant).instrument(span(Stage::Perform)).await
    }

    async fn generate(&self, permit: &Permit<Change>, version: NewVersion<'_>) -> Result<Generated, Error> {
        self.inner.generate(permit, version).instrument(span(Stage::Perform)).await
    }

    async fn generate_with_copy(
        &self,
        permit: &Permit<Change>,
        version: NewVersion<'_>,
    ) -> Result<Generated, Error> {
        self.inner.generate_with_copy(permit, version).instrument(span(Stage::Perform)).await
    }

    fn request_copy(
        &self,
        permit: &Permit<Change>,
        versions: &[KeyMaterial<'_>],
        asked: &RequestCopy,
        now: Timestamp,
    ) -> Result<CopyState, Error> {
        self.inner.request_copy(permit, versions, asked, now)
    }

    fn approve_copy(
        &self,
        permit: &Permit<Change>,
        key: KeyId,
        shares: &[u8],
        now: Timestamp,
    ) -> Result<Approved, Error> {
        self.inner.approve_copy(permit, key, shares, now)
    }

    fn enforce_copy(&self, permit: &Permit<Change>, key: KeyId, opened: OpenedCopy) {
        self.inner.enforce_copy(permit, key, opened);
    }

    fn end_copy(&self, permit: &Permit<Change>, key: KeyId) -> Result<(), Error> {
        self.inner.end_copy(permit, key)
    }

    fn copy_state(&self, key: KeyId, now: Timestamp) -> CopyState {
        self.inner.copy_state(key, now)
    }

    async fn perform_by_copy(
        &self,
        permit: &Permit<Use>,
        key: KeyMaterial<'_>,
        work: Work<'_>,
        now: Timestamp,
    ) -> Option<Result<Product, Error>> {
        self.inner.perform_by_copy(permit, key, work, now).instrument(span(Stage::Perform)).await
    }

    fn expire_copies(&self, now: Timestamp) {
        self.inner.expire_copies(now);
    }

    fn forget_copies(&self, tenant: &TenantId) {
        self.inner.forget_copies(tenant);
    }

    fn default_algorithm(&self) -> Algorithm {
        self.inner.default_algorithm()
    }

    fn custody(&self, algorithm: Algorithm) -> Custody {
        self.inner.custody(algorithm)
    }

    async fn begin_import(
        &self,
        permit: &Permit<Change>,
        version: NewVersion<'_>,
        expires: Timestamp,
    ) -> Result<Generated, Error> {
        self.inner.begin_import(permit, version, expires).instrument(span(Stage::Perform)).await
    }

    async fn finish_import(
        &self,
        permit: &Permit<Change>,
        waiting: KeyMaterial<'_>,
        version: NewVersion<'_>,
        wrapped: Wrapped<'_>,
    ) -> Result<Generated, Error> {
        self.inner.finish_import(permit, waiting, version, wrapped).instrument(span(Stage::Perform)).await
    }

    async fn find_object(
        &self,
        permit: &Permit<Change>,
        tenant: &TenantId,
        algorithm: Algorithm,
        sought: Sought<'_>,
    ) -> Result<ObjectDigest, Error> {
        self.inner.find_object(permit, tenant, algorithm, sought).instrument(span(Stage::Perform)).await
    }

    async fn adopt(
        &self,
        permit: &Permit<Change>,
        version: NewVersion<'_>,
        sought: Sought<'_>,
        object: ObjectDigest,
    ) -> Result<Generated, Error> {
        self.inner.adopt(permit, version, sought, object).instrument(span(Stage::Perform)).await
    }

    fn copies(&self, custody: Custody) -> usize {
        self.inner.copies(custody)
    }

    fn custody_of(&self, handle: &SealedHandle) -> Custody {
        self.inner.custody_of(handle)
    }

    fn invocations(&self, handle: &SealedHandle) -> u64 {
        self.inner.invocations(handle)
    }

    async fn perform(
        &self,
        permit: &Permit<Use>,
        key: KeyMaterial<'_>,
        work: Work<'_>,
    ) -> Result<Product, Error> {
        let begin = Instant::now();
        let result = self.inner.perform(permit, key, work).instrument(span(Stage::Perform)).await;
        self.latencies.observe(micros_since(begin));
        result
    }

    async fn random(&self, permit: &Permit<Use>, length: usize) -> Result<Product, Error> {
        self.inner.random(permit, length).instrument(span(Stage::Perform)).await
    }

    fn forget(&self, key: KeyId) {
        self.inner.forget(key);
    }

    fn forget_version(&self, key: KeyId, version: KeyVersion) {
        self.inner.forget_version(key, version);
    }

    fn new_archive(&self, permit: &Permit<Change>, key: NewVersion<'_>) -> Result<SealedHandle, Error> {
        self.inner.new_archive(permit, key)
    }

    fn archive(
        &self,
        permit: &Permit<Change>,
        opener: KeyMaterial<'_>,
        version: KeyMaterial<'_>,
    ) -> Result<Vec<u8>, Error> {
        self.inner.archive(permit, opener, version)
    }

    fn unarchive(
        &self,
        permit: &Permit<Change>,
        opener: KeyMaterial<'_>,
        version: KeyMaterial<'_>,
        sealed: &[u8],
    ) -> Result<SealedHandle, Error> {
        self.inner.unarchive(permit, opener, version, sealed)
    }

    fn sealing_key_of(&self, handle: &SealedHandle) -> Option<SealingKeyId> {
        self.inner.sealing_key_of(handle)
    }

    fn change_sealing_key(
        &self,
        permit: &Permit<Change>,
        tenant: &TenantId,
        handle: &SealedHandle,
    ) -> Result<ChangedSealing, Error> {
        self.inner.change_sealing_key(permit, tenant, handle)
    }

    fn reseal(&self, permit: &Permit<Change>, key: KeyMaterial<'_>) -> Result<SealedHandle, Error> {
        self.inner.reseal(permit, key)
    }

    fn retire_sealing_key(
        &self,
        permit: &Permit<Change>,
        tenant: &TenantId,
        handle: &SealedHandle,
    ) -> Result<SealedHandle, Error> {
        self.inner.retire_sealing_key(permit, tenant, handle)
    }

    fn remains(&self, permit: &Permit<Change>, key: KeyMaterial<'_>, end: End) -> Result<Remains, Error> {
        self.inner.remains(permit, key, end)
    }

    async fn erase(&self, permit: &Permit<Change>, key: KeyMaterial<'_>) -> Result<Vec<MemberName>, Error> {
        self.inner.erase(permit, key).instrument(span(Stage::Perform)).await
    }

    fn can_ask(&self, member: &MemberName) -> bool {
        self.inner.can_ask(member)
    }

    fn health(&self) -> Health {
        self.inner.health()
    }

    fn members(&self) -> Vec<MemberName> {
        self.inner.members()
    }

    fn move_member(&self, permit: &Permit<Change>, member: &MemberName, to: Membership) -> Result<(), Error> {
        self.inner.move_member(permit, member, to)
    }

    fn ejected(&self) -> Vec<(MemberName, String)> {
        self.inner.ejected()
    }

    fn keep_out(&self, member: &MemberName, absence: Absence) {
        self.inner.keep_out(member, absence);
    }

    fn arrivals(&self) -> u64 {
        self.inner.arrivals()
    }

    async fn check_copies(
        &self,
        permit: &Permit<Change>,
        key: KeyMaterial<'_>,
    ) -> Result<Option<Copies>, Error> {
        self.inner.check_copies(permit, key).await
    }
}

impl<T: AuditLog> AuditLog for Seen<T> {
    type Handle = T::Handle;
    type Ticket = Waiting<T::Ticket>;

    fn open(&self, tenant: &TenantId) -> Result<T::Handle, Error> {
        self.inner.open(tenant)
    }

    fn append<R>(
        &self,
        log: &T::Handle,
        mark: Mark,
        priority: Priority,
        write: impl FnOnce(&mut Vec<u8>, &mut [u8; 32]) -> R,
    ) -> Result<(R, Waiting<T::Ticket>), Error> {
        let begin = Instant::now();
        let (value, ticket) = self.inner.append(log, mark, priority, write)?;
        Ok((value, Waiting { ticket, begin, span: span(Stage::Record), latencies: self.latencies.clone() }))
    }

    fn is_empty(&self, log: &T::Handle) -> bool {
        self.inner.is_empty(log)
    }

    fn attest(&self, log: &T::Handle, statement: &Statement) -> Result<SignedReceipt, Error> {
        self.inner.attest(log, statement)
    }

    async fn read(&self, log: &T::Handle, file: &AuditPath) -> Result<Vec<u8>, Error> {
        self.inner.read(log, file).instrument(span(Stage::Perform)).await
    }

    async fn prunable(&self, log: &T::Handle, expiry: Expiry) -> Result<Option<u64>, Error> {
        self.inner.prunable(log, expiry).await
    }

    async fn prune(&self, intent: &Intent, log: &T::Handle, keep: u64) -> Result<(), Error> {
        self.inner.prune(intent, log, keep).await
    }

    fn health(&self) -> Health {
        self.inner.health()
    }
}

/// A wait for durability whose length is counted when it ends.
#[derive(Debug)]
pub struct Waiting<F> {
    ticket: F,
    begin: Instant,
    span: Span,
    latencies: Latencies,
}

impl<F: Future<Output = Result<Position, Error>> + Unpin> Future for Waiting<F> {
    type Output = Result<Position, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { ticket, begin, span, latencies } = &mut *self;
        let poll = span.in_scope(|| Pin::new(ticket).poll(context));
        if poll.is_ready() {
            latencies.observe(micros_since(*begin));
        }
        poll
    }
}
