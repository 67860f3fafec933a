//! Ctrl-C as something that a command looks at where it can stop in good order.
//!
//! While nobody watches, Ctrl-C ends the program as it ends any. While somebody does, the first Ctrl-C stops the downloads
//! and generations that know of it, and the second one, should nobody have taken notice, ends the program.

use anyhow::{Context, Result};
use bitnet::Cancel;
use std::sync::{Arc, Mutex, PoisonError};

/// What Ctrl-C sets. Clones share it; whoever holds one watches.
#[derive(Clone, Default)]
pub(crate) struct Interrupt {
    holders: Arc<()>,
    cancel: Cancel,
}

static WATCHED: Mutex<Option<Interrupt>> = Mutex::new(None);

impl Interrupt {
    /// Watches for Ctrl-C from now on.
    ///
    /// # Errors
    /// If the system lets nobody handle the signal.
    pub(crate) fn watch() -> Result<Self> {
        let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(interrupt) = watched.as_ref() {
            return Ok(interrupt.clone());
        }
        /// The holders that do not watch: the handler and `WATCHED`.
        const IDLE: usize = 2;

        let interrupt = Self::default();
        let seen = interrupt.clone();
        ctrlc::set_handler(move || {
            if seen.is_pressed() || Arc::strong_count(&seen.holders) <= IDLE {
                std::process::exit(130);
            }
            seen.cancel.cancel();
        })
        .context("cannot watch for Ctrl-C")?;
        *watched = Some(interrupt.clone());
        Ok(interrupt)
    }

    /// The flag for downloads and generations.
    pub(crate) fn cancel(&self) -> Cancel {
        self.cancel.clone()
    }

    /// Whether Ctrl-C was pressed since the last [`reset`](Self::reset).
    pub(crate) fn is_pressed(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Takes notice of it: the program goes on.
    pub(crate) fn reset(&self) {
        self.cancel.reset();
    }
}
