//! Processes whose clocks say something else, by libfaketime. Not by `faketime` itself, which would stand between us and the process.

use std::path::PathBuf;
use std::process::Command;

fn library() -> PathBuf {
    let libraries = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let mut libraries = libraries.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    libraries.find(|path| path.exists()).expect("libfaketime")
}

/// With a wall clock that says something else: `+5d`, `@2026-01-15 10:15:00`. No time has passed.
pub fn elsewhere(mut command: Command, wall: &str) -> Command {
    command.env("LD_PRELOAD", library()).env("FAKETIME", wall).env("TZ", "UTC");
    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    command
}

/// With clocks that go so many times as fast, from now on: all but those that the kernel is asked for itself, such as CLOCK_BOOTTIME.
pub fn hurried(mut command: Command, times: u32) -> Command {
    command.env("LD_PRELOAD", library()).env("FAKETIME", format!("+0 x{times}"));
    command
}
