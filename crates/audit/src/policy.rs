//! Who is believed: the logs, and which of their witnesses must have cosigned (C2SP tlog-policy).

use crate::key::{KeyKind, VerifierKey};
use crate::text;
use std::collections::{HashMap, HashSet};

/// Largest policy that is read, in bytes.
pub const MAX_POLICY: usize = 256 * 1024;

/// The logs that are believed, the witnesses that are known, and the quorum of them without which no checkpoint is.
///
/// The default believes any log and asks for nobody's word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<VerifierKey>,
    /// Witnesses and groups in the order of their lines: a group names only what stands before it.
    parties: Vec<Party>,
    /// Which of them must have cosigned; none: nobody has to.
    quorum: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Party {
    Witness(VerifierKey),
    /// Cosigns if so many of these do.
    Group {
        threshold: usize,
        members: Vec<usize>,
    },
}

/// Why a policy was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct PolicyError {
    /// The line, from 1 on.
    pub line: usize,
    /// What is wrong, and what to do next.
    pub problem: String,
}

impl Policy {
    /// Any log, cosigned by each of these witnesses; by nobody if there are none.
    #[must_use]
    pub fn each_of(witnesses: Vec<VerifierKey>) -> Self {
        let mut parties: Vec<_> = witnesses.into_iter().map(Party::Witness).collect();
        let members: Vec<_> = (0..parties.len()).collect();
        let quorum = (!members.is_empty()).then_some(members.len());
        parties.push(Party::Group { threshold: members.len(), members });
        Self { logs: Vec::new(), parties, quorum }
    }

    /// Reads the text form strictly.
    ///
    /// # Errors
    /// A [`PolicyError`], which names the first line that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        const SMALLER: &str = "name fewer logs and witnesses";
        if bytes.len() > MAX_POLICY {
            return Err(refused(1, "the policy is larger than 256 KiB", SMALLER));
        }
        let mut reader = Reader::default();
        let mut last = 0;
        for (line, text) in (1..).zip(bytes.split_inclusive(|byte| *byte == b'\n')) {
            const END: &str = "end it with a newline, in case the file was cut short";
            let text =
                text.strip_suffix(b"\n").ok_or_else(|| refused(line, "the last line does not end", END))?;
            reader.line(line, text)?;
            last = line;
        }
        const QUORUM: &str = "end with `quorum NAME`, or `quorum none` to ask for no witness";
        match reader.quorum {
            Some(quorum) => Ok(Self { logs: reader.logs, parties: reader.parties, quorum }),
            None => Err(refused(last + 1, "the policy has no quorum", QUORUM)),
        }
    }

    /// The logs that are believed; if there are none, which one is known otherwise.
    #[must_use]
    pub fn logs(&self) -> &[VerifierKey] {
        &self.logs
    }

    /// The witnesses that are known, in order. Not all have to be in the quorum.
    pub fn witnesses(&self) -> impl Iterator<Item = &VerifierKey> {
        self.parties.iter().filter_map(|party| match party {
            Party::Witness(key) => Some(key),
            Party::Group { .. } => None,
        })
    }

    /// Whether anybody has to cosign.
    #[must_use]
    pub fn has_quorum(&self) -> bool {
        self.quorum.is_some()
    }

    /// Whether it is enough that these have cosigned.
    #[must_use]
    pub fn is_met(&self, has_cosigned: impl Fn(&VerifierKey) -> bool) -> bool {
        let mut met = Vec::with_capacity(self.parties.len());
        for party in &self.parties {
            met.push(match party {
                Party::Witness(key) => has_cosigned(key),
                Party::Group { threshold, members } => {
                    members.iter().filter(|member| met.get(**member) == Some(&true)).count() >= *threshold
                }
            });
        }
        self.quorum.is_none_or(|quorum| met.get(quorum) == Some(&true))
    }
}

fn refused(line: usize, problem: impl std::fmt::Display, remedy: &str) -> PolicyError {
    PolicyError { line, problem: format!("{problem}; {remedy}") }
}

