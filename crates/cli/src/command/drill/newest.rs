//! Which backup is rehearsed with.

use crate::failure::Failure;
use std::path::{Path, PathBuf};

/// The backup that was named: a file, or the newest one in a directory; those of a gateway's directory where none was.
pub(crate) fn backup(named: Option<PathBuf>, data: Option<&Path>) -> Result<PathBuf, Failure> {
    let place = named.or_else(|| data.map(|data| data.join("backups"))).ok_or_else(|| {
        Failure::usage("no backup is named")
            .remedy("name the file, or the directory of the backups, with `--backup`")
    })?;
    if !place.is_dir() {
        return Ok(place);
    }
    let failed = |error: std::io::Error| Failure::file("read", &place, &error);
    let mut newest: Option<(String, PathBuf)> = None;
    for entry in std::fs::read_dir(&place).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let Some(time) = path.file_name().and_then(|name| taken(name.to_str()?)) else { continue };
        if newest.as_ref().is_none_or(|(newest, _)| time > *newest) {
            newest = Some((time, path));
        }
    }
    newest.map(|(_, path)| path).ok_or_else(|| {
        Failure::usage(format!("there is no backup in `{}`", place.display()))
            .remedy("name another directory with `--backup`, or take one with `holdfast backup`")
    })
}

/// The time in a backup's name, in letters that are ordered as times are. A restored gateway goes on under another instance.
fn taken(name: &str) -> Option<String> {
    let name = name.strip_prefix("holdfast-")?;
    let (_, time) = name.strip_suffix(".tar").or_else(|| name.strip_suffix(".age"))?.rsplit_once('-')?;
    Some(time.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_counts_whichever_instance_wrote_it() {
        let dir = tempfile::TempDir::new().unwrap();
        for name in [
            "holdfast-01ZZZZ-20261124T061443.123456Z.age",
            "holdfast-01AAAA-20261124T061444.000000Z.tar",
            ".holdfast-01AAAA-20261125T061444.000000Z.age.partial",
            "other-20271124T061444.000000Z.age",
        ] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let found = backup(Some(dir.path().to_path_buf()), None).unwrap();
        assert!(found.ends_with("holdfast-01AAAA-20261124T061444.000000Z.tar"), "{}", found.display());
        assert!(backup(None, None).is_err());
        assert!(
            backup(None, Some(dir.path())).is_ok_and(|path| path.ends_with("backups")),
            "told when it is read"
        );
    }
}
