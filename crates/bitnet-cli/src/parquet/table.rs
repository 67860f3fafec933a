//! Parquet files by the crate `parquet`, without Arrow: rows as JSON objects, and tables of columns.

use crate::printable::excerpt;
use anyhow::{Context, anyhow};
use bitnet::Embeddings;
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, FloatType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::SerializedFileReader;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

/// Rows that are written at a time.
const ROWS: usize = 8192;

/// The columns of results that are texts, and those that are numbers.
const TEXTS: [&str; 5] = ["id", "input", "text", "finish_reason", "error"];
const NUMBERS: [&str; 4] = ["line", "seed", "prompt_tokens", "generated_tokens"];

/// Whether such a file can be written at `path`, which is asked before the work.
///
/// # Errors
/// If there is no such folder.
pub(crate) fn check(path: &Path) -> anyhow::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder {
        std::fs::metadata(folder).map_err(|error| bitnet::Error::io(folder, error))?;
    }
    Ok(())
}

/// Writes the rows of a file as lines of JSON, an object each.
///
/// # Errors
/// If one of the files cannot be read or written, or `from` is no Parquet file.
pub(crate) fn to_lines(from: &Path, to: &Path) -> anyhow::Result<()> {
    let failed = |error| bitnet::Error::io(to, error);
    let mut out = BufWriter::new(File::create(to).map_err(failed)?);
    for row in rows(from)? {
        writeln!(out, "{}", Value::Object(row?)).map_err(failed)?;
    }
    out.flush().map_err(failed)?;
    Ok(())
}

/// Writes results, an object a line, as a file that is there when it is whole.
///
/// # Errors
/// If one of the files cannot be read or written.
pub(crate) fn from_lines(from: &Path, to: &Path) -> anyhow::Result<()> {
    let failed = |error| bitnet::Error::io(from, error);
    let lines = BufReader::new(File::open(from).map_err(failed)?).lines();
    let mut table = None;
    let mut objects: Vec<Map<String, Value>> = Vec::with_capacity(ROWS);
    let partial = to.with_extension("parquet.partial");
    for line in lines {
        objects.push(serde_json::from_str(&line.map_err(failed)?)?);
        if objects.len() == ROWS {
            Table::append(&mut table, &partial, columns_of(&objects))?;
            objects.clear();
        }
    }
    if !objects.is_empty() || table.is_none() {
        Table::append(&mut table, &partial, columns_of(&objects))?;
    }
    finish(table, &partial, to)
}

/// Results as columns.
fn columns_of(objects: &[Map<String, Value>]) -> Vec<(&'static str, Column)> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        // An id may be anything.
        other => other.to_string(),
    };
    let texts = TEXTS.map(|name| {
        let values = objects.iter().map(|object| object.get(name).map(text));
        (name, Column::Texts(values.collect()))
    });
    let numbers = NUMBERS.map(|name| {
        // Seeds beyond the middle are stored as the negative numbers of the same bits.
        let number = |object: &Map<String, Value>| Some(object.get(name)?.as_u64()?.cast_signed());
        (name, Column::Numbers(objects.iter().map(number).collect()))
    });
    texts.into_iter().chain(numbers).collect()
}

/// Writes texts, their tokens and their vectors as a file that is there when it is whole.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn write_vectors(
    path: &Path,
    texts: &[String],
    embeddings: &Embeddings,
) -> anyhow::Result<()> {
    let partial = path.with_extension("parquet.partial");
    let mut table = None;
    let mut first = 0;
    while first < texts.len() || table.is_none() {
        let last = texts.len().min(first + ROWS);
        let tokens = embeddings.tokens[first..last].iter();
        let columns = vec![
            (
                "text",
                Column::Texts(texts[first..last].iter().cloned().map(Some).collect()),
            ),
            (
                "tokens",
                Column::Numbers(tokens.map(|count| Some(*count as i64)).collect()),
            ),
            (
                "embedding",
                Column::Vectors(embeddings.rows[first..last].to_vec()),
            ),
        ];
        Table::append(&mut table, &partial, columns)?;
        first = last;
    }
    finish(table, &partial, path)
}

/// Gives a file its name when it is whole.
fn finish(table: Option<Table>, partial: &Path, path: &Path) -> anyhow::Result<()> {
    if let Some(table) = table {
        table.finish()?;
    }
    std::fs::rename(partial, path).map_err(|error| bitnet::Error::io(path, error))?;
    Ok(())
}

/// The rows of a file, as objects without the fields that are null.
///
/// # Errors
/// If it cannot be read, or is no Parquet file.
fn rows(path: &Path) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Map<String, Value>>>> {
    let file = File::open(path).map_err(|error| bitnet::Error::io(path, error))?;
    let place = path.display().to_string();
    let reader = SerializedFileReader::new(file).with_context(|| place.clone())?;
    let numbered = reader.into_iter().enumerate();
    Ok(numbered.map(move |(index, row)| {
        let row = row.with_context(|| format!("{place}: row {}", index + 1))?;
        let columns = row.into_columns().into_iter();
        let fields = columns.map(|(name, field)| (name, field.to_json_value()));
        Ok(fields.filter(|(_, value)| !value.is_null()).collect())
    }))
}

