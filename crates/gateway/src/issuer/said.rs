//! What policies see of a token: a few claims, each by a name of ours. One function for every door, so that what is left out at one is left out at all.

use holdfast_core::context::Context;
use holdfast_core::{Error, ErrorKind, Stage};
use holdfast_identity::issued::Claims;
use serde_json::Value;

/// What a door shows of a token, besides its issuer, its subject and its groups.
#[derive(Debug)]
pub(crate) struct Names {
    /// Claims that are text, by their own names, as they are.
    texts: &'static [&'static str],
    /// Claims that are somebody's address: without spaces around it, in lower case.
    addresses: &'static [&'static str],
    /// What the first of these addresses in the token is called besides.
    person: Option<&'static str>,
    /// What stands within another claim: that one, where in it (RFC 6901), and what it is called.
    nested: &'static [(&'static str, &'static str, &'static str)],
    /// The most bytes of each value.
    longest: usize,
}

/// At the native API.
pub(crate) const NATIVE: Names = Names {
    texts: &["email", "repository", "ref", "environment", "job_workflow_ref"],
    addresses: &[],
    person: None,
    nested: &[
        ("kubernetes.io", "/namespace", "kubernetes.namespace"),
        ("kubernetes.io", "/serviceaccount/name", "kubernetes.serviceaccount"),
        ("kubernetes.io", "/pod/name", "kubernetes.pod"),
        ("kubernetes.io", "/node/name", "kubernetes.node"),
    ],
    longest: Context::MAX_BYTES,
};

/// At a key service of Double Key Encryption: a person is `email` or `upn`, whichever comes first, as Microsoft's server takes it.
pub(crate) const MS_DKE: Names = Names {
    texts: &["tid", "oid", "appid", "azp", "scp", "onprem_sid", "uti", "jti"],
    addresses: &["email", "upn"],
    person: Some("user"),
    nested: &[],
    longest: 512,
};

/// The beginning of what each group of the caller's is called.
const GROUP: &str = "group:";

/// The claims; `None` when there are more than policies can be shown, or than the issuer itself has put in: some of them alone could be what a policy
/// permits, and the rest what it forbids.
pub(crate) fn said(claims: &Claims, names: &Names) -> Option<Context> {
    let Names { texts, addresses, person, nested, longest } = names;
    let mut pairs: Vec<(Box<str>, Box<str>)> = vec![("issuer".into(), claims.issuer().into())];
    let mut put = |name: &str, value: &str| pairs.push((name.into(), value.into()));
    if let Some(subject) = claims.subject() {
        put("subject", subject);
    }
    let is_shown = |name: &str| name != "email" || is_verified(claims);
    let text = |name: &str| claims.text(name).filter(|_| is_shown(name));
    // In ASCII alone: other letters have one of it as their lower case.
    let address = |value: &str| value.trim_ascii().to_ascii_lowercase();
    for name in *texts {
        if let Some(value) = text(name) {
            put(name, value);
        }
    }
    for name in *addresses {
        if let Some(value) = text(name) {
            put(name, &address(value));
        }
    }
    let mut persons = claims.iter().filter(|(name, _)| addresses.contains(name) && is_shown(name));
    if let (Some(person), Some((_, Value::String(value)))) = (person, persons.next()) {
        put(person, &address(value));
    }
    for (claim, pointer, name) in *nested {
        let value = claims.get(claim).and_then(|it| it.pointer(pointer)).and_then(Value::as_str);
        if let Some(value) = value {
            put(name, value);
        }
    }
    let groups = claims.get("groups").and_then(Value::as_array);
    let mut groups: Vec<&str> = groups.into_iter().flatten().filter_map(Value::as_str).collect();
    groups.sort_unstable();
    groups.dedup();
    for group in groups {
        put(&format!("{GROUP}{group}"), "");
    }
    let is_too_long = pairs.iter().any(|(_, value)| value.len() > *longest);
    if is_too_long || has_groups_elsewhere(claims) {
        return None;
    }
    Context::new(pairs).ok()
}

/// Whether an address is one that somebody has looked at: anybody can give another. By OpenID Connect Core 1.0 §5.1, where some issuers write text, and by Entra's
/// claim of whether the domain's owner is verified.
pub(crate) fn is_verified(claims: &Claims) -> bool {
    let is_true = |value: &Value| match value {
        Value::Bool(is_true) => *is_true,
        Value::String(text) => text == "true",
        Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => false,
    };
    let is_one = |value: &Value| value.as_u64() == Some(1) || value.as_str() == Some("1");
    claims.get("email_verified").is_none_or(is_true)
        && claims.get("xms_edov").is_none_or(|value| is_true(value) || is_one(value))
}

/// Whether Entra says that the groups are too many for the token and to be asked for elsewhere.
fn has_groups_elsewhere(claims: &Claims) -> bool {
    let names = claims.get("_claim_names").and_then(|names| names.get("groups"));
    names.is_some() || claims.get("hasgroups").is_some_and(|has| *has != Value::Bool(false))
}

