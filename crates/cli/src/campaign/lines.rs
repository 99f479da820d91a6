//! A campaign over JSON lines: each object's `ciphertext` is replaced, and nothing else of it touched.

use super::feed::{Feed, Pace, Place};
use super::journal::{Journal, Resumed};
use super::keys::{Known, Route};
use super::lines_work::{Done, Shared, work};
use super::list::List;
use super::post::Post;
use super::report::{Ending, Left};
use super::stop::Stop;
use super::tally::Tally;
use super::{Check, Settings, interrupted};
use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::input::Input;
use crate::output::{note, write_stdout};
use crate::progress;
use holdfast_core::operation::MAX_BATCH;
use holdfast_sdk::KeyName;
use holdfast_sdk::field::ContextPairs;
use indicatif::ProgressBar;
use std::collections::VecDeque;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How often what is done is made durable, so that it need not be done again.
const MARK_EVERY: Duration = Duration::from_secs(1);

/// A campaign over JSON lines.
pub(crate) struct Lines {
    pub(crate) input: Input,
    pub(crate) key: KeyName,
    pub(crate) target: Option<KeyName>,
    /// What lines without a context of their own are bound to.
    pub(crate) context: Option<ContextPairs>,
    /// Where the lines go; stdout without it.
    pub(crate) output: Option<PathBuf>,
}

/// Runs it to its end, or as far as it comes.
pub(crate) fn run(app: &App, lines: Lines, settings: &Settings) -> Result<Ending, Failure> {
    let Lines { input, key, target, context, output } = lines;
    if settings.record && !settings.dry_run {
        return Err(Failure::usage("lines that were rewrapped lie where they come from as before, so nothing can be recorded yet").remedy(
            "leave `--record` out; load the lines back, export them again, and go through them with `--dry-run --record`",
        ));
    }
    let tenant = app.tenant()?;
    settings.check()?;
    let begun = Instant::now();
    let stop = Stop::listen(app);
    let route = app.block_on(async {
        let from = Known::read(&tenant, &key).await?;
        let to = match &target {
            Some(target) => Known::read(&tenant, target).await?,
            None => from.clone(),
        };
        Ok::<_, Failure>(Route { from, to })
    })?;
    let items = match settings.check {
        Check::Sample(_) => count_items(&input)?,
        Check::Nothing | Check::Full => 0,
    };
    let (source, length) = input.open()?;
    let mut feed = Feed::new(source);
    let output = output.filter(|_| !settings.dry_run);
    let opened = output
        .as_deref()
        .map(|path| Journal::open(path, settings.failures.as_deref(), settings.force, &route));
    let (mut journal, resumed) = opened.transpose()?.unzip();
    let resumed: Option<Resumed> = resumed.flatten();
    let mut tally = Tally::default();
    let mut from = route.from.clone();
    if let (Some(journal), Some(resumed)) = (&journal, &resumed) {
        let Resumed { from: begun, input_bytes, input_lines, input_sha256, tally: done } = resumed;
        if !feed.skip(*input_bytes, *input_lines, input_sha256)? {
            return Err(journal.another_inventory());
        }
        if *input_lines > 0 {
            note(&format!("going on behind line {input_lines}"));
        }
        tally = done.clone();
        from = begun.clone();
    }
    if let Some(journal) = &mut journal {
        // From the first moment on, what lies there is this campaign's to go on with.
        journal.mark(feed.place(), &tally)?;
    }
    let shared = Arc::new(Shared {
        post: Post::new(tenant, settings.patience, stop.clone()),
        context,
        check: settings.check,
        items,
        dry_run: settings.dry_run,
        route,
    });
    let bar = progress::bytes(length);
    bar.inc(feed.place().bytes);
    let before = tally.total;
    let mut campaign = Campaign {
        shared: Arc::clone(&shared),
        feed,
        pace: Pace::new(settings.rate),
        workers: settings.workers,
        stop,
        sink: Sink::new(journal, settings)?,
        next: tally.total,
        tally,
        done: None,
        bar,
    };
    let outcome = app.block_on(campaign.run());
    campaign.bar.finish_and_clear();
    let Campaign { mut sink, tally, done, feed, .. } = campaign;
    let place = done.unwrap_or_else(|| feed.place().clone());
    if let Err(failure) = outcome {
        let how = sink.suspend(&place, &tally, before)?;
        return Err(interrupted(failure, how));
    }
    sink.finish(&place, &tally)?;
    let Shared { route, .. } = &*shared;
    let other = Some((route.to.clone(), false)).filter(|(to, _)| *to != route.from);
    let keys = std::iter::once((from, true)).chain(other).collect();
    Ok(Ending::new(tally, keys, begun.elapsed(), before, (settings.dry_run, Left::Elsewhere)))
}

