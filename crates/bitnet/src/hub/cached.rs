//! What the cache has of a repository, in the layout of the hub's own tools.
//!
//! ```text
//! models--owner--repo/
//!     refs/main                        the commit that the branch was last seen at
//!     blobs/<etag>                     the content; for large files the etag is its SHA-256
//!     blobs/<etag>.incomplete          a download under way
//!     snapshots/<commit>/<file>        a relative link to the blob
//! .locks/models--owner--repo/<etag>.lock
//! ```
//!
//! Looking writes nothing, so that a complete cache may be read-only.

use super::address::{Place, is_plain_name, is_safe_path};
use super::content::{Content, INDEX, choose, files_in, parts};
use super::kind::Kind;
use super::transfer::{self, Expected};
use super::{HubOptions, refused};
use crate::{DownloadFault, Error, Result};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// How sure it must be that a cached file is the one asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Certainty {
    /// The cache says which commit the revision is, and which files that has.
    Known,
    /// What is here must do: the hub cannot be asked.
    Likely,
}

/// A repository's folder in the cache.
pub(super) struct Cached<'a> {
    /// The name the user gave, for errors.
    pub(super) model: &'a str,
    pub(super) place: &'a Place,
    pub(super) folder: PathBuf,
    pub(super) options: &'a HubOptions,
}

impl Cached<'_> {
    /// The file or model in the cache. Nothing is written, so that the cache need not be writable.
    pub(super) fn find(&self, pin: Expected<'_>, certainty: Certainty) -> Result<Option<PathBuf>> {
        let mut commits: Vec<String> = self.commit().into_iter().collect();
        if certainty == Certainty::Likely {
            commits.extend(self.snapshots());
        }
        let mut found = Ok(None);
        for commit in commits {
            found = match &self.place.file {
                Some(file) => Ok(self.file(&commit, file, pin)),
                None => self.whole_model(&commit, pin, certainty),
            };
            if matches!(found, Ok(Some(_))) {
                break;
            }
        }
        found
    }

    /// A file of a commit, if it and the parts that belong to it are here and are what `pin` says.
    fn file(&self, commit: &str, file: &str, pin: Expected<'_>) -> Option<PathBuf> {
        let parts = parts(file);
        let pin = pin_of_one(&parts, pin);
        let paths: Option<Vec<PathBuf>> = parts
            .iter()
            .map(|part| self.pinned_file(commit, part, pin))
            .collect();
        paths?.into_iter().next()
    }

    /// One file of a commit, if it is here and is what `pin` says.
    pub(super) fn pinned_file(
        &self,
        commit: &str,
        file: &str,
        pin: Expected<'_>,
    ) -> Option<PathBuf> {
        let path = self.snapshot_file(commit, file)?;
        let other_size = pin.size.is_some_and(|size| {
            fs::metadata(&path).map_or(true, |metadata| metadata.len() != size)
        });
        let other_content = match (pin.sha256, blob_name(&path)) {
            (Some(pinned), Some(blob)) => blob != pinned,
            _ => false,
        };
        (!other_size && !other_content).then_some(path)
    }

    /// The model of a commit whose files are all here.
    fn whole_model(
        &self,
        commit: &str,
        pin: Expected<'_>,
        certainty: Certainty,
    ) -> Result<Option<PathBuf>> {
        let names = match fs::read_to_string(self.listing_path(commit)) {
            Ok(text) => text.lines().map(str::to_owned).collect(),
            // Downloaded by other tools: without the network, what they left is all there is.
            Err(_) if certainty == Certainty::Likely => files_in(&self.snapshot(commit)),
            Err(_) => return Ok(None),
        };
        let content =
            choose(&names).map_err(|why| refused(self.model, DownloadFault::Name { why }))?;
        Ok(match content {
            Content::Single(file) => self.file(commit, &file, pin),
            Content::Folder { files, indexed } => {
                let here = |file: &String| self.snapshot_file(commit, file).is_some();
                let right = |file: &String| self.pinned_file(commit, file, pin).is_some();
                let complete = files.iter().all(here)
                    && weights_in_one(&files, indexed).is_none_or(right)
                    && (!indexed || self.shards(commit)?.iter().all(here));
                complete.then(|| self.snapshot(commit))
            }
        })
    }

    /// The files that the index of a sharded model names.
    pub(super) fn shards(&self, commit: &str) -> Result<BTreeSet<String>> {
        let path = self.snapshot(commit).join(INDEX);
        let text = fs::read_to_string(&path).map_err(|error| Error::io(&path, error))?;
        let file = || path.display().to_string();
        let index: Index = serde_json::from_str(&text)
            .map_err(|error| Error::malformed(file(), "weight_map", "names of files", error))?;
        let shards: BTreeSet<String> = index.weight_map.into_values().collect();
        match shards.iter().find(|name| !is_safe_path(name)) {
            Some(name) => Err(Error::malformed(
                file(),
                "weight_map",
                "names of files in the same folder",
                format!("{name:?}"),
            )),
            None => Ok(shards),
        }
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    fn snapshot_file(&self, commit: &str, file: &str) -> Option<PathBuf> {
        let path = self.snapshot(commit).join(file);
        (path.is_file() && Kind::of(file).fits(&path)).then_some(path)
    }

    /// The commits that files are here of, the newest here first; for the revision that is meant if none is named, as only of
    /// that it can be said that any of them is an earlier state.
    fn snapshots(&self) -> Vec<String> {
        if self.place.revision != "main" {
            return Vec::new();
        }
        let entries = fs::read_dir(self.folder.join("snapshots"));
        let mut commits: Vec<_> = entries
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let changed = entry.metadata().and_then(|metadata| metadata.modified());
                is_plain_name(&name).then_some((changed.ok(), name))
            })
            .collect();
        commits.sort();
        commits.into_iter().rev().map(|(_, name)| name).collect()
    }

    /// The commit that the revision was last seen at.
    fn commit(&self) -> Option<String> {
        let revision = &self.place.revision;
        let commit = match fs::read_to_string(self.folder.join("refs").join(revision)) {
            Ok(text) => text.trim().to_owned(),
            Err(_) => revision.clone(),
        };
        (is_plain_name(&commit) && self.snapshot(&commit).is_dir()).then_some(commit)
    }

    /// Keeps which commit the revision is. Where that cannot be written, the hub is asked again the next time.
    pub(super) fn remember(&self, commit: &str) {
        if self.place.revision == commit || self.commit().as_deref() == Some(commit) {
            return;
        }
        let path = self.folder.join("refs").join(&self.place.revision);
        keep(&path, commit);
    }

    /// Where the names of a commit's files are kept. In our own cache: the hub's layout has no place for them.
    fn listing_path(&self, commit: &str) -> PathBuf {
        let key = format!(
            "{}/{}@{commit}",
            self.options.endpoint, self.place.repository
        );
        let name = format!("{}.txt", transfer::sha256_of(key.as_bytes()));
        match &self.options.bitnet_cache {
            Some(cache) => cache.join("listings").join(name),
            None => self.folder.join(name),
        }
    }

    /// Keeps the names of a commit's files. Where that cannot be written, the hub is asked again the next time.
    pub(super) fn keep_listing(&self, commit: &str, names: &BTreeSet<String>) {
        let lines: Vec<&str> = names.iter().map(String::as_str).collect();
        keep(&self.listing_path(commit), &lines.join("\n"));
    }
}

