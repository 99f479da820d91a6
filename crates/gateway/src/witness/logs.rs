//! Which logs a witness cosigns: verifier keys from the command line, and from a file with one a line.

use crate::fault::Fault;
use holdfast_audit::key::{KeyKind, VerifierKey};
use std::path::Path;

/// Joins both; a log that is named twice is one.
pub(super) fn gather(given: &[String], file: Option<&Path>) -> Result<Vec<VerifierKey>, Fault> {
    let mut keys = Vec::new();
    for line in given {
        keys.push(key(line)?);
    }
    if let Some(path) = file {
        let text = std::fs::read_to_string(path).map_err(|error| Fault::io("cannot read", path, error))?;
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let refused = |fault: Fault| {
                Fault::new(format!("line {number} of `{}` is refused: {fault}", path.display()))
                    .remedy("a line is empty, a comment behind `#`, or the one line of a log's `log.vkey`")
            };
            keys.push(key(line).map_err(refused)?);
        }
    }
    let mut once: Vec<VerifierKey> = Vec::with_capacity(keys.len());
    for key in keys {
        if !once.contains(&key) {
            once.push(key);
        }
    }
    Ok(once)
}

fn key(line: &str) -> Result<VerifierKey, Fault> {
    let key: VerifierKey = line.parse().map_err(|error: holdfast_audit::key::KeyError| {
        Fault::new(error.to_string()).remedy("give the one line of the log's `log.vkey`")
    })?;
    match key.kind() {
        KeyKind::Note => Ok(key),
        KeyKind::Cosignature => Err(Fault::new(format!("`{}` is a witness, not a log", key.name()))
            .remedy("give the one line of the log's `log.vkey`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "audit.example.org/tenant-a+83328a8d+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c";
    const WITNESS: &str = "witness.example.org/w1+6d7ef907+BIE5dw6ofRdfVqNUZsNMfszLjYqRtO43ol32D1uPybOU";

    #[test]
    fn a_list_of_logs_is_read_strictly() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("logs");
        std::fs::write(&file, format!("# tenants\n\n{LOG}\n  {LOG}\n")).unwrap();
        assert_eq!(gather(&[LOG.to_owned()], Some(&file)).unwrap().len(), 1);
        std::fs::write(&file, format!("{LOG}\n{WITNESS}\n")).unwrap();
        let fault = gather(&[], Some(&file)).unwrap_err();
        assert!(fault.to_string().contains("line 2") && fault.to_string().contains("not a log"), "{fault}");
        assert!(gather(&["nonsense".to_owned()], None).is_err());
        assert!(gather(&[], Some(&dir.path().join("none"))).is_err());
    }
}
