//! The rules that hold whatever the tenant's policy says, in the order of Google's specification. Each failure has a name, which stands in the log.

use super::claim::{Application, Authentication, Authorization, EmailType};
use super::path::Method;
use super::url::ServiceUrl;
use core::fmt;
use holdfast_core::{Error, ErrorKind, Stage};

/// A rule that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Check {
    /// A token of an issuer that says nothing about this method.
    Issuer,
    /// The two tokens are about different users.
    SameUser,
    /// The user is a guest, and guests are not let in, or not by this identity provider.
    Guest,
    /// Who acts for the user is not who may, or not with this object.
    Delegation,
    /// The role does not include the method.
    Role,
    /// The token is meant for another key service.
    KaclsUrl,
    /// The token is meant for another domain's key service.
    OwnerDomain,
    /// The token is about another object.
    Resource,
    /// The token is about another private key.
    Spki,
    /// Whoever it is has no privilege here.
    Privilege,
    /// The other key service is none of the peers.
    Peer,
}

impl Check {
    /// Every check.
    pub const ALL: [Self; 11] = [
        Self::Issuer,
        Self::SameUser,
        Self::Guest,
        Self::Delegation,
        Self::Role,
        Self::KaclsUrl,
        Self::OwnerDomain,
        Self::Resource,
        Self::Spki,
        Self::Privilege,
        Self::Peer,
    ];

    /// Its name in events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Issuer => "issuer",
            Self::SameUser => "same-user",
            Self::Guest => "guest",
            Self::Delegation => "delegation",
            Self::Role => "role",
            Self::KaclsUrl => "kacls-url",
            Self::OwnerDomain => "owner-domain",
            Self::Resource => "resource",
            Self::Spki => "spki",
            Self::Privilege => "privilege",
            Self::Peer => "peer",
        }
    }

    /// The refusal: to whoever asks it looks like any other denial.
    pub fn refuse(self) -> Error {
        Error::new(ErrorKind::Denied, Stage::Decide, ErrorKind::Denied.row().title).because(self)
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the check `{}` failed", self.name())
    }
}

impl std::error::Error for Check {}

/// What a service holds tokens against.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// Its own URL.
    pub url: &'a ServiceUrl,
    /// The domains that own it.
    pub owner_domains: &'a [String],
    /// The identity providers whose users have an account with Google.
    pub providers: &'a [String],
    /// The identity providers of guests; empty: there are no guests.
    pub guest_providers: &'a [String],
    /// Who issues this service's own, delegated tokens; empty: nobody.
    pub own_issuer: &'a str,
}

/// Whether this application may ask for this method at all.
fn is_asked_by(method: Method, application: Application) -> bool {
    match application {
        Application::Drive | Application::Meet | Application::Calendar => {
            matches!(method, Method::Wrap | Method::Unwrap | Method::Delegate)
        }
        Application::Gmail => matches!(method, Method::PrivateKeySign | Method::PrivateKeyDecrypt),
        Application::Migration => matches!(method, Method::Rewrap | Method::Digest),
    }
}

/// Whether a role includes a method. Of delegation Google says nothing: any role does.
fn includes(role: &str, method: Method) -> bool {
    match method {
        Method::Wrap => matches!(role, "writer" | "upgrader"),
        Method::Unwrap => matches!(role, "reader" | "writer"),
        Method::Delegate => true,
        Method::Rewrap => role == "migrator",
        Method::Digest => role == "verifier",
        Method::PrivateKeySign => role == "signer",
        Method::PrivateKeyDecrypt => role == "decrypter",
        Method::Status
        | Method::Certs
        | Method::PrivilegedWrap
        | Method::PrivilegedUnwrap
        | Method::PrivilegedPrivateKeyDecrypt
        | Method::WrapPrivateKey => false,
    }
}

