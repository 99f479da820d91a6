//! What the two tokens say. Their signatures, issuers, audiences and times have been examined by then.

use super::format::{MAX_GMAIL_NAME, MAX_NAME};
use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use core::fmt;
use serde_json::Value;

/// Standard base64, with or without padding.
pub(super) const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// The most bytes of an e-mail address (RFC 5321 §4.5.3.1).
const MAX_EMAIL: usize = 320;
/// The most bytes of any other claim.
const MAX_CLAIM: usize = 512;

/// A token's claims, by their names.
pub type Claims<'a> = &'a dyn Fn(&str) -> Option<&'a Value>;

/// Why a token says nothing that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unusable(&'static str);

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the claim `{}` is missing or not of its form", self.0)
    }
}

impl std::error::Error for Unusable {}

/// Which of Google's services asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Application {
    /// Drive, Docs, Sheets, Slides.
    Drive,
    /// Meet.
    Meet,
    /// Calendar.
    Calendar,
    /// Gmail.
    Gmail,
    /// The migration from one key service to another.
    Migration,
}

impl Application {
    /// Every application.
    pub const ALL: [Self; 5] = [Self::Drive, Self::Meet, Self::Calendar, Self::Gmail, Self::Migration];

    /// Its name in policies and events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drive => "drive",
            Self::Meet => "meet",
            Self::Calendar => "calendar",
            Self::Gmail => "gmail",
            Self::Migration => "migration",
        }
    }

    /// Who issues its tokens.
    pub const fn issuer(self) -> &'static str {
        match self {
            Self::Drive => "gsuitecse-tokenissuer-drive@system.gserviceaccount.com",
            Self::Meet => "gsuitecse-tokenissuer-meet@system.gserviceaccount.com",
            Self::Calendar => "gsuitecse-tokenissuer-calendar@system.gserviceaccount.com",
            Self::Gmail => "gsuitecse-tokenissuer-gmail@system.gserviceaccount.com",
            Self::Migration => "apps-security-cse-kaclscommunication@system.gserviceaccount.com",
        }
    }

    /// Whose tokens this issuer's are.
    pub fn of(issuer: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|application| application.issuer() == issuer)
    }

    /// Where Google publishes the issuer's keys.
    pub fn keys_url(self) -> String {
        format!("https://www.googleapis.com/service_accounts/v1/jwk/{}", self.issuer())
    }
}

/// What kind of account a user has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmailType {
    /// With Google; also where nothing is said.
    Google,
    /// None: the address was verified by a number that was sent to it.
    Visitor,
    /// None: a customer's identity provider vouches for it.
    CustomerIdp,
}

impl EmailType {
    /// Its name in tokens, policies and events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Google => "google",
            Self::Visitor => "google-visitor",
            Self::CustomerIdp => "customer-idp",
        }
    }
}

/// What Google says: who may do what with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// Which service says it.
    pub application: Application,
    /// The user's address with Google.
    pub email: Box<str>,
    /// What kind of account that is; `None` for a kind that is not known here.
    pub email_type: Option<EmailType>,
    /// Who may act for the user.
    pub delegated_to: Option<Box<str>>,
    /// The service that it is meant for.
    pub kacls_url: Box<str>,
    /// The domain that owns the service.
    pub owner_domain: Option<Box<str>>,
    /// The perimeter; empty where there is none.
    pub perimeter: Box<str>,
    /// The object.
    pub resource: Box<str>,
    /// What the user may do with it.
    pub role: Box<str>,
    /// Gmail's message.
    pub message_id: Option<Box<str>>,
    /// SHA-256 of the SubjectPublicKeyInfo of the private key that may be used.
    pub spki_hash: Option<[u8; 32]>,
}

/// What the identity provider says: who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authentication {
    /// The user's address with the provider.
    pub email: Option<Box<str>>,
    /// The user's address with Google, where that is another.
    pub google_email: Option<Box<str>>,
    /// Who acts for the user.
    pub delegated_to: Option<Box<str>>,
    /// With which object.
    pub resource: Option<Box<str>>,
    /// In a token of our own, which delegates: the provider that has said who the user is.
    pub original_issuer: Option<Box<str>>,
}

/// What another key service says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// The service that it asks.
    pub kacls_url: Box<str>,
    /// For which object.
    pub resource: Box<str>,
}

