//! A few threads that read the database for the async workers, each with a connection of its own.

use crate::fault::{Fault, stopped};
use crate::query::Source;
use crate::store::Shared;
use holdfast_core::{Error, Stage};
use rusqlite::{Connection, TransactionBehavior};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use tokio::sync::{mpsc, oneshot};

/// Reads that may wait for each thread before a caller waits for a place.
const QUEUE_PER_THREAD: usize = 256;

/// One thread's means.
struct Reader {
    connection: Connection,
    shared: Arc<Shared>,
}

type Job = Box<dyn FnOnce(&mut Reader) + Send>;

/// The threads. Dropping it lets them finish what is queued and waits for them.
pub(crate) struct Readers {
    jobs: Option<mpsc::Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    /// Starts a thread for each connection.
    pub(crate) fn start(connections: Vec<Connection>, shared: &Arc<Shared>) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel(connections.len().saturating_mul(QUEUE_PER_THREAD).max(1));
        let queue = Arc::new(Mutex::new(queue));
        let mut readers = Self { jobs: Some(jobs), threads: Vec::with_capacity(connections.len()) };
        for (number, connection) in connections.into_iter().enumerate() {
            let queue = Arc::clone(&queue);
            let mut reader = Reader { connection, shared: Arc::clone(shared) };
            let thread = Builder::new().name(format!("state-read-{number}")).spawn(move || {
                while let Some(job) = next(&queue) {
                    job(&mut reader);
                }
            })?;
            readers.threads.push(thread);
        }
        Ok(readers)
    }

    /// Runs `read` within one read transaction on one of the threads.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        stage: Stage,
        read: impl FnOnce(Source<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |reader| {
            // Nobody waits for it any more when the caller has gone.
            if !answer.is_closed() {
                let _gone = answer.send(reader.read(read));
            }
        });
        let jobs = self.jobs.as_ref().ok_or_else(|| stopped(stage))?;
        jobs.send(job).await.map_err(|_| stopped(stage))?;
        answered.await.map_err(|_| stopped(stage))?.map_err(|fault| fault.at(stage))
    }
}

impl Reader {
    fn read<T>(&mut self, read: impl FnOnce(Source<'_>) -> Result<T, Fault>) -> Result<T, Fault> {
        let Self { connection, shared } = self;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
        let value = read(Source { connection: &transaction, seal: &shared.seal })?;
        transaction.finish()?;
        Ok(value)
    }
}

/// One thread waits in the queue, the others for its place.
fn next(queue: &Mutex<mpsc::Receiver<Job>>) -> Option<Job> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv()
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            let _panicked = thread.join();
        }
    }
}
