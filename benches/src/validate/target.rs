//! What is found out: targets with what was measured, and the numbers behind them.

use serde::Serialize;

/// Whether a target was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// As asked or better.
    Met,
    /// Worse than asked.
    Unmet,
    /// This machine or build cannot tell.
    Unmeasured,
}

impl Verdict {
    /// Met if `ok`.
    pub(crate) fn of(ok: bool) -> Self {
        if ok { Self::Met } else { Self::Unmet }
    }

    /// For the table.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Met => "yes",
            Self::Unmet => "no",
            Self::Unmeasured => "not measured",
        }
    }
}

/// One row of the table.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Target {
    /// What is asked about.
    pub(crate) what: String,
    /// What is asked for.
    pub(crate) target: String,
    /// What was found.
    pub(crate) measured: String,
    /// Whether that is enough.
    pub(crate) met: Verdict,
    /// Why not, or how it is to be read; may be empty.
    pub(crate) note: String,
}

/// A value of one series at one place of a chart.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Bar {
    /// The place: an operation, a size.
    pub(crate) place: String,
    /// The series: who did it.
    pub(crate) series: String,
    /// In the chart's unit.
    pub(crate) value: f64,
}

/// Numbers to be drawn as bars.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Chart {
    /// Its file name without extension.
    pub(crate) name: String,
    /// What it shows.
    pub(crate) title: String,
    /// The unit of its values.
    pub(crate) unit: String,
    /// Value of a dashed line across, with its label.
    pub(crate) line: Option<(f64, String)>,
    /// In the order in which they are drawn.
    pub(crate) bars: Vec<Bar>,
}

impl Chart {
    /// A chart without bars yet.
    pub(crate) fn new(name: &str, title: &str, unit: &str) -> Self {
        Self {
            name: name.into(),
            title: title.into(),
            unit: unit.into(),
            line: None,
            bars: Vec::new(),
        }
    }

    /// Adds a bar.
    pub(crate) fn bar(&mut self, place: &str, series: &str, value: f64) {
        self.bars.push(Bar {
            place: place.into(),
            series: series.into(),
            value,
        });
    }
}

/// All that one run found out.
#[derive(Debug, Serialize)]
pub(crate) struct Validation {
    /// What it ran on.
    pub(crate) machine: Vec<String>,
    /// What else a reader must know.
    pub(crate) notes: Vec<String>,
    /// The table.
    pub(crate) targets: Vec<Target>,
    /// The numbers behind it.
    pub(crate) charts: Vec<Chart>,
}

impl Validation {
    /// Nothing found out yet.
    pub(crate) fn new(machine: Vec<String>) -> Self {
        Self {
            machine,
            notes: Vec::new(),
            targets: Vec::new(),
            charts: Vec::new(),
        }
    }

    /// Adds a note.
    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Adds a row.
    pub(crate) fn target(
        &mut self,
        what: impl Into<String>,
        target: impl Into<String>,
        measured: impl Into<String>,
        met: Verdict,
        note: impl Into<String>,
    ) {
        self.targets.push(Target {
            what: what.into(),
            target: target.into(),
            measured: measured.into(),
            met,
            note: note.into(),
        });
    }
}
