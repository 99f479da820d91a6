//! A campaign over JSON lines: each object's `ciphertext` is replaced, and nothing else of it touched.

use super::feed::{Chunk, Feed, Pace, Place};
use super::journal::{Journal, Resumed};
use super::keys::{self, Found, Known, Route};
use super::line::{self, Line};
use super::post::{Ask, Post};
use super::report::Ending;
use super::stop::Stop;
use super::tally::{Failed, Tally};
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
use holdfast_sdk::message::BatchItem;
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

/// What every chunk's task needs.
struct Shared {
    route: Route,
    context: Option<ContextPairs>,
    check: Check,
    /// How many lines there are, where a sample needs that.
    lines: u64,
    dry_run: bool,
    post: Post,
}

/// What came of a chunk.
struct Done {
    output: Vec<u8>,
    failures: Vec<u8>,
    tally: Tally,
    end: Place,
}

/// Runs it to its end, or as far as it comes.
pub(crate) fn run(app: &App, lines: Lines, settings: &Settings) -> Result<Ending, Failure> {
    let Lines { input, key, target, context, output } = lines;
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
    let lines = match settings.check {
        Check::Sample(_) => count_lines(&input)?,
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
    if let (Some(journal), Some(resumed)) = (&journal, &resumed) {
        let Resumed { input_bytes, input_lines, input_sha256, tally: done } = resumed;
        if !feed.skip(*input_bytes, *input_lines, input_sha256)? {
            return Err(journal.another_inventory());
        }
        if *input_lines > 0 {
            note(&format!("going on behind line {input_lines}"));
        }
        tally = done.clone();
    }
    if let Some(journal) = &mut journal {
        // From the first moment on, what lies there is this campaign's to go on with.
        journal.mark(feed.place(), &tally)?;
    }
    let shared = Arc::new(Shared {
        post: Post::new(tenant, settings.patience, stop.clone()),
        context,
        check: settings.check,
        lines,
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
    let keys = std::iter::once((route.from.clone(), true)).chain(other).collect();
    Ok(Ending::new(tally, keys, begun.elapsed(), before, settings.dry_run))
}

fn count_lines(input: &Input) -> Result<u64, Failure> {
    if *input == Input::Stdin {
        return Err(Failure::usage(
            "nobody can say how many lines stdin will have, to take a sample of them",
        )
        .remedy("name a file, or verify with `--verify full`"));
    }
    let mut stream = input.open()?.0;
    let (mut lines, mut last, mut buffer) = (0_u64, b'\n', vec![0; 1 << 18]);
    loop {
        let length = stream.read(&mut buffer).map_err(|error| {
            Failure::new(Exit::Failure, "the inventory cannot be read")
                .because(&error)
                .remedy("look at the cause")
        })?;
        let read = buffer.get(..length).unwrap_or_default();
        let ends = read.iter().filter(|byte| **byte == b'\n').count();
        lines += u64::try_from(ends).unwrap_or(0);
        match read.last() {
            Some(byte) => last = *byte,
            None => return Ok(lines + u64::from(last != b'\n')),
        }
    }
}

/// Where lines go.
enum Sink {
    /// A file with a journal.
    Journal(Box<Journal>, Instant),
    /// Stdout, with a list of failures perhaps; or nowhere, in a dry run.
    Stream { failures: Option<std::fs::File>, dry_run: bool },
}

impl Sink {
    fn new(journal: Option<Journal>, settings: &Settings) -> Result<Self, Failure> {
        match journal {
            Some(journal) => Ok(Self::Journal(Box::new(journal), Instant::now())),
            None => Ok(Self::Stream { failures: super::report::list(settings)?, dry_run: settings.dry_run }),
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
                super::report::append(list.as_mut(), failures)?;
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
                under_way.push_back(tokio::spawn(work(Arc::clone(&self.shared), chunk)));
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

/// One line on its way.
struct Item<'a> {
    number: u64,
    line: &'a [u8],
    read: Line,
    found: Found<'a>,
    /// The new ciphertext with the version that made it.
    new: Option<(Vec<u8>, u32)>,
    failed: Option<Box<Failed>>,
}

/// Rewraps a chunk's lines, compares what is to be compared, and writes the lines anew.
async fn work(shared: Arc<Shared>, chunk: Chunk) -> Result<Done, Failure> {
    let Shared { route, context, check, lines, dry_run, post } = &*shared;
    let mut tally = Tally::default();
    let mut items = vec![];
    let mut unread = vec![];
    for (number, line) in chunk.lines().filter(|(_, line)| !line.trim_ascii().is_empty()) {
        let judged = Line::read(line).and_then(|read| {
            let found = route.judge(&read.ciphertext)?;
            Ok(Item { number, line, read, found, new: None, failed: None })
        });
        match judged {
            Ok(item) => items.push(item),
            Err(failed) => unread.push((number, named(number, line, failed))),
        }
    }
    if !dry_run {
        rewrap(post, context.as_ref(), &mut items).await?;
    }
    let wanted = |number| check.takes(number, *lines);
    compare(post, context.as_ref(), &mut items, wanted, &mut tally).await?;

    let (mut output, mut failures) = (Vec::with_capacity(chunk.end.bytes.min(1 << 17) as usize), vec![]);
    let (mut items, mut unread) = (items.into_iter().peekable(), unread.into_iter().peekable());
    for (number, line) in chunk.lines() {
        if let Some((_, failed)) = unread.next_if(|(of, _)| *of == number) {
            tally.total += 1;
            tally.unreadable += u64::from(failed.error == "malformed");
            list(&failed, &mut tally, &mut failures);
            output.extend_from_slice(line);
        } else if let Some(item) = items.next_if(|item| item.number == number) {
            settle(item, *dry_run, &mut tally, &mut output, &mut failures);
        } else {
            output.extend_from_slice(line);
        }
    }
    Ok(Done { output, failures, tally, end: chunk.end.clone() })
}

async fn rewrap(post: &Post, context: Option<&ContextPairs>, items: &mut [Item<'_>]) -> Result<(), Failure> {
    let due = |item: &&Item<'_>| item.found.due.is_some();
    let asks: Vec<Ask<_>> = items.iter().filter(due).map(|item| ask_rewrap(item, context)).collect();
    let answers = post.ask(&asks).await?;
    drop(asks);
    for (item, answer) in items.iter_mut().filter(|item| item.found.due.is_some()).zip(answers) {
        match answer.and_then(keys::rewrapped) {
            Ok(new) => item.new = Some(new),
            Err(failed) => item.failed = Some(named(item.number, item.line, failed)),
        }
    }
    Ok(())
}

fn ask_rewrap<'a>(item: &'a Item<'_>, context: Option<&'a ContextPairs>) -> Ask<impl Fn() -> BatchItem + 'a> {
    let build = move || {
        let to = item.found.due.unwrap_or(item.found.key);
        keys::rewrap(&item.found, to, &item.read.ciphertext, item.read.context.as_ref().or(context))
    };
    Ask { bytes: item.read.ciphertext.len(), build }
}

/// Opens the old ciphertext and the new one, and compares what they hold. What was left alone is opened once.
async fn compare(
    post: &Post,
    context: Option<&ContextPairs>,
    items: &mut [Item<'_>],
    wanted: impl Fn(u64) -> bool,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let chosen: Vec<usize> = items
        .iter()
        .enumerate()
        .filter(|(_, item)| item.failed.is_none() && wanted(item.number))
        .map(|(index, _)| index)
        .collect();
    if chosen.is_empty() {
        return Ok(());
    }
    let of = |index: &usize| items.get(*index);
    let asks: Vec<Ask<_>> = chosen.iter().filter_map(of).flat_map(|item| opens(item, context)).collect();
    let mut answers = post.ask(&asks).await?.into_iter();
    drop(asks);
    for index in chosen {
        let Some(item) = items.get_mut(index) else { continue };
        let mut next = || match answers.next() {
            Some(answer) => answer.and_then(keys::opened),
            None => Err(keys::different()),
        };
        let old = next();
        let new = item.new.is_some().then(next);
        match keys::same(old, new) {
            Ok(()) => tally.verified += 1,
            Err(failed) => item.failed = Some(named(item.number, item.line, failed)),
        }
    }
    Ok(())
}

fn opens<'a>(
    item: &'a Item<'_>,
    context: Option<&'a ContextPairs>,
) -> impl Iterator<Item = Ask<impl Fn() -> BatchItem + 'a>> {
    let Item { read, found, new, .. } = item;
    let old = (&found.key.name, &read.ciphertext);
    let new = new.as_ref().map(|(new, _)| (&found.due.unwrap_or(found.key).name, new));
    std::iter::once(old).chain(new).map(move |(key, ciphertext)| {
        let context = read.context.as_ref().or(context);
        Ask { bytes: ciphertext.len(), build: move || keys::open(key, found.class, ciphertext, context) }
    })
}

/// Writes a line as it is now, and counts it.
fn settle(item: Item<'_>, dry_run: bool, tally: &mut Tally, output: &mut Vec<u8>, failures: &mut Vec<u8>) {
    let Item { line, read, found, new, failed, .. } = item;
    let here = (found.key.name.as_str(), found.version.get());
    tally.total += 1;
    match (failed, new, found.due) {
        (Some(failed), _, _) => {
            tally.count(here, here);
            list(&failed, tally, failures);
            output.extend_from_slice(line);
        }
        (None, Some((ciphertext, version)), Some(to)) => {
            tally.rewrapped += 1;
            tally.count(here, (to.name.as_str(), version));
            read.with(line, &ciphertext, output);
        }
        (None, _, due) => {
            let is_due = due.is_some() && dry_run;
            tally.due += u64::from(is_due);
            tally.already_newest += u64::from(!is_due);
            tally.count(here, here);
            output.extend_from_slice(line);
        }
    }
}

fn list(failed: &Failed, tally: &mut Tally, failures: &mut Vec<u8>) {
    tally.fail(failed);
    // Text and numbers can always be written.
    if serde_json::to_writer(&mut *failures, failed).is_ok() {
        failures.push(b'\n');
    }
}

fn named(number: u64, line: &[u8], failed: Box<Failed>) -> Box<Failed> {
    failed.of(&format!("line {}", number + 1), line::id(line))
}
