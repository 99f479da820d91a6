//! A chunk of lines, from what stands there to what stands there afterwards.

use super::Check;
use super::feed::{Chunk, Place};
use super::keys::{self, Found, Route};
use super::line::{self, Line};
use super::post::{Ask, Post};
use super::tally::{Failed, Tally};
use crate::failure::Failure;
use holdfast_sdk::field::ContextPairs;
use holdfast_sdk::message::BatchItem;
use std::sync::Arc;

/// What every chunk's task needs.
pub(super) struct Shared {
    pub(super) route: Route,
    pub(super) context: Option<ContextPairs>,
    pub(super) check: Check,
    /// How many lines have an item on them, where a sample needs that.
    pub(super) items: u64,
    pub(super) dry_run: bool,
    pub(super) post: Post,
}

/// What came of a chunk.
pub(super) struct Done {
    pub(super) output: Vec<u8>,
    pub(super) failures: Vec<u8>,
    pub(super) tally: Tally,
    pub(super) end: Place,
}

/// One line on its way.
struct Item<'a> {
    number: u64,
    /// Which of all items it is, empty lines not counted.
    index: u64,
    line: &'a [u8],
    read: Line,
    found: Found<'a>,
    /// The new ciphertext with the version that made it.
    new: Option<(Vec<u8>, u32)>,
    failed: Option<Box<Failed>>,
}

/// Rewraps a chunk's lines, whose first item is this one of all, compares what is to be compared, and writes the lines anew.
pub(super) async fn work(shared: Arc<Shared>, first: u64, chunk: Chunk) -> Result<Done, Failure> {
    let Shared { route, context, check, items: all, dry_run, post } = &*shared;
    let mut tally = Tally::default();
    let mut items = vec![];
    let mut unread = vec![];
    for (index, (number, line)) in (first..).zip(chunk.items()) {
        let judged = Line::read(line).and_then(|read| {
            let found = route.judge(&read.ciphertext)?;
            Ok(Item { number, index, line, read, found, new: None, failed: None })
        });
        match judged {
            Ok(item) => items.push(item),
            Err(failed) => unread.push((number, named(number, line, failed))),
        }
    }
    if !dry_run {
        rewrap(post, context.as_ref(), &mut items).await?;
    }
    let wanted = |index| check.takes(index, *all);
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
        .filter(|(_, item)| item.failed.is_none() && wanted(item.index))
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