impl Authorization {
    /// Reads a token of this application.
    ///
    /// # Errors
    /// For a claim that is missing, longer than it may be, or no text.
    pub fn read(application: Application, claims: Claims<'_>) -> Result<Self, Unusable> {
        let most = match application {
            Application::Gmail => MAX_GMAIL_NAME,
            Application::Drive | Application::Meet | Application::Calendar | Application::Migration => {
                MAX_NAME
            }
        };
        let email_type = match optional(claims, "email_type", MAX_CLAIM)?.as_deref() {
            None | Some("" | "google") => Some(EmailType::Google),
            Some("google-visitor") => Some(EmailType::Visitor),
            Some("customer-idp") => Some(EmailType::CustomerIdp),
            Some(_) => None,
        };
        let spki_hash = match optional(claims, "spki_hash", MAX_CLAIM)? {
            None => None,
            Some(text) => {
                let algorithm = optional(claims, "spki_hash_algorithm", MAX_CLAIM)?;
                if algorithm.as_deref() != Some("SHA-256") {
                    return Err(Unusable("spki_hash_algorithm"));
                }
                Some(spki_hash(&text).ok_or(Unusable("spki_hash"))?)
            }
        };
        Ok(Self {
            application,
            email: required(claims, "email", MAX_EMAIL)?,
            email_type,
            delegated_to: optional(claims, "delegated_to", MAX_EMAIL)?,
            kacls_url: required(claims, "kacls_url", MAX_CLAIM)?,
            owner_domain: optional(claims, "kacls_owner_domain", MAX_CLAIM)?,
            perimeter: optional(claims, "perimeter_id", MAX_NAME)?.unwrap_or_default(),
            resource: required(claims, "resource_name", most)?,
            role: required(claims, "role", MAX_CLAIM)?,
            message_id: optional(claims, "message_id", MAX_CLAIM)?,
            spki_hash,
        })
    }
}

impl Authentication {
    /// Reads a token.
    ///
    /// # Errors
    /// For a claim that is longer than it may be or no text, or when nobody is named.
    pub fn read(claims: Claims<'_>) -> Result<Self, Unusable> {
        let read = Self {
            email: optional(claims, "email", MAX_EMAIL)?,
            google_email: optional(claims, "google_email", MAX_EMAIL)?,
            delegated_to: optional(claims, "delegated_to", MAX_EMAIL)?,
            resource: optional(claims, "resource_name", MAX_GMAIL_NAME)?,
            original_issuer: None,
        };
        match read.email.is_some() || read.google_email.is_some() {
            true => Ok(read),
            false => Err(Unusable("email")),
        }
    }

    /// Reads a token of our own, which delegates.
    ///
    /// # Errors
    /// As for [`Self::read`], and when it does not say who has said who the user is.
    pub fn delegated(claims: Claims<'_>) -> Result<Self, Unusable> {
        let original_issuer = Some(required(claims, "original_issuer", MAX_CLAIM)?);
        Ok(Self { original_issuer, ..Self::read(claims)? })
    }

    /// The address that is compared with Google's: once the provider says which that is, its own counts no more.
    pub fn google_address(&self) -> Option<&str> {
        self.google_email.as_deref().or(self.email.as_deref())
    }
}

impl Migration {
    /// Reads a token.
    ///
    /// # Errors
    /// As for [`Authorization::read`].
    pub fn read(claims: Claims<'_>) -> Result<Self, Unusable> {
        Ok(Self {
            kacls_url: required(claims, "kacls_url", MAX_CLAIM)?,
            resource: required(claims, "resource_name", MAX_NAME)?,
        })
    }
}

/// A SHA-256 in base64, as it stands in tokens and requests.
pub(super) fn spki_hash(text: &str) -> Option<[u8; 32]> {
    LENIENT.decode(text).ok()?.try_into().ok()
}

/// A hash as Google writes it.
pub fn base64_text(hash: &[u8]) -> String {
    LENIENT.encode(hash)
}

fn required(claims: Claims<'_>, name: &'static str, most: usize) -> Result<Box<str>, Unusable> {
    optional(claims, name, most)?.filter(|text| !text.is_empty()).ok_or(Unusable(name))
}