/// Writes what saves a question to the hub. A cache that may only be read does without.
fn keep(path: &Path, text: &str) {
    let written = path
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(path, text));
    if let Err(error) = written {
        tracing::debug!(path = %path.display(), %error, "cannot be kept");
    }
}

/// What a file is pinned to, if it is the one that its parts are.
pub(super) fn pin_of_one<'p>(parts: &[String], pin: Expected<'p>) -> Expected<'p> {
    if parts.len() == 1 {
        pin
    } else {
        Expected::default()
    }
}

/// The file among those of a folder that has all weights: the last, unless there is an index of others.
pub(super) fn weights_in_one(files: &[String], indexed: bool) -> Option<&String> {
    files.last().filter(|_| !indexed)
}

/// The name of the blob that a snapshot's file links to.
pub(super) fn blob_name(path: &Path) -> Option<String> {
    let target = fs::read_link(path).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}

/// Makes `link` stand for the blob: a relative link, or a copy where the system allows no links.
pub(super) fn link_to_blob(blob: &Path, link: &Path, etag: &str, file: &str) -> Result<()> {
    let same = || match blob_name(link) {
        Some(name) => name == etag,
        // A copy.
        None => match (fs::metadata(link), fs::metadata(blob)) {
            (Ok(copy), Ok(blob)) => copy.len() == blob.len(),
            _ => false,
        },
    };
    if link.is_file() && Kind::of(file).fits(link) && same() {
        return Ok(());
    }
    if let Some(parent) = link.parent() {
        fs::create_dir_all(parent).map_err(|error| Error::io(parent, error))?;
    }
    // A link that leads nowhere, or to another content.
    if fs::symlink_metadata(link).is_ok() {
        fs::remove_file(link).map_err(|error| Error::io(link, error))?;
    }
    let mut target = PathBuf::new();
    // Out of the file's folders, the commit and `snapshots`.
    for _ in 0..file.split('/').count() + 1 {
        target.push("..");
    }
    target.push("blobs");
    target.push(etag);
    #[cfg(unix)]
    let linked = std::os::unix::fs::symlink(&target, link);
    #[cfg(windows)]
    let linked = std::os::windows::fs::symlink_file(&target, link);
    #[cfg(not(any(unix, windows)))]
    let linked = fs::hard_link(blob, link);
    linked
        .or_else(|_| fs::hard_link(blob, link))
        .or_else(|_| fs::copy(blob, link).map(|_| ()))
        .map_err(|error| Error::io(link, error))
}
