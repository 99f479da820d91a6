//! Where a key is: how it gets to the members of a pool, how it is seen there, and how it goes.

use super::make::New;
use super::tokens::{Tokens, Whom};
use super::{Adopted, Found, Role, another_question};
use crate::pkcs11::commitment::NONCE;
use crate::pkcs11::der;
use crate::pkcs11::member::Member;
use crate::pkcs11::message::{Id, Reply, Request};
use crate::pkcs11::pool::{is_busy, is_lacking};
use crate::pkcs11::public::Public;
use crate::pkcs11::reference::Copy;
use crate::pkcs11::worker::kek::FINGERPRINT_LEN;
use crate::refusal;
use crate::sealing::held::Held;
use crate::software::material;
use aws_lc_rs::digest;
use holdfast_core::algorithm::Algorithm;
use holdfast_core::frame::Commitment;
use holdfast_core::key::TokenOrigin;
use holdfast_core::port::Copies;
use holdfast_core::{Error, MemberName, Secret, Stage};
use std::collections::HashSet;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;

/// How often it is looked whether a key has been brought to a member that everybody waits for.
const MENDING: Duration = Duration::from_millis(2);
/// How often it is looked whether a key has reached a member.
const REPLICATION: Duration = Duration::from_millis(50);

/// How often a member that is busy is asked again.
const BUSY: Duration = Duration::from_millis(50);
/// How long a member may take to remove an object, and to look whether it is gone.
const ERASING: Duration = Duration::from_secs(2);

/// What is to be erased.
#[derive(Clone, Copy)]
pub(super) enum Erased<'a> {
    /// A key of our own making: nothing else has its id. What else has this label goes too; none where it is empty.
    Ours(&'a str),
    /// What another program made: under these names, of this algorithm, recognised by this.
    Adopted(&'a Adopted, Algorithm, &'a Commitment),
}

/// A key on its way to other members.
pub(super) struct Traveller {
    algorithm: Algorithm,
    id: Id,
    label: String,
    pub(super) copy: Copy,
    spki: Vec<u8>,
    /// Whether it came from outside.
    imported: bool,
    /// Members that it is being brought to, a bit each.
    under_way: AtomicU16,
    /// Members that it was brought to since it was looked up: who loses it again is not mended with every operation.
    mended: AtomicU16,
}

impl Traveller {
    pub(super) fn new(
        algorithm: Algorithm,
        (id, label): (Id, String),
        copy: Copy,
        spki: Vec<u8>,
        imported: bool,
    ) -> Self {
        let (under_way, mended) = (AtomicU16::new(0), AtomicU16::new(0));
        Self { algorithm, id, label, copy, spki, imported, under_way, mended }
    }
}

/// A key that is looked for.
pub(super) struct Sought {
    pub(super) algorithm: Algorithm,
    pub(super) id: Id,
    pub(super) spki: Vec<u8>,
    pub(super) public: Public,
    /// What it has shown itself to be when it was made.
    pub(super) commitment: Commitment,
}

/// Whether what a member shows is what the key has shown when it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shows {
    TheKey,
    AnotherKey,
    /// It shows nothing that could be compared: a signature was verified already, and a device that chooses its own nonces makes something else each time.
    Nothing,
}

/// Compares what was shown.
fn shows(algorithm: Algorithm, shown: &Secret, commitment: &Commitment) -> Shows {
    let is_fixed = match Role::of(algorithm) {
        Role::Aead => shown.expose().starts_with(&NONCE),
        Role::Wrap { .. } | Role::Mac(_) => true,
        Role::Asymmetric | Role::Elsewhere => false,
    };
    match is_fixed {
        false => Shows::Nothing,
        true if material::commitment(algorithm, shown.expose()) == *commitment => Shows::TheKey,
        true => Shows::AnotherKey,
    }
}

/// Members that show another key are out, if one shows the right one: else nobody knows whose fault it is.
fn eject_others(is_shown: bool, others: &[&Member]) {
    for member in others.iter().filter(|_| is_shown) {
        member.eject(ANOTHER);
    }
}

const DIFFERENT: &str = "two members of the pool hold different keys";
const ANOTHER: &str = "what it holds under the name of a key is another key";

/// What is kept of what shows that a member holds a key: enough to compare.
pub(super) fn digest_of(shown: &Secret) -> [u8; 32] {
    let mut of = [0; 32];
    for (to, from) in of.iter_mut().zip(digest::digest(&digest::SHA256, shown.expose()).as_ref()) {
        *to = *from;
    }
    of
}

fn tell_brought(member: &Member, key: &str) {
    tracing::info!(member = member.name(), key, "a copy of a key was brought to a member that lacked it");
}

