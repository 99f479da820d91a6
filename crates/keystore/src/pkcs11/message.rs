//! What gateway and worker say to each other.
//!
//! ```text
//! frame   = length of the rest (4, big-endian) ‖ number (4) ‖ code (1) ‖ fields
//! bytes   = length (4) ‖ that many bytes
//! ```
//!
//! The number of a reply is that of its request: a reply that comes late, after its request was given up, is recognised and dropped. Neither
//! side trusts the other's lengths: no frame is longer than [`MAX_FRAME`], every field must be there, and nothing may follow the last.

mod existing;

pub use existing::{Existing, Object, Uses};

use holdfast_core::algorithm::{Algorithm, Hash, RsaPadding, SignatureScheme};
use zeroize::{Zeroize as _, Zeroizing};

/// Bytes of a frame after its length, at most: an input of 1 MiB with everything that goes with it.
pub const MAX_FRAME: usize = (1 << 20) + (16 << 10);
/// Bytes before a frame's fields.
pub const HEAD: usize = 9;

/// The CKA_ID of a key version.
pub type Id = [u8; 16];
/// Length of a GCM nonce in bytes.
pub const NONCE_LEN: usize = 12;

/// What a worker is told first, and once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The module's path.
    pub module: &'a str,
    /// The token's label.
    pub token: &'a str,
    /// The user's PIN; the worker keeps it for the time when a session has to be opened again.
    pub pin: &'a [u8],
    /// The label of the key under which the pool's keys travel; empty where they don't.
    pub kek: &'a str,
    /// Directories that the module must not reach: paths, each ended by a zero byte.
    pub closed: &'a [u8],
    /// How many sessions take their work from the socket that they share.
    pub sessions: u32,
    /// How many of them do so where the module computes instead of waiting for a device. Later ones come as a byte each.
    pub processors: u32,
}

