//! What who waits is told, and when.

use super::*;
use crate::disk::sim::SimDisk;
use crate::files::LogFiles;
use crate::merkle::leaf_hash;
use crate::tree::{Edge, Openings};
use std::convert::Infallible;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;
use zeroize::Zeroizing;

/// Nothing here takes as long, unless it is broken.
const LONG: Duration = Duration::from_secs(20);

fn log() -> LogId {
    "a".parse().unwrap()
}

/// That log's tree, of so many entries.
fn tree(size: u64) -> Tree {
    tree_of(log(), size)
}

fn tree_of(log: LogId, size: u64) -> Tree {
    let (disk, dir) = (Arc::new(SimDisk::new()), Path::new("/"));
    let mut edge = Edge::default();
    (0..size).for_each(|_| edge.push(leaf_hash(b"x"), |_, _| Ok::<_, Infallible>(())).unwrap());
    let signer = Arc::new(Signer::from_seed("test.example/a", &Zeroizing::new([1; 32])).unwrap());
    Tree::new(Path::new("/"), log, LogFiles::new(disk.clone(), dir), Openings::new(disk, dir), signer, edge)
}

fn stalled(why: &str, answered: u64) -> Progress {
    Progress { stalled: [(log(), Arc::from(why))].into(), answered, ..Progress::default() }
}

/// A thread of its own, and what it says in the end.
fn meanwhile<T: Send + 'static>(board: &Arc<Board>, ask: fn(&Board) -> T) -> Receiver<T> {
    let (board, (told, answer)) = (Arc::clone(board), channel());
    std::thread::spawn(move || told.send(ask(&board)));
    answer
}

#[test]
fn who_asks_in_vain_wakes_the_tiler_once_and_waits_for_the_answer_to_that() {
    let board = Arc::new(Board::new(1, 0, HashSet::new()));
    let turn = |patience| board.wait(1, Duration::ZERO, Some(patience));
    assert!(!turn(Duration::ZERO).asked);
    board.report(stalled("full", 0), [].into_iter());
    let answer = meanwhile(&board, |board| board.wait_published(&log(), 1));
    let Turn { work, asked, asks, .. } = turn(LONG);
    assert!(matches!(work, Work::Retry) && asked && asks == 1);
    assert!(!turn(Duration::ZERO).asked, "that was taken up");
    // It is in a hurry, and again after each report that answers something else.
    assert!(matches!(board.wait(0, LONG, None).work, Work::Read(1)));
    board.report(stalled("full", 0), [].into_iter());
    assert!(matches!(board.wait(0, LONG, None).work, Work::Read(1)));
    board.report(stalled("still full", 1), [].into_iter());
    assert_eq!(answer.recv_timeout(LONG).unwrap(), Err(Arc::from("still full")));
    // The next one asks again.
    let answer = meanwhile(&board, |board| board.wait_published(&log(), 1));
    assert_eq!(turn(LONG).asks, 2);
    board.report(Progress { answered: 2, ..Progress::default() }, [&tree(1)].into_iter());
    assert_eq!(answer.recv_timeout(LONG).unwrap(), Ok(()));
}

#[test]
fn the_tiler_waits_for_so_long_and_no_longer_than_there_is_a_writer() {
    const BRIEF: Duration = Duration::from_millis(5);
    const HOUR: Duration = Duration::from_secs(3600);
    let board = Arc::new(Board::new(1, 0, [log()].into()));
    let takes_a_while = |holds: &dyn Fn() -> bool| {
        let begun = Instant::now();
        holds() && begun.elapsed() >= BRIEF
    };
    assert!(takes_a_while(&|| !board.wait_registered(BRIEF)));
    assert!(takes_a_while(&|| !board.pause(BRIEF)));
    assert!(takes_a_while(&|| matches!(board.wait(0, BRIEF, None).work, Work::Read(1))), "it gathers");
    assert!(takes_a_while(&|| matches!(board.wait(1, BRIEF, Some(BRIEF)).work, Work::Retry)));
    board.writer_stopped(None);
    let ends = meanwhile(&board, |board| {
        let stops = matches!(board.wait(1, HOUR, Some(HOUR)).work, Work::Stop);
        (board.wait_registered(HOUR), board.pause(HOUR), stops)
    });
    assert_eq!(ends.recv_timeout(LONG), Ok((true, true, true)));
    board.adopt(tree(0));
    assert!(!board.wait_registered(HOUR), "somebody took it up");
}

#[test]
fn who_follows_is_told_of_each_log_once() {
    let board = Board::new(0, 0, HashSet::new());
    let other: LogId = "other".parse().unwrap();
    board.adopt(tree(1));
    let (round, grown) = board.grown_since(0);
    assert_eq!(grown, [(log(), 1)]);
    board.adopt(tree_of(other.clone(), 2));
    assert_eq!(board.grown_since(round).1, [(other, 2)]);
}

#[test]
fn where_nothing_grows_any_more_nobody_waits() {
    let said = |board: &Arc<Board>| {
        meanwhile(board, |board| board.wait_published(&log(), 1)).recv_timeout(LONG).unwrap().unwrap_err()
    };
    let board = Arc::new(Board::new(0, 0, HashSet::new()));
    board.tiler_stopped();
    assert_eq!(&*said(&board), "the log was closed");
    board.report(stalled("full", 0), [].into_iter());
    assert_eq!(&*said(&board), "full");
}

#[test]
fn a_reader_of_the_checkpoint_waits_for_what_is_about_to_be_under_it_and_for_nothing_else() {
    const HOUR: Duration = Duration::from_secs(3600);
    let board = |progress: Progress| {
        let board = Arc::new(Board::new(1, 0, HashSet::new()));
        board.adopt(tree(1));
        board.report(progress, [].into_iter());
        board
    };
    let two = |board: &Board| {
        board.wait_published_for(&log(), 2, HOUR);
        board.published_size(&log())
    };
    let waiting = board(Progress::default());
    let size = meanwhile(&waiting, two);
    assert!(matches!(waiting.wait(0, LONG, None).work, Work::Read(1)));
    waiting.report(Progress::default(), [&tree(2)].into_iter());
    assert_eq!(size.recv_timeout(LONG), Ok(2));
    // It is there already; no such log is open.
    assert_eq!(meanwhile(&waiting, two).recv_timeout(LONG), Ok(2));
    let none = Arc::new(Board::new(1, 0, HashSet::new()));
    assert_eq!(meanwhile(&none, two).recv_timeout(LONG), Ok(0));
    // It will not come.
    let broken = Progress { broken: Some(Arc::from("unreadable")), ..Progress::default() };
    let failed = board(Progress::default());
    failed.writer_stopped(Some(&NotDurable::new("sync", std::io::Error::other("gone"))));
    let stopped = board(Progress::default());
    stopped.tiler_stopped();
    for hopeless in [board(stalled("full", 0)), board(broken), failed, stopped] {
        assert_eq!(meanwhile(&hopeless, two).recv_timeout(LONG), Ok(1));
    }
}