fn optional(claims: Claims<'_>, name: &'static str, most: usize) -> Result<Option<Box<str>>, Unusable> {
    match claims(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.len() <= most => Ok(Some(Box::from(text.as_str()))),
        Some(_) => Err(Unusable(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn authorization(claims: &Value) -> Result<Authorization, Unusable> {
        Authorization::read(Application::Drive, &|name| claims.get(name))
    }

    /// The payload of the digest's section 11.
    fn drive() -> Value {
        json!({
            "aud": "cse-authorization", "email": "Ana.Lopez@corp.example", "exp": 1_768_475_700, "iat": 1_768_472_100,
            "iss": "gsuitecse-tokenissuer-drive@system.gserviceaccount.com",
            "kacls_url": "https://kacls.hyok.example/v1", "perimeter_id": "eu-legal",
            "resource_name": "//googleapis.com/drive/files/1hyokExampleFile", "role": "writer"
        })
    }

    #[test]
    fn a_token_is_read() {
        let read = authorization(&drive()).unwrap();
        assert_eq!(
            (&*read.role, &*read.perimeter, read.email_type),
            ("writer", "eu-legal", Some(EmailType::Google))
        );
        assert_eq!((&read.delegated_to, &read.owner_domain, read.spki_hash), (&None, &None, None));
    }

    #[test]
    fn no_perimeter_and_an_empty_one_are_the_same() {
        for perimeter in [json!(""), Value::Null] {
            let mut claims = drive();
            claims["perimeter_id"] = perimeter;
            assert_eq!(&*authorization(&claims).unwrap().perimeter, "");
        }
    }

    #[test]
    fn what_is_missing_or_too_long_is_told_by_its_name() {
        let too_long = "n".repeat(129);
        for (name, values) in [
            ("email", vec![Value::Null, json!(""), json!(["a@b"]), json!("a".repeat(400))]),
            ("kacls_url", vec![Value::Null, json!(7)]),
            ("resource_name", vec![Value::Null, json!(""), json!(too_long)]),
            ("role", vec![Value::Null, json!(["writer"])]),
            ("perimeter_id", vec![json!(too_long), json!(1)]),
            ("spki_hash_algorithm", vec![json!("SHA-1")]),
        ] {
            for value in values {
                let mut claims = drive();
                if name == "spki_hash_algorithm" {
                    claims["spki_hash"] = json!("3bj9JRTGYXmBlnkuf78/Xqb+BDYbO5ooABHvMZPebSc=");
                }
                claims[name] = value;
                assert_eq!(authorization(&claims), Err(Unusable(name)));
            }
        }
        let mut claims = drive();
        claims["resource_name"] = json!("n".repeat(512));
        assert!(Authorization::read(Application::Gmail, &|name| claims.get(name)).is_ok());
    }

    #[test]
    fn a_hash_is_read_with_and_without_padding() {
        let padded = "3bj9JRTGYXmBlnkuf78/Xqb+BDYbO5ooABHvMZPebSc=";
        assert!(spki_hash(padded).is_some());
        assert_eq!(spki_hash(padded), spki_hash(padded.trim_end_matches('=')));
        assert_eq!(base64_text(&spki_hash(padded).unwrap()), padded);
        assert_eq!(spki_hash("AAAA"), None);
        for (text, known) in
            [("google", true), ("google-visitor", true), ("customer-idp", true), ("other", false)]
        {
            let mut claims = drive();
            claims["email_type"] = json!(text);
            assert_eq!(
                authorization(&claims).unwrap().email_type.map(EmailType::name),
                known.then_some(text)
            );
        }
    }

    #[test]
    fn whoever_has_a_google_address_is_known_by_it_alone() {
        let claims = json!({"email": "alopez@idp.corp.example", "google_email": "ana.lopez@corp.example"});
        let read = Authentication::read(&|name| claims.get(name)).unwrap();
        assert_eq!(read.google_address(), Some("ana.lopez@corp.example"));
        let claims = json!({"email": "alopez@idp.corp.example", "google_email": ""});
        let read = Authentication::read(&|name| claims.get(name)).unwrap();
        assert_eq!(read.google_address(), Some(""));
        let claims = json!({"sub": "x"});
        assert_eq!(Authentication::read(&|name| claims.get(name)), Err(Unusable("email")));
    }
}
