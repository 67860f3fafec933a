//! Passes the library's messages to the logger `bitnet_rust` of Python's `logging`.

use pyo3::prelude::*;
use std::fmt::{Debug, Write};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry};

/// Sends events to Python from now on: warnings, or as the variable `BITNET_LOG` says. Without effect the second time, or where the
/// command has its own way.
pub(crate) fn begin() {
    let filter = EnvFilter::try_from_env("BITNET_LOG");
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("warn"));
    // Another one that is there already stays.
    let _ = Registry::default().with(filter).with(ToPython).try_init();
}

struct ToPython;

impl<S: Subscriber> Layer<S> for ToPython {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        // Python's numbers of levels.
        let level = match *event.metadata().level() {
            Level::ERROR => 40,
            Level::WARN => 30,
            Level::INFO => 20,
            Level::DEBUG => 10,
            Level::TRACE => 5,
        };
        let text = line.message + &line.fields;
        // An interpreter that ends hears nothing any more; a handler that fails is no reason to stop working.
        let _ = Python::try_attach(|py| -> PyResult<()> {
            let logger = py
                .import("logging")?
                .call_method1("getLogger", ("bitnet_rust",))?;
            logger.call_method1("log", (level, "%s", text))?;
            Ok(())
        });
    }
}

/// An event in words.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