/// Names are bytes to the format; for people they are text.
fn shown(name: &[u8]) -> String {
    name.escape_ascii().to_string()
}

/// What the lines so far have said.
#[derive(Default)]
struct Reader<'a> {
    logs: Vec<VerifierKey>,
    parties: Vec<Party>,
    names: HashMap<&'a [u8], usize>,
    /// Those that a group has already.
    members: HashSet<usize>,
    /// The line's own answer: which party, or nobody.
    quorum: Option<Option<usize>>,
}

impl<'a> Reader<'a> {
    fn line(&mut self, line: usize, text: &'a [u8]) -> Result<(), PolicyError> {
        const PLAIN: &str = "use spaces and tabs only, and newlines as on Unix";
        if text.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return Err(refused(line, "it holds a control character", PLAIN));
        }
        let mut items = text.split(|byte| matches!(byte, b' ' | b'\t')).filter(|item| !item.is_empty());
        let Some(word) = items.next().filter(|word| !word.starts_with(b"#")) else { return Ok(()) };
        let rest: Vec<_> = items.collect();
        match (word, rest.as_slice()) {
            (b"log", [key] | [key, _]) => self.log(line, key),
            (b"witness", [name, key] | [name, key, _]) => self.witness(line, name, key),
            (b"group", [name, threshold, members @ ..]) if !members.is_empty() => {
                self.group(line, name, threshold, members)
            }
            (b"quorum", [name]) => self.quorum(line, name),
            (b"log", _) => Err(refused(line, "a log has a key, and perhaps a URL", "write `log VKEY [URL]`")),
            (b"witness", _) => {
                const FORM: &str = "write `witness NAME VKEY [URL]`";
                Err(refused(line, "a witness has a name and a key, and perhaps a URL", FORM))
            }
            (b"group", _) => {
                const FORM: &str = "write `group NAME all|any|K MEMBER…`";
                Err(refused(line, "a group has a name, a threshold and members", FORM))
            }
            (b"quorum", _) => {
                Err(refused(line, "a quorum is one name", "write `quorum NAME` or `quorum none`"))
            }
            (word, _) => {
                const WORDS: &str = "begin a line with `log`, `witness`, `group`, `quorum` or `#`";
                Err(refused(line, format!("`{}` is no word of a policy", shown(word)), WORDS))
            }
        }
    }

    fn log(&mut self, line: usize, text: &[u8]) -> Result<(), PolicyError> {
        const ONCE: &str = "name each log once";
        let key = key(line, text, KeyKind::Note)?;
        if self.logs.iter().any(|known| known.is_same_key(&key)) {
            return Err(refused(line, "another log has this key already", ONCE));
        }
        self.logs.push(key);
        Ok(())
    }

    fn witness(&mut self, line: usize, name: &'a [u8], text: &[u8]) -> Result<(), PolicyError> {
        const ONCE: &str = "name each witness once: it counts once";
        let key = key(line, text, KeyKind::Cosignature)?;
        let is_known = |party: &Party| match party {
            Party::Witness(known) => known.is_same_key(&key),
            Party::Group { .. } => false,
        };
        if self.parties.iter().any(is_known) {
            return Err(refused(line, "another witness has this key already", ONCE));
        }
        self.define(line, name, Party::Witness(key))
    }

    fn group(&mut self, line: usize, name: &'a [u8], k: &[u8], names: &[&[u8]]) -> Result<(), PolicyError> {
        const ONCE: &str = "name each member in one group only, and once: it counts once";
        const BETWEEN: &str = "write `all`, `any`, or a number from 1 to that of the members";
        let mut members = Vec::with_capacity(names.len());
        for member in names {
            let member_id = self.defined(line, member)?;
            if !self.members.insert(member_id) {
                return Err(refused(
                    line,
                    format!("`{}` is a member of a group already", shown(member)),
                    ONCE,
                ));
            }
            members.push(member_id);
        }
        let threshold = match k {
            b"all" => Some(members.len()),
            b"any" => Some(1),
            k => std::str::from_utf8(k).ok().and_then(text::decimal).and_then(|k| usize::try_from(k).ok()),
        };
        let Some(threshold) = threshold.filter(|k| (1..=members.len()).contains(k)) else {
            let problem = format!("`{}` is no threshold for {} members", shown(k), members.len());
            return Err(refused(line, problem, BETWEEN));
        };
        self.define(line, name, Party::Group { threshold, members })
    }

    fn quorum(&mut self, line: usize, name: &[u8]) -> Result<(), PolicyError> {
        if self.quorum.is_some() {
            return Err(refused(line, "the policy has a quorum already", "keep one `quorum` line"));
        }
        self.quorum = Some(if name == b"none" { None } else { Some(self.defined(line, name)?) });
        Ok(())
    }

    fn define(&mut self, line: usize, name: &'a [u8], party: Party) -> Result<(), PolicyError> {
        const OTHER: &str =
            "give it another name: witnesses and groups share their names, and `none` is taken";
        if name == b"none" || self.names.insert(name, self.parties.len()).is_some() {
            return Err(refused(line, format!("the name `{}` is taken", shown(name)), OTHER));
        }
        self.parties.push(party);
        Ok(())
    }

    fn defined(&self, line: usize, name: &[u8]) -> Result<usize, PolicyError> {
        const BEFORE: &str = "define it on a line before this one";
        let known = self.names.get(name).copied();
        known.ok_or_else(|| refused(line, format!("no witness or group is called `{}`", shown(name)), BEFORE))
    }
}