/// How many lines have an item on them: none is on an empty one.
fn count_items(input: &Input) -> Result<u64, Failure> {
    let endless = match input {
        Input::Stdin => Some("stdin".to_owned()),
        Input::File(path) => {
            // A pipe is read once; who waits for one to be written to waits in `open` already.
            let metadata = path.metadata().map_err(|error| Failure::file("read", path, &error))?;
            (!metadata.is_file()).then(|| format!("`{}`, which is no regular file,", path.display()))
        }
    };
    if let Some(endless) = endless {
        let problem = format!("nobody can say how many lines {endless} will have, to take a sample of them");
        return Err(Failure::usage(problem).remedy("name a file, or verify with `--verify full`"));
    }
    let mut stream = input.open()?.0;
    let (mut items, mut is_empty, mut buffer) = (0_u64, true, vec![0; 1 << 18]);
    loop {
        let length = stream.read(&mut buffer).map_err(|error| {
            Failure::new(Exit::Failure, "the inventory cannot be read")
                .because(&error)
                .remedy("look at the cause")
        })?;
        if length == 0 {
            return Ok(items);
        }
        for byte in buffer.get(..length).unwrap_or_default() {
            if *byte == b'\n' {
                is_empty = true;
            } else if is_empty && !byte.is_ascii_whitespace() {
                is_empty = false;
                items += 1;
            }
        }
    }
}

/// Where lines go.
enum Sink {
    /// A file with a journal.
    Journal(Box<Journal>, Instant),
    /// Stdout, with a list of failures perhaps; or nowhere, in a dry run.
    Stream { failures: Option<List>, dry_run: bool },
}

impl Sink {
    fn new(journal: Option<Journal>, settings: &Settings) -> Result<Self, Failure> {
        match journal {
            Some(journal) => Ok(Self::Journal(Box::new(journal), Instant::now())),
            None => Ok(Self::Stream { failures: List::new(settings)?, dry_run: settings.dry_run }),
        }
    }

    fn put(&mut self, done: &Done, tally: &Tally) -> Result<(), Failure> {
        let Done { output, failures, end, .. } = done;
        match self {
            Self::Journal(journal, marked) => {
                journal.write(output, failures)?;
                if marked.elapsed() >= MARK_EVERY {
                    journal.mark(end, tally)?;
                    *marked = Instant::now();
                }
                Ok(())
            }
            Self::Stream { failures: list, dry_run } => {
                if let Some(list) = list {
                    list.append(failures)?;
                }
                if *dry_run { Ok(()) } else { write_stdout(output) }
            }
        }
    }

    /// Keeps what was done, and says how to go on.
    fn suspend(&mut self, place: &Place, tally: &Tally, before: u64) -> Result<&'static str, Failure> {
        match self {
            Self::Journal(journal, _) => {
                journal.mark(place, tally)?;
                note(&format!("{} lines done, {} of them in this run", tally.total, tally.total - before));
                Ok("give the same command again: it goes on where this one ended")
            }
            Self::Stream { dry_run: true, .. } => Ok("give the same command again"),
            Self::Stream { dry_run: false, .. } => {
                Ok("begin anew, with `-o FILE`: only then can a campaign go on where it ended")
            }
        }
    }

    fn finish(self, place: &Place, tally: &Tally) -> Result<(), Failure> {
        match self {
            Self::Journal(journal, _) => journal.finish(place, tally),
            Self::Stream { .. } => Ok(()),
        }
    }
}

struct Campaign {
    shared: Arc<Shared>,
    feed: Feed,
    pace: Pace,
    workers: usize,
    stop: Stop,
    sink: Sink,
    /// How many lines with an item on them have been read.
    next: u64,
    tally: Tally,
    /// How far all is written.
    done: Option<Place>,
    bar: ProgressBar,
}

impl Campaign {
    /// Runs until the inventory ends. Fails with nothing where somebody ordered the end.
    async fn run(&mut self) -> Result<(), Option<Failure>> {
        let start = self.feed.place().clone();
        self.done = Some(start);
        let mut under_way: VecDeque<JoinHandle<Result<Done, Failure>>> = VecDeque::new();
        let mut is_over = false;
        loop {
            while !is_over && under_way.len() < self.workers && !self.stop.is_ordered() {
                let Some(chunk) = self.feed.next(self.pace.chunk(MAX_BATCH))? else {
                    is_over = true;
                    break;
                };
                self.pace.wait(chunk.lines().count(), &self.stop).await;
                let first = self.next;
                self.next += u64::try_from(chunk.items().count()).unwrap_or(0);
                under_way.push_back(tokio::spawn(work(Arc::clone(&self.shared), first, chunk)));
            }
            let Some(next) = under_way.pop_front() else { break };
            let done = next.await.map_err(|error| {
                Failure::new(Exit::Failure, "a part of the campaign ended by itself").because(&error)
            })??;
            self.tally.add(&done.tally);
            self.bar.inc(done.end.bytes - self.done.as_ref().map_or(0, |place| place.bytes));
            self.sink.put(&done, &self.tally)?;
            self.done = Some(done.end);
        }
        if is_over { Ok(()) } else { Err(None) }
    }
}
