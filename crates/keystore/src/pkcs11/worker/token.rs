//! The module, the token in it, and sessions with that.

use super::super::confinement::Confinement;
use super::super::message::{Buffer, Hello, Id, NotAFrame, Reply, Welcome};
use super::existing::Place;
use super::fault::Fault;
use super::kek::Checked;
use super::samples::Samples;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::MechanismType;
use cryptoki::object::{ObjectClass, ObjectHandle};
use cryptoki::session::UserType;
use cryptoki::slot::Slot;
use holdfast_core::Secret;
use holdfast_core::algorithm::Algorithm;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

/// A token that has been found.
pub(super) struct Token {
    pkcs11: Pkcs11,
    label: String,
    pin: Secret,
    /// What the token said of the PIN when it did not take it: it is not asked again, lest it lock itself.
    pin_refused: OnceLock<String>,
    slot: RwLock<Slot>,
    mechanisms: HashSet<u64>,
    about: About,
    kek: String,
    /// Whether the wrapping key takes only what has its mark.
    marks: AtomicBool,
    /// Held while a key is brought in, since two at once would bring it twice: with which limits a key of an algorithm can be.
    pub(super) bringing: Mutex<HashMap<Algorithm, usize>>,
    /// What shows whether a key still opens.
    pub(super) samples: Samples,
    /// Objects of other programs, by the ids that they are meant by.
    places: RwLock<HashMap<Id, Place>>,
    /// Handles that were looked up; they hold for all sessions. None where a key was there and has to be looked up again.
    handles: RwLock<HashMap<(Id, Class), Option<ObjectHandle>>>,
}

struct About {
    manufacturer: String,
    model: String,
    serial: String,
    firmware: String,
}

/// Which object of a CKA_ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Class {
    Secret,
    Private,
    Public,
}

impl Class {
    pub(super) const fn object(self) -> ObjectClass {
        match self {
            Self::Secret => ObjectClass::SECRET_KEY,
            Self::Private => ObjectClass::PRIVATE_KEY,
            Self::Public => ObjectClass::PUBLIC_KEY,
        }
    }
}

