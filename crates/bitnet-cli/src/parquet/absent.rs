//! Parquet files, where the program was built without them: they are refused.

use crate::failure::Usage;
use bitnet::Embeddings;
use std::path::Path;

fn refused<T>(path: &Path) -> anyhow::Result<T> {
    Err(Usage(format!(
        "{}: this program was built without Parquet: build it with `--features parquet`, or use lines of JSON",
        path.display()
    ))
    .into())
}

pub(crate) fn check(path: &Path) -> anyhow::Result<()> {
    refused(path)
}

pub(crate) fn to_lines(from: &Path, _: &Path) -> anyhow::Result<()> {
    refused(from)
}

pub(crate) fn from_lines(_: &Path, to: &Path) -> anyhow::Result<()> {
    refused(to)
}

pub(crate) fn texts(path: &Path, _: &str) -> anyhow::Result<Vec<String>> {
    refused(path)
}

pub(crate) fn write_vectors(path: &Path, _: &[String], _: &Embeddings) -> anyhow::Result<()> {
    refused(path)
}
