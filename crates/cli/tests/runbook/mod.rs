//! Runbooks, executed: the Markdown files of `docs/operate/` are read as they stand, and their fenced blocks run in order with the real
//! binary.
//!
//! | block | what is done with it |
//! |---|---|
//! | `sh` | executed with `sh -e`; what it exports, later blocks have too |
//! | `console` | each `$ command` (continued by `> `) is executed so, and must say what follows it: `[..]` is any text, `...` any lines. It may fail only where `error: ` or `Job for ` is among that |
//! | any language with `file=NAME` | written to that file |
//! | any language with `append=NAME` | added to that file |
//! | `sh not-run`, `console not-run` | nothing; counted, and bounded by a test |
//! | all others | nothing: they show something |
//!
//! A runbook speaks of a real machine. It gets one of its own in a temporary directory: see [`machine::Machine`], where everything that is
//! not what it seems is told.

pub mod book;
pub mod disk;
pub mod machine;
pub mod page;