fn tell_lacking(member: &Member, key: &str, error: &Error) {
    tracing::warn!(
        member = member.name(),
        key,
        error = error.chain(),
        help = error.remedy_text(),
        "a member of the pool lacks a key and cannot be given it"
    );
}

fn wrapping_key(member: &Member) -> Result<[u8; FINGERPRINT_LEN], Error> {
    let about = member.about().and_then(|about| about.kek.first_chunk().copied());
    about.ok_or_else(|| refusal::device("a member of the pool has no wrapping key"))
}

impl Tokens {
    /// What brings a new key to other members.
    pub(super) async fn wrap_out(
        self: &Arc<Self>,
        maker: &Member,
        new: &New,
        shown: [u8; 32],
    ) -> Result<Copy, Error> {
        let request = Request::WrapOut { id: new.id, private: new.algorithm.is_asymmetric() };
        let wrapped = self.bytes(Whom::Only(maker), request).await?;
        Ok(Copy { kek: wrapping_key(maker)?, shown, wrapped: wrapped.expose().to_vec() })
    }

    /// Brings a new key to the other members that can work: to as many as must hold it, at least.
    pub(super) async fn spread(
        self: &Arc<Self>,
        maker: &Member,
        traveller: &Traveller,
        public: &Public,
    ) -> Result<(), Error> {
        let (mut holders, mut why) = (1, None);
        for other in self.pool.by_load() {
            if other.name() == maker.name() {
                continue;
            }
            match self.bring(other, traveller, public).await {
                Ok(()) => holders += 1,
                Err(error) => why = Some(error),
            }
        }
        self.enough(holders, why, "look at the members that did not take it, or lower `pool.copies`")
    }

    /// Waits until as many members as must hold a new key show that they do.
    pub(super) async fn await_replication(
        self: &Arc<Self>,
        maker: &Member,
        new: &New,
        shown: &[u8; 32],
    ) -> Result<(), Error> {
        let New { algorithm, id, label, spki, public, origin, .. } = new;
        let deadline = Instant::now() + self.patience.generation;
        let mut holders = vec![maker.name()];
        let mut why = None;
        loop {
            for other in self.pool.by_load() {
                if holders.contains(&other.name()) || holders.len() >= self.pool.copies() {
                    continue;
                }
                match self.show(Whom::Only(other), *algorithm, *id, spki, public).await {
                    Ok(same) if digest_of(&same) == *shown => {
                        let imported = *origin == TokenOrigin::Imported;
                        self.check_label(other, imported, *algorithm, (id, label)).await?;
                        holders.push(other.name());
                    }
                    Ok(_) => return Err(refusal::device(DIFFERENT)),
                    Err(error) => why = Some(error),
                }
            }
            if holders.len() >= self.pool.copies() || Instant::now() > deadline {
                let remedy = "look at the vendor's replication, or lower `pool.copies`";
                return self.enough(holders.len(), why, remedy);
            }
            self.pool.can_copy()?;
            self.pool.sleep(REPLICATION).await;
        }
    }

    fn enough(&self, holders: usize, why: Option<Error>, remedy: &'static str) -> Result<(), Error> {
        if holders >= self.pool.copies() {
            return Ok(());
        }
        let error = refusal::device("the new key did not reach as many members of the pool as must hold it")
            .remedy(remedy);
        Err(match why {
            Some(why) => error.because(why),
            None => error,
        })
    }

    /// Looks for a key at each member that works, and brings it to who lacks it; not for one that is being destroyed. Half of the time nothing is asked, so that callers notice little.
    ///
    /// # Errors
    /// When a member cannot say whether it holds it, after the others have been asked; when what two members hold is not the same.
    pub(super) async fn check_copies(
        self: &Arc<Self>,
        sought: &Sought,
        traveller: Option<&Traveller>,
    ) -> Result<Option<Copies>, Error> {
        let Sought { algorithm, id, spki, public, commitment } = sought;
        if self.is_doomed(id) {
            return Ok(None);
        }
        let (mut copies, mut failed, mut same) = (Copies::default(), None, None);
        let (mut is_shown, mut others) = (false, Vec::new());
        for member in self.pool.by_load() {
            let begun = Instant::now();
            match self.show(Whom::Only(member), *algorithm, *id, spki, public).await {
                Ok(shown) => {
                    let is_right = shows(*algorithm, &shown, commitment);
                    is_shown |= is_right == Shows::TheKey;
                    let shown = digest_of(&shown);
                    let right = traveller.map(|traveller| traveller.copy.shown).or(same);
                    let is_same = right.is_none_or(|right| right == shown);
                    match is_right {
                        Shows::TheKey => copies.held += 1,
                        Shows::Nothing if is_same => (copies.held, same) = (copies.held + 1, Some(shown)),
                        Shows::Nothing if traveller.is_none() => {
                            failed = Some(refusal::device(DIFFERENT));
                        }
                        Shows::Nothing | Shows::AnotherKey => {
                            // With what was brought it can be compared, whoever else shows it.
                            is_shown |= traveller.is_some();
                            others.push(member);
                            failed = Some(refusal::device(DIFFERENT));
                        }
                    }
                }
                Err(error) if is_lacking(&error) => match traveller {
                    Some(traveller) => match self.bring(member, traveller, public).await {
                        Ok(()) => {
                            copies.brought += 1;
                            tell_brought(member, &traveller.label);
                        }
                        Err(error) => {
                            copies.lacking += 1;
                            tell_lacking(member, &traveller.label, &error);
                        }
                    },
                    None => copies.lacking += 1,
                },
                Err(error) => failed = Some(error),
            }
            self.pool.sleep(begun.elapsed()).await;
        }
        eject_others(is_shown, &others);
        failed.map_or(Ok(Some(copies)), Err)
    }

