//! Issuers' keys: JSON Web Key Sets (RFC 7517 §5), and which of a set a token was signed with.

use super::json::{self, Members, member};
use crate::reason::Reason;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA256, RsaParameters, RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use core::fmt;
use serde_json::Value;

/// How tokens are signed (RFC 7518 §3.1, RFC 8037 §3.1). Neither `none` nor anything with a shared secret is among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 5] = [Self::Rs256, Self::Ps256, Self::Es256, Self::Es384, Self::EdDsa];

    /// Its name in tokens.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// From its name, to the letter.
    pub fn from_name(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == text)
    }
}

/// The sizes of RSA moduli that are taken: 2048 to 8192 bits.
const RSA_BYTES: core::ops::RangeInclusive<usize> = 256..=1024;

/// Why a text is no key set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoKeySet {
    /// It is no JSON object with a list `keys` of objects, or a name stands in it twice, or it is too large.
    Malformed,
    /// None of its keys verifies signatures by an algorithm that is known here.
    Empty,
    /// It holds a private or a shared key: whoever can read it can issue tokens.
    Secret,
}

impl fmt::Display for NoKeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "it is no JSON Web Key Set",
            Self::Empty => "it has no key that is known here",
            Self::Secret => "it holds a private or a shared key",
        })
    }
}

impl std::error::Error for NoKeySet {}

/// An issuer's public keys.
#[derive(Debug)]
pub struct KeySet(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: Option<Box<str>>,
    algorithm: Algorithm,
    public: ParsedPublicKey,
}

impl KeySet {
    /// The most bytes that a set may have.
    pub const MAX_BYTES: usize = 256 << 10;
    /// The most keys in it that are looked at.
    const MAX_KEYS: usize = 256;

    /// Reads a set whose keys are one issuer's, whoever is said to be that. Keys of other kinds, for other uses or of other sizes are passed over, as RFC 7517 §5 wants
    /// it.
    ///
    /// # Errors
    /// For what is no set, or none that can be believed.
    pub fn parse(text: &[u8]) -> Result<Self, NoKeySet> {
        Self::read(text, |_| true)
    }

    /// The same for a set that several issuers can have: a key with an `issuer`, as Entra's have it, is passed over unless it is this one's. `{tenantid}` in it
    /// is the tenant that the issuer's own URL names first in its path.
    ///
    /// # Errors
    /// As [`KeySet::parse`], also where no key is this issuer's.
    pub fn parse_of(issuer: &str, text: &[u8]) -> Result<Self, NoKeySet> {
        Self::read(text, |listed| match member(listed, "issuer") {
            None => true,
            Some(Value::String(template)) => is_named(issuer, template),
            Some(_) => false,
        })
    }

    fn read(text: &[u8], is_its: impl Fn(&Members) -> bool) -> Result<Self, NoKeySet> {
        if text.len() > Self::MAX_BYTES {
            return Err(NoKeySet::Malformed);
        }
        let set = json::members(text).ok_or(NoKeySet::Malformed)?;
        let Some(Value::Array(listed)) = member(&set, "keys") else { return Err(NoKeySet::Malformed) };
        let mut keys = vec![];
        for listed in listed.iter().take(Self::MAX_KEYS) {
            let Value::Object(listed) = listed else { return Err(NoKeySet::Malformed) };
            let listed: Members =
                listed.iter().map(|(name, value)| (name.as_str().into(), value.clone())).collect();
            if ["d", "k"].iter().any(|secret| member(&listed, secret).is_some()) {
                return Err(NoKeySet::Secret);
            }
            if is_its(&listed) {
                keys.extend(read(&listed));
            }
        }
        if keys.is_empty() { Err(NoKeySet::Empty) } else { Ok(Self(keys)) }
    }

    /// How many keys it has, one for each algorithm that it can be used with.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has none; it always has.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Verifies a signature with the one key that it names, or with the only one that fits.
    pub(super) fn verify(
        &self,
        (id, algorithm): (Option<&str>, Algorithm),
        signed: &[u8],
        signature: &[u8],
    ) -> Result<(), Reason> {
        let fits = |key: &&Key| key.algorithm == algorithm && (id.is_none() || key.id.as_deref() == id);
        let mut fitting = self.0.iter().filter(fits);
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => key.public.verify_sig(signed, signature).map_err(|_| Reason::BadSignature),
            (Some(_), Some(_)) => Err(Reason::Ambiguous),
            (None, _) => Err(Reason::UnknownKey),
        }
    }
}

/// Whether this is how a key names its issuer.
fn is_named(issuer: &str, template: &str) -> bool {
    const TENANT: &str = "{tenantid}";
    let tenant = issuer.strip_prefix("https://").and_then(|rest| rest.split('/').nth(1));
    match tenant.filter(|tenant| !tenant.is_empty()) {
        Some(tenant) => template.replace(TENANT, tenant) == issuer,
        None => template == issuer,
    }
}

/// A key for each algorithm that it can be used with.
fn read(listed: &Members) -> Vec<Key> {
    let text = |name: &str| member(listed, name).and_then(Value::as_str);
    let is_for_signatures = match (member(listed, "use"), member(listed, "key_ops")) {
        (Some(Value::String(purpose)), None) if purpose == "sig" => true,
        (None, None) => true,
        (None, Some(Value::Array(operations))) => operations.iter().any(|it| it == "verify"),
        (Some(Value::String(purpose)), Some(Value::Array(operations))) => {
            purpose == "sig" && operations.iter().any(|it| it == "verify")
        }
        (_, _) => false,
    };
    // An algorithm that it is kept to; none if it says one that is not known here.
    let only = |algorithm: Algorithm| member(listed, "alg").is_none_or(|alg| alg == algorithm.name());
    let id = match member(listed, "kid") {
        None => None,
        Some(Value::String(id)) => Some(Box::from(id.as_str())),
        Some(_) => return vec![],
    };
    if !is_for_signatures {
        return vec![];
    }
    let bytes = |name: &str| text(name).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    let rsa = |parameters: &'static RsaParameters| {
        let (n, e) = (bytes("n")?, bytes("e")?);
        // The parameters' bounds hold for a signature, too late to say that the set has no key.
        let length = n.iter().skip_while(|byte| **byte == 0).count();
        if !RSA_BYTES.contains(&length) {
            return None;
        }
        RsaPublicKeyComponents { n: &n, e: &e }.to_parsed_public_key(parameters).ok()
    };
    let point = |curve: &str, size: usize| {
        let (x, y) = (bytes("x")?, bytes("y")?);
        (text("crv") == Some(curve) && x.len() == size && y.len() == size).then(|| [&[4], &*x, &*y].concat())
    };
    let public = |algorithm: Algorithm| match (algorithm, text("kty")) {
        (Algorithm::Rs256, Some("RSA")) => rsa(&RSA_PKCS1_2048_8192_SHA256),
        (Algorithm::Ps256, Some("RSA")) => rsa(&RSA_PSS_2048_8192_SHA256),
        (Algorithm::Es256, Some("EC")) => {
            ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point("P-256", 32)?).ok()
        }
        (Algorithm::Es384, Some("EC")) => {
            ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point("P-384", 48)?).ok()
        }
        (Algorithm::EdDsa, Some("OKP")) if text("crv") == Some("Ed25519") => {
            ParsedPublicKey::new(&ED25519, bytes("x")?).ok()
        }
        (_, _) => None,
    };
    let usable = Algorithm::ALL.into_iter().filter(|algorithm| only(*algorithm));
    usable
        .filter_map(|algorithm| Some(Key { id: id.clone(), algorithm, public: public(algorithm)? }))
        .collect()
}
