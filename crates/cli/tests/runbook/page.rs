//! A Markdown file as the blocks that stand in it.

use std::path::{Path, PathBuf};

/// What is to be done with a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Executed.
    Script,
    /// Executed command by command, each compared with what it says.
    Dialogue,
    /// Written to this file.
    File(String),
    /// Added to this file.
    Append(String),
    /// Commands that cannot be executed here.
    NotRun,
    /// No commands.
    Shown,
}

/// A fenced block.
#[derive(Debug)]
pub struct Block {
    /// The line of its fence, from 1.
    pub line: usize,
    pub language: String,
    pub kind: Kind,
    pub text: String,
}

/// The folder of the runbooks.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operate")
}

/// The blocks of one of them, in order.
pub fn read(name: &str) -> Vec<Block> {
    blocks(&std::fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}")))
}

pub fn blocks(text: &str) -> Vec<Block> {
    let mut found = vec![];
    let mut lines = text.lines().enumerate();
    while let Some((number, fence)) = lines.next() {
        let Some(info) = fence.trim_start().strip_prefix("```") else { continue };
        // In a list, a block is as far in as its item.
        let indent = fence.len() - fence.trim_start().len();
        let mut text = String::new();
        loop {
            let (_, line) =
                lines.next().unwrap_or_else(|| panic!("line {}: the block has no end", number + 1));
            if line.trim_start().starts_with("```") {
                break;
            }
            text.push_str(line.get(indent..).unwrap_or_default());
            text.push('\n');
        }
        let (language, rest) = info.split_once(' ').unwrap_or((info, ""));
        found.push(Block {
            line: number + 1,
            language: language.to_owned(),
            kind: kind(language, rest),
            text,
        });
    }
    found
}

fn kind(language: &str, rest: &str) -> Kind {
    if let Some(file) = rest.strip_prefix("file=") {
        return Kind::File(file.to_owned());
    }
    if let Some(file) = rest.strip_prefix("append=") {
        return Kind::Append(file.to_owned());
    }
    match (language, rest) {
        ("sh" | "console", "not-run") => Kind::NotRun,
        (_, "") if language == "sh" => Kind::Script,
        (_, "") if language == "console" => Kind::Dialogue,
        (_, "") => Kind::Shown,
        (_, rest) => panic!("`{rest}` behind `{language}` means nothing"),
    }
}

/// The commands of a dialogue, each with what it says.
pub fn dialogue(text: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = vec![];
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            found.push((format!("{command}\n"), String::new()));
            continue;
        }
        let (command, said) = found.last_mut().expect("a dialogue begins with `$ `");
        match line.strip_prefix("> ") {
            Some(more) if said.is_empty() => command.push_str(&format!("{more}\n")),
            _ => said.push_str(&format!("{line}\n")),
        }
    }
    found
}

#[test]
fn a_page_is_read_as_its_blocks() {
    let text = "# A\n\n```sh\na\n```\n1. in a list:\n   ```console\n   $ b \\\n   > c\n   d\n\n   $ e\n   ```\n```toml append=/etc/x\ny = 1\n```\n```sh not-run\nz\n```\n```text\nw\n```\n";
    let found = blocks(text);
    let kinds: Vec<_> = found.iter().map(|block| (block.line, block.kind.clone())).collect();
    assert_eq!(
        kinds,
        [
            (3, Kind::Script),
            (7, Kind::Dialogue),
            (14, Kind::Append("/etc/x".to_owned())),
            (17, Kind::NotRun),
            (20, Kind::Shown)
        ]
    );
    let expected = [("b \\\nc\n", "d\n\n"), ("e\n", "")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(dialogue(&found[1].text), expected);
}

#[test]
#[should_panic(expected = "means nothing")]
fn an_unknown_word_behind_a_fence_is_refused() {
    blocks("```sh notrun\nrm -r /\n```\n");
}
