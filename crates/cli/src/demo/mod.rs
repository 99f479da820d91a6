//! `holdfast demo`: the main job on real input, through the public TLS API only, in a temporary directory that is gone afterwards.
//!
//! One line a step. A step that does not do what it should ends the demo with a failure, and so does a refusal that does not come.

mod people;
mod play;
mod stage;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;
use std::time::{Duration, Instant};

/// The input when there is no `README.md` in the current directory.
const README: &str = include_str!("../../../../README.md");

/// What is played: tests change one thing and watch the demo fail.
#[derive(Debug, Clone)]
pub struct Script {
    /// What is encrypted.
    pub input: Vec<u8>,
    /// Where the input is from, for the person who watches.
    pub input_name: String,
    /// The tenant's policy, in Cedar.
    pub policy: String,
    /// The context that decryption is refused with.
    pub wrong_context: [(&'static str, &'static str); 1],
    /// Whether the key is suspended before it is used again.
    pub suspends: bool,
    /// Whether one byte of the mirrored log is changed before it is verified.
    pub damages_log: bool,
}

/// The context that everything is encrypted with.
pub const CONTEXT: [(&str, &str); 1] = [("document", "readme")];

/// The demo's policy: custodians administer, and one caller uses one key.
pub const POLICY: &str = r#"@id("custodians-administer")
permit (principal, action in Holdfast::Action::"administer", resource)
when { principal.kind == "custodian" };

@id("custodians-read")
permit (principal, action in Holdfast::Action::"read", resource)
when { principal.kind == "custodian" };

@id("payroll-uses-its-key")
permit (
  principal,
  action in [Holdfast::Action::"encrypt", Holdfast::Action::"decrypt"],
  resource
)
when { principal.name == "payroll" && resource.name == "payroll-records" };
"#;

impl Script {
    /// As it should be: the README in the current directory, or the one that was built in.
    pub fn new() -> Self {
        let (input, input_name) = match std::fs::read("README.md") {
            Ok(bytes) if (1..=holdfast_core::operation::MAX_INPUT).contains(&bytes.len()) => {
                (bytes, "README.md".to_owned())
            }
            Ok(_) | Err(_) => (README.as_bytes().to_vec(), "the built-in README.md".to_owned()),
        };
        Self {
            input,
            input_name,
            policy: POLICY.to_owned(),
            wrong_context: [("document", "invoice")],
            suspends: true,
            damages_log: false,
        }
    }
}

impl Default for Script {
    fn default() -> Self {
        Self::new()
    }
}

/// Plays the demo and tells each step.
///
/// # Errors
/// The first step that did not do what it should.
pub async fn run(script: &Script, mut tell: impl FnMut(&str)) -> Result<(), Failure> {
    let mut narrator = Narrator { tell: &mut tell, steps: 0, begun: Instant::now() };
    let stage = Box::pin(stage::Stage::set(&mut narrator)).await?;
    let played = play::play(script, &stage, &mut narrator).await;
    let struck = stage.strike(&mut narrator).await;
    played.and(struck)?;
    let Narrator { tell, steps, begun } = narrator;
    tell(&format!("all {steps} steps did what they should, in {}", humane(begun.elapsed())));
    Ok(())
}

/// Tells what has been done.
pub(crate) struct Narrator<'a> {
    tell: &'a mut dyn FnMut(&str),
    steps: u32,
    begun: Instant,
}

impl Narrator<'_> {
    /// A step did what it should.
    fn done(&mut self, step: &str, detail: &str) {
        self.steps += 1;
        (self.tell)(&output::printable(&format!("✓ {step:<28} {detail}")));
    }
}

/// A step did not do what it should.
fn wrong(step: &str, what: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Failure, format!("demo step `{step}`: {what}"))
        .remedy("this build does not do what it promises: report it with this line")
}

/// A step's error, told with the step's name.
fn at<E: Into<Failure>>(step: &str) -> impl FnOnce(E) -> Failure {
    let step = step.to_owned();
    move |error| {
        let error: Failure = error.into();
        let exit = error.exit();
        wrong(&step, format!("should have worked, but: {error}")).ending(exit)
    }
}

fn humane(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
