//! Files of Hugging Face repositories, in the cache layout of that hub's own tools.
//!
//! ```text
//! models--owner--repo/
//!     refs/main                        the commit that the branch was last seen at
//!     blobs/<etag>                     the content; for large files the etag is its SHA-256
//!     blobs/<etag>.incomplete          a download under way
//!     snapshots/<commit>/<file>        a relative link to the blob
//! .locks/models--owner--repo/<etag>.lock
//! ```

use super::address::{Place, encode, is_plain_name, is_safe_path};
use super::content::{Content, INDEX, choose, files_in};
use super::http::{self, text_header};
use super::transfer::{self, Expected, Transfer};
use super::{HubOptions, Progress, lock, no_cache, not_cached, refused};
use crate::{Error, Result};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use ureq::Agent;

/// The file or folder for `place`.
pub(super) fn resolve(
    model: &str,
    place: &Place,
    sha256: Option<&'static str>,
    options: &HubOptions,
    progress: &dyn Progress,
) -> Result<PathBuf> {
    let cache = options.hub_cache.as_ref().ok_or_else(|| no_cache(model))?;
    let folder_name = format!("models--{}", place.repository.replace('/', "--"));
    let repository = Repository {
        model,
        place,
        folder: cache.join(&folder_name),
        locks: cache.join(".locks").join(&folder_name),
        agent: http::agent(options),
        options,
        progress,
    };
    match &place.file {
        Some(file) => repository.file(file, sha256),
        None => repository.whole_model(),
    }
}

/// A repository on the hub and its folder in the cache.
struct Repository<'a> {
    model: &'a str,
    place: &'a Place,
    folder: PathBuf,
    locks: PathBuf,
    agent: Agent,
    options: &'a HubOptions,
    progress: &'a dyn Progress,
}

/// What the hub says about a file.
struct Metadata {
    commit: String,
    etag: String,
    size: Option<u64>,
}

impl Metadata {
    /// The etag of a large file is its SHA-256.
    fn sha256(&self) -> Option<&str> {
        let is_digest =
            self.etag.len() == 64 && self.etag.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_digest.then_some(self.etag.as_str())
    }
}

#[derive(Deserialize)]
struct Listing {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Repository<'_> {
    /// One file, from the cache or the hub.
    fn file(&self, file: &str, pinned: Option<&str>) -> Result<PathBuf> {
        if let Some(path) = self
            .cached_commit()
            .and_then(|commit| self.snapshot_file(&commit, file))
        {
            match (pinned, blob_name(&path)) {
                (Some(pinned), Some(blob)) if blob != pinned => {}
                _ => return Ok(path),
            }
        }
        if self.options.offline {
            return Err(not_cached(self.model));
        }
        let metadata = self.metadata(&self.place.revision, file)?;
        if let (Some(pinned), Some(found)) = (pinned, metadata.sha256())
            && !pinned.eq_ignore_ascii_case(found)
        {
            return Err(refused(
                self.model,
                format!(
                    "{file} of {} has changed: expected SHA-256 {pinned}, the hub has {found}; to take it as it is now, ask for hf:{}/{file}",
                    self.place.repository, self.place.repository
                ),
            ));
        }
        let path = self.fetch(file, &metadata, pinned)?;
        self.remember(&metadata.commit)?;
        Ok(path)
    }

    /// The single GGUF file of the repository, or the folder of its safetensors with everything they need.
    fn whole_model(&self) -> Result<PathBuf> {
        if let Some(path) = self.cached_model()? {
            return Ok(path);
        }
        if self.options.offline {
            return Err(not_cached(self.model));
        }
        let address = format!(
            "{}/api/models/{}/revision/{}",
            self.options.endpoint,
            self.place.repository,
            encode(&self.place.revision, false)
        );
        let text = http::text(self.model, &address, &self.agent, self.options)?;
        let listing: Listing = serde_json::from_str(&text).map_err(|error| {
            refused(
                self.model,
                format!("{address}: not a repository listing: {error}"),
            )
        })?;
        if !is_plain_name(&listing.sha) {
            return Err(refused(
                self.model,
                format!("{address}: expected a commit, found {:?}", listing.sha),
            ));
        }
        let commit = listing.sha;
        let names: BTreeSet<String> = listing
            .siblings
            .into_iter()
            .map(|sibling| sibling.rfilename)
            .filter(|name| is_safe_path(name))
            .collect();
        let content = choose(&names).map_err(|message| refused(self.model, message))?;
        self.keep_listing(&commit, &names)?;
        let path = match content {
            Content::Single(file) => self.obtain(&commit, &file)?,
            Content::Folder { files, indexed } => {
                for file in &files {
                    self.obtain(&commit, file)?;
                }
                if indexed {
                    for shard in self.shards(&commit)? {
                        self.obtain(&commit, &shard)?;
                    }
                }
                self.snapshot(&commit)
            }
        };
        self.remember(&commit)?;
        Ok(path)
    }

    /// The model of a commit whose listing was seen before and whose files are all here.
    fn cached_model(&self) -> Result<Option<PathBuf>> {
        let Some(commit) = self.cached_commit() else {
            return Ok(None);
        };
        let names = match fs::read_to_string(self.listing_path(&commit)) {
            Ok(text) => text.lines().map(str::to_owned).collect(),
            // Downloaded by other tools: without the network, what they left is all there is.
            Err(_) if self.options.offline => files_in(&self.snapshot(&commit)),
            Err(_) => return Ok(None),
        };
        let content = choose(&names).map_err(|message| refused(self.model, message))?;
        Ok(match content {
            Content::Single(file) => self.snapshot_file(&commit, &file),
            Content::Folder { files, indexed } => {
                let here = |file: &String| self.snapshot_file(&commit, file).is_some();
                let complete =
                    files.iter().all(here) && (!indexed || self.shards(&commit)?.iter().all(here));
                complete.then(|| self.snapshot(&commit))
            }
        })
    }

