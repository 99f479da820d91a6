//! What a SecretProviderClass says is to be opened: `objects`, a JSON list.

use super::{Failed, Reason};
use crate::json::{Fault, Read, Reader};
use crate::native::field::{Bytes, ContextPairs, Name};
use aws_lc_rs::digest::{SHA256, digest};
use holdfast_core::KeyName;
use holdfast_core::context::Context;
use std::collections::BTreeSet;

/// The most objects of a volume.
pub const MAX_OBJECTS: usize = 64;
/// The largest mode of a file: permission bits alone.
pub(super) const MAX_MODE: u32 = 0o777;
/// The longest path, and the longest part of one.
const MAX_PATH: usize = 4096;
const MAX_PART: usize = 255;
/// The longest name.
const MAX_NAME: usize = 255;

/// How something was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// By `holdfast encrypt --raw`.
    Encrypted,
    /// By `holdfast wrap`.
    Wrapped,
}

/// Something sealed that becomes a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedObject {
    /// What it is called.
    pub name: String,
    /// The file, relative to the volume.
    pub path: String,
    /// Its permission bits.
    pub mode: u32,
    /// What opens it.
    pub key: KeyName,
    /// What it is bound to.
    pub context: Context,
    /// How it was sealed.
    pub form: Form,
    /// What is sealed.
    pub ciphertext: Vec<u8>,
}

impl SealedObject {
    /// Which version of it this is: another one as soon as anything else is sealed or bound. Nothing of the plaintext stands in it.
    pub fn version(&self) -> String {
        let mut all = self.key.to_string().into_bytes();
        for (name, value) in self.context.pairs() {
            all.push(0);
            all.extend_from_slice(name.as_bytes());
            all.push(0);
            all.extend_from_slice(value.as_bytes());
        }
        all.push(0);
        all.extend_from_slice(&self.ciphertext);
        digest(&SHA256, &all).as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Reads them; their files have this mode unless they say.
pub(super) fn objects(json: &str, mode: u32) -> Result<Vec<SealedObject>, Failed> {
    let refused = |words: String| Failed::new(Reason::InvalidObjects, format!("`objects`: {words}"));
    let mut found = vec![];
    let read = Reader::new(json.as_bytes()).and_then(|mut reader| {
        reader.array(|reader, index| {
            if index == MAX_OBJECTS {
                return Err(Fault::too_large(format!("more than {MAX_OBJECTS}")));
            }
            found.push(object(reader, mode)?);
            Ok(())
        })?;
        reader.finish()
    });
    read.map_err(|fault| refused(fault.into_error().detail().to_owned()))?;
    if found.is_empty() {
        return Err(refused("there are none".to_owned()));
    }
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for SealedObject { name, path, .. } in &found {
        if !names.insert(name.as_str()) || !paths.insert(path.as_str()) {
            return Err(refused(format!("`{name}` or its path stands there twice")));
        }
    }
    for path in &paths {
        let is_below = |(at, _): (usize, &str)| path.get(..at).is_some_and(|above| paths.contains(above));
        if path.match_indices('/').any(is_below) {
            return Err(refused(format!("`{path}` is below another file")));
        }
    }
    Ok(found)
}

fn object(reader: &mut Reader<'_>, mode: u32) -> Result<SealedObject, Fault> {
    const KNOWN: &[&str] = &["name", "path", "mode", "key", "context", "ciphertext", "wrapped"];
    let (mut name, mut path, mut own_mode) = (None, None, None);
    let (mut key, mut context) = (None::<Name<KeyName>>, None::<ContextPairs>);
    let (mut ciphertext, mut wrapped) = (None::<Bytes>, None::<Bytes>);
    reader.object(|reader, field| match field {
        "name" => reader.field("name", &mut name),
        "path" => reader.field("path", &mut path),
        "mode" => reader.field("mode", &mut own_mode),
        "key" => reader.field("key", &mut key),
        "context" => reader.field("context", &mut context),
        "ciphertext" => reader.field("ciphertext", &mut ciphertext),
        "wrapped" => reader.field("wrapped", &mut wrapped),
        _ => Err(Fault::unknown(field, KNOWN)),
    })?;
    let missing = |field: &str| Fault::malformed("is missing").within(field);
    let ObjectName(name) = name.ok_or_else(|| missing("name"))?;
    let path = match path {
        Some(FilePath(path)) => path,
        None if is_path(&name) => name.clone(),
        None => return Err(Fault::malformed("is missing, and the name is no path of a file").within("path")),
    };
    let (form, Bytes(ciphertext)) = match (ciphertext, wrapped) {
        (Some(bytes), None) => (Form::Encrypted, bytes),
        (None, Some(bytes)) => (Form::Wrapped, bytes),
        (_, _) => return Err(Fault::malformed("give it, or `wrapped` instead").within("ciphertext")),
    };
    Ok(SealedObject {
        name,
        path,
        mode: own_mode.map_or(mode, |FileMode(mode)| mode),
        key: key.ok_or_else(|| missing("key"))?.0,
        context: context.unwrap_or_default().0,
        form,
        ciphertext,
    })
}

struct ObjectName(String);
struct FilePath(String);
struct FileMode(u32);

impl Read for ObjectName {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let text = reader.text()?;
        let is_name = (1..=MAX_NAME).contains(&text.len()) && !text.chars().any(char::is_control);
        is_name.then(|| Self(text.to_owned())).ok_or_else(|| Fault::malformed("expected 1 to 255 bytes"))
    }
}

impl Read for FilePath {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let text = reader.text()?;
        let path = is_path(&text).then(|| Self(text.to_owned()));
        path.ok_or_else(|| Fault::malformed("expected a relative path, clean and without `..`"))
    }
}