    /// Two members say otherwise of the same input: each shows which key it holds. Once at a time, however many inputs there are; and not again where
    /// a device chose its own nonce for that, which nobody has counted, and showed nothing by it.
    pub(super) fn compare_meanwhile(self: &Arc<Self>, held: &Arc<Held<Found>>) {
        let Some(member) = self.pool.members().first() else { return };
        if !self.compared().insert(held.ready.id) {
            return;
        }
        let (tokens, held) = (Arc::clone(self), Arc::clone(held));
        member.spawn(async move {
            if !tokens.compare(&held).await {
                tokens.compared().remove(&held.ready.id);
            }
        });
    }

    fn compared(&self) -> MutexGuard<'_, HashSet<Id>> {
        self.compared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives whether it was in vain, and always will be.
    async fn compare(self: &Arc<Self>, held: &Held<Found>) -> bool {
        let Found { id, public, commitment, .. } = &held.ready;
        let (mut is_shown, mut others, mut in_vain) = (false, Vec::new(), false);
        for member in self.pool.by_load() {
            // Whose signature does not verify is out by that.
            let Ok(shown) = self.show(Whom::Only(member), held.algorithm, *id, &[], public).await else {
                continue;
            };
            match shows(held.algorithm, &shown, commitment) {
                Shows::TheKey => is_shown = true,
                Shows::AnotherKey => others.push(member),
                // Of a pair the signature was verified.
                Shows::Nothing => in_vain |= !held.algorithm.is_asymmetric(),
            }
        }
        eject_others(is_shown, &others);
        in_vain
    }

    fn is_doomed(&self, id: &Id) -> bool {
        self.doomed.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
    }

    /// Brings a key to a member and has it shown there.
    async fn bring(
        self: &Arc<Self>,
        member: &Member,
        traveller: &Traveller,
        public: &Public,
    ) -> Result<(), Error> {
        let Traveller { algorithm, id, label, copy, spki, imported, .. } = traveller;
        if self.is_doomed(id) {
            return Err(refusal::device("the key is being destroyed"));
        }
        if wrapping_key(member)? != copy.kek {
            let detail = format!("member `{}` of the pool has another wrapping key", member.name());
            return Err(Error::new(holdfast_core::ErrorKind::KeyStoreUnavailable, Stage::Perform, detail)
                .remedy("bring it the wrapping key of the others: `holdfast pool kek`"));
        }
        let (modulus, exponent) = match public {
            Public::Rsa { key, .. } => der::rsa_parts(spki, key.modulus_len()).unwrap_or_default(),
            Public::None | Public::Signature(_) | Public::Agreement(_) => Default::default(),
        };
        let (algorithm, id, wrapped) = (*algorithm, *id, &copy.wrapped);
        let request = Request::UnwrapIn { algorithm, id, label, wrapped, modulus, exponent };
        // It makes an object, which takes longer than to use one.
        let brought = self.pool.ask_of(member, &request, self.patience.generation, |reply| match reply {
            Reply::Made(made) => Ok(made.evidence),
            Reply::Done(_) | Reply::Existing(_) | Reply::Welcome(_) | Reply::Refused(_) => {
                Err(another_question())
            }
        });
        let evidence = brought.await?;
        let holds = match evidence.stays() {
            true => self.show(Whom::Only(member), algorithm, id, spki, public).await,
            false => {
                Err(refusal::device("the token does not say of what it was brought that it stays inside"))
            }
        };
        let right = match holds {
            // Its destruction may have passed this member by meanwhile.
            Ok(_) if self.is_doomed(&id) => Err(refusal::device("the key is being destroyed")),
            Ok(shown) if digest_of(&shown) == copy.shown => {
                self.check_label(member, *imported, algorithm, (&id, label)).await
            }
            Ok(_) => Err(refusal::device("what the token was brought is another key")),
            Err(error) => Err(error),
        };
        if right.is_err() {
            drop(self.bytes(Whom::Only(member), Request::Destroy { id, label: "" }).await);
        }
        right
    }

