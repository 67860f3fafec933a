//! Progress on stderr: bars on a terminal, for what is slow; a plain line elsewhere, for downloads only.

use crate::{printable, units};
use bitnet::hub::Progress;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, stderr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Work shorter than this shows no bar.
const SLOW: Duration = Duration::from_millis(700);

/// The bar of one download after another.
#[derive(Default)]
pub(crate) struct Downloads {
    bar: Mutex<Option<ProgressBar>>,
}

impl Progress for Downloads {
    fn start(&self, name: &str, total: Option<u64>, resumed: u64) {
        let name = printable::line(name);
        let mut slot = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = slot.take() {
            bar.finish_and_clear();
        }
        if !stderr().is_terminal() {
            let size = total.map(|total| format!(" ({})", units::bytes(total)));
            eprintln!("downloading {name}{}", size.unwrap_or_default());
            return;
        }
        let (bar, template) = match total {
            Some(total) => (
                ProgressBar::new(total),
                "{msg} {wide_bar} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta}",
            ),
            None => (
                ProgressBar::new_spinner(),
                "{spinner} {msg} {decimal_bytes} {decimal_bytes_per_sec}",
            ),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(name.into_owned());
        bar.set_position(resumed);
        bar.reset_eta();
        *slot = Some(bar);
    }

    fn advance(&self, bytes: u64) {
        let slot = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = slot.as_ref() {
            bar.inc(bytes);
        }
    }

    fn finish(&self) {
        let mut slot = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = slot.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Downloads {
    fn drop(&mut self) {
        self.finish();
    }
}

/// The bar of some work in known steps, shown when it turns out to be slow.
pub(crate) struct Steps {
    what: &'static str,
    begin: Instant,
    bar: Option<ProgressBar>,
}

impl Steps {
    /// `what` in one word: loading, reading, …
    pub(crate) fn new(what: &'static str) -> Self {
        Self {
            what,
            begin: Instant::now(),
            bar: None,
        }
    }

    /// So many steps of all are done.
    pub(crate) fn set(&mut self, done: u64, all: u64) {
        if self.bar.is_none() && done < all && self.begin.elapsed() > SLOW && stderr().is_terminal()
        {
            let bar = ProgressBar::new(all);
            if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}") {
                bar.set_style(style);
            }
            bar.set_message(self.what);
            self.bar = Some(bar);
        }
        if let Some(bar) = &self.bar {
            bar.set_length(all);
            bar.set_position(done);
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