    /// The files that the index of a sharded model names.
    fn shards(&self, commit: &str) -> Result<BTreeSet<String>> {
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

    /// A file at a known commit, downloaded if need be.
    fn obtain(&self, commit: &str, file: &str) -> Result<PathBuf> {
        if let Some(path) = self.snapshot_file(commit, file) {
            return Ok(path);
        }
        let mut metadata = self.metadata(commit, file)?;
        metadata.commit = commit.to_owned();
        self.fetch(file, &metadata, None)
    }

    fn address(&self, revision: &str, file: &str) -> String {
        format!(
            "{}/{}/resolve/{}/{}",
            self.options.endpoint,
            self.place.repository,
            encode(revision, false),
            encode(file, true)
        )
    }

    fn metadata(&self, revision: &str, file: &str) -> Result<Metadata> {
        let address = self.address(revision, file);
        let answers = http::headers(self.model, &address, &self.agent, self.options)?;
        // The nearest answer that says it: a redirect to a storage host says it before that host does.
        let find = |name: &str| {
            answers
                .iter()
                .find_map(|headers| text_header(headers, name))
        };
        let missing = |what: &str| {
            refused(
                self.model,
                format!("{address}: the server says no {what}; is it a Hugging Face hub?"),
            )
        };
        let commit = find("x-repo-commit").ok_or_else(|| missing("commit (X-Repo-Commit)"))?;
        let last = answers.last();
        let etag = find("x-linked-etag")
            .or_else(|| text_header(last?, "etag"))
            .ok_or_else(|| missing("ETag"))?;
        let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
        if !is_plain_name(&commit) || !is_plain_name(&etag) {
            return Err(refused(
                self.model,
                format!(
                    "{address}: expected a commit and an ETag of plain letters, found {commit:?} and {etag:?}"
                ),
            ));
        }
        let redirected = last.is_some_and(|headers| headers.contains_key("location"));
        let size = find("x-linked-size")
            .or_else(|| text_header(last.filter(|_| !redirected)?, "content-length"))
            .and_then(|size| size.parse().ok());
        Ok(Metadata { commit, etag, size })
    }

    /// Brings the blob here, verified, and links the snapshot's file to it.
    fn fetch(&self, file: &str, metadata: &Metadata, pinned: Option<&str>) -> Result<PathBuf> {
        let blobs = self.folder.join("blobs");
        let blob = blobs.join(&metadata.etag);
        for folder in [&blobs, &self.locks] {
            fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
        }
        let _lock = lock(
            &self.locks.join(format!("{}.lock", metadata.etag)),
            self.options,
        )?;
        if !blob.is_file() {
            let partial = blobs.join(format!("{}.incomplete", metadata.etag));
            // The commit's own address: a branch might move on between the metadata and the bytes.
            let address = self.address(&metadata.commit, file);
            Transfer {
                model: self.model,
                name: file.rsplit('/').next().unwrap_or(file),
                address: &address,
                token: self.options.token.as_deref(),
                partial: &partial,
                validator: None,
                expected: Expected {
                    size: metadata.size,
                    sha256: pinned.or(metadata.sha256()),
                },
            }
            .run(&self.agent, self.options, self.progress)?;
            fs::rename(&partial, &blob).map_err(|error| Error::io(&blob, error))?;
        }
        let link = self.snapshot(&metadata.commit).join(file);
        link_to_blob(&blob, &link, &metadata.etag, file)?;
        Ok(link)
    }

    fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    fn snapshot_file(&self, commit: &str, file: &str) -> Option<PathBuf> {
        let path = self.snapshot(commit).join(file);
        path.is_file().then_some(path)
    }

    /// The commit that the revision was last seen at.
    fn cached_commit(&self) -> Option<String> {
        let revision = &self.place.revision;
        let commit = match fs::read_to_string(self.folder.join("refs").join(revision)) {
            Ok(text) => text.trim().to_owned(),
            Err(_) => revision.clone(),
        };
        (is_plain_name(&commit) && self.snapshot(&commit).is_dir()).then_some(commit)
    }

    fn remember(&self, commit: &str) -> Result<()> {
        if self.place.revision == commit {
            return Ok(());
        }
        let path = self.folder.join("refs").join(&self.place.revision);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|error| Error::io(parent, error))?;
        }
        fs::write(&path, commit).map_err(|error| Error::io(&path, error))
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

    fn keep_listing(&self, commit: &str, names: &BTreeSet<String>) -> Result<()> {
        let path = self.listing_path(commit);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|error| Error::io(parent, error))?;
        }
        let lines: Vec<&str> = names.iter().map(String::as_str).collect();
        fs::write(&path, lines.join("\n")).map_err(|error| Error::io(&path, error))
    }
}

/// The name of the blob that a snapshot's file links to.
fn blob_name(path: &Path) -> Option<String> {
    let target = fs::read_link(path).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}

/// Makes `link` stand for the blob: a relative link, or a copy where the system allows no links.
fn link_to_blob(blob: &Path, link: &Path, etag: &str, file: &str) -> Result<()> {
    if link.is_file() && blob_name(link).is_none_or(|name| name == etag) {
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
