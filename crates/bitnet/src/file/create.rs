//! Files and directories that appear under their names only when they are whole.
//!
//! What is being written has a random name, was not there before (so that no link can lead it elsewhere), and lies on the disk
//! before it gets its own name. A process that is killed leaves at most such a name behind, which is in nobody's way.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, TempDir, TempPath};

use crate::{Error, Result};

/// How the names of unfinished files and directories begin and end.
const UNFINISHED: [&str; 2] = [".bitnet-", ".partial"];

/// The builder of unfinished files or directories, with the permissions `mode` less those that the process gives nobody.
fn unfinished(mode: u32) -> Builder<'static, 'static> {
    let mut builder = Builder::new();
    builder.prefix(UNFINISHED[0]).suffix(UNFINISHED[1]);
    builder.rand_bytes(12);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(mode));
    }
    #[cfg(not(unix))]
    let _ = mode;
    builder
}

fn is_unfinished(name: &OsStr) -> bool {
    let [prefix, suffix] = UNFINISHED.map(str::as_bytes);
    let name = name.as_encoded_bytes();
    name.starts_with(prefix) && name.ends_with(suffix)
}

/// The directory that `path` lies in.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The error for an unfinished file or directory that could not be made: its name means nothing to a reader.
fn not_made(path: &Path, error: io::Error) -> Error {
    let what = match error.kind() {
        io::ErrorKind::NotFound => format!("there is no directory {}", parent(path).display()),
        kind => format!("cannot write in this directory: {kind}"),
    };
    Error::io(path, io::Error::new(error.kind(), what))
}

/// Has the names in `directory` written to the disk, where the system can do that.
fn sync_names(directory: &Path) {
    #[cfg(unix)]
    if let Err(error) = File::open(directory).and_then(|directory| directory.sync_all()) {
        // Some file systems know nothing of this.
        tracing::debug!("{}: its names are not synced: {error}", directory.display());
    }
    #[cfg(not(unix))]
    let _ = directory;
}

/// A file being written beside its final name. Dropped before [`NewFile::keep`], it leaves nothing behind.
///
/// If the name belongs to something that is no regular file, such as a device, that is written directly.
pub(crate) struct NewFile {
    path: PathBuf,
    partial: Option<TempPath>,
    /// Whether the content is to lie on a disk.
    durable: bool,
    out: BufWriter<File>,
}

