//! What a measuring program found out, and the forms in which it is told: targets with what was measured, tables and
//! charts of the numbers behind them.
//!
//! A [`Report`] is printed as a table ([`Report::terminal`]) and written to a folder ([`Report::write`]), where the
//! reports of several programs live beside each other under one index page.

mod page;
mod svg;

use serde::{Deserialize, Serialize};

/// Whether a target was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As asked or better.
    Met,
    /// Worse than asked, for want of nothing but a faster machine: what falls short runs at the speed of memory.
    Roofline,
    /// Worse than asked.
    Unmet,
    /// This machine or build cannot tell.
    Unmeasured,
}

impl Verdict {
    /// Met if `ok`.
    pub fn of(ok: bool) -> Self {
        if ok { Self::Met } else { Self::Unmet }
    }

    /// For the table.
    pub fn word(self) -> &'static str {
        match self {
            Self::Met => "yes",
            Self::Roofline => "roofline",
            Self::Unmet => "no",
            Self::Unmeasured => "not measured",
        }
    }
}

/// One row of the table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Target {
    /// What is asked about.
    pub what: String,
    /// What is asked for.
    pub target: String,
    /// What was found.
    pub measured: String,
    /// Whether that is enough.
    pub met: Verdict,
    /// Why not, or how it is to be read; may be empty.
    pub note: String,
}

/// A value of one series at one place of a chart.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bar {
    /// The place: an operation, a size.
    pub place: String,
    /// The series: who did it.
    pub series: String,
    /// In the chart's unit.
    pub value: f64,
}

/// Numbers to be drawn as bars.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Chart {
    /// Its file name without extension.
    pub name: String,
    /// What it shows.
    pub title: String,
    /// The unit of its values.
    pub unit: String,
    /// Value of a dashed line across, with its label.
    pub line: Option<(f64, String)>,
    /// In the order in which they are drawn.
    pub bars: Vec<Bar>,
}

impl Chart {
    /// A chart without bars yet.
    pub fn new(name: &str, title: &str, unit: &str) -> Self {
        Self {
            name: name.into(),
            title: title.into(),
            unit: unit.into(),
            line: None,
            bars: Vec::new(),
        }
    }

    /// Adds a bar.
    pub fn bar(&mut self, place: &str, series: &str, value: f64) {
        self.bars.push(Bar {
            place: place.into(),
            series: series.into(),
            value,
        });
    }
}

/// Figures in rows, each row as long as the head.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// How it is to be read; may be empty.
    pub note: String,
    /// Names of the columns. The first column is text, the others are numbers.
    pub head: Vec<String>,
    /// Cells.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows yet.
    pub fn new(title: impl Into<String>, note: impl Into<String>, head: &[&str]) -> Self {
        Self {
            title: title.into(),
            note: note.into(),
            head: head.iter().map(|name| (*name).to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }
}

/// All that one run of a measuring program found out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Its file name without extension.
    pub name: String,
    /// What it is about.
    pub title: String,
    /// The command that makes it.
    pub command: String,
    /// What it ran on.
    pub machine: Vec<String>,
    /// What else a reader must know.
    pub notes: Vec<String>,
    /// What was asked for, and whether it was reached; may be empty.
    pub targets: Vec<Target>,
    /// The figures.
    pub tables: Vec<Table>,
    /// The figures drawn.
    pub charts: Vec<Chart>,
}

impl Report {
    /// Nothing found out yet about `title`, on this machine.
    pub fn new(name: &str, title: &str, command: String) -> Self {
        Self {
            name: name.into(),
            title: title.into(),
            command,
            machine: crate::machine::describe(),
            notes: Vec::new(),
            targets: Vec::new(),
            tables: Vec::new(),
            charts: Vec::new(),
        }
    }

    /// Adds a note.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Adds a row to the targets.
    pub fn target(
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

    /// Adds the line about other work on the machine, where the system tells of it.
    pub fn note_load(&mut self) {
        if let Some(load) = crate::machine::load() {
            self.note(format!(
                "Load of the machine before the run: {load:.1} (1 for each core that others keep busy). With other work \
                 beside it, times are longer and ratios less certain."
            ));
        }
    }

    /// How many targets are met.
    fn met(&self) -> usize {
        let met = self.targets.iter().filter(|t| t.met == Verdict::Met);
        met.count()
    }
}
