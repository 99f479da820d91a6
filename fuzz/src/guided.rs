//! The same targets under libFuzzer, which sees which branches an input takes: `cargo xtask fuzz` builds it so and runs it.

#![no_main]

mod targets;

use std::sync::LazyLock;
use targets::{TARGETS, Target};

/// Which one, since libFuzzer's own arguments are libFuzzer's.
static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("HOLDFAST_FUZZ_TARGET").expect("HOLDFAST_FUZZ_TARGET names a target");
    let found = TARGETS.iter().copied().find(|target| target.name == name);
    found.unwrap_or_else(|| panic!("no such target; there are {}", targets::names()))
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _accepted = (TARGET.run)(input);
});
