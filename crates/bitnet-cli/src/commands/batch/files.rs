//! The files of a run. Parquet files become lines of JSON before it, and are made of such lines behind it.

use super::journal::beside;
use crate::parquet;
use bitnet::Error;
use std::fs;
use std::path::{Path, PathBuf};

/// The files of a run.
pub(super) struct Files {
    /// Lines of requests.
    pub(super) input: PathBuf,
    /// Where the lines of results go.
    pub(super) output: PathBuf,
    /// The Parquet file that these become.
    table: Option<PathBuf>,
    /// Whether the lines of requests were made of a Parquet file.
    made: bool,
}

impl Files {
    /// The files of a run from `input` to `output`, beside which lines stand in the place of Parquet files until all texts are there.
    ///
    /// # Errors
    /// If a Parquet file cannot be read, or the program was built without them.
    pub(super) fn open(input: &Path, output: &Path, restart: bool) -> anyhow::Result<Self> {
        let table = parquet::is_named(output).then(|| output.to_owned());
        let mut files = Self {
            input: input.to_owned(),
            output: output.to_owned(),
            table,
            made: parquet::is_named(input),
        };
        if let Some(table) = &files.table {
            parquet::check(table)?;
        }
        if files.made {
            files.input = beside(output, ".in.jsonl");
            parquet::to_lines(input, &files.input)?;
        }
        if files.table.is_some() {
            files.output = beside(output, ".jsonl");
            // An earlier run that is complete.
            if output.exists() && !files.output.exists() && !restart {
                parquet::to_lines(output, &files.output)?;
            }
        }
        Ok(files)
    }

    /// Makes the Parquet file, and removes the lines that stood in the place of one.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        let remove = |path: &Path| fs::remove_file(path).map_err(|error| Error::io(path, error));
        if let Some(table) = &self.table {
            parquet::from_lines(&self.output, table)?;
            remove(&self.output)?;
        }
        if self.made {
            remove(&self.input)?;
        }
        Ok(())
    }
}
