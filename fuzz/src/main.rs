//! Runs each target over its corpus and over mutations of it, for so many seconds. A panic ends the run and leaves its input in
//! `fuzz/artifacts/TARGET`.

mod mutate;
mod targets;

use mutate::Mutator;
use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use targets::{TARGETS, Target};

/// Inputs no longer than this.
const MAX_LEN: usize = 4096;

fn main() {
    let mut seconds = 10;
    let mut corpus = PathBuf::from("fuzz/corpus");
    let mut only = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seconds" => {
                seconds = arguments.next().and_then(|text| text.parse().ok()).expect("--seconds N")
            }
            "--corpus" => corpus = arguments.next().map(PathBuf::from).expect("--corpus DIR"),
            name => only = Some(name.to_owned()),
        }
    }
    let chosen: Vec<&Target> =
        TARGETS.iter().filter(|target| only.as_deref().is_none_or(|name| name == target.name)).collect();
    assert!(!chosen.is_empty(), "no such target; there are {}", targets::names());
    let next = AtomicUsize::new(0);
    let take_turns = || {
        while let Some(target) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
            run(target, &corpus.join(target.name), Duration::from_secs(seconds));
        }
    };
    // A panic of one ends the run, when the others are through with theirs.
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(take_turns);
        }
    });
}

fn run(target: &Target, corpus: &Path, duration: Duration) {
    let mut seeds = read(corpus);
    assert!(!seeds.is_empty(), "`{}` holds no input to begin with", corpus.display());
    let artifact = Path::new("fuzz/artifacts").join(target.name);
    let mut accepted = 0_u64;
    for seed in &seeds {
        accepted += u64::from(attempt(target, seed, &artifact));
    }
    assert!(accepted > 0, "{}: the decoder accepts none of its corpus, so nothing is tested", target.name);
    let seed = u64::from(std::process::id());
    let mut mutator = Mutator::new(seed);
    let end = Instant::now() + duration;
    let mut runs = 0_u64;
    while Instant::now() < end {
        for _ in 0..256 {
            let input = mutator.mutate(&seeds, MAX_LEN);
            runs += 1;
            // What is still accepted after a mutation leads deeper than what is refused at its first byte.
            if attempt(target, &input, &artifact) {
                accepted += 1;
                if seeds.len() < 4096 && mutator.one_in(8) {
                    seeds.push(input);
                }
            }
        }
    }
    println!("{}: {runs} inputs, {accepted} accepted, seed {seed}", target.name);
}

/// Whether the decoder accepts the input; a panic leaves the input behind.
fn attempt(target: &Target, input: &[u8], artifact: &Path) -> bool {
    match std::panic::catch_unwind(|| (target.run)(input)) {
        Ok(accepted) => accepted,
        Err(panic) => {
            fs::create_dir_all("fuzz/artifacts").expect("a place for artifacts");
            fs::write(artifact, input).expect("the artifact is written");
            eprintln!("{}: panicked; the input is `{}`", target.name, artifact.display());
            std::panic::resume_unwind(panic);
        }
    }
}

fn read(corpus: &Path) -> Vec<Vec<u8>> {
    let mut files: Vec<PathBuf> = fs::read_dir(corpus)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    files.sort();
    files.iter().map(|path| fs::read(path).expect("the corpus is readable")).collect()
}
