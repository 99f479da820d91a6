//! A worker's process, and the thread that is its parent.
//!
//! A worker asks the kernel to be killed when its parent ends: stopped as it may be, it could not end itself. To the kernel the parent is the
//! thread that started it, not the process (PR_SET_PDEATHSIG, prctl(2)). So each has a thread that does nothing else for as long as it is wanted:
//! a runtime's threads come and go as the runtime likes.

use std::convert::Infallible;
use std::io;
use std::process::Command;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use tokio::sync::oneshot;

/// What the parent needs of a stack.
const STACK: usize = 256 * 1024;

/// A worker's process. Dropping it kills it and waits for its end.
pub(super) struct Process {
    id: u32,
    /// Held until it is to end.
    wanted: Option<mpsc::Sender<Infallible>>,
    parent: Option<JoinHandle<()>>,
}

impl Process {
    /// # Errors
    /// When it cannot be started.
    pub(super) async fn start(mut command: Command) -> io::Result<Self> {
        let (tell, told) = oneshot::channel();
        let (wanted, no_longer) = mpsc::channel::<Infallible>();
        let be_parent = move || {
            // Whatever was the command's, its end of the socket above all, is not to be held on to.
            let started = command.spawn();
            drop(command);
            let (mut child, told) = match started {
                Ok(child) => {
                    let told = tell.send(Ok(child.id()));
                    (child, told)
                }
                Err(error) => return drop(tell.send(Err(error))),
            };
            // Whoever wanted it may have gone meanwhile.
            if told.is_ok() {
                let _ended = no_longer.recv();
            }
            drop(child.kill());
            drop(child.wait());
        };
        let parent =
            thread::Builder::new().name("hsm-parent".to_owned()).stack_size(STACK).spawn(be_parent)?;
        let id = told.await.map_err(io::Error::other)??;
        Ok(Self { id, wanted: Some(wanted), parent: Some(parent) })
    }

    pub(super) const fn id(&self) -> u32 {
        self.id
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.wanted.take());
        drop(self.parent.take().map(JoinHandle::join));
    }
}
