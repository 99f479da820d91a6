//! Where this machine has Debian's packages from, so that others of them come from there too.

use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};

/// An archive of Debian's, as apt's configuration names it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Archive {
    uri: String,
    /// By which keys it is trusted: the field's value, with what continues it.
    signed_by: Option<String>,
}

impl Archive {
    /// The one that this machine's own release comes from.
    ///
    /// # Errors
    /// It is not Debian, or apt knows of none.
    pub(crate) fn of_this_machine() -> Result<Self> {
        let release =
            fs::read_to_string("/etc/os-release").context("this machine does not say what it is")?;
        let field = |name: &str| {
            let value = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            value.map(|value| value.trim_matches('"').to_owned())
        };
        ensure!(field("ID").as_deref() == Some("debian"), "this machine is not Debian");
        let codename = field("VERSION_CODENAME").unwrap_or_default();
        let parts = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = parts.map(|entry| entry.path()).collect();
        files.sort();
        files.push(PathBuf::from("/etc/apt/sources.list"));
        let found = files.iter().find_map(|file| Self::in_file(file, &codename));
        found.with_context(|| format!("apt's sources do not have Debian's {codename}, component main"))
    }

    fn in_file(file: &Path, codename: &str) -> Option<Self> {
        let text = fs::read_to_string(file).ok()?;
        match file.extension()?.to_str()? {
            "sources" => text.split("\n\n").find_map(|stanza| Self::in_stanza(stanza, codename)),
            "list" => text.lines().find_map(|line| Self::in_line(line, codename)),
            _ => None,
        }
    }

    /// A stanza of deb822.
    fn in_stanza(stanza: &str, codename: &str) -> Option<Self> {
        let field = |wanted: &str| {
            let mut lines = stanza.lines().filter(|line| !line.starts_with('#')).skip_while(|line| {
                !line.split_once(':').is_some_and(|(name, _)| name.eq_ignore_ascii_case(wanted))
            });
            let first = lines.next()?.split_once(':')?.1.trim().to_owned();
            let more = lines.take_while(|line| line.starts_with([' ', '\t']));
            Some(more.fold(first, |value, line| format!("{value}\n{line}")))
        };
        let has = |name: &str, wanted: &[&str]| {
            field(name).is_some_and(|value| value.split_whitespace().any(|word| wanted.contains(&word)))
        };
        let is_off = field("Enabled").is_some_and(|value| value.eq_ignore_ascii_case("no"));
        let is_it = !is_off
            && has("Types", &["deb"])
            && has("Suites", &suites(codename))
            && has("Components", &["main"]);
        let uri = field("URIs")?.split_whitespace().next()?.to_owned();
        is_it.then(|| Self { uri, signed_by: field("Signed-By") })
    }

    /// A line of the older form: `deb [option=value …] URI suite component …`.
    fn in_line(line: &str, codename: &str) -> Option<Self> {
        let rest = line.trim().strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
        let (options, rest) =
            rest.strip_prefix('[').and_then(|rest| rest.split_once(']')).unwrap_or(("", rest));
        let mut words = rest.split_whitespace();
        let (uri, suite) = (words.next()?, words.next()?);
        let signed_by = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
        let is_it = suites(codename).contains(&suite) && words.any(|component| component == "main");
        is_it.then(|| Self { uri: uri.to_owned(), signed_by: signed_by.map(|keys| keys.replace(',', " ")) })
    }

    /// The same archive's main part of another suite, for apt.
    pub(crate) fn stanza(&self, suite: &str) -> String {
        let keys = self.signed_by.as_ref().map(|keys| format!("Signed-By: {keys}\n")).unwrap_or_default();
        format!("Types: deb\nURIs: {}\nSuites: {suite}\nComponents: main\n{keys}", self.uri)
    }
}

/// What the machine's own release may be called.
fn suites(codename: &str) -> [&str; 6] {
    [codename, "stable", "oldstable", "testing", "unstable", "sid"]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(uri: &str, signed_by: Option<&str>) -> Option<Archive> {
        Some(Archive { uri: uri.to_owned(), signed_by: signed_by.map(str::to_owned) })
    }

    #[test]
    fn a_stanza_is_taken_for_its_release_and_keeps_its_keys() {
        let stanza = "Types: deb deb-src\n# URIs: http://other.example/\nURIs: http://mirror.example/debian http://second.example/debian\nSuites: bookworm bookworm-updates\nComponents: main contrib\nSigned-By: /keys.gpg";
        let found = Archive::in_stanza(stanza, "bookworm");
        assert_eq!(found, archive("http://mirror.example/debian", Some("/keys.gpg")));
        assert_eq!(
            found.unwrap().stanza("sid"),
            "Types: deb\nURIs: http://mirror.example/debian\nSuites: sid\nComponents: main\nSigned-By: /keys.gpg\n"
        );
        for (from, to) in [
            ("bookworm bookworm-updates", "bookworm-security"),
            ("main contrib", "contrib"),
            ("deb deb-src", "deb-src"),
            ("Types", "Enabled: no\nTypes"),
        ] {
            assert_eq!(Archive::in_stanza(&stanza.replace(from, to), "bookworm"), None, "{to}");
        }
    }

    #[test]
    fn keys_in_a_stanza_are_kept_whole() {
        let keys = "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQ==\n -----END PGP PUBLIC KEY BLOCK-----";
        let stanza =
            format!("Types: deb\nSigned-By:{keys}\nURIs: http://a.example\nSuites: trixie\nComponents: main");
        assert_eq!(Archive::in_stanza(&stanza, "trixie"), archive("http://a.example", Some(keys)));
    }

    #[test]
    fn a_line_is_taken_for_its_release_and_keeps_its_keys() {
        let of = |line: &str| Archive::in_line(line, "bookworm");
        assert_eq!(
            of("deb [arch=amd64 signed-by=/a.gpg,/b.gpg] http://mirror.example/debian bookworm main"),
            archive("http://mirror.example/debian", Some("/a.gpg /b.gpg"))
        );
        assert_eq!(
            of("deb http://mirror.example bookworm contrib main"),
            archive("http://mirror.example", None)
        );
        for other in [
            "deb http://mirror.example bookworm-security main",
            "deb http://mirror.example bookworm contrib",
            "deb-src http://mirror.example bookworm main",
            "# deb http://mirror.example bookworm main",
            "deb",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
