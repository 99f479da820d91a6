//! A progress bar, on a terminal only.

use crate::output::stderr_is_terminal;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over so many of something; hidden where nobody looks.
pub(crate) fn bar(total: Option<u64>, template: &str) -> ProgressBar {
    let target =
        if stderr_is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(total, target);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// A bar over bytes.
pub(crate) fn bytes(total: Option<u64>) -> ProgressBar {
    match total {
        Some(_) => bar(total, "{bar:30} {bytes}/{total_bytes} {bytes_per_sec}"),
        None => bar(total, "{spinner} {bytes} {bytes_per_sec}"),
    }
}

/// A bar over things that are counted.
pub(crate) fn count(what: &str) -> ProgressBar {
    bar(Some(0), &format!("{{bar:30}} {{pos}}/{{len}} {what}"))
}
