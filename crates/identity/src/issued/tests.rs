use super::*;
use crate::registry::Registrations;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _,
};
use holdfast_core::caller::{CallerKind, CallerRecord};
use holdfast_core::peer::Proof;
use holdfast_core::port::Identify as _;
use holdfast_core::{ErrorKind, Secret};
use serde_json::json;

const ISSUER: &str = "https://idp.example";
const NOW: u64 = 1_768_472_100;

fn at(seconds: u64) -> Moment {
    Moment { now: Timestamp::from_micros(seconds * 1_000_000), ticks: 0 }
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Somebody who issues tokens, by Ed25519 or ECDSA.
enum Signer {
    Ed(Ed25519KeyPair),
    Ec(EcdsaKeyPair, &'static str, usize),
}

impl Signer {
    fn ed() -> Self {
        Self::Ed(Ed25519KeyPair::generate().unwrap())
    }

    fn p256() -> Self {
        Self::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(), "P-256", 32)
    }

    fn p384() -> Self {
        Self::Ec(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(), "P-384", 48)
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Ed(key) => key.sign(message).as_ref().to_vec(),
            Self::Ec(key, ..) => key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
        }
    }

    fn jwk(&self, more: Value) -> Value {
        let mut jwk = match self {
            Self::Ed(key) => json!({"kty": "OKP", "crv": "Ed25519", "x": encode(key.public_key())}),
            Self::Ec(key, curve, size) => {
                let (x, y) = key.public_key().as_ref()[1..].split_at(*size);
                json!({"kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)})
            }
        };
        jwk.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        jwk
    }

    fn token(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", encode(header), encode(payload));
        let signature = self.sign(signed.as_bytes());
        format!("{signed}.{}", encode(signature))
    }
}

fn set(keys: &[Value]) -> Option<Arc<KeySet>> {
    Some(Arc::new(KeySet::parse(json!({"keys": keys}).to_string().as_bytes()).unwrap()))
}

fn issuer(name: &str, keys: Option<Arc<KeySet>>) -> Issuer {
    Issuer {
        name: name.into(),
        audiences: Arc::new(["holdfast".to_owned(), "other".to_owned()]),
        algorithms: vec![Algorithm::EdDsa],
        keys,
        believed_until: None,
    }
}

const HEADER: &str = r#"{"alg":"EdDSA","kid":"one"}"#;

fn claims(change: impl FnOnce(&mut Value)) -> String {
    let mut claims = json!({"iss": ISSUER, "sub": "ana", "aud": "holdfast", "exp": NOW + 300, "iat": NOW});
    change(&mut claims);
    claims.to_string()
}

fn told(token: &str, issuers: &Issuers, at: Moment) -> Result<Claims, Reason> {
    verify(token, issuers, &Expected::default(), at)
}

/// RFC 7515 A.2 and A.3, RFC 8037 A.4: their keys and signatures. The payload of the first two has no `aud`, which is what they are refused for;
/// the third's is no JSON at all.
#[test]
fn the_published_signatures() {
    let payload =
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let rsa = json!({"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"});
    let ec = json!({"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
    let okp = json!({"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let keys = set(&[rsa, ec, okp]).unwrap();
    for (algorithm, signed, signature) in [
        (
            Algorithm::Rs256,
            format!("eyJhbGciOiJSUzI1NiJ9.{payload}"),
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
        ),
        (
            Algorithm::Es256,
            format!("eyJhbGciOiJFUzI1NiJ9.{payload}"),
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
        (
            Algorithm::EdDsa,
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc".to_owned(),
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        ),
    ] {
        let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        assert_eq!(keys.verify((None, algorithm), signed.as_bytes(), &signature), Ok(()), "{algorithm:?}");
        signature[7] ^= 1;
        let wrong = keys.verify((None, algorithm), signed.as_bytes(), &signature);
        assert_eq!(wrong, Err(Reason::BadSignature), "{algorithm:?}");
    }
}

/// The tokens of the digest of Google's specification: the first has no subject.
#[test]
fn the_tokens_of_the_key_access_service() {
    let keys = br#"{"keys":[{"kty":"RSA","n":"lYpBSo_ZzsZbSjFJhn52BjSEn9r0dqRrOrV7fHbGvKkBWxGTJkJpNWyMFV1M5MUrHASERQTJXb45PNX7FnCK9L4kCSeNG9e07oNv5SHGfnw0qe_VYSUQpsxVY2xKrDrDVRWs3k7hO14eP0rbbgZId99oofECV9PpwUbh2k7g2AE56onDcapuRASqQeVrtWJIZ43uaR4Wqzw3KF8cKyA4ppAw6n40IAQSFF-UspN36YlRVOnpxt3uTDZ0dW2o5bD1eik25ZqOWun8tMN5zx-o6xd3yDSsmnrdRHV0FNv_GvvFegocQ0-YbCwfie3SSDyH40xtf23KAZrFdpmCIcitbw","e":"AQAB","kid":"hyok-test-1","use":"sig","alg":"RS256"}]}"#;
    let keys = Some(Arc::new(KeySet::parse(keys).unwrap()));
    let (drive, idp) = ("gsuitecse-tokenissuer-drive@system.gserviceaccount.com", "https://idp.corp.example");
    let of = |name: &str| Issuer {
        algorithms: vec![Algorithm::Rs256],
        audiences: Arc::new([]),
        ..issuer(name, keys.clone())
    };
    let issuers = Issuers::new([of(drive), of(idp)]);
    let authorization = "eyJhbGciOiJSUzI1NiIsImtpZCI6Imh5b2stdGVzdC0xIiwidHlwIjoiSldUIn0.eyJhdWQiOiJjc2UtYXV0aG9yaXphdGlvbiIsImVtYWlsIjoiQW5hLkxvcGV6QGNvcnAuZXhhbXBsZSIsImV4cCI6MTc2ODQ3NTcwMCwiaWF0IjoxNzY4NDcyMTAwLCJpc3MiOiJnc3VpdGVjc2UtdG9rZW5pc3N1ZXItZHJpdmVAc3lzdGVtLmdzZXJ2aWNlYWNjb3VudC5jb20iLCJrYWNsc191cmwiOiJodHRwczovL2thY2xzLmh5b2suZXhhbXBsZS92MSIsInBlcmltZXRlcl9pZCI6ImV1LWxlZ2FsIiwicmVzb3VyY2VfbmFtZSI6Ii8vZ29vZ2xlYXBpcy5jb20vZHJpdmUvZmlsZXMvMWh5b2tFeGFtcGxlRmlsZSIsInJvbGUiOiJ3cml0ZXIifQ.VMRMco8HtxRjdYYVe4gQIxC0A32w1EP8uYALm2kJ0ZFbKYaS_HKMjKM4E1hk9L6gatUSZIe8P5CfZAg6YUwGn4b92uWizxdJq-locMaqVErr43cFGDTT9T0inrJFNPhkHL4ytolKH2Lo_KSd6AH0tRVlFTWu9sOJtYfjXz1BbcXk9J8EUHDY1btvfQWf-KxLskSeFpBuTbjPHL2s6XquNqYNmjTmi77cXbV6bcDkW8-GvESjN59e1TmoKrzJ14o2P0p1uKzpXtgAqKi9zVb9pHj3sdDhr_1QnBKrziLIJHv5ZQVK9Dp5OcBPzn84u2fZb4EHF748yF-G9IfBPSgUCQ";
    let authentication = "eyJhbGciOiJSUzI1NiIsImtpZCI6Imh5b2stdGVzdC0xIiwidHlwIjoiSldUIn0.eyJhdWQiOiJoeW9rLWNzZS1jbGllbnQiLCJlbWFpbCI6ImFsb3BlekBpZHAuY29ycC5leGFtcGxlIiwiZ29vZ2xlX2VtYWlsIjoiYW5hLmxvcGV6QGNvcnAuZXhhbXBsZSIsImV4cCI6MTc2ODQ3NTcwMCwiaWF0IjoxNzY4NDcyMTAwLCJpc3MiOiJodHRwczovL2lkcC5jb3JwLmV4YW1wbGUifQ.aMwy48BK795DoOn1eF_gSOH5PnnTIjpyySX7CWQfkou46yZLWZe1Nu5cc73Pzr2XQeMm_DvBDvU8l7M5I8ePK1ngJ39-0wRMFEFCA4HUemtvSFm8xgv6ZhkFAyh3g5qLM_BL66rTxEXEVuClame2xEbwX4kqEyiNnfFadbFrWCBwlFaCZDT7S0xhytU6xzPQLsbMb3FkBZSKwM_sO9xDERVUHNCwDoI_ORn2rjOD0UTcdPUqm5UpEFt-UtYio7Bs0f6d0GKpFh6XqJQlui03PilvGEYnC7x0mZWQCLUeWMlMqMUDx0x7EI5U-43WC38ziKdAL4zjOjOfCMUKs_cEeA";
    let (audience, issuer) = (["cse-authorization".to_owned()], [drive.to_owned()]);
    let expected = Expected { audiences: Some(&audience), issuers: Some(&issuer) };
    let claims = verify(authorization, &issuers, &expected, at(NOW)).unwrap();
    assert_eq!((claims.issuer(), claims.subject()), (drive, None));
    assert_eq!(claims.text("resource_name"), Some("//googleapis.com/drive/files/1hyokExampleFile"));
    let names: Vec<&str> = claims.iter().map(|(name, _)| name).collect();
    assert_eq!(names[..3], ["aud", "email", "exp"]);
    assert!(!format!("{claims:?}").contains("Lopez"), "{claims:?}");
    assert_eq!(Token::parse(authentication).unwrap().issuer(), Some(idp));
    // One in the place of the other.
    assert_eq!(verify(authentication, &issuers, &expected, at(NOW)), Err(Reason::OtherIssuer));
    let expected = Expected { issuers: None, ..expected };
    assert_eq!(verify(authentication, &issuers, &expected, at(NOW)), Err(Reason::OtherAudience));
    let audience = ["hyok-cse-client".to_owned()];
    let expected = Expected { audiences: Some(&audience), issuers: None };
    assert!(verify(authentication, &issuers, &expected, at(NOW)).is_ok());
    // Whoever configures no audience means nobody.
    assert_eq!(told(authorization, &issuers, at(NOW)), Err(Reason::OtherAudience));
}

#[test]
fn each_check_refuses_alone() {
    let (ours, theirs) = (Signer::ed(), Signer::ed());
    let keys = set(&[ours.jwk(json!({"kid": "one"})), Signer::ed().jwk(json!({"kid": "two"}))]);
    let other = set(&[theirs.jwk(json!({"kid": "one"}))]);
    let issuers = Issuers::new([issuer(ISSUER, keys), issuer("https://other.example", other)]);
    let right = ours.token(HEADER, &claims(|_| {}));
    let found = told(&right, &issuers, at(NOW)).unwrap();
    assert_eq!((found.issuer(), found.subject()), (ISSUER, Some("ana")));

    type Change = fn(&mut Value);
    let with = |change: Change| ours.token(HEADER, &claims(change));
    let changes: [(Change, Result<(), Reason>); 23] = [
        (|c| c["iss"] = json!("https://nobody.example"), Err(Reason::OtherIssuer)),
        (|c| c["iss"] = json!("https://idp.example/"), Err(Reason::OtherIssuer)),
        (|c| c["iss"] = json!(["https://idp.example"]), Err(Reason::Malformed)),
        // Signed by ours, so it says it is the other's: who it is from decides whose keys count.
        (|c| c["iss"] = json!("https://other.example"), Err(Reason::BadSignature)),
        (|c| c["aud"] = json!("somebody"), Err(Reason::OtherAudience)),
        (|c| c["aud"] = json!(["somebody"]), Err(Reason::OtherAudience)),
        (|c| c["aud"] = json!(null), Err(Reason::OtherAudience)),
        (|c| c["aud"] = json!(["somebody", "other"]), Ok(())),
        (|c| drop(c.as_object_mut().unwrap().remove("exp")), Err(Reason::Malformed)),
        (|c| c["exp"] = json!(NOW - 61), Err(Reason::Expired)),
        (|c| c["exp"] = json!(NOW - 59), Ok(())),
        (|c| c["exp"] = json!((NOW - 61).to_string()), Err(Reason::Expired)),
        (|c| c["exp"] = json!((NOW + 5).to_string()), Ok(())),
        (|c| c["exp"] = json!("soon"), Err(Reason::Malformed)),
        (|c| c["exp"] = json!(-1), Err(Reason::Malformed)),
        (|c| c["exp"] = json!(1e300), Ok(())),
        (|c| c["nbf"] = json!(NOW + 61), Err(Reason::NotYetValid)),
        (|c| c["nbf"] = json!(NOW + 59), Ok(())),
        (|c| c["iat"] = json!(NOW + 61), Err(Reason::NotYetValid)),
        (|c| c["iat"] = json!(true), Err(Reason::Malformed)),
        (|c| c["sub"] = json!(7), Err(Reason::Malformed)),
        (|c| c["sub"] = json!("x".repeat(513)), Err(Reason::Malformed)),
        (|c| c["more"] = json!("x".repeat(MAX_TOKEN)), Err(Reason::Malformed)),
    ];
    for (index, (change, expected)) in changes.into_iter().enumerate() {
        assert_eq!(told(&with(change), &issuers, at(NOW)).map(drop), expected, "change {index}");
    }

    for (header, expected) in [
        (r#"{"alg":"EdDSA","kid":"three"}"#, Reason::UnknownKey),
        (r#"{"alg":"EdDSA","kid":"two"}"#, Reason::BadSignature),
        // Two keys would fit.
        (r#"{"alg":"EdDSA"}"#, Reason::Ambiguous),
        (r#"{"alg":"EdDSA","kid":1}"#, Reason::Malformed),
        (r#"{"alg":"none","kid":"one"}"#, Reason::OtherAlgorithm),
        (r#"{"alg":"None","kid":"one"}"#, Reason::OtherAlgorithm),
        (r#"{"alg":"HS256","kid":"one"}"#, Reason::OtherAlgorithm),
        (r#"{"alg":"eddsa","kid":"one"}"#, Reason::OtherAlgorithm),
        // Known here, and not how this issuer signs.
        (r#"{"alg":"RS256","kid":"one"}"#, Reason::OtherAlgorithm),
        (r#"{"kid":"one"}"#, Reason::Malformed),
        (r#"{"alg":"EdDSA","kid":"one","crit":["exp"],"exp":1}"#, Reason::Malformed),
        (r#"{"alg":"EdDSA","alg":"EdDSA","kid":"one"}"#, Reason::Malformed),
    ] {
        assert_eq!(told(&ours.token(header, &claims(|_| {})), &issuers, at(NOW)), Err(expected), "{header}");
    }
    let twice = claims(|_| {}).replacen('{', r#"{"sub":"root","#, 1);
    assert_eq!(told(&ours.token(HEADER, &twice), &issuers, at(NOW)), Err(Reason::Malformed));

    let [header, payload, signature] = right.split('.').collect::<Vec<_>>()[..] else { panic!() };
    for bad in [
        String::new(),
        format!("{header}.{payload}."),
        format!("{header}.{payload}"),
        format!("{header}.{payload}.{signature}."),
        format!("{header}..{payload}.{signature}"),
        format!("{header}.{payload}.{signature}="),
        format!("{header}.{payload}.{signature}\n"),
        format!(" {right}"),
        format!("{}.{payload}.{signature}", encode(r#"{"alg":"none"}"#)),
    ] {
        let refused = told(&bad, &issuers, at(NOW)).unwrap_err();
        let expected = [Reason::Malformed, Reason::OtherAlgorithm, Reason::BadSignature];
        assert!(expected.contains(&refused), "{bad}: {refused}");
    }
}

/// The key that everybody knows is no shared secret, also where somebody configures nonsense around it.
#[test]
fn a_public_key_is_no_shared_secret() {
    let ours = Signer::ed();
    let keys = set(&[ours.jwk(json!({"kid": "one"}))]);
    let issuers = Issuers::new([issuer(ISSUER, keys)]);
    let Signer::Ed(pair) = &ours else { panic!() };
    let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, pair.public_key().as_ref());
    let signed = format!("{}.{}", encode(r#"{"alg":"HS256","kid":"one"}"#), encode(claims(|_| {})));
    let tag = aws_lc_rs::hmac::sign(&secret, signed.as_bytes());
    assert_eq!(told(&format!("{signed}.{}", encode(tag)), &issuers, at(NOW)), Err(Reason::OtherAlgorithm));
    assert!(["none", "HS256", "HS384", "HS512"].iter().all(|name| Algorithm::from_name(name).is_none()));
}

/// What a token brings along is never what it is verified with.
#[test]
fn a_key_in_a_token_is_no_key() {
    let (ours, theirs) = (Signer::ed(), Signer::ed());
    let issuers = Issuers::new([issuer(ISSUER, set(&[ours.jwk(json!({}))]))]);
    let header = |more: Value| {
        let mut header = json!({"alg": "EdDSA"});
        header.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        header.to_string()
    };
    for more in [
        json!({"jwk": theirs.jwk(json!({}))}),
        json!({"jku": "https://evil.example/keys"}),
        json!({"x5u": "https://evil.example/chain"}),
        json!({"x5c": ["AAAA"]}),
    ] {
        let forged = theirs.token(&header(more.clone()), &claims(|_| {}));
        assert_eq!(told(&forged, &issuers, at(NOW)), Err(Reason::BadSignature), "{more}");
        let own = ours.token(&header(more), &claims(|_| {}));
        assert!(told(&own, &issuers, at(NOW)).is_ok(), "it is passed over");
    }
}

#[test]
fn each_curve_signs_and_a_key_keeps_to_its_own_algorithm() {
    for (signer, algorithm) in [(Signer::p256(), Algorithm::Es256), (Signer::p384(), Algorithm::Es384)] {
        let header = json!({"alg": algorithm.name(), "kid": "one"}).to_string();
        let token = signer.token(&header, &claims(|_| {}));
        let of = |key: Value| {
            let (algorithms, keys) = (Algorithm::ALL.to_vec(), set(&[key]));
            Issuers::new([Issuer { algorithms, ..issuer(ISSUER, keys) }])
        };
        assert!(
            told(&token, &of(signer.jwk(json!({"kid": "one", "alg": algorithm.name()}))), at(NOW)).is_ok()
        );
        let other = of(Signer::ed().jwk(json!({"kid": "one"})));
        assert_eq!(told(&token, &other, at(NOW)), Err(Reason::UnknownKey));
    }
}

#[test]
fn a_set_is_read_as_it_is_meant_and_none_that_gives_a_secret_away_is() {
    let key = Signer::ed().jwk(json!({"kid": "one"}));
    let parse = |text: String| KeySet::parse(text.as_bytes()).map(|set| set.len());
    let with = |more: Value| {
        let mut key = key.clone();
        key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        parse(json!({"keys": [key]}).to_string())
    };
    assert_eq!(with(json!({"use": "sig", "key_ops": ["verify"], "x5c": ["AAAA"]})), Ok(1));
    for unusable in [
        json!({"use": "enc"}),
        json!({"key_ops": ["encrypt"]}),
        json!({"alg": "RS256"}),
        json!({"alg": "none"}),
        json!({"kty": "RSA"}),
        json!({"crv": "X25519"}),
        json!({"x": "AAAA"}),
        json!({"kid": 1}),
        // 1024 bits.
        json!({"kty": "RSA", "n": encode([0xff; 128]), "e": "AQAB"}),
    ] {
        assert_eq!(with(unusable.clone()), Err(NoKeySet::Empty), "{unusable}");
    }
    assert_eq!(with(json!({"d": "AAAA"})), Err(NoKeySet::Secret));
    assert_eq!(with(json!({"kty": "oct", "k": "AAAA"})), Err(NoKeySet::Secret));
    for bad in ["", "{}", r#"{"keys":{}}"#, r#"{"keys":[1]}"#, r#"{"keys":[],"keys":[]}"#] {
        assert_eq!(parse(bad.into()), Err(NoKeySet::Malformed), "{bad}");
    }
    assert_eq!(parse(r#"{"keys":[]}"#.into()), Err(NoKeySet::Empty));
    assert_eq!(parse(format!("{{\"keys\":[]{}}}", " ".repeat(KeySet::MAX_BYTES))), Err(NoKeySet::Malformed));
}

#[test]
fn keys_are_believed_for_their_time_and_without_any_nobody_is() {
    let ours = Signer::ed();
    let token = ours.token(HEADER, &claims(|_| {}));
    let keys = set(&[ours.jwk(json!({"kid": "one"}))]);
    let until = Issuer { believed_until: Some(1000), ..issuer(ISSUER, keys) };
    let issuers = Issuers::new([until]);
    assert!(told(&token, &issuers, Moment { ticks: 999, ..at(NOW) }).is_ok());
    assert_eq!(told(&token, &issuers, Moment { ticks: 1000, ..at(NOW) }), Err(Reason::NoKeys));
    assert_eq!(told(&token, &Issuers::new([issuer(ISSUER, None)]), at(NOW)), Err(Reason::NoKeys));
}

fn caller(name: &str, subjects: &[Option<&str>]) -> Arc<CallerRecord> {
    let of = |subject: &Option<&str>| Credential::Issued {
        issuer: ISSUER.into(),
        subject: subject.map(Box::from),
    };
    Arc::new(CallerRecord {
        name: name.parse().unwrap(),
        kind: CallerKind::Application,
        groups: vec![],
        credentials: subjects.iter().map(of).collect(),
        tokens: vec![],
        suspended: false,
    })
}

#[test]
fn who_is_registered_is_recognised_by_the_subject_first_and_else_by_the_issuer() {
    let registrations = Registrations::new(&Secret::new(vec![0; 32]));
    let prepare = |callers: &[Arc<CallerRecord>]| registrations.prepare(callers, &[]);
    let prepared = prepare(&[caller("ana", &[Some("ana")]), caller("others", &[None])]).unwrap();
    let time = |seconds: u64| Timestamp::from_micros(seconds * 1_000_000);
    let token = |issuer: &str, subject: Option<&str>| {
        IssuedToken::examined(issuer.into(), subject.map(Box::from), (time(100), time(200)))
    };
    let who = |prepared: &_, token: &IssuedToken, at: u64| {
        let found = registrations.identify(prepared, &Proof::Issued(token), time(at));
        found.map(|found| (found.record.name.to_string(), found.valid_until)).map_err(|error| error.kind())
    };
    for (subject, name) in [(Some("ana"), "ana"), (Some("Ana"), "others"), (None, "others")] {
        let found = who(&prepared, &token(ISSUER, subject), 150);
        assert_eq!(found, Ok((name.to_owned(), time(200))), "{subject:?}");
    }
    let nobody = Err(ErrorKind::Unauthenticated);
    assert_eq!(who(&prepared, &token("https://other.example", Some("ana")), 150), nobody);
    assert_eq!(who(&prepared, &token(ISSUER, Some("ana")), 99), nobody, "looked at with every use");
    assert_eq!(who(&prepared, &token(ISSUER, Some("ana")), 200), nobody);
    let alone = prepare(&[caller("ana", &[Some("ana")])]).unwrap();
    assert_eq!(who(&alone, &token(ISSUER, Some("bob")), 150), nobody);
    assert_eq!(who(&alone, &token(ISSUER, None), 150), nobody);
    assert!(prepare(&[caller("one", &[None]), caller("two", &[None])]).is_err(), "nobody shares one");
}

#[test]
fn of_a_set_that_many_issuers_have_only_its_own_keys_are_an_issuers() {
    let key = |id: &str, issuer: Value| {
        let mut jwk = Signer::ed().jwk(json!({"kid": id}));
        if !issuer.is_null() {
            jwk.as_object_mut().unwrap().insert("issuer".into(), issuer);
        }
        jwk
    };
    let set = |keys: &[Value]| json!({"keys": keys}).to_string().into_bytes();
    const V1: &str = "https://sts.windows.net/3f0e1c52/";
    const V2: &str = "https://login.microsoftonline.com/3f0e1c52/v2.0";
    for (issuer, named, is_its) in [
        (V1, Value::Null, true),
        (V1, json!(V1), true),
        (V1, json!("https://sts.windows.net/{tenantid}/"), true),
        (V2, json!("https://login.microsoftonline.com/{tenantid}/v2.0"), true),
        (V2, json!("https://sts.windows.net/{tenantid}/"), false),
        (V1, json!("https://sts.windows.net/{tenantid}"), false),
        (V1, json!("https://sts.windows.net/9188040d/"), false),
        (V2, json!("https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0"), false),
        (V1, json!(1), false),
        ("https://idp", json!("https://idp"), true),
        ("https://idp", json!("https://idp{tenantid}"), false),
    ] {
        let found = KeySet::parse_of(issuer, &set(&[key("a", named.clone())]));
        assert_eq!(found.is_ok(), is_its, "{issuer} {named}");
        let both = KeySet::parse_of(issuer, &set(&[key("a", named.clone()), key("b", Value::Null)]));
        assert_eq!(both.unwrap().len(), 1 + usize::from(is_its), "{issuer} {named}");
    }
}

#[test]
fn what_was_taken_apart_once_is_examined_with_other_keys() {
    let [old, new] = [Signer::ed(), Signer::ed()];
    let kid = |signer: &Signer, kid: &str| signer.jwk(json!({"kid": kid}));
    let text = new.token(r#"{"alg":"EdDSA","kid":"two"}"#, &claims(|_| {}));
    let [before, after] = [set(&[kid(&old, "one")]), set(&[kid(&old, "one"), kid(&new, "two")])]
        .map(|keys| Issuers::new([issuer(ISSUER, keys)]));
    let token = Token::parse(&text).unwrap();
    let (token, reason) = token.verify(&before, &Expected::default(), at(NOW)).unwrap_err();
    assert_eq!((reason, token.issuer()), (Reason::UnknownKey, Some(ISSUER)));
    let claims = token.verify(&after, &Expected::default(), at(NOW)).map_err(|(_, reason)| reason);
    assert_eq!(claims, told(&text, &after, at(NOW)));
    assert_eq!(claims.unwrap().subject(), Some("ana"));
}