impl Rules<'_> {
    /// Google's word, and the user's own where the method has one, with the issuer of that.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn allow(
        &self,
        method: Method,
        authorization: &Authorization,
        authentication: Option<(&Authentication, &str)>,
    ) -> Result<(), Check> {
        demand(is_asked_by(method, authorization.application), Check::Issuer)?;
        if let Some((user, issuer)) = authentication {
            let same = user.google_address().is_some_and(|known| is_same(known, &authorization.email));
            demand(same, Check::SameUser)?;
            self.guest(authorization, user, issuer)?;
            delegation(method, authorization, user, issuer == self.own_issuer)?;
        }
        demand(includes(&authorization.role, method), Check::Role)?;
        demand(self.url.is(&authorization.kacls_url), Check::KaclsUrl)?;
        let owns = |domain: &str| self.owner_domains.iter().any(|own| own.eq_ignore_ascii_case(domain));
        demand(authorization.owner_domain.as_deref().is_none_or(owns), Check::OwnerDomain)?;
        match method {
            Method::PrivateKeySign | Method::PrivateKeyDecrypt => {
                demand(authorization.spki_hash.is_some(), Check::Spki)
            }
            Method::Status
            | Method::Certs
            | Method::Wrap
            | Method::Unwrap
            | Method::Delegate
            | Method::PrivilegedWrap
            | Method::PrivilegedUnwrap
            | Method::Rewrap
            | Method::Digest
            | Method::PrivilegedPrivateKeyDecrypt
            | Method::WrapPrivateKey => Ok(()),
        }
    }

    /// Guests come by guests' providers, and nobody else does.
    fn guest(&self, authorization: &Authorization, user: &Authentication, issuer: &str) -> Result<(), Check> {
        // Whoever acts for a user comes by the provider that the user came by.
        let by = match issuer == self.own_issuer {
            true => user.original_issuer.as_deref().filter(|_| user.delegated_to.is_some()),
            false => Some(issuer),
        };
        let is_among = |providers: &[String]| by.is_some_and(|by| providers.iter().any(|one| one == by));
        match authorization.email_type {
            Some(EmailType::Google) => demand(is_among(self.providers), Check::Guest),
            Some(EmailType::Visitor | EmailType::CustomerIdp) => {
                demand(is_among(self.guest_providers), Check::Guest)
            }
            None => Err(Check::Guest),
        }
    }
}

fn delegation(
    method: Method,
    authorization: &Authorization,
    user: &Authentication,
    is_own: bool,
) -> Result<(), Check> {
    let is_right = match (&authorization.delegated_to, &user.delegated_to) {
        (None, None) => !is_own && method != Method::Delegate,
        // To delegate: Google says to whom, and whoever does it is the user itself.
        (Some(_), None) => !is_own && method == Method::Delegate,
        (None, Some(_)) => false,
        (Some(to), Some(by)) => {
            let takes = matches!(method, Method::Wrap | Method::Unwrap);
            takes && is_same(to, by) && user.resource.as_deref() == Some(&*authorization.resource)
        }
    };
    demand(is_right, Check::Delegation)
}

/// Addresses are compared without regard to case, of the letters of ASCII alone: no other two letters are one here.
fn is_same(a: &str, b: &str) -> bool {
    !a.is_empty() && a.eq_ignore_ascii_case(b)
}