impl Token {
    /// Loads the module and looks for the token.
    pub(super) fn open(hello: &Hello<'_>) -> Result<Self, Fault> {
        let Hello { module, token, pin, kek, closed: _, sessions: _, processors: _ } = *hello;
        let pkcs11 = Pkcs11::new(module)?;
        match pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => return Err(error.into()),
        }
        let slot = find(&pkcs11, token)?;
        let info = pkcs11.get_token_info(slot)?;
        let mechanisms = pkcs11.get_mechanism_list(slot)?.into_iter().map(|kind| *kind).collect();
        let about = About {
            manufacturer: info.manufacturer_id().to_owned(),
            model: info.model().to_owned(),
            serial: info.serial_number().to_owned(),
            firmware: info.firmware_version().to_string(),
        };
        Ok(Self {
            pkcs11,
            label: token.to_owned(),
            pin: Secret::from(pin),
            pin_refused: OnceLock::new(),
            slot: RwLock::new(slot),
            mechanisms,
            about,
            kek: kek.to_owned(),
            marks: AtomicBool::new(false),
            bringing: Mutex::default(),
            samples: Samples::default(),
            places: RwLock::default(),
            handles: RwLock::new(HashMap::new()),
        })
    }

    /// The label of the key under which the pool's keys travel; empty where they don't.
    pub(super) fn kek_label(&self) -> &str {
        &self.kek
    }

    /// Whether keys that travel need the wrapping key's mark.
    pub(super) fn marks(&self) -> bool {
        self.marks.load(Ordering::Relaxed)
    }

    /// What the wrapping key was found to be.
    pub(super) fn wraps_what_is_marked(&self, marked: bool) {
        self.marks.store(marked, Ordering::Relaxed);
    }

    /// Writes what it is, with what was found of its wrapping key.
    pub(super) fn welcome(
        &self,
        kek: Option<Checked>,
        confined: Confinement,
        buffer: &mut Buffer,
    ) -> Result<(), NotAFrame> {
        let confined = confined.level();
        let About { manufacturer, model, serial, firmware } = &self.about;
        let mut kinds: Vec<u64> = self.mechanisms.iter().copied().collect();
        kinds.sort_unstable();
        let mechanisms: Vec<u8> = kinds.into_iter().flat_map(u64::to_be_bytes).collect();
        Reply::Welcome(Welcome {
            manufacturer,
            model,
            serial,
            firmware,
            mechanisms: &mechanisms,
            kek: kek.as_ref().map(|kek| &kek.fingerprint[..]).unwrap_or_default(),
            confined,
            through_itself: kek.as_ref().is_some_and(|kek| kek.through_itself),
        })
        .encode(0, buffer)
    }

    /// Whether the token has a mechanism.
    pub(super) fn has(&self, mechanism: MechanismType) -> bool {
        self.mechanisms.contains(&*mechanism)
    }

    pub(super) fn handle(&self, id: Id, class: Class) -> Option<ObjectHandle> {
        self.handles.read().unwrap_or_else(PoisonError::into_inner).get(&(id, class)).copied().flatten()
    }

    pub(super) fn remember(&self, id: Id, class: Class, handle: ObjectHandle) {
        self.handles.write().unwrap_or_else(PoisonError::into_inner).insert((id, class), Some(handle));
    }

    /// Which object of another program is meant by an id. It is looked for when it is first used; nothing that was meant before is missed.
    pub(super) fn point_out(&self, id: Id, place: Place) {
        self.forget(id);
        self.places.write().unwrap_or_else(PoisonError::into_inner).insert(id, place);
    }

    /// Where that is; nothing for keys of our own making.
    pub(super) fn place(&self, id: Id) -> Option<Place> {
        self.places.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// Whether a key was there.
    pub(super) fn had(&self, id: Id, class: Class) -> bool {
        self.handles.read().unwrap_or_else(PoisonError::into_inner).contains_key(&(id, class))
    }

    /// A key that was there.
    pub(super) fn some_key(&self) -> Option<(Id, Class)> {
        self.handles.read().unwrap_or_else(PoisonError::into_inner).keys().next().copied()
    }

    /// It is gone because it should be.
    pub(super) fn forget(&self, id: Id) {
        let mut handles = self.handles.write().unwrap_or_else(PoisonError::into_inner);
        handles.retain(|(held, _), _| *held != id);
    }

    /// Forgets every handle: the token was restarted, or another one stands in its place.
    pub(super) fn forget_all(&self) {
        let mut handles = self.handles.write().unwrap_or_else(PoisonError::into_inner);
        handles.values_mut().for_each(|handle| *handle = None);
    }
}

/// The slot whose token has this label. Some modules give a token another slot when it comes back.
pub(super) fn find(pkcs11: &Pkcs11, label: &str) -> Result<Slot, Fault> {
    let mut seen = Vec::new();
    for slot in pkcs11.get_slots_with_token()? {
        let info = pkcs11.get_token_info(slot)?;
        if info.label() == label && info.token_initialized() {
            return Ok(slot);
        }
        seen.push(format!("`{}`", info.label()));
    }
    Err(Fault::new(format!("the module has no token `{label}`; it has {}", seen.join(", "))))
}

/// A session with a token, logged in.
pub(super) struct Session {
    pub(super) token: Arc<Token>,
    pub(super) inner: cryptoki::session::Session,
}

impl Session {
    /// Opens one. Login is the application's, not the session's: where another session has logged in, so has this one.
    pub(super) fn open(token: &Arc<Token>) -> Result<Self, Fault> {
        let slot = *token.slot.read().unwrap_or_else(PoisonError::into_inner);
        let inner = match token.pkcs11.open_rw_session(slot) {
            Ok(session) => session,
            Err(_) => {
                let slot = find(&token.pkcs11, &token.label)?;
                *token.slot.write().unwrap_or_else(PoisonError::into_inner) = slot;
                token.pkcs11.open_rw_session(slot)?
            }
        };
        if let Some(why) = token.pin_refused.get() {
            return Err(Fault::Pin(why.clone()));
        }
        let pin = Box::new(token.pin.expose().to_vec()).into();
        match inner.login_with_raw(UserType::User, &pin).map_err(Fault::from) {
            Ok(()) => {}
            Err(Fault::Token { code: Some(RvError::UserAlreadyLoggedIn), .. }) => {}
            Err(Fault::Pin(why)) => return Err(Fault::Pin(token.pin_refused.get_or_init(|| why).clone())),
            Err(fault) => return Err(fault),
        }
        Ok(Self { token: Arc::clone(token), inner })
    }
}