/// A column of a table.
enum Column {
    /// Texts, some of which may be missing.
    Texts(Vec<Option<String>>),
    /// Numbers, some of which may be missing.
    Numbers(Vec<Option<i64>>),
    /// Vectors, all of as many numbers.
    Vectors(Vec<Vec<f32>>),
}

/// A file that is being written, a few thousand rows at a time.
struct Table {
    writer: SerializedFileWriter<File>,
    path: String,
}

impl Table {
    /// A file with columns of these names, and of the kinds of `columns`.
    fn create(path: &Path, columns: &[(&str, Column)]) -> anyhow::Result<Self> {
        let file = File::create(path).map_err(|error| bitnet::Error::io(path, error))?;
        let fields: String = columns
            .iter()
            .map(|(name, column)| match column {
                Column::Texts(_) => format!("optional binary {name} (UTF8); "),
                Column::Numbers(_) => format!("optional int64 {name}; "),
                Column::Vectors(_) => format!(
                    "required group {name} (LIST) {{ repeated group list {{ required float element; }} }} "
                ),
            })
            .collect();
        let path = path.display().to_string();
        let schema = parse_message_type(&format!("message rows {{ {fields} }}"))
            .with_context(|| path.clone())?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .build();
        let writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties))
            .with_context(|| path.clone())?;
        Ok(Self { writer, path })
    }

    /// Writes rows to a file, which is created for the first of them.
    fn append(
        table: &mut Option<Self>,
        path: &Path,
        columns: Vec<(&str, Column)>,
    ) -> anyhow::Result<()> {
        let table = match table {
            Some(table) => table,
            None => table.insert(Self::create(path, &columns)?),
        };
        table.write(columns)
    }

    /// Writes rows, of the columns that the file was made with.
    fn write(&mut self, columns: Vec<(&str, Column)>) -> anyhow::Result<()> {
        let mut group = self.writer.next_row_group().context(self.path.clone())?;
        for (_, column) in columns {
            write_column(&mut group, column).with_context(|| self.path.clone())?;
        }
        group.close().with_context(|| self.path.clone())?;
        Ok(())
    }

    /// Writes the end.
    fn finish(self) -> anyhow::Result<()> {
        let file = self
            .writer
            .into_inner()
            .with_context(|| self.path.clone())?;
        file.sync_all().with_context(|| self.path.clone())
    }
}

fn write_column(
    group: &mut SerializedRowGroupWriter<'_, File>,
    column: Column,
) -> anyhow::Result<()> {
    let missing = || anyhow!("expected a column less, found one more than the file has");
    let mut writer = group.next_column()?.ok_or_else(missing)?;
    match column {
        Column::Texts(texts) => {
            let levels: Vec<i16> = texts.iter().map(|text| text.is_some().into()).collect();
            let values = texts.into_iter().flatten();
            let values: Vec<ByteArray> = values.map(|text| text.into_bytes().into()).collect();
            writer
                .typed::<ByteArrayType>()
                .write_batch(&values, Some(&levels), None)?;
        }
        Column::Numbers(numbers) => {
            let levels: Vec<i16> = numbers
                .iter()
                .map(|number| number.is_some().into())
                .collect();
            let values: Vec<i64> = numbers.into_iter().flatten().collect();
            writer
                .typed::<Int64Type>()
                .write_batch(&values, Some(&levels), None)?;
        }
        Column::Vectors(vectors) => {
            // 0 begins a list, 1 goes on with it.
            let repeats = vectors.iter().flat_map(|vector| {
                let places = 0..vector.len();
                places.map(|place| i16::from(place > 0))
            });
            let repeats: Vec<i16> = repeats.collect();
            let levels = vec![1; repeats.len()];
            writer.typed::<FloatType>().write_batch(
                &vectors.concat(),
                Some(&levels),
                Some(&repeats),
            )?;
        }
    }
    writer.close()?;
    Ok(())
}

/// The texts of a column.
///
/// # Errors
/// If the file cannot be read, has no such column, or one of other values.
pub(crate) fn texts(path: &Path, column: &str) -> anyhow::Result<Vec<String>> {
    let mut texts = Vec::new();
    for (index, row) in rows(path)?.enumerate() {
        match row?.remove(column) {
            Some(Value::String(text)) => texts.push(text),
            found => {
                let found = found.map_or_else(|| "none".to_owned(), |value| value.to_string());
                return Err(anyhow!(
                    "{}: row {}: expected a text in column {column} (--column names another), found {}",
                    path.display(),
                    index + 1,
                    excerpt(&found)
                ));
            }
        }
    }
    Ok(texts)
}