/// A primitive operation of one key, or a question to the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// Whether the token answers at all.
    Probe,
    /// Random bytes of the token's own.
    Random {
        /// How many.
        length: u32,
    },
    /// Makes a key.
    Generate {
        /// Of which kind.
        algorithm: Algorithm,
        /// Under which CKA_ID.
        id: Id,
        /// Under which CKA_LABEL, for people who look at the token.
        label: &'a str,
        /// Whether it shall be able to leave under a trusted wrapping key, and under no other.
        travels: bool,
    },
    /// Wraps a key that can travel under the pool's wrapping key.
    WrapOut {
        /// The key's CKA_ID.
        id: Id,
        /// Whether it is a private key.
        private: bool,
    },
    /// Brings in what another member has wrapped, as a key that can't leave.
    UnwrapIn {
        /// Of which kind.
        algorithm: Algorithm,
        /// Under which CKA_ID.
        id: Id,
        /// Under which CKA_LABEL.
        label: &'a str,
        /// What the other one has wrapped.
        wrapped: &'a [u8],
        /// An RSA modulus, for the public half that stands beside it; empty for all others.
        modulus: &'a [u8],
        /// The RSA public exponent; empty for all others.
        exponent: &'a [u8],
    },
    /// Brings in material that came from outside, wrapped for this once.
    BringIn {
        /// Of which kind.
        algorithm: Algorithm,
        /// Under which CKA_ID.
        id: Id,
        /// Under which CKA_LABEL.
        label: &'a str,
        /// Whether it shall be able to leave under a trusted wrapping key, and under no other.
        travels: bool,
        /// An AES-256 key that nothing else is wrapped with.
        carrier: &'a [u8],
        /// The material under it: a private key as PKCS#8 with padding (RFC 5649), a secret one without (RFC 3394).
        wrapped: &'a [u8],
        /// An RSA modulus, for the public half that stands beside it; empty for all others.
        modulus: &'a [u8],
        /// The RSA public exponent; empty for all others.
        exponent: &'a [u8],
    },
    /// Looks at an object that another program made.
    LookUp {
        /// What names it.
        object: Object<'a>,
    },
    /// Says which object of another program is meant by a CKA_ID that none has: a worker knows that for as long as it lives.
    PointOut {
        /// By which id the other requests mean it.
        id: Id,
        /// What names it.
        object: Object<'a>,
    },
    /// Removes an object that another program made, both halves.
    DestroyExisting {
        /// By which id the other requests mean it.
        id: Id,
        /// What names it.
        object: Object<'a>,
    },
    /// Removes a key, both halves.
    Destroy {
        /// Its CKA_ID.
        id: Id,
        /// A CKA_LABEL that no key keeps either, whatever its CKA_ID; empty for none.
        label: &'a str,
    },
    /// AES-GCM with a tag of 128 bits.
    Seal {
        /// The key.
        id: Id,
        /// The nonce.
        nonce: [u8; NONCE_LEN],
        /// Associated data.
        aad: &'a [u8],
        /// What to encrypt.
        plaintext: &'a [u8],
    },
    /// The same back.
    Open {
        /// The key.
        id: Id,
        /// The nonce.
        nonce: [u8; NONCE_LEN],
        /// Associated data.
        aad: &'a [u8],
        /// Ciphertext and tag.
        ciphertext: &'a [u8],
    },
    /// AES key wrap (RFC 3394), or with padding (RFC 5649).
    Wrap {
        /// The key.
        id: Id,
        /// Whether with padding.
        padded: bool,
        /// What to wrap.
        bytes: &'a [u8],
    },
    /// The same back.
    Unwrap {
        /// The key.
        id: Id,
        /// Whether with padding.
        padded: bool,
        /// What to unwrap.
        body: &'a [u8],
    },
    /// RSA decryption.
    RsaDecrypt {
        /// The key.
        id: Id,
        /// How.
        padding: RsaPadding,
        /// OAEP's label.
        label: &'a [u8],
        /// What to decrypt.
        body: &'a [u8],
    },
    /// RSA's bare private operation (RFC 8017 §5.1.2).
    RsaBare {
        /// The key.
        id: Id,
        /// As long as the modulus.
        body: &'a [u8],
    },
    /// A signature: raw r ‖ s for ECDSA.
    Sign {
        /// The key.
        id: Id,
        /// How.
        scheme: SignatureScheme,
        /// The digest, or the message where the scheme takes that.
        input: &'a [u8],
    },
    /// An HMAC.
    Mac {
        /// The key.
        id: Id,
        /// With which hash.
        hash: Hash,
        /// Of what.
        message: &'a [u8],
    },
    /// ECDH: the x-coordinate.
    Agree {
        /// The key.
        id: Id,
        /// The peer's uncompressed point.
        peer: &'a [u8],
    },
}

/// What the token says of a key that it has just made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made<'a> {
    /// As read from the token.
    pub evidence: Evidence,
    /// An RSA modulus, or a point as CKA_EC_POINT has it; empty for a secret key.
    pub public: &'a [u8],
    /// The RSA public exponent; empty for all others.
    pub exponent: &'a [u8],
}

/// CKA_LOCAL, CKA_SENSITIVE, CKA_ALWAYS_SENSITIVE, CKA_EXTRACTABLE, CKA_NEVER_EXTRACTABLE, CKA_WRAP_WITH_TRUSTED and CKA_DESTROYABLE of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// Made in the token.
    pub local: bool,
    /// Not to be read in clear.
    pub sensitive: bool,
    /// Never was to be read in clear.
    pub always_sensitive: bool,
    /// To be taken out under a wrapping key.
    pub extractable: bool,
    /// Never was to be taken out.
    pub never_extractable: bool,
    /// To be taken out under nothing but a trusted wrapping key.
    pub wrap_with_trusted: bool,
    /// Not to be removed by anybody but the token's own means: CKA_DESTROYABLE is false.
    pub undestroyable: bool,
}

impl Evidence {
    /// Whether the token says that the key was made inside, and that nothing but its operations ever came out.
    pub const fn is_confined(self) -> bool {
        let Self { local, sensitive, always_sensitive, extractable, never_extractable, .. } = self;
        local && sensitive && always_sensitive && !extractable && never_extractable
    }

