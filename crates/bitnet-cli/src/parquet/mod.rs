//! Parquet files, in the place of lines of JSON: requests and results of `bitnet batch`, and texts and vectors of `bitnet embed`.

#[cfg(not(feature = "parquet"))]
mod absent;
#[cfg(feature = "parquet")]
mod table;

#[cfg(not(feature = "parquet"))]
pub(crate) use absent::{check, from_lines, texts, to_lines, write_vectors};
#[cfg(feature = "parquet")]
pub(crate) use table::{check, from_lines, texts, to_lines, write_vectors};

use std::path::Path;

/// Whether `path` is named as a Parquet file.
pub(crate) fn is_named(path: &Path) -> bool {
    let extension = path.extension();
    extension.is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"))
}
