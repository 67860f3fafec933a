//! Calibration files in the user's cache folder: JSON, one for each machine and version.

use super::{Calibration, Identity};
use crate::{Error, Result};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Bytes that are read of a file; ours take a tenth of it.
const LONGEST: u64 = 1 << 20;

/// Where the calibration of this machine is kept. `None` where the platform names no cache folder.
pub fn default_path() -> Option<PathBuf> {
    let base = directories::BaseDirs::new()?;
    Some(
        base.cache_dir()
            .join("bitnet")
            .join(Identity::here().file_name()),
    )
}

/// Reads a calibration made for `here`; `None` if there is no such file.
///
/// # Errors
/// [`Error::Calibration`] if the file cannot be read, is no calibration, or one of another machine.
pub fn load(path: &Path, here: &Identity) -> Result<Option<Calibration>> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_string(&mut text));
    match read {
        Ok(_) if text.len() as u64 > LONGEST => {
            return Err(refused(path, format!("longer than {LONGEST} bytes")));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refused(path, error)),
    }
    let calibration: Calibration =
        serde_json::from_str(&text).map_err(|error| refused(path, error))?;
    calibration
        .validate(here)
        .map_err(|error| refused(path, error))?;
    Ok(Some(calibration))
}

/// Writes a calibration, whole or not at all, making its folder if need be.
///
/// # Errors
/// [`Error::Calibration`] if the folder or file cannot be written.
pub fn store(path: &Path, calibration: &Calibration) -> Result<()> {
    let mut text = serde_json::to_string_pretty(calibration).map_err(|e| refused(path, e))?;
    text.push('\n');
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| refused(path, error))?;
    }
    let partial = path.with_extension(format!("{}.part", std::process::id()));
    let written = File::create(&partial)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&partial, path));
    written.map_err(|error| {
        // The partial file may not be there.
        let _ = fs::remove_file(&partial);
        refused(path, error)
    })
}

fn refused(path: &Path, why: impl ToString) -> Error {
    Error::Calibration {
        path: path.to_owned(),
        why: why.to_string(),
    }
}
