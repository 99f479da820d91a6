//! Every value leads back from its text, and refuses what it is not.

use super::*;
use holdfast_core::algorithm::{Algorithm, Purpose, RsaPadding, SignatureScheme};
use holdfast_core::caller::CallerKind;
use holdfast_core::{KeyName, Timestamp};
use proptest::prelude::*;

fn read<T: Read>(json: &str) -> Result<T, String> {
    Reader::whole(json.as_bytes()).map_err(|fault| fault.into_error().to_string())
}

fn words_lead_back<T: Vocabulary + PartialEq + core::fmt::Debug>() {
    for (word, value) in T::words() {
        assert_eq!(value.word(), word);
        assert_eq!(T::from_word(word), Some(value));
        assert_eq!(read::<Word<T>>(&serde_json::to_string(&Word(value)).unwrap()), Ok(Word(value)));
    }
    assert!(read::<Word<T>>("\"no-such-word\"").is_err_and(|text| text.starts_with("expected one of `")));
}

#[test]
fn words_lead_back_everywhere() {
    words_lead_back::<Algorithm>();
    words_lead_back::<Purpose>();
    words_lead_back::<SignatureScheme>();
    words_lead_back::<RsaPadding>();
    words_lead_back::<CallerKind>();
    words_lead_back::<LegacyWord>();
    words_lead_back::<holdfast_core::action::Action>();
    words_lead_back::<holdfast_core::key::Custody>();
    words_lead_back::<holdfast_core::lifecycle::KeyState>();
    words_lead_back::<holdfast_core::command::Durability>();
    words_lead_back::<holdfast_core::error::Retry>();
}

/// RFC 4648 §10, then what a lenient decoder would take.
#[test]
fn base64_is_strict() {
    for (text, bytes) in [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYmFy", "foobar")] {
        assert_eq!(read::<Bytes>(&format!("\"{text}\"")), Ok(Bytes(bytes.into())));
        assert_eq!(read::<SecretBytes>(&format!("\"{text}\"")).unwrap().0.expose(), bytes.as_bytes());
        let escaped = text.replace('Z', "\\u005a");
        assert_eq!(read::<SecretBytes>(&format!("\"{escaped}\"")).unwrap().0.expose(), bytes.as_bytes());
    }
    for bad in ["Zg", "Zg=", "Zh==", "Zm9=", "Zm9v=", "Zm 9v", "Zm9v\\n", "-_-_", "Zg==Zg==", "=", "===="] {
        assert_eq!(
            read::<Bytes>(&format!("\"{bad}\"")),
            Err("expected standard base64 with padding".into()),
            "{bad}"
        );
    }
}

#[test]
fn the_largest_input_fits_and_one_byte_more_does_not() {
    use base64::Engine as _;
    let json = |len: usize| format!("\"{}\"", base64::engine::general_purpose::STANDARD.encode(vec![7; len]));
    let max = holdfast_core::operation::MAX_INPUT;
    assert_eq!(read::<SecretBytes>(&json(max)).unwrap().0.len(), max);
    assert!(read::<SecretBytes>(&json(max + 1)).is_err());
    assert!(read::<SecretBytes>(&json(max + 3)).unwrap_err().starts_with("more than"));
}

#[test]
fn credentials_lead_back() {
    for good in ["uri:spiffe://acme/pay", "dns:pay.acme.example", &format!("key:{}", "0a".repeat(32))] {
        let credential = read::<CredentialText>(&format!("\"{good}\"")).unwrap();
        assert_eq!(credential.text(), good);
    }
    for bad in [
        "",
        "uri:",
        "uri:nothing",
        "uri:a: b",
        "dns:",
        "dns:A.example",
        "dns:*.example",
        "dns:a..b",
        "key:",
        "key:00",
        "mail:a@b",
        &format!("key:{}", "0A".repeat(32)),
        &format!("key:{}", "0a".repeat(33)),
    ] {
        assert!(read::<CredentialText>(&format!("\"{bad}\"")).is_err(), "{bad}");
    }
}

#[test]
fn times_that_do_not_exist_are_refused() {
    for bad in [
        "",
        "2026-02-30T00:00:00.000000Z",
        "2026-11-23 19:03:17.000000Z",
        "2026-11-23T24:00:00.000000Z",
        "1969-12-31T23:59:59.000000Z",
        "2026-11-23T19:03:17Z",
        "0000-00-00T00:00:00.000000Z",
    ] {
        assert!(Time::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn maps_refuse_repetition_and_excess() {
    assert!(read::<ContextPairs>(r#"{"a":"1","a":"1"}"#).is_err_and(|text| text == "has a name twice"));
    assert!(read::<LabelMap>(r#"{"a":"1","\u0061":"2"}"#).is_err_and(|text| text == "has a name twice"));
    assert!(read::<ContextPairs>(r#"{"":"1"}"#).is_err());
    assert!(read::<ContextPairs>(r#"{"a":1}"#).is_err());
    let many: Vec<_> = (0..65).map(|n| format!("\"{n}\":\"\"")).collect();
    assert!(
        read::<ContextPairs>(&format!("{{{}}}", many.join(",")))
            .is_err_and(|text| text == "more than 64 pairs")
    );
    assert!(read::<LegacyList>(r#"["sha1-oaep","sha1-oaep"]"#).is_err());
    assert!(read::<LegacyList>(r#"["sha1-oaep","rsa-pkcs1-decrypt"]"#).is_ok());
}

proptest! {
    #[test]
    fn bytes_lead_back(bytes in proptest::collection::vec(any::<u8>(), 0..4000)) {
        let json = serde_json::to_string(&SecretBytes(holdfast_core::Secret::from(&bytes[..]))).unwrap();
        prop_assert_eq!(serde_json::from_str::<Bytes>(&json).unwrap(), Bytes(bytes.clone()));
        prop_assert_eq!(read::<Bytes>(&json), Ok(Bytes(bytes)));
    }

    #[test]
    fn times_lead_back(micros in 0..253_402_300_800_000_000_u64) {
        let time = Time(Timestamp::from_micros(micros));
        prop_assert_eq!(Time::parse(&time.text()), Ok(time));
    }

    #[test]
    fn contexts_lead_back(pairs in proptest::collection::btree_map("\\PC{1,8}", any::<String>(), 0..8)) {
        let pairs = pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        let context = ContextPairs(holdfast_core::context::Context::new(pairs).unwrap());
        prop_assert_eq!(read::<ContextPairs>(&serde_json::to_string(&context).unwrap()), Ok(context));
    }

    #[test]
    fn names_are_those_of_their_grammar(text in "[ -~]{0,6}") {
        let json = serde_json::to_string(&text).unwrap();
        prop_assert_eq!(read::<Name<KeyName>>(&json).is_ok(), text.parse::<KeyName>().is_ok());
    }
}
