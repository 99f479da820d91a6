//! What is typed, or comes through a pipe, line by line, while the process can still be told to end.

use crate::exit::Exit;
use crate::failure::Failure;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

/// The longest line that is taken.
const LONGEST: usize = 64 << 10;

/// The lines of stdin.
pub(crate) struct Lines {
    lines: mpsc::Receiver<io::Result<Zeroizing<String>>>,
    interrupt: Signal,
    terminate: Signal,
    is_terminal: bool,
}

impl Lines {
    /// Begins to read.
    pub(crate) fn of_stdin() -> Result<Self, Failure> {
        let failed =
            |error: io::Error| Failure::new(Exit::Failure, "signals cannot be received").because(&error);
        let (send, lines) = mpsc::channel(1);
        // A read of stdin cannot be given up: it has a thread of its own, which ends with the process.
        std::thread::spawn(move || {
            for line in io::stdin().lock().lines() {
                if send.blocking_send(line.map(Zeroizing::new)).is_err() {
                    return;
                }
            }
        });
        let interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let terminate = signal(SignalKind::terminate()).map_err(failed)?;
        Ok(Self { lines, interrupt, terminate, is_terminal: io::stdin().is_terminal() })
    }

    /// Whether a person types them.
    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// The next line that says something; none after the last. A person is asked for it with these words.
    pub(crate) async fn next(&mut self, prompt: &str) -> Result<Option<Zeroizing<String>>, Failure> {
        loop {
            if self.is_terminal {
                let mut stderr = io::stderr();
                let _ = write!(stderr, "{prompt} ").and_then(|()| stderr.flush());
            }
            let line = tokio::select! {
                line = self.lines.recv() => line,
                _ = self.interrupt.recv() => return Err(ended()),
                _ = self.terminate.recv() => return Err(ended()),
            };
            match line {
                None => return Ok(None),
                Some(Ok(line)) if line.len() > LONGEST => {
                    return Err(Failure::usage("a line is too long")
                        .remedy("give what the command printed, and nothing else"));
                }
                Some(Ok(line)) if line.trim().is_empty() => {}
                Some(Ok(line)) => return Ok(Some(line)),
                Some(Err(error)) => {
                    return Err(Failure::new(Exit::Failure, "cannot read from stdin").because(&error));
                }
            }
        }
    }
}

fn ended() -> Failure {
    Failure::new(Exit::Failure, "ended before it was complete").remedy("nothing was changed; begin again")
}