fn demand(holds: bool, check: Check) -> Result<(), Check> {
    if holds { Ok(()) } else { Err(check) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "https://kacls.hyok.example/v1";
    const IDP: &str = "https://idp.corp.example";
    const GUESTS: &str = "https://guests.corp.example";

    fn authorization(application: Application, role: &str) -> Authorization {
        Authorization {
            application,
            email: "Ana.Lopez@corp.example".into(),
            email_type: Some(EmailType::Google),
            delegated_to: None,
            kacls_url: OWN.into(),
            owner_domain: None,
            perimeter: "".into(),
            resource: "file".into(),
            role: role.into(),
            message_id: None,
            spki_hash: Some([1; 32]),
        }
    }

    fn user() -> Authentication {
        Authentication {
            email: Some("alopez@idp.corp.example".into()),
            google_email: Some("ana.lopez@corp.example".into()),
            delegated_to: None,
            resource: None,
            original_issuer: None,
        }
    }

    fn allow(
        guests: &[String],
        method: Method,
        authorization: &Authorization,
        (user, issuer): (&Authentication, &str),
    ) -> Result<(), Check> {
        let url = ServiceUrl::of(OWN).unwrap();
        let rules = Rules {
            url: &url,
            owner_domains: &["corp.example".into()],
            providers: &[IDP.into()],
            guest_providers: guests,
            own_issuer: OWN,
        };
        let authentication = method.has_authentication().then_some((user, issuer));
        rules.allow(method, authorization, authentication)
    }

    /// Every application, every role, every method: what is allowed is this table, and nothing else.
    #[test]
    fn the_matrix_of_issuers_roles_and_methods() {
        const ROLES: [&str; 9] = [
            "reader",
            "writer",
            "upgrader",
            "signer",
            "decrypter",
            "migrator",
            "verifier",
            "check",
            "WRITER",
        ];
        let mut allowed = vec![];
        for application in Application::ALL {
            for role in ROLES {
                for method in Method::ALL {
                    let mut said = authorization(application, role);
                    if *method == Method::Delegate {
                        said.delegated_to = Some("room7@corp.example".into());
                    }
                    if allow(&[], *method, &said, (&user(), IDP)).is_ok() && *method != Method::Delegate {
                        allowed.push((application, role, *method));
                    }
                }
            }
        }
        let mut table = vec![];
        for application in [Application::Drive, Application::Meet, Application::Calendar] {
            table.push((application, "reader", Method::Unwrap));
            table.push((application, "writer", Method::Wrap));
            table.push((application, "writer", Method::Unwrap));
            table.push((application, "upgrader", Method::Wrap));
        }
        table.push((Application::Gmail, "signer", Method::PrivateKeySign));
        table.push((Application::Gmail, "decrypter", Method::PrivateKeyDecrypt));
        table.push((Application::Migration, "migrator", Method::Rewrap));
        table.push((Application::Migration, "verifier", Method::Digest));
        assert_eq!(allowed, table);
    }

    #[test]
    fn each_rule_fails_alone() {
        let right = authorization(Application::Drive, "writer");
        let wrap = |authorization: &Authorization, user: &Authentication| {
            allow(&[], Method::Wrap, authorization, (user, IDP))
        };
        assert_eq!(wrap(&right, &user()), Ok(()));
        let mut mallory = user();
        mallory.google_email = Some("mallory@corp.example".into());
        // The provider's own address is not asked once there is Google's.
        mallory.email = Some("ana.lopez@corp.example".into());
        assert_eq!(wrap(&right, &mallory), Err(Check::SameUser));
        mallory.google_email = Some("".into());
        assert_eq!(wrap(&right, &mallory), Err(Check::SameUser));
        mallory.google_email = None;
        assert_eq!(wrap(&right, &mallory), Ok(()));
        // A letter that is another's small one in Unicode, not in ASCII.
        let kelvin = Authentication { google_email: Some("mar\u{212a}@corp.example".into()), ..user() };
        let mark = Authorization { email: "mark@corp.example".into(), ..right.clone() };
        assert_eq!(wrap(&mark, &kelvin), Err(Check::SameUser));
        let other = Authorization { kacls_url: "https://kacls.evil.example/v1".into(), ..right.clone() };
        assert_eq!(wrap(&other, &user()), Err(Check::KaclsUrl));
        let slash = Authorization { kacls_url: format!("{OWN}/").into(), ..right.clone() };
        assert_eq!(wrap(&slash, &user()), Ok(()));
        for (domain, expected) in [("corp.example", Ok(())), ("evil.example", Err(Check::OwnerDomain))] {
            let said = Authorization { owner_domain: Some(domain.into()), ..right.clone() };
            assert_eq!(wrap(&said, &user()), expected);
        }
        let reader = authorization(Application::Drive, "reader");
        assert_eq!(wrap(&reader, &user()), Err(Check::Role));
        let gmail = authorization(Application::Gmail, "writer");
        assert_eq!(wrap(&gmail, &user()), Err(Check::Issuer));
        let mut unhashed = authorization(Application::Gmail, "signer");
        unhashed.spki_hash = None;
        assert_eq!(allow(&[], Method::PrivateKeySign, &unhashed, (&user(), IDP)), Err(Check::Spki));
    }

    #[test]
    fn guests_come_by_their_own_provider_and_nobody_else_does() {
        let guests = [GUESTS.to_owned()];
        let said = |email_type| Authorization { email_type, ..authorization(Application::Drive, "writer") };
        for (lists, kind, issuer, expected) in [
            (&[][..], Some(EmailType::Google), IDP, Ok(())),
            (&[], Some(EmailType::Visitor), IDP, Err(Check::Guest)),
            (&[], Some(EmailType::CustomerIdp), IDP, Err(Check::Guest)),
            (&[], None, IDP, Err(Check::Guest)),
            (&guests, Some(EmailType::Google), IDP, Ok(())),
            (&guests, Some(EmailType::Google), GUESTS, Err(Check::Guest)),
            (&guests, Some(EmailType::Visitor), GUESTS, Ok(())),
            (&guests, Some(EmailType::CustomerIdp), GUESTS, Ok(())),
            (&guests, Some(EmailType::Visitor), IDP, Err(Check::Guest)),
            (&guests, None, GUESTS, Err(Check::Guest)),
        ] {
            assert_eq!(
                allow(lists, Method::Wrap, &said(kind), (&user(), issuer)),
                expected,
                "{kind:?} {issuer}"
            );
        }
    }

    #[test]
    fn whoever_acts_for_a_user_comes_by_the_user_s_provider() {
        let guests = [GUESTS.to_owned()];
        let room = || Some(Box::from("room7@corp.example"));
        let wrong = Err(Check::Guest);
        for (lists, kind, original, expected) in [
            (&guests[..], EmailType::Google, Some(IDP), Ok(())),
            (&guests, EmailType::Visitor, Some(GUESTS), Ok(())),
            (&guests, EmailType::Google, Some(GUESTS), wrong),
            (&guests, EmailType::Visitor, Some(IDP), wrong),
            (&[], EmailType::Visitor, Some(GUESTS), wrong),
            (&guests, EmailType::Google, Some("https://gone.example"), wrong),
            (&guests, EmailType::Google, Some(OWN), wrong),
            (&guests, EmailType::Google, None, wrong),
        ] {
            let said = Authorization {
                email_type: Some(kind),
                delegated_to: room(),
                ..authorization(Application::Meet, "writer")
            };
            let by = Authentication {
                delegated_to: room(),
                resource: Some("file".into()),
                original_issuer: original.map(Box::from),
                ..user()
            };
            let found = allow(lists, Method::Wrap, &said, (&by, OWN));
            assert_eq!(found, expected, "{kind:?} {original:?}");
        }
    }

    #[test]
    fn who_acts_for_a_user_is_who_may_and_with_that_object() {
        let to = |to: Option<&str>| Authorization {
            delegated_to: to.map(Box::from),
            ..authorization(Application::Meet, "writer")
        };
        let by = |by: Option<&str>, resource: Option<&str>| Authentication {
            delegated_to: by.map(Box::from),
            resource: resource.map(Box::from),
            original_issuer: Some(IDP.into()),
            ..user()
        };
        let room = Some("room7@corp.example");
        let wrong = Err(Check::Delegation);
        for (method, to, by, issuer, expected) in [
            (Method::Delegate, to(room), by(None, None), IDP, Ok(())),
            (Method::Delegate, to(None), by(None, None), IDP, wrong),
            (Method::Delegate, to(room), by(room, Some("file")), OWN, wrong),
            (Method::Wrap, to(room), by(Some("Room7@corp.example"), Some("file")), OWN, Ok(())),
            (Method::Unwrap, to(room), by(room, Some("file")), IDP, Ok(())),
            (Method::Wrap, to(room), by(room, Some("other")), OWN, wrong),
            (Method::Wrap, to(room), by(room, None), OWN, wrong),
            (Method::Wrap, to(room), by(Some("room8@corp.example"), Some("file")), OWN, wrong),
            (Method::Wrap, to(room), by(None, None), IDP, wrong),
            (Method::Wrap, to(None), by(room, Some("file")), OWN, wrong),
            (Method::Wrap, to(None), by(None, None), OWN, Err(Check::Guest)),
        ] {
            assert_eq!(allow(&[], method, &to, (&by, issuer)), expected, "{method:?} {to:?} {by:?}");
        }
    }

    #[test]
    fn a_refusal_says_nothing_and_the_log_has_its_name() {
        let mut seen = std::collections::HashSet::new();
        for check in Check::ALL {
            let error = check.refuse();
            assert!(error.chain().contains(&format!("`{}`", check.name())), "{}", error.chain());
            seen.insert(error.to_string());
        }
        assert_eq!(seen.len(), 1);
    }
}