    /// A member does not hold a key: it is brought there meanwhile, once. Where that can't be, it counts against the member. Gives whether it comes.
    pub(super) fn mend(self: &Arc<Self>, member: &Member, held: &Arc<Held<Found>>) -> bool {
        let place = self.pool.place(member);
        let bit = 1 << place;
        let Some(Traveller { under_way, mended, .. }) = &held.ready.traveller else {
            member.lacks();
            return false;
        };
        if mended.load(Ordering::Relaxed) & bit != 0 {
            member.lacks();
            return false;
        }
        if under_way.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
            return true;
        }
        let (tokens, held) = (Arc::clone(self), Arc::clone(held));
        member.spawn(async move {
            if let (Some(member), Some(traveller)) = (tokens.pool.members().get(place), &held.ready.traveller)
            {
                tokens.mend_now(member, traveller, &held.ready.public).await;
            }
        });
        true
    }

    /// Waits until the key has been brought to the member, at most until then; gives whether it has.
    pub(super) async fn is_mended(&self, member: &Member, held: &Held<Found>, until: Instant) -> bool {
        let bit = 1 << self.pool.place(member);
        let Some(Traveller { under_way, mended, .. }) = &held.ready.traveller else { return false };
        while under_way.load(Ordering::Relaxed) & bit != 0 && Instant::now() < until {
            self.pool.sleep(MENDING).await;
        }
        mended.load(Ordering::Relaxed) & bit != 0
    }

    async fn mend_now(self: &Arc<Self>, member: &Member, traveller: &Traveller, public: &Public) {
        let bit = 1 << self.pool.place(member);
        let brought = self.bring(member, traveller, public).await;
        if brought.is_ok() {
            traveller.mended.fetch_or(bit, Ordering::Relaxed);
        }
        traveller.under_way.fetch_and(!bit, Ordering::Relaxed);
        match brought {
            Ok(()) => tell_brought(member, &traveller.label),
            Err(error) => {
                tell_lacking(member, &traveller.label, &error);
                member.lacks();
            }
        }
    }

    /// Has a member do something within the time that erasing may take.
    pub(super) async fn tell(&self, member: &Member, request: Request<'_>) -> Result<(), Error> {
        let told = self.pool.ask_of(member, &request, ERASING, |reply| match reply {
            Reply::Done(_) => Ok(()),
            Reply::Made(_) | Reply::Existing(_) | Reply::Welcome(_) | Reply::Refused(_) => {
                Err(another_question())
            }
        });
        told.await
    }

    /// Removes a key from the members that can be asked, from all at once, and gives those that have looked and hold nothing of it.
    pub(super) async fn destroy(self: &Arc<Self>, id: Id, what: Erased<'_>) -> Vec<MemberName> {
        self.doomed.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        let mut asking = Vec::new();
        for member in self.pool.members() {
            match self.pool.can_ask(member) {
                Some(name) => asking.push(Box::pin(async move {
                    self.is_erased_from(member, id, what).await.then_some(name)
                })),
                None => tracing::warn!(
                    member = member.name(),
                    "a member of the pool cannot be asked to erase a key that is destroyed or came to nothing: it may hold it still"
                ),
            }
        }
        let mut absent = Vec::new();
        poll_fn(|context| {
            asking.retain_mut(|one| match one.as_mut().poll(context) {
                Poll::Ready(name) => {
                    absent.extend(name);
                    false
                }
                Poll::Pending => true,
            });
            if asking.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        absent
    }

    /// While something is brought in there, nothing is looked for by its label: it is asked again, for as long as erasing may take.
    async fn erase(&self, member: &Member, id: Id, label: &str) -> Result<(), Error> {
        let deadline = Instant::now() + ERASING;
        loop {
            match self.tell(member, Request::Destroy { id, label }).await {
                Err(error) if is_busy(&error) && Instant::now() < deadline => self.pool.sleep(BUSY).await,
                told => return told,
            }
        }
    }

    async fn is_erased_from(self: &Arc<Self>, member: &Member, id: Id, what: Erased<'_>) -> bool {
        let erased = match what {
            Erased::Ours(label) => self.erase(member, id, label).await,
            Erased::Adopted(object, algorithm, commitment) => {
                let erase = || self.erase_adopted(member, (id, object), (algorithm, commitment));
                match erase().await {
                    // Another member of the same group was quicker, while it showed here what it is.
                    Err(error) if is_lacking(&error) => erase().await,
                    erased => erased,
                }
            }
        };
        if let Err(error) = &erased {
            tracing::warn!(
                member = member.name(),
                error = error.chain(),
                help = error.remedy_text(),
                "a member of the pool cannot say that it has erased a destroyed key"
            );
        }
        erased.is_ok()
    }
}