impl Read for FileMode {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let text = reader.text()?;
        let digits = (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
        let mode = digits.then(|| u32::from_str_radix(&text, 8).ok()).flatten();
        mode.filter(|mode| *mode <= MAX_MODE)
            .map(Self)
            .ok_or_else(|| Fault::malformed("expected permission bits in octal, such as `0400`"))
    }
}

/// A path that the driver takes: relative, clean, and nothing that could be its own, such as `..data`.
fn is_path(text: &str) -> bool {
    let is_part = |part: &str| (1..=MAX_PART).contains(&part.len()) && part != "." && !part.starts_with("..");
    text.len() <= MAX_PATH
        && !text.chars().any(|c| c.is_control() || c == '\\')
        && text.split('/').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Vec<SealedObject>, Failed> {
        objects(json, 0o640)
    }

    fn with(change: &str) -> String {
        format!(r#"[{{"name":"db","key":"payroll",{change}}}]"#)
    }

    #[test]
    fn an_object_says_its_file_and_how_it_was_sealed() {
        let full = r#"[{"name":"db","path":"a/b","mode":"0400","key":"payroll","context":{"purpose":"x"},"wrapped":"AAE="},
            {"name":"c.pem","key":"k","ciphertext":"AA=="}]"#;
        let found = read(full).unwrap();
        assert_eq!((&*found[0].path, found[0].mode, found[0].form), ("a/b", 0o400, Form::Wrapped));
        assert_eq!((&*found[1].path, found[1].mode, found[1].form), ("c.pem", 0o640, Form::Encrypted));
        assert_eq!(found[0].context.pairs().collect::<Vec<_>>(), [("purpose", "x")]);
        let other = read(&full.replace("AAE=", "AAI=")).unwrap();
        assert_ne!(found[0].version(), other[0].version());
        assert_eq!(found[1].version(), other[1].version());
        let bound = read(&full.replace("\"x\"", "\"y\"")).unwrap();
        assert_ne!(found[0].version(), bound[0].version());
    }

    #[test]
    fn what_cannot_be_a_file_or_a_ciphertext_is_refused() {
        for path in
            ["", "/a", "../a", "a/../b", "a//b", "./a", "a/", "..data", "a/..b", "a\\\\b", "a\\u0000b"]
        {
            let text = with(&format!(r#""ciphertext":"AA==","path":"{path}""#));
            assert_eq!(read(&text).unwrap_err().reason, Reason::InvalidObjects, "{path}");
        }
        let long = with(&format!(r#""ciphertext":"AA==","path":"{}""#, "x".repeat(256)));
        assert!(read(&long).is_err());
        for bad in [
            with(r#""ciphertext":"AA==","mode":"1777""#),
            with(r#""ciphertext":"AA==","mode":"99""#),
            with(r#""ciphertext":"AA==","wrapped":"AA==""#),
            with(r#""ciphertext":"A""#),
            with(r#""key":"payroll","ciphertext":"AA==""#),
            with(r#""ciphertext":"AA==","else":1"#),
            r#"[{"name":"db","ciphertext":"AA=="}]"#.into(),
            r#"[{"name":"a/../b","key":"k","ciphertext":"AA=="}]"#.into(),
            "[]".into(),
            "{}".into(),
            "- name: db".into(),
        ] {
            assert_eq!(read(&bad).unwrap_err().reason, Reason::InvalidObjects, "{bad}");
        }
        let two = |one: &str, other: &str| {
            let of = |name: &str, path: &str| {
                format!(r#"{{"name":"{name}","path":"{path}","key":"k","ciphertext":"AA=="}}"#)
            };
            read(&format!("[{},{}]", of("x", one), of("y", other))).is_ok()
        };
        assert!(two("a/b", "a/c") && two("ab", "a"));
        assert!(!two("a", "a") && !two("a", "a/b") && !two("a/b/c", "a"));
        let many = vec![r#"{"name":"a","key":"k","ciphertext":"AA=="}"#; MAX_OBJECTS + 1].join(",");
        assert!(read(&format!("[{many}]")).unwrap_err().words.contains("more than 64"));
    }
}
