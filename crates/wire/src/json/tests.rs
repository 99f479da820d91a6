//! The reader against published grammar and against serde_json.

use super::*;
use proptest::prelude::*;
use serde_json::Value;

fn skips(bytes: &[u8]) -> bool {
    Reader::new(bytes).and_then(|mut reader| reader.skip().map(drop).and_then(|()| reader.finish())).is_ok()
}

fn text(document: &str) -> Option<String> {
    let mut reader = Reader::of(document);
    let text = reader.text().ok()?.to_string();
    reader.finish().ok().map(|()| text)
}

#[test]
fn refuses_what_is_no_json() {
    for bad in [
        "",
        " ",
        "nul",
        "nulls",
        "tru",
        "NaN",
        "Infinity",
        "+1",
        "01",
        "-",
        "1.",
        ".1",
        "1e",
        "1e+",
        "0x1",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1",
        "{\"a\":1,}",
        "{\"a\"}",
        "{a:1}",
        "{\"a\":1",
        "{1:1}",
        "\"a",
        "\"\t\"",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\u0041\"",
        "\"\\ud800\\ue000\"",
        "1 1",
        "{} x",
        "\"\\\"",
        "'a'",
        "[1]]",
        "\u{feff}1",
    ] {
        assert!(!skips(bad.as_bytes()), "{bad}");
        assert!(serde_json::from_str::<Value>(bad).is_err(), "{bad}");
    }
    assert!(!skips(b"\"\xff\""));
}

#[test]
fn depth_is_bounded() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(skips(nested(MAX_DEPTH).as_bytes()));
    assert!(!skips(nested(MAX_DEPTH + 1).as_bytes()));
    assert!(!skips("[".repeat(1 << 20).as_bytes()));
}

#[test]
fn whole_numbers_only() {
    let integer = |text| Reader::of(text).integer();
    assert_eq!(integer("18446744073709551615"), Ok(u64::MAX));
    assert_eq!(integer(" 0"), Ok(0));
    for bad in ["18446744073709551616", "-1", "1.0", "1e3", "\"1\"", "true", "null", "00", "1a", ""] {
        assert!(integer(bad).is_err(), "{bad}");
    }
}

#[test]
fn long_text_is_found_to_its_end() {
    for len in 0..100 {
        let plain = "é".repeat(len);
        assert_eq!(text(&format!("\"{plain}\"")), Some(plain.clone()));
        assert_eq!(text(&format!("\"{plain}\\/{plain}\"")), Some(format!("{plain}/{plain}")));
    }
}

#[test]
fn a_fault_names_its_field() {
    let fault = Fault::malformed("expected text").within("kind").within("[2]").within("callers");
    assert_eq!(fault.into_error().to_string(), "`callers[2].kind`: expected text");
}

proptest! {
    #[test]
    fn agrees_with_serde_json_about_text(text_in: String) {
        let document = serde_json::to_string(&text_in).unwrap();
        prop_assert_eq!(text(&document), Some(text_in.clone()));
        let escaped: String = text_in.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        prop_assert_eq!(text(&format!("\"{escaped}\"")), Some(text_in));
    }

    #[test]
    fn agrees_with_serde_json_about_what_is_json(document in r#"[\[\]{}:,"\\a-u0-9.eE+ \-]{0,24}"#) {
        // A number beyond an f64's range is JSON to us and none to serde_json.
        prop_assume!(!document.contains(['e', 'E']));
        prop_assert_eq!(skips(document.as_bytes()), serde_json::from_str::<Value>(&document).is_ok(), "{}", document);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        skips(&bytes);
    }
}
