//! A runbook that is being followed on a machine, block by block.

use super::machine::{Machine, Said};
use super::page::{self, Block, Kind};
use snapbox::IntoData as _;

/// A runbook, and how far it has been followed.
pub struct Book<'a> {
    name: &'static str,
    blocks: Vec<Block>,
    at: usize,
    machine: &'a Machine,
    /// What stands in the page for something that only this machine knows.
    meanings: Vec<(&'static str, String)>,
}

impl<'a> Book<'a> {
    pub fn open(name: &'static str, machine: &'a Machine) -> Self {
        Self { name, blocks: page::read(name), at: 0, machine, meanings: vec![] }
    }

    /// From here on this text of the page means that.
    pub fn means(&mut self, text: &'static str, meaning: String) {
        self.meanings.push((text, meaning));
    }

    /// Follows it up to the first block that has this text, without that one. What then happens, no command of the page does.
    pub fn before(&mut self, text: &str) {
        let until = self.blocks.iter().skip(self.at).position(|block| block.text.contains(text));
        let until =
            self.at + until.unwrap_or_else(|| panic!("{} has no block with `{text}` left", self.name));
        self.follow(until);
    }

    /// Follows it to its end.
    pub fn rest(mut self) {
        self.follow(self.blocks.len());
    }

    fn follow(&mut self, until: usize) {
        while self.at < until {
            let block = &self.blocks[self.at];
            let place = format!("{}:{}", self.name, block.line);
            let mut text = block.text.clone();
            for (words, meaning) in &self.meanings {
                text = text.replace(words, meaning);
            }
            match &block.kind {
                Kind::Script => {
                    let said = self.machine.run(&text);
                    assert!(said.succeeded, "{place} failed:\n{text}\n{}", self.machine.explain(&said));
                }
                Kind::Dialogue => {
                    for (command, expected) in page::dialogue(&text) {
                        self.compare(&place, &command, &expected);
                    }
                }
                Kind::File(file) => self.machine.write(file, &text),
                Kind::Append(file) => self.machine.append(file, &text),
                Kind::NotRun | Kind::Shown => {}
            }
            self.at += 1;
        }
    }

    fn compare(&self, place: &str, command: &str, expected: &str) {
        let said = self.machine.run(command);
        let may_fail =
            expected.lines().any(|line| line.starts_with("error: ") || line.starts_with("Job for "));
        let Said { text, succeeded } = &said;
        assert!(*succeeded || may_fail, "{place} failed:\n{command}\n{}", self.machine.explain(&said));
        let same = snapbox::Assert::new().action(snapbox::assert::Action::Verify).try_eq(
            Some(&format!("{place}: {}", command.trim_end())),
            text.as_str().into_data(),
            expected.into_data(),
        );
        if let Err(difference) = same {
            panic!("{difference}\n{}", self.machine.explain(&said));
        }
    }
}

impl Drop for Book<'_> {
    fn drop(&mut self) {
        // A runbook that is closed early would pass whatever stands behind.
        let followed = self.at == self.blocks.len() || std::thread::panicking();
        assert!(followed, "{} was not followed to its end", self.name);
    }
}