    /// Whether the token says that the key was made inside, and that it leaves under a trusted wrapping key only.
    pub const fn travels(self) -> bool {
        let Self { local, sensitive, always_sensitive, wrap_with_trusted, .. } = self;
        local && sensitive && always_sensitive && wrap_with_trusted
    }

    /// Whether the token says of what was brought in that it does not leave.
    pub const fn stays(self) -> bool {
        self.sensitive && !self.extractable
    }

    /// The names of those that are true.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let Self {
            local,
            sensitive,
            always_sensitive,
            extractable,
            never_extractable,
            wrap_with_trusted,
            undestroyable,
        } = self;
        let all = [
            (local, "local"),
            (sensitive, "sensitive"),
            (always_sensitive, "always-sensitive"),
            (extractable, "extractable"),
            (never_extractable, "never-extractable"),
            (wrap_with_trusted, "wrap-with-trusted"),
            (undestroyable, "not-destroyable"),
        ];
        all.into_iter().filter(|(is_true, _)| *is_true).map(|(_, name)| name)
    }

    const fn to_byte(self) -> u8 {
        let Self {
            local,
            sensitive,
            always_sensitive,
            extractable,
            never_extractable,
            wrap_with_trusted,
            undestroyable,
        } = self;
        local as u8
            | (sensitive as u8) << 1
            | (always_sensitive as u8) << 2
            | (extractable as u8) << 3
            | (never_extractable as u8) << 4
            | (wrap_with_trusted as u8) << 5
            | (undestroyable as u8) << 6
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        if byte >= 1 << 7 {
            return None;
        }
        Some(Self {
            local: byte & 1 != 0,
            sensitive: byte & 2 != 0,
            always_sensitive: byte & 4 != 0,
            extractable: byte & 8 != 0,
            never_extractable: byte & 16 != 0,
            wrap_with_trusted: byte & 32 != 0,
            undestroyable: byte & 64 != 0,
        })
    }
}

/// What a worker says of its token before anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome<'a> {
    /// CK_TOKEN_INFO.manufacturerID.
    pub manufacturer: &'a str,
    /// CK_TOKEN_INFO.model.
    pub model: &'a str,
    /// CK_TOKEN_INFO.serialNumber.
    pub serial: &'a str,
    /// CK_TOKEN_INFO.firmwareVersion.
    pub firmware: &'a str,
    /// The token's mechanisms: CK_MECHANISM_TYPE, 8 bytes each, big-endian.
    pub mechanisms: &'a [u8],
    /// The fingerprint of the key under which the pool's keys travel; empty where they don't.
    pub kek: &'a [u8],
    /// The level of Landlock that keeps the module from what it must not reach; 0 where nothing does.
    pub confined: u8,
    /// Whether the token lets that key through itself, and with it every key that travels to whoever has the user's PIN.
    pub through_itself: bool,
}