/// What is told to whoever shows a token with more.
pub(crate) fn too_much() -> Error {
    Error::new(ErrorKind::TooLarge, Stage::Identify, "the token has more claims than policies can be shown")
        .remedy("have its issuer put fewer `groups` in: those alone that policies look at")
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
    use holdfast_core::Timestamp;
    use holdfast_identity::issued::{Algorithm, Expected, Issuer, Issuers, KeySet, Moment, verify};
    use serde_json::json;
    use std::sync::Arc;

    /// The claims of a token that says this and no more than it must.
    fn claims(more: Value) -> Claims {
        let key = Ed25519KeyPair::generate().unwrap();
        let set = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": BASE64.encode(key.public_key())}]});
        let issuer = Issuer {
            name: "i".into(),
            audiences: Arc::new(["a".to_owned()]),
            algorithms: vec![Algorithm::EdDsa],
            keys: Some(Arc::new(KeySet::parse(set.to_string().as_bytes()).unwrap())),
            believed_until: None,
        };
        let mut all = json!({"iss": "i", "aud": "a", "sub": "s", "exp": 100});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let signed = format!("{}.{}", BASE64.encode(r#"{"alg":"EdDSA"}"#), BASE64.encode(all.to_string()));
        let token = format!("{signed}.{}", BASE64.encode(key.sign(signed.as_bytes())));
        let at = Moment { now: Timestamp::from_micros(1), ticks: 0 };
        verify(&token, &Issuers::new([issuer]), &Expected::default(), at).unwrap()
    }

    fn tag(said: &Context, name: &str) -> Option<String> {
        said.pairs().find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
    }

    #[test]
    fn an_address_that_nobody_has_verified_is_shown_at_no_door() {
        let shown = |more: Value, names: &Names| {
            let mut all = json!({"email": "ana@contoso.example", "upn": "upn@contoso.example"});
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let said = said(&claims(all), names).unwrap();
            (tag(&said, "email").is_some(), tag(&said, "user"))
        };
        for (more, is_shown) in [
            (json!({}), true),
            (json!({"email_verified": true}), true),
            (json!({"email_verified": "true"}), true),
            (json!({"email_verified": true, "xms_edov": true}), true),
            (json!({"xms_edov": 1}), true),
            (json!({"xms_edov": "1"}), true),
            (json!({"email_verified": false}), false),
            (json!({"email_verified": "false"}), false),
            (json!({"email_verified": "False"}), false),
            (json!({"email_verified": null}), false),
            (json!({"email_verified": 1}), false),
            (json!({"email_verified": "true", "xms_edov": false}), false),
            (json!({"xms_edov": 0}), false),
            (json!({"xms_edov": "0"}), false),
        ] {
            assert_eq!(shown(more.clone(), &NATIVE), (is_shown, None), "{more}");
            let user = if is_shown { "ana@contoso.example" } else { "upn@contoso.example" };
            assert_eq!(shown(more.clone(), &MS_DKE), (is_shown, Some(user.to_owned())), "{more}");
        }
    }

    #[test]
    fn an_address_is_in_lower_case_and_no_other_letter_becomes_one_of_it() {
        for (upn, user) in [
            (" Ana.Lopez@Contoso.Example\t", "ana.lopez@contoso.example"),
            // The Kelvin sign, whose lower case is `k`, and a space that is none of ASCII's.
            ("mi\u{212a}e@contoso.example", "mi\u{212a}e@contoso.example"),
            ("\u{a0}ana@contoso.example", "\u{a0}ana@contoso.example"),
        ] {
            let said = said(&claims(json!({"upn": upn})), &MS_DKE).unwrap();
            let user = Some(user.to_owned());
            assert_eq!((tag(&said, "user"), tag(&said, "upn")), (user.clone(), user));
        }
    }

    /// What is cut could be what a policy forbids.
    #[test]
    fn a_token_with_a_longer_value_than_policies_are_shown_is_too_much() {
        for (length, is_shown) in [(512, true), (513, false)] {
            for more in [json!({"scp": "s".repeat(length)}), json!({"upn": "u".repeat(length)})] {
                assert_eq!(said(&claims(more), &MS_DKE).is_some(), is_shown, "{length}");
            }
        }
    }

    #[test]
    fn each_door_shows_its_own_claims_and_who_a_token_is_about() {
        let all = json!({"email": "a@b", "upn": "a@c", "scp": "x", "repository": "r", "other": "o", "groups": ["g", 1, "f", "g"],
            "kubernetes.io": {"namespace": "n", "pod": {"name": "p", "uid": "u"}, "node": 1}});
        for (names, shown) in [
            (
                &NATIVE,
                vec![
                    ("email", "a@b"),
                    ("group:f", ""),
                    ("group:g", ""),
                    ("issuer", "i"),
                    ("kubernetes.namespace", "n"),
                    ("kubernetes.pod", "p"),
                    ("repository", "r"),
                    ("subject", "s"),
                ],
            ),
            (
                &MS_DKE,
                vec![
                    ("email", "a@b"),
                    ("group:f", ""),
                    ("group:g", ""),
                    ("issuer", "i"),
                    ("scp", "x"),
                    ("subject", "s"),
                    ("upn", "a@c"),
                    ("user", "a@b"),
                ],
            ),
        ] {
            let said = said(&claims(all.clone()), names).unwrap();
            let mut pairs: Vec<_> = said.pairs().collect();
            pairs.sort_unstable();
            assert_eq!(pairs, shown);
        }
        // Whichever of the two comes first in the token.
        let said = said(&claims(json!({"upn": "a@c", "email": "a@b"})), &MS_DKE).unwrap();
        assert_eq!(tag(&said, "user").as_deref(), Some("a@c"));
    }

    #[test]
    fn a_token_without_all_of_its_groups_is_too_much() {
        let groups = |count: u32| Value::from((0..count).map(|it| format!("g{it}")).collect::<Vec<_>>());
        for (more, is_shown) in [
            (json!({"groups": groups(3), "hasgroups": false}), true),
            (json!({"_claim_names": {"other": "src1"}}), true),
            (json!({"groups": groups(65)}), false),
            (json!({"hasgroups": true}), false),
            (json!({"hasgroups": "true"}), false),
            (json!({"_claim_names": {"groups": "src1"}, "_claim_sources": {}}), false),
        ] {
            for names in [&NATIVE, &MS_DKE] {
                assert_eq!(said(&claims(more.clone()), names).is_some(), is_shown, "{more}");
            }
        }
    }
}