impl NewFile {
    /// Begins the file that will be called `path`; an existing one stays until it is replaced.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be created.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let replaceable = fs::metadata(path).map_or(true, |found| found.is_file());
        let (file, partial) = if replaceable && path.file_name().is_some() {
            let made = unfinished(0o666).tempfile_in(parent(path));
            let made = made.map_err(|error| not_made(path, error))?;
            let (file, partial) = made.into_parts();
            (file, Some(partial))
        } else {
            (File::create(path).map_err(|e| Error::io(path, e))?, None)
        };
        Ok(Self {
            path: path.to_owned(),
            durable: partial.is_some(),
            partial,
            out: BufWriter::new(file),
        })
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// [`Error::Io`] if the last bytes cannot be written or the name cannot be given.
    pub(crate) fn keep(mut self) -> Result<()> {
        let io = |error| Error::io(&self.path, error);
        self.out.flush().map_err(io)?;
        if self.durable {
            self.out.get_ref().sync_all().map_err(io)?;
        }
        if let Some(partial) = self.partial.take() {
            partial.persist(&self.path).map_err(|e| io(e.error))?;
            sync_names(parent(&self.path));
        }
        Ok(())
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A directory being filled. Dropped before [`NewDirectory::keep`], it takes what was written with it.
pub(crate) struct NewDirectory {
    path: PathBuf,
    /// Whether the directory was there, and empty: it then stays itself, and the files move into it.
    existed: bool,
    partial: TempDir,
    /// Files and directories at its top.
    entries: Vec<String>,
}

impl NewDirectory {
    /// Begins the directory that will be called `path`, which must not exist or be empty.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be made, is no directory or is not empty.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let io = |error: io::Error| Error::io(path, error);
        let refused = |found: &str| io(io::Error::new(io::ErrorKind::AlreadyExists, found));
        let existed = match fs::metadata(path) {
            Ok(found) if found.is_dir() => true,
            Ok(_) => return Err(refused("a file has this name; name a new directory")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(io(error)),
        };
        let place = if existed { path } else { parent(path) };
        if existed {
            for entry in fs::read_dir(path).map_err(io)? {
                if !is_unfinished(&entry.map_err(io)?.file_name()) {
                    return Err(refused("the directory is not empty; name a new one"));
                }
            }
        } else {
            fs::create_dir_all(place).map_err(io)?;
        }
        let partial = unfinished(0o777).tempdir_in(place);
        Ok(Self {
            path: path.to_owned(),
            existed,
            partial: partial.map_err(|error| not_made(path, error))?,
            entries: Vec::new(),
        })
    }

    /// Begins a file in it, or in a directory in it: `directory/name`.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be created.
    pub(crate) fn file(&mut self, name: &str) -> Result<NewFile> {
        let path = self.path.join(name);
        let io = |error| Error::io(&path, error);
        let (entry, inside) = name.split_once('/').unwrap_or((name, ""));
        if !inside.is_empty() {
            fs::create_dir_all(self.partial.path().join(entry)).map_err(io)?;
        }
        let file = File::create_new(self.partial.path().join(name)).map_err(io)?;
        if !self.entries.iter().any(|known| known == entry) {
            self.entries.push(entry.to_owned());
        }
        Ok(NewFile {
            path,
            partial: None,
            durable: true,
            out: BufWriter::new(file),
        })
    }

    /// Writes a whole file into it.
    ///
    /// # Errors
    /// [`Error::Io`] if that fails.
    pub(crate) fn write(&mut self, name: &str, content: &[u8]) -> Result<()> {
        let mut file = self.file(name)?;
        file.write_all(content)
            .map_err(|error| Error::io(&file.path, error))?;
        file.keep()
    }

    /// Gives it its name; where the directory was there, its files get theirs, in the order in which they were begun.
    ///
    /// # Errors
    /// [`Error::Io`] if a name cannot be given.
    pub(crate) fn keep(self) -> Result<()> {
        sync_names(self.partial.path());
        if self.existed {
            for name in &self.entries {
                let path = self.path.join(name);
                fs::rename(self.partial.path().join(name), &path)
                    .map_err(|error| Error::io(&path, error))?;
            }
            sync_names(&self.path);
        } else {
            fs::rename(self.partial.path(), &self.path)
                .map_err(|error| Error::io(&self.path, error))?;
            // It is no longer there under its old name.
            let _ = self.partial.keep();
        }
        sync_names(parent(&self.path));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.gguf");
        let mut file = NewFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert!(names(dir.path()).is_empty());

        let mut file = NewFile::create(&path).unwrap();
        file.write_all(b"whole").unwrap();
        assert!(!path.exists());
        file.keep().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(names(dir.path()), ["model.gguf"]);
    }

    #[test]
    fn a_directory_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        for existed in [false, true] {
            let path = dir.path().join(format!("new-{existed}/model"));
            if existed {
                fs::create_dir_all(&path).unwrap();
                // What another process left when it was killed.
                fs::create_dir(path.join(".bitnet-abcdefghijkl.partial")).unwrap();
            }
            let mut new = NewDirectory::create(&path).unwrap();
            new.write("a", b"half").unwrap();
            drop(new);
            assert_eq!(path.exists(), existed);
            let mut new = NewDirectory::create(&path).unwrap();
            new.write("b", b"1").unwrap();
            new.write("a", b"2").unwrap();
            assert!(!path.join("a").exists());
            new.keep().unwrap();
            let mut found = names(&path);
            found.retain(|name| !name.starts_with('.'));
            assert_eq!(found, ["a", "b"]);
            let error = NewDirectory::create(&path).err().unwrap().to_string();
            assert!(error.contains("not empty"), "{error}");
            let error = NewDirectory::create(&path.join("a")).err().unwrap();
            assert!(error.to_string().contains("a file has this name"));
        }
    }

    #[test]
    fn errors_name_what_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("absent/model.gguf");
        let error = NewFile::create(&path).err().unwrap().to_string();
        assert!(error.starts_with(&path.display().to_string()), "{error}");
        assert!(!error.contains(".partial"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn names_can_be_neither_foreseen_nor_led_elsewhere() {
        use std::os::unix::fs::{MetadataExt, symlink};

        let dir = tempfile::tempdir().unwrap();
        let (victim, path) = (dir.path().join("victim"), dir.path().join("model.gguf"));
        fs::write(&victim, "untouched").unwrap();
        // The name that was once given to unfinished files, and the final one.
        symlink(&victim, dir.path().join("model.gguf.partial")).unwrap();
        symlink(&victim, &path).unwrap();
        let mut file = NewFile::create(&path).unwrap();
        let mut other = NewFile::create(&path).unwrap();
        file.write_all(b"whole").unwrap();
        other.write_all(b"other").unwrap();
        file.keep().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(fs::read(&victim).unwrap(), b"untouched");
        // As readable as any other file of this process.
        let plain = dir.path().join("plain");
        fs::write(&plain, "").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode();
        assert_eq!(mode(&path), mode(&plain));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error() {
        let full = Path::new("/dev/full");
        let mut file = NewFile::create(full).unwrap();
        file.write_all(b"some").unwrap();
        let error = file.keep().unwrap_err().to_string();
        assert!(error.contains("/dev/full: No space left"), "{error}");
    }
}
