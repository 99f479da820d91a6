//! Issuers of tokens: their keys and what they sign, by PyJWT, and how a gateway believes them.

use super::softhsm::start;
use super::{Dev, stderr, text};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// What each script begins with: the key of all issuers, its public half in a file, and how a token is written into one. A claim that is `None` is left out.
const BEGIN: &str = r#"
import json, sys, time, jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
def new_key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)
key = new_key()
public = dict(json.loads(RSAAlgorithm.to_jwk(key.public_key())), kid="one", use="sig")
open("keys.json", "w").write(json.dumps({"keys": [public]}))
now = int(time.time())
def write(name, claims, key=key, algorithm="RS256", before=""):
    claims = {name: claim for name, claim in claims.items() if claim is not None}
    open(name, "w").write(before + jwt.encode(claims, key, algorithm=algorithm, headers={"kid": "one"}))
"#;

/// Has a script write tokens into a directory, as each script begins.
fn write(directory: &Path, script: &str) {
    let script = format!("{BEGIN}{script}");
    let made =
        Command::new("/usr/bin/python3").args(["-c", &script]).current_dir(directory).output().unwrap();
    assert!(made.status.success(), "{}", stderr(&made));
}

/// What makes a gateway believe issuers, whose keys are in this file.
pub fn believed<'a>(issuers: impl IntoIterator<Item = &'a str>, keys: &Path) -> String {
    let keys = text(keys);
    let table = |issuer| format!("[[issuer]]\nissuer = \"{issuer}\"\nkeys_file = \"{keys}\"\n\n");
    issuers.into_iter().map(table).collect()
}

/// A dev gateway that believes these issuers, with the tokens that the script writes beside its configuration.
pub fn gateway<'a>(issuers: impl IntoIterator<Item = &'a str>, script: &str, settings: &str) -> Dev {
    let directory = TempDir::new().unwrap();
    write(directory.path(), script);
    let issuers = believed(issuers, &directory.path().join("keys.json"));
    start(directory, &format!("{settings}{issuers}"))
}
