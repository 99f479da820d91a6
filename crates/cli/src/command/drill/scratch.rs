//! Where a backup is restored to for a while: for its owner only, and removed however it ends.
//!
//! A signal comes while other threads write. The directory is therefore named by a descriptor of it and not by its path: once it is removed
//! nothing can be made in it any more, where `mkdir -p` of its path would make it again.

use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::signal::unix::{SignalKind, signal};

/// How often the removal is tried while somebody still writes.
const ATTEMPTS: u32 = 1_000;

/// The directory.
pub(crate) enum Scratch {
    /// Named: stays.
    Kept(PathBuf),
    /// Temporary.
    Temporary {
        /// Removed when dropped.
        directory: tempfile::TempDir,
        /// What [`path`](Scratch::path) leads through.
        _open: File,
        /// Ends in nothing as soon as the directory is removed.
        path: PathBuf,
        /// What became of signals.
        signals: Arc<Signals>,
    },
}

/// What becomes of signals.
#[derive(Default)]
pub(crate) struct Signals {
    /// Whether somebody else sees to them now.
    elsewhere: AtomicBool,
    /// Whether one ends the process.
    ending: AtomicBool,
}

impl Scratch {
    /// Makes it, and begins to listen for Ctrl-C and SIGTERM.
    pub(crate) fn make(app: &App, keep: Option<PathBuf>) -> Result<Self, Failure> {
        if let Some(keep) = keep {
            return Ok(Self::Kept(keep));
        }
        // Before there is anything to be removed.
        let handle = app.handle();
        let _entered = handle.enter();
        let failed =
            |error: std::io::Error| Failure::new(Exit::Failure, "signals cannot be received").because(&error);
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let made = tempfile::Builder::new()
            .prefix("holdfast-drill-")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir();
        let directory = made.map_err(|error| {
            Failure::new(Exit::Failure, "there is no room for temporary files")
                .because(&error)
                .remedy("name another place with the environment variable TMPDIR")
        })?;
        let open =
            File::open(directory.path()).map_err(|error| Failure::file("open", directory.path(), &error))?;
        let through = PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()));
        let signals = Arc::new(Signals::default());
        let (path, of, json) = (directory.path().to_path_buf(), Arc::clone(&signals), app.printer.is_json());
        handle.spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if !of.elsewhere.load(Ordering::SeqCst) {
                    break;
                }
            }
            of.ending.store(true, Ordering::SeqCst);
            let ended = match remove(&path) {
                Ok(()) => Failure::new(Exit::Failure, "ended before it was complete")
                    .remedy("nothing was changed; begin again"),
                Err(failure) => failure,
            };
            // Whoever works in it cannot be told in the middle of a system call.
            std::process::exit(ended.report(json).code().into());
        });
        Ok(Self::Temporary { directory, _open: open, path: through, signals })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary { path, .. } => path,
        }
    }

    /// Leaves signals to somebody else, who ends with an error, or takes them back.
    pub(super) fn leave_signals(&self, leave: bool) {
        match self {
            Self::Kept(_) => {}
            Self::Temporary { signals, .. } => signals.elsewhere.store(leave, Ordering::SeqCst),
        }
    }

    /// Removes it, unless it is to stay.
    pub(super) fn end(self) -> Result<(), Failure> {
        match self {
            Self::Kept(_) => Ok(()),
            Self::Temporary { directory, signals, .. } => {
                // What failed because it was removed is not what there is to say.
                while signals.ending.load(Ordering::SeqCst) {
                    std::thread::park();
                }
                remove(directory.path())
            }
        }
    }
}

fn remove(path: &Path) -> Result<(), Failure> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        last =
            std::fs::remove_dir_all(path).err().filter(|error| error.kind() != std::io::ErrorKind::NotFound);
        if !path.exists() {
            return Ok(());
        }
        std::thread::yield_now();
    }
    let failure = Failure::new(Exit::Failure, format!("cannot remove `{}`", path.display()))
        .remedy("remove it by hand: it holds the keys of the backup");
    Err(match last {
        Some(error) => failure.because(&error),
        None => failure,
    })
}
