//! Sinks on a real disk: one suite for every target, and what is each one's own.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail")]
#![allow(unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;
mod cursors;
mod pressure;
mod receiver;
mod rig;
mod suite;

use rig::{FileSite, SyslogSite};

#[test]
fn a_file_has_every_entry_once_and_in_order() {
    suite::everything_arrives(&FileSite::new());
}

#[test]
fn a_receiver_has_every_entry_and_in_order() {
    suite::everything_arrives(&SyslogSite::new());
}

#[test]
fn a_file_catches_up_after_an_outage() {
    suite::an_outage_loses_nothing(&FileSite::new());
}

#[test]
fn a_receiver_catches_up_after_an_outage() {
    suite::an_outage_loses_nothing(&SyslogSite::new());
}

#[test]
fn a_file_goes_on_after_a_restart() {
    suite::a_restart_goes_on(&FileSite::new());
}

#[test]
fn a_receiver_goes_on_after_a_restart() {
    suite::a_restart_goes_on(&SyslogSite::new());
}

#[test]
fn a_file_gets_the_logs_that_were_named() {
    suite::a_filter_holds_and_later_logs_are_found(&FileSite::new());
}

#[test]
fn a_receiver_gets_the_logs_that_were_named() {
    suite::a_filter_holds_and_later_logs_are_found(&SyslogSite::new());
}

#[test]
fn a_file_skips_what_was_pruned_and_says_so() {
    suite::what_was_pruned_is_counted_and_skipped(&FileSite::new());
}

#[test]
fn a_receiver_skips_what_was_pruned_and_says_so() {
    suite::what_was_pruned_is_counted_and_skipped(&SyslogSite::new());
}