/// A key that does what is asked of it.
fn key(line: usize, text: &[u8], kind: KeyKind) -> Result<VerifierKey, PolicyError> {
    const COPY: &str = "copy the whole key from whoever has it";
    const LOG: &str = "give the line of `log.vkey`";
    const WITNESS: &str = "give the line that `holdfast witness init` printed";
    let text = std::str::from_utf8(text).map_err(|_| refused(line, "the key is not UTF-8", COPY))?;
    let key =
        text.parse::<VerifierKey>().map_err(|error| PolicyError { line, problem: error.to_string() })?;
    match (kind, key.kind()) {
        (KeyKind::Note, KeyKind::Note) | (KeyKind::Cosignature, KeyKind::Cosignature) => Ok(key),
        (KeyKind::Note, KeyKind::Cosignature) => {
            Err(refused(line, format!("`{}` is a witness's key, not a log's", key.name()), LOG))
        }
        (KeyKind::Cosignature, KeyKind::Note) => {
            Err(refused(line, format!("`{}` is a log's key, not a witness's", key.name()), WITNESS))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Signer;
    use proptest::prelude::*;
    use zeroize::Zeroizing;

    fn witness_key(seed: u8) -> VerifierKey {
        let signer = Signer::cosigner_from_seed(&format!("w.example/{seed}"), &Zeroizing::new([seed; 32]));
        signer.unwrap().verifier().clone()
    }

    fn log_key(seed: u8) -> VerifierKey {
        let signer = Signer::from_seed(&format!("log.example/{seed}"), &Zeroizing::new([seed; 32]));
        signer.unwrap().verifier().clone()
    }

    /// The same key under another name.
    fn renamed(key: &VerifierKey) -> VerifierKey {
        let line = key.to_string();
        let bytes = text::from_base64(line.splitn(3, '+').last().unwrap()).unwrap();
        VerifierKey::new("another", key.kind(), bytes[1..].try_into().unwrap()).unwrap()
    }

    /// The example of C2SP tlog-policy, with keys in it.
    fn example() -> String {
        let [log, x1, x2, x3, y1, y2, y3] = [
            log_key(1),
            witness_key(1),
            witness_key(2),
            witness_key(3),
            witness_key(4),
            witness_key(5),
            witness_key(6),
        ];
        format!(
            "log {log}\n\nwitness X1 {x1}\nwitness X2 {x2}\nwitness X3 {x3}\ngroup X-witnesses 2 X1 X2 X3\n\n\
             witness Y1 {y1}\nwitness Y2 {y2}\nwitness Y3 {y3}\ngroup Y-witnesses any Y1 Y2 Y3\n\n\
             group X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y\n"
        )
    }

    #[test]
    fn the_standard_s_example_asks_for_two_of_one_and_one_of_another() {
        let policy = Policy::parse(example().as_bytes()).unwrap();
        assert_eq!(policy.logs(), [log_key(1)]);
        let known: Vec<_> = policy.witnesses().cloned().collect();
        assert_eq!(known, (1..=6).map(witness_key).collect::<Vec<_>>());
        for subset in 0_u8..64 {
            let cosigned = |key: &VerifierKey| {
                known.iter().position(|known| known == key).is_some_and(|at| subset >> at & 1 == 1)
            };
            let enough = (subset & 0b111).count_ones() >= 2 && subset >> 3 != 0;
            assert_eq!(policy.is_met(cosigned), enough, "{subset:06b}");
        }
    }

    #[test]
    fn what_the_standard_allows_is_read() {
        let key = witness_key(1);
        let log = log_key(1);
        let spaced = format!(
            "# a comment, na\u{ef}ve\n \t# another\n\t\n\tlog\t{log}  https://log.example/ \nlog {}\n\
             witness K {key} https://w.example\nwitness \u{212a} {}\ngroup G 1 K\nquorum \u{212a}\nwitness late {}\n",
            log_key(2),
            witness_key(2),
            witness_key(3),
        );
        let policy = Policy::parse(spaced.as_bytes()).unwrap();
        assert_eq!((policy.logs().len(), policy.witnesses().count()), (2, 3));
        assert!(policy.is_met(|key| *key == witness_key(2)) && !policy.is_met(|key| *key == witness_key(1)));
        // Names are bytes, and need not be UTF-8.
        let bytes = [b"witness \xff ", key.to_string().as_bytes(), b"\nquorum \xff\n"].concat();
        assert!(Policy::parse(&bytes).unwrap().is_met(|_| true));
        let nobody = Policy::parse(b"quorum none\n").unwrap();
        assert!(nobody.is_met(|_| false) && nobody.logs().is_empty() && nobody == Policy::default());
        assert!(policy.has_quorum() && !nobody.has_quorum());
        assert!(Policy::each_of(vec![]).is_met(|_| false));
        let both = Policy::each_of(vec![witness_key(1), witness_key(2)]);
        assert!(both.is_met(|_| true) && !both.is_met(|key| *key == witness_key(1)));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_a_remedy() {
        let [w1, w2] = [1, 2].map(|seed| format!("witness w{seed} {}\n", witness_key(seed)));
        let (log, renamed) = (log_key(1), renamed(&witness_key(1)));
        for (text, line, problem) in [
            (String::new(), 1, "no quorum"),
            (format!("{w1}# end\n"), 3, "no quorum"),
            ("quorum none".to_owned(), 1, "does not end"),
            ("quorum none\r\n".to_owned(), 1, "control character"),
            ("quorum none\0\n".to_owned(), 1, "control character"),
            ("quorum none\nquorum none\n".to_owned(), 2, "has a quorum already"),
            ("quorum\n".to_owned(), 1, "one name"),
            ("quorum none none\n".to_owned(), 1, "one name"),
            (format!("quorum w1\n{w1}"), 1, "no witness or group is called `w1`"),
            ("Quorum none\n".to_owned(), 1, "`Quorum` is no word"),
            ("log\n".to_owned(), 1, "a log has a key"),
            (format!("log {log} url more\n"), 1, "a log has a key"),
            (format!("log {log}\nlog {log}\n"), 2, "another log has this key"),
            (format!("log {}\n", witness_key(1)), 1, "is a witness's key, not a log's"),
            ("log nonsense\n".to_owned(), 1, "`nonsense` is not a verifier key"),
            (format!("witness {}\n", witness_key(1)), 1, "a name and a key"),
            (format!("witness w {log}\n"), 1, "is a log's key, not a witness's"),
            (format!("{w1}{w1}"), 2, "another witness has this key"),
            (format!("{w1}witness w2 {renamed}\n"), 2, "another witness has this key"),
            (format!("{w1}{}", w2.replace(" w2 ", " w1 ")), 2, "the name `w1` is taken"),
            (w1.replace(" w1 ", " none "), 1, "the name `none` is taken"),
            (format!("{w1}group w1 all w1\n"), 2, "the name `w1` is taken"),
            (format!("{w1}group none all w1\n"), 2, "the name `none` is taken"),
            ("group g all\n".to_owned(), 1, "a threshold and members"),
            ("group g all none\n".to_owned(), 1, "no witness or group is called `none`"),
            (format!("{w1}group g all g\n"), 2, "no witness or group is called `g`"),
            (format!("{w1}group g all w1 w1\n"), 2, "`w1` is a member of a group already"),
            (format!("{w1}group g all w1\ngroup h any w1\n"), 3, "`w1` is a member of a group already"),
            (format!("{w1}group g 0 w1\n"), 2, "`0` is no threshold for 1 members"),
            (format!("{w1}group g 2 w1\n"), 2, "`2` is no threshold for 1 members"),
            (format!("{w1}group g 01 w1\n"), 2, "`01` is no threshold"),
            (format!("{w1}group g +1 w1\n"), 2, "`+1` is no threshold"),
            (format!("{w1}group g ALL w1\n"), 2, "`ALL` is no threshold"),
        ] {
            let error = Policy::parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.line, line, "{text:?}: {error}");
            assert!(error.problem.contains(problem) && error.problem.contains("; "), "{text:?}: {error}");
        }
        let error = Policy::parse(b"witness w \xff\nquorum none\n").unwrap_err();
        assert!(error.problem.contains("not UTF-8"), "{error}");
        for (len, problem) in [(262_144, "no quorum"), (262_145, "larger than 256 KiB")] {
            let error = Policy::parse(&vec![b'\n'; len]).unwrap_err();
            assert!(error.problem.contains(problem), "{len}: {error}");
        }
    }

    #[test]
    fn the_policy_in_the_documents_is_one() {
        let page = include_str!("../../../docs/operate/witness.md");
        let block = page.split("```text\n").find(|block| block.contains("\nquorum ")).unwrap();
        let policy = Policy::parse(block.split("```").next().unwrap().as_bytes()).unwrap();
        assert_eq!((policy.logs().len(), policy.witnesses().count()), (1, 3));
        let by = |names: &[&str]| policy.is_met(|key| names.contains(&key.name()));
        let (auditor, partner) = ("witness.example.org/w1", "witness.example.net/p");
        assert!(by(&[auditor, partner]) && !by(&[auditor]) && !by(&[partner]));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(policy) = Policy::parse(&bytes) {
                let _met = policy.is_met(|_| false);
            }
        }

        /// Lines of the words that there are, in any order and number: what is accepted asks for nobody who is not known.
        #[test]
        fn no_lines_make_it_panic(lines in proptest::collection::vec(
            proptest::collection::vec(prop_oneof![
                prop::sample::select(vec!["log", "witness", "group", "quorum", "none", "all", "any", "1", "2", "#"]).prop_map(str::to_owned),
                (1_u8..4).prop_map(|seed| format!("n{seed}")),
                (1_u8..4).prop_map(|seed| witness_key(seed).to_string()),
                (1_u8..4).prop_map(|seed| log_key(seed).to_string()),
            ], 0..6), 0..8))
        {
            let text: String = lines.iter().map(|line| format!("{}\n", line.join(" "))).collect();
            if let Ok(policy) = Policy::parse(text.as_bytes()) {
                prop_assert!(policy.is_met(|_| true));
            }
        }
    }
}