/// Why there is no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal<'a> {
    /// The input does not verify.
    Integrity,
    /// The token cannot take input of this form.
    Malformed,
    /// The token has no such operation.
    Unsupported,
    /// The token has no key with this CKA_ID.
    NoSuchKey,
    /// No object is named so, or several are: the CKA_ID of each, its length (1) before it.
    NotOne(&'a [u8]),
    /// The token had this key before, and does not have it any more.
    Gone,
    /// Something is being brought in: whoever wants to have things removed by their label asks again.
    Busy,
    /// The token does not take the PIN: what C_Login returned. It is not to be tried again, since tokens lock themselves.
    Pin(&'a str),
    /// The token or its module fails: the function's name and what it returned.
    Fault(&'a str),
}

/// What a request leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply<'a> {
    /// The operation's result.
    Done(&'a [u8]),
    /// A key.
    Made(Made<'a>),
    /// An object of another program's.
    Existing(Existing<'a>),
    /// The token, at the beginning.
    Welcome(Welcome<'a>),
    /// None.
    Refused(Refusal<'a>),
}

/// How many bytes follow a frame's length.
///
/// # Errors
/// If no frame is so long.
pub fn frame_len(head: [u8; 4]) -> Result<usize, NotAFrame> {
    usize::try_from(u32::from_be_bytes(head)).ok().filter(|length| *length <= MAX_FRAME).ok_or(NotAFrame)
}

/// A frame that is none: what came is not by this document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAFrame;

/// A buffer for frames. It is wiped, since they carry plaintext.
pub type Buffer = Zeroizing<Vec<u8>>;

/// Empties a buffer that may hold plaintext, of all that was written to it: not of its room, which may be much more.
pub(super) fn wipe(buffer: &mut Buffer) {
    buffer.as_mut_slice().zeroize();
    buffer.clear();
}

mod code {
    pub(super) const PROBE: u8 = 1;
    pub(super) const RANDOM: u8 = 2;
    pub(super) const GENERATE: u8 = 3;
    pub(super) const DESTROY: u8 = 4;
    pub(super) const SEAL: u8 = 5;
    pub(super) const OPEN: u8 = 6;
    pub(super) const WRAP: u8 = 7;
    pub(super) const UNWRAP: u8 = 8;
    pub(super) const RSA_DECRYPT: u8 = 9;
    pub(super) const SIGN: u8 = 10;
    pub(super) const MAC: u8 = 11;
    pub(super) const AGREE: u8 = 12;
    pub(super) const RSA_BARE: u8 = 13;
    pub(super) const WRAP_OUT: u8 = 14;
    pub(super) const UNWRAP_IN: u8 = 15;
    pub(super) const LOOK_UP: u8 = 16;
    pub(super) const POINT_OUT: u8 = 17;
    pub(super) const DESTROY_EXISTING: u8 = 18;
    pub(super) const BRING_IN: u8 = 19;
    pub(super) const DONE: u8 = 64;
    pub(super) const MADE: u8 = 65;
    pub(super) const WELCOME: u8 = 66;
    pub(super) const EXISTING: u8 = 67;
    pub(super) const INTEGRITY: u8 = 80;
    pub(super) const MALFORMED: u8 = 81;
    pub(super) const UNSUPPORTED: u8 = 82;
    pub(super) const NO_SUCH_KEY: u8 = 83;
    pub(super) const FAULT: u8 = 84;
    pub(super) const PIN: u8 = 85;
    pub(super) const GONE: u8 = 86;
    pub(super) const NOT_ONE: u8 = 87;
    pub(super) const BUSY: u8 = 88;
    pub(super) const HELLO: u8 = 100;
}

/// Writes a frame over what the buffer holds.
struct Writer<'b>(&'b mut Vec<u8>);

impl<'b> Writer<'b> {
    fn begin(buffer: &'b mut Buffer, number: u32) -> Self {
        buffer.clear();
        buffer.extend_from_slice(&[0; 4]);
        buffer.extend_from_slice(&number.to_be_bytes());
        Self(buffer)
    }

    fn code(self, code: u8) -> Self {
        self.put(&[code])
    }

    fn put(self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn bytes(self, bytes: &[u8]) -> Self {
        // What is longer than a frame is refused at the end.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.put(&length.to_be_bytes()).put(bytes)
    }

    fn end(self) -> Result<(), NotAFrame> {
        let length = self.0.len().saturating_sub(4);
        let written = u32::try_from(length).ok().filter(|_| length <= MAX_FRAME);
        match (written, self.0.first_chunk_mut::<4>()) {
            (Some(written), Some(head)) => {
                *head = written.to_be_bytes();
                Ok(())
            }
            (_, _) => Err(NotAFrame),
        }
    }
}

/// Reads a frame's fields.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// From what follows a frame's length.
    fn begin(frame: &'a [u8]) -> Result<(u32, u8, Self), NotAFrame> {
        let mut reader = Self(frame);
        let number = reader.u32()?;
        let [code] = reader.array()?;
        Ok((number, code, reader))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], NotAFrame> {
        let (array, rest) = self.0.split_first_chunk::<N>().ok_or(NotAFrame)?;
        self.0 = rest;
        Ok(*array)
    }

    fn u32(&mut self) -> Result<u32, NotAFrame> {
        self.array().map(u32::from_be_bytes)
    }

    fn bytes(&mut self) -> Result<&'a [u8], NotAFrame> {
        let length = usize::try_from(self.u32()?).map_err(|_| NotAFrame)?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(NotAFrame)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn text(&mut self) -> Result<&'a str, NotAFrame> {
        core::str::from_utf8(self.bytes()?).map_err(|_| NotAFrame)
    }

    fn flag(&mut self) -> Result<bool, NotAFrame> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [_] => Err(NotAFrame),
        }
    }

    fn algorithm(&mut self) -> Result<Algorithm, NotAFrame> {
        let [code] = self.array()?;
        Algorithm::from_code(code).ok_or(NotAFrame)
    }

    fn hash(&mut self) -> Result<Hash, NotAFrame> {
        let [code] = self.array()?;
        hash_of(code).ok_or(NotAFrame)
    }

    fn scheme(&mut self) -> Result<SignatureScheme, NotAFrame> {
        let [kind, hash] = self.array()?;
        match (kind, hash_of(hash), hash) {
            (1, Some(hash), _) => Ok(SignatureScheme::RsaPss(hash)),
            (2, Some(hash), _) => Ok(SignatureScheme::RsaPkcs1v15(hash)),
            (3, Some(hash), _) => Ok(SignatureScheme::Ecdsa(hash)),
            (4, None, 0) => Ok(SignatureScheme::Ed25519),
            (5, None, 0) => Ok(SignatureScheme::MlDsa65),
            (_, _, _) => Err(NotAFrame),
        }
    }

    fn padding(&mut self) -> Result<RsaPadding, NotAFrame> {
        let [kind, hash, mgf1] = self.array()?;
        match (kind, hash_of(hash), hash_of(mgf1)) {
            (1, Some(hash), Some(mgf1)) => Ok(RsaPadding::Oaep { hash, mgf1 }),
            (2, None, None) if hash == 0 && mgf1 == 0 => Ok(RsaPadding::Pkcs1v15),
            (_, _, _) => Err(NotAFrame),
        }
    }

    fn end<T>(self, value: T) -> Result<T, NotAFrame> {
        if self.0.is_empty() { Ok(value) } else { Err(NotAFrame) }
    }
}

const fn code_of(hash: Hash) -> u8 {
    match hash {
        Hash::Sha1 => 1,
        Hash::Sha256 => 2,
        Hash::Sha384 => 3,
        Hash::Sha512 => 4,
    }
}

const fn hash_of(code: u8) -> Option<Hash> {
    match code {
        1 => Some(Hash::Sha1),
        2 => Some(Hash::Sha256),
        3 => Some(Hash::Sha384),
        4 => Some(Hash::Sha512),
        _ => None,
    }
}

const fn scheme_code(scheme: SignatureScheme) -> [u8; 2] {
    match scheme {
        SignatureScheme::RsaPss(hash) => [1, code_of(hash)],
        SignatureScheme::RsaPkcs1v15(hash) => [2, code_of(hash)],
        SignatureScheme::Ecdsa(hash) => [3, code_of(hash)],
        SignatureScheme::Ed25519 => [4, 0],
        SignatureScheme::MlDsa65 => [5, 0],
    }
}

const fn padding_code(padding: RsaPadding) -> [u8; 3] {
    match padding {
        RsaPadding::Oaep { hash, mgf1 } => [1, code_of(hash), code_of(mgf1)],
        RsaPadding::Pkcs1v15 => [2, 0, 0],
    }
}

impl<'a> Hello<'a> {
    /// Writes it.
    ///
    /// # Errors
    /// If it is longer than a frame.
    pub fn encode(&self, buffer: &mut Buffer) -> Result<(), NotAFrame> {
        let Self { module, token, pin, kek, closed, sessions, processors } = self;
        Writer::begin(buffer, 0)
            .code(code::HELLO)
            .bytes(module.as_bytes())
            .bytes(token.as_bytes())
            .bytes(pin)
            .bytes(kek.as_bytes())
            .bytes(closed)
            .put(&sessions.to_be_bytes())
            .put(&processors.to_be_bytes())
            .end()
    }

    /// Reads it from what follows a frame's length.
    ///
    /// # Errors
    /// If it is none.
    pub fn decode(frame: &'a [u8]) -> Result<Self, NotAFrame> {
        let (0, code::HELLO, mut fields) = Reader::begin(frame)? else { return Err(NotAFrame) };
        let hello = Self {
            module: fields.text()?,
            token: fields.text()?,
            pin: fields.bytes()?,
            kek: fields.text()?,
            closed: fields.bytes()?,
            sessions: fields.u32()?,
            processors: fields.u32()?,
        };
        fields.end(hello)
    }
}

impl<'a> Request<'a> {
    /// Bytes of what an operation is given to work on, with what goes beside it; 0 for other requests.
    pub const fn input_len(&self) -> usize {
        match self {
            Self::Seal { aad, plaintext: input, .. }
            | Self::Open { aad, ciphertext: input, .. }
            | Self::RsaDecrypt { label: aad, body: input, .. } => aad.len() + input.len(),
            Self::Wrap { bytes: input, .. }
            | Self::Unwrap { body: input, .. }
            | Self::RsaBare { body: input, .. }
            | Self::Sign { input, .. }
            | Self::Mac { message: input, .. }
            | Self::Agree { peer: input, .. } => input.len(),
            Self::Probe
            | Self::Random { .. }
            | Self::Generate { .. }
            | Self::WrapOut { .. }
            | Self::UnwrapIn { .. }
            | Self::BringIn { .. }
            | Self::LookUp { .. }
            | Self::PointOut { .. }
            | Self::DestroyExisting { .. } => 0,
            Self::Destroy { label, .. } => label.len(),
        }
    }

    /// Writes it.
    ///
    /// # Errors
    /// If it is longer than a frame.
    pub fn encode(&self, number: u32, buffer: &mut Buffer) -> Result<(), NotAFrame> {
        let to = Writer::begin(buffer, number);
        match *self {
            Self::Probe => to.code(code::PROBE),
            Self::Random { length } => to.code(code::RANDOM).put(&length.to_be_bytes()),
            Self::Generate { algorithm, id, label, travels } => to
                .code(code::GENERATE)
                .put(&[algorithm.code(), u8::from(travels)])
                .put(&id)
                .bytes(label.as_bytes()),
            Self::WrapOut { id, private } => to.code(code::WRAP_OUT).put(&[u8::from(private)]).put(&id),
            Self::UnwrapIn { algorithm, id, label, wrapped, modulus, exponent } => to
                .code(code::UNWRAP_IN)
                .put(&[algorithm.code()])
                .put(&id)
                .bytes(label.as_bytes())
                .bytes(wrapped)
                .bytes(modulus)
                .bytes(exponent),
            Self::BringIn { algorithm, id, label, travels, carrier, wrapped, modulus, exponent } => to
                .code(code::BRING_IN)
                .put(&[algorithm.code(), u8::from(travels)])
                .put(&id)
                .bytes(label.as_bytes())
                .bytes(carrier)
                .bytes(wrapped)
                .bytes(modulus)
                .bytes(exponent),
            Self::LookUp { object } => object.write(to.code(code::LOOK_UP)),
            Self::PointOut { id, object } => object.write(to.code(code::POINT_OUT).put(&id)),
            Self::DestroyExisting { id, object } => object.write(to.code(code::DESTROY_EXISTING).put(&id)),
            Self::Destroy { id, label } => to.code(code::DESTROY).put(&id).bytes(label.as_bytes()),
            Self::Seal { id, nonce, aad, plaintext } => {
                to.code(code::SEAL).put(&id).put(&nonce).bytes(aad).bytes(plaintext)
            }
            Self::Open { id, nonce, aad, ciphertext } => {
                to.code(code::OPEN).put(&id).put(&nonce).bytes(aad).bytes(ciphertext)
            }
            Self::Wrap { id, padded, bytes } => {
                to.code(code::WRAP).put(&id).put(&[u8::from(padded)]).bytes(bytes)
            }
            Self::Unwrap { id, padded, body } => {
                to.code(code::UNWRAP).put(&id).put(&[u8::from(padded)]).bytes(body)
            }
            Self::RsaDecrypt { id, padding, label, body } => {
                to.code(code::RSA_DECRYPT).put(&id).put(&padding_code(padding)).bytes(label).bytes(body)
            }
            Self::RsaBare { id, body } => to.code(code::RSA_BARE).put(&id).bytes(body),
            Self::Sign { id, scheme, input } => {
                to.code(code::SIGN).put(&id).put(&scheme_code(scheme)).bytes(input)
            }
            Self::Mac { id, hash, message } => {
                to.code(code::MAC).put(&id).put(&[code_of(hash)]).bytes(message)
            }
            Self::Agree { id, peer } => to.code(code::AGREE).put(&id).bytes(peer),
        }
        .end()
    }

    /// Reads it and its number from what follows a frame's length.
    ///
    /// # Errors
    /// If it is none.
    pub fn decode(frame: &'a [u8]) -> Result<(u32, Self), NotAFrame> {
        let (number, code, mut fields) = Reader::begin(frame)?;
        let request = match code {
            code::PROBE => Self::Probe,
            code::RANDOM => Self::Random { length: fields.u32()? },
            code::GENERATE => Self::Generate {
                algorithm: fields.algorithm()?,
                travels: fields.flag()?,
                id: fields.array()?,
                label: fields.text()?,
            },
            code::WRAP_OUT => Self::WrapOut { private: fields.flag()?, id: fields.array()? },
            code::UNWRAP_IN => Self::UnwrapIn {
                algorithm: fields.algorithm()?,
                id: fields.array()?,
                label: fields.text()?,
                wrapped: fields.bytes()?,
                modulus: fields.bytes()?,
                exponent: fields.bytes()?,
            },
            code::BRING_IN => Self::BringIn {
                algorithm: fields.algorithm()?,
                travels: fields.flag()?,
                id: fields.array()?,
                label: fields.text()?,
                carrier: fields.bytes()?,
                wrapped: fields.bytes()?,
                modulus: fields.bytes()?,
                exponent: fields.bytes()?,
            },
            code::LOOK_UP => Self::LookUp { object: Object::read(&mut fields)? },
            code::POINT_OUT => Self::PointOut { id: fields.array()?, object: Object::read(&mut fields)? },
            code::DESTROY_EXISTING => {
                Self::DestroyExisting { id: fields.array()?, object: Object::read(&mut fields)? }
            }
            code::DESTROY => Self::Destroy { id: fields.array()?, label: fields.text()? },
            code::SEAL => Self::Seal {
                id: fields.array()?,
                nonce: fields.array()?,
                aad: fields.bytes()?,
                plaintext: fields.bytes()?,
            },
            code::OPEN => Self::Open {
                id: fields.array()?,
                nonce: fields.array()?,
                aad: fields.bytes()?,
                ciphertext: fields.bytes()?,
            },
            code::WRAP => Self::Wrap { id: fields.array()?, padded: fields.flag()?, bytes: fields.bytes()? },
            code::UNWRAP => {
                Self::Unwrap { id: fields.array()?, padded: fields.flag()?, body: fields.bytes()? }
            }
            code::RSA_DECRYPT => Self::RsaDecrypt {
                id: fields.array()?,
                padding: fields.padding()?,
                label: fields.bytes()?,
                body: fields.bytes()?,
            },
            code::RSA_BARE => Self::RsaBare { id: fields.array()?, body: fields.bytes()? },
            code::SIGN => {
                Self::Sign { id: fields.array()?, scheme: fields.scheme()?, input: fields.bytes()? }
            }
            code::MAC => Self::Mac { id: fields.array()?, hash: fields.hash()?, message: fields.bytes()? },
            code::AGREE => Self::Agree { id: fields.array()?, peer: fields.bytes()? },
            _ => return Err(NotAFrame),
        };
        fields.end((number, request))
    }
}

impl<'a> Reply<'a> {
    /// Writes it.
    ///
    /// # Errors
    /// If it is longer than a frame.
    pub fn encode(&self, number: u32, buffer: &mut Buffer) -> Result<(), NotAFrame> {
        let to = Writer::begin(buffer, number);
        match self {
            Self::Done(bytes) => to.code(code::DONE).bytes(bytes),
            Self::Made(Made { evidence, public, exponent }) => {
                to.code(code::MADE).put(&[evidence.to_byte()]).bytes(public).bytes(exponent)
            }
            Self::Existing(existing) => existing.write(to.code(code::EXISTING)),
            Self::Welcome(Welcome {
                manufacturer,
                model,
                serial,
                firmware,
                mechanisms,
                kek,
                confined,
                through_itself,
            }) => [manufacturer, model, serial, firmware]
                .into_iter()
                .fold(to.code(code::WELCOME), |writer, text| writer.bytes(text.as_bytes()))
                .bytes(mechanisms)
                .bytes(kek)
                .put(&[*confined, u8::from(*through_itself)]),
            Self::Refused(Refusal::Integrity) => to.code(code::INTEGRITY),
            Self::Refused(Refusal::Malformed) => to.code(code::MALFORMED),
            Self::Refused(Refusal::Unsupported) => to.code(code::UNSUPPORTED),
            Self::Refused(Refusal::NoSuchKey) => to.code(code::NO_SUCH_KEY),
            Self::Refused(Refusal::NotOne(ids)) => to.code(code::NOT_ONE).bytes(ids),
            Self::Refused(Refusal::Gone) => to.code(code::GONE),
            Self::Refused(Refusal::Busy) => to.code(code::BUSY),
            Self::Refused(Refusal::Pin(why)) => to.code(code::PIN).bytes(why.as_bytes()),
            Self::Refused(Refusal::Fault(why)) => to.code(code::FAULT).bytes(why.as_bytes()),
        }
        .end()
    }

    /// Reads it and its number from what follows a frame's length.
    ///
    /// # Errors
    /// If it is none.
    pub fn decode(frame: &'a [u8]) -> Result<(u32, Self), NotAFrame> {
        let (number, code, mut fields) = Reader::begin(frame)?;
        let reply = match code {
            code::DONE => Self::Done(fields.bytes()?),
            code::MADE => {
                let [evidence] = fields.array()?;
                let evidence = Evidence::from_byte(evidence).ok_or(NotAFrame)?;
                Self::Made(Made { evidence, public: fields.bytes()?, exponent: fields.bytes()? })
            }
            code::EXISTING => Self::Existing(Existing::read(&mut fields)?),
            code::WELCOME => Self::Welcome(Welcome {
                manufacturer: fields.text()?,
                model: fields.text()?,
                serial: fields.text()?,
                firmware: fields.text()?,
                mechanisms: fields.bytes()?,
                kek: fields.bytes()?,
                confined: {
                    let [confined] = fields.array()?;
                    confined
                },
                through_itself: fields.flag()?,
            }),
            code::INTEGRITY => Self::Refused(Refusal::Integrity),
            code::MALFORMED => Self::Refused(Refusal::Malformed),
            code::UNSUPPORTED => Self::Refused(Refusal::Unsupported),
            code::NO_SUCH_KEY => Self::Refused(Refusal::NoSuchKey),
            code::NOT_ONE => Self::Refused(Refusal::NotOne(fields.bytes()?)),
            code::GONE => Self::Refused(Refusal::Gone),
            code::BUSY => Self::Refused(Refusal::Busy),
            code::PIN => Self::Refused(Refusal::Pin(fields.text()?)),
            code::FAULT => Self::Refused(Refusal::Fault(fields.text()?)),
            _ => return Err(NotAFrame),
        };
        fields.end((number, reply))
    }
}

#[cfg(test)]
mod tests;
