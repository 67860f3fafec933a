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
use super::content::{Content, INDEX, choose, files_in, parts};
use super::http::{self, Failure, Target, text_header};
use super::kind::Kind;
use super::transfer::{self, Expected, Transfer};
use super::{HubOptions, Progress, lock, no_cache, not_cached, refused};
use crate::{Error, Result};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::Agent;
use ureq::http::HeaderMap;

/// The file or folder for `place`; a file must be what `pin` says.
pub(super) fn resolve(
    model: &str,
    place: &Place,
    pin: Expected<'static>,
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
    repository.model(pin)
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

/// How long the hub may be silent where the cache may do: as long as Hugging Face's own tools wait.
const HASTE: Duration = Duration::from_secs(10);

/// With what, and how patiently, the hub is asked.
type Asking<'a> = (&'a Agent, &'a HubOptions);

/// How sure it must be that a cached file is the one asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Certainty {
    /// The cache says which commit the revision is, and which files that has.
    Known,
    /// What is here must do: the hub cannot be asked.
    Likely,
}

impl Repository<'_> {
    /// The model, from the cache if it is there for certain, else from the hub, else from the cache if it may be there.
    fn model(&self, pin: Expected<'static>) -> Result<PathBuf> {
        if let Some(path) = self.cached(pin, Certainty::Known)? {
            return Ok(path);
        }
        let likely = self.cached(pin, Certainty::Likely);
        if self.options.offline {
            return likely?.ok_or_else(|| not_cached(self.model));
        }
        // Where the cache may do, the hub need not be waited for.
        let likely = likely.ok().flatten();
        let mut hasty = self.options.clone();
        hasty.retries = 1;
        hasty.silence = hasty.silence.min(HASTE);
        let hasty_agent = http::agent(&hasty);
        let asking = match likely {
            Some(_) => (&hasty_agent, &hasty),
            None => (&self.agent, self.options),
        };
        let outcome = match &self.place.file {
            Some(file) => self.fetch_file(file, pin, asking),
            None => self.fetch_model(pin, asking),
        };
        match (outcome, likely) {
            (Err(failure), Some(path)) if !matches!(failure, Failure::Final(_)) => {
                tracing::warn!(
                    "{failure}; using {} from the cache, which may not be the newest",
                    path.display()
                );
                Ok(path)
            }
            (outcome, _) => outcome.map_err(|failure| failure.into_error(self.model)),
        }
    }

    /// One file from the hub, with the other parts if it is a part.
    fn fetch_file(
        &self,
        file: &str,
        pin: Expected<'static>,
        asking: Asking<'_>,
    ) -> Result<PathBuf, Failure> {
        let parts = parts(file);
        let (first, others) = parts
            .split_first()
            .map_or((file, &[][..]), |(first, others)| (first.as_str(), others));
        let metadata = self.metadata(&self.place.revision, first, asking)?;
        self.check_pin(first, pin, &metadata)?;
        let path = self.fetch(first, &metadata, pin)?;
        for part in others {
            self.obtain(&metadata.commit, part, Expected::default())?;
        }
        self.remember(&metadata.commit);
        Ok(path)
    }

    /// That the hub still has what a short name stands for.
    fn check_pin(&self, file: &str, pin: Expected<'_>, metadata: &Metadata) -> Result<()> {
        let repository = &self.place.repository;
        let whole = match &self.place.file {
            Some(file) => format!("{repository}/{file}"),
            None => repository.clone(),
        };
        let changed = |expected: String, found: String| {
            refused(
                self.model,
                format!(
                    "{file} of {repository} has changed: expected {expected}, the hub has {found}; to take it as it is now, ask for hf:{whole}"
                ),
            )
        };
        match (pin.sha256, metadata.sha256()) {
            (Some(pinned), Some(found)) if !pinned.eq_ignore_ascii_case(found) => {
                Err(changed(format!("SHA-256 {pinned}"), found.to_owned()))
            }
            _ => match (pin.size, metadata.size) {
                (Some(pinned), Some(found)) if pinned != found => {
                    Err(changed(format!("{pinned} bytes"), found.to_string()))
                }
                _ => Ok(()),
            },
        }
    }

    /// The single GGUF file of the repository, or the folder of its safetensors with everything they need, from the hub.
    fn fetch_model(&self, pin: Expected<'static>, asking: Asking<'_>) -> Result<PathBuf, Failure> {
        let address = format!(
            "{}/api/models/{}/revision/{}",
            self.options.endpoint,
            self.place.repository,
            encode(&self.place.revision, false)
        );
        let text = self.target(&address).text(asking.0, asking.1)?;
        let listing: Listing = serde_json::from_str(&text).map_err(|error| {
            // As a network that wants a login first may send anything.
            Failure::Unreachable(format!(
                "{address}: expected the hub's list of files, found something else ({error}); does this network want a login first?"
            ))
        })?;
        if !is_plain_name(&listing.sha) {
            return Err(Failure::Final(refused(
                self.model,
                format!("{address}: expected a commit, found {:?}", listing.sha),
            )));
        }
        let commit = listing.sha;
        let names: BTreeSet<String> = listing
            .siblings
            .into_iter()
            .map(|sibling| sibling.rfilename)
            .filter(|name| is_safe_path(name))
            .collect();
        let content = choose(&names).map_err(|message| refused(self.model, message))?;
        self.keep_listing(&commit, &names);
        let path = match content {
            Content::Single(file) => {
                let parts = parts(&file);
                let pin = pin_of_one(&parts, pin);
                for part in &parts {
                    self.obtain(&commit, part, pin)?;
                }
                self.snapshot(&commit).join(file)
            }
            Content::Folder { files, indexed } => {
                let weights = weights_in_one(&files, indexed);
                for file in &files {
                    let pin = if weights == Some(file) {
                        pin
                    } else {
                        Expected::default()
                    };
                    self.obtain(&commit, file, pin)?;
                }
                if indexed {
                    for shard in self.shards(&commit)? {
                        self.obtain(&commit, &shard, Expected::default())?;
                    }
                }
                self.snapshot(&commit)
            }
        };
        self.remember(&commit);
        Ok(path)
    }

    /// The file or model in the cache. Nothing is written, so that the cache need not be writable.
    fn cached(&self, pin: Expected<'_>, certainty: Certainty) -> Result<Option<PathBuf>> {
        let mut commits: Vec<String> = self.cached_commit().into_iter().collect();
        if certainty == Certainty::Likely {
            commits.extend(self.snapshots());
        }
        let mut found = Ok(None);
        for commit in commits {
            found = match &self.place.file {
                Some(file) => Ok(self.cached_file(&commit, file, pin)),
                None => self.cached_model(&commit, pin, certainty),
            };
            if matches!(found, Ok(Some(_))) {
                break;
            }
        }
        found
    }

    /// A file of a commit, if it and the parts that belong to it are here and are what `pin` says.
    fn cached_file(&self, commit: &str, file: &str, pin: Expected<'_>) -> Option<PathBuf> {
        let parts = parts(file);
        let pin = pin_of_one(&parts, pin);
        let paths: Option<Vec<PathBuf>> = parts
            .iter()
            .map(|part| self.pinned_file(commit, part, pin))
            .collect();
        paths?.into_iter().next()
    }

    /// One file of a commit, if it is here and is what `pin` says.
    fn pinned_file(&self, commit: &str, file: &str, pin: Expected<'_>) -> Option<PathBuf> {
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
    fn cached_model(
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
        let content = choose(&names).map_err(|message| refused(self.model, message))?;
        Ok(match content {
            Content::Single(file) => self.cached_file(commit, &file, pin),
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
    fn obtain(&self, commit: &str, file: &str, pin: Expected<'_>) -> Result<PathBuf, Failure> {
        if let Some(path) = self.pinned_file(commit, file, pin) {
            return Ok(path);
        }
        let mut metadata = self.metadata(commit, file, (&self.agent, self.options))?;
        metadata.commit = commit.to_owned();
        self.check_pin(file, pin, &metadata)?;
        Ok(self.fetch(file, &metadata, pin)?)
    }

    fn target<'t>(&'t self, address: &'t str) -> Target<'t> {
        Target {
            model: self.model,
            address,
            hub: true,
            token: self.options.token.as_deref(),
        }
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

    fn metadata(
        &self,
        revision: &str,
        file: &str,
        asking: Asking<'_>,
    ) -> Result<Metadata, Failure> {
        let address = self.address(revision, file);
        // The nearest answer that says it: a redirect to a storage host says it before that host does.
        let find = |answers: &[HeaderMap], name: &str| {
            answers
                .iter()
                .find_map(|headers| text_header(headers, name))
        };
        let answers = self
            .target(&address)
            .headers(asking.0, asking.1, |answers| {
                let last = answers.last();
                find(answers, "x-repo-commit").is_some()
                    && (find(answers, "x-linked-etag").is_some()
                        || last.is_some_and(|headers| headers.contains_key("etag")))
            })?;
        let find = |name: &str| find(&answers, name);
        let missing = |what: &str| {
            // As a network that wants a login first may answer anything.
            Failure::Unreachable(format!(
                "{address}: the server says no {what}; is it a Hugging Face hub, or does this network want a login first?"
            ))
        };
        let commit = find("x-repo-commit").ok_or_else(|| missing("commit (X-Repo-Commit)"))?;
        let last = answers.last();
        let etag = find("x-linked-etag")
            .or_else(|| text_header(last?, "etag"))
            .ok_or_else(|| missing("ETag"))?;
        let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
        if !is_plain_name(&commit) || !is_plain_name(&etag) {
            return Err(Failure::Final(refused(
                self.model,
                format!(
                    "{address}: expected a commit and an ETag of plain letters, found {commit:?} and {etag:?}"
                ),
            )));
        }
        let redirected = last.is_some_and(|headers| headers.contains_key("location"));
        let size = find("x-linked-size")
            .or_else(|| text_header(last.filter(|_| !redirected)?, "content-length"))
            .and_then(|size| size.parse().ok());
        Ok(Metadata { commit, etag, size })
    }

    /// Brings the blob here, verified, and links the snapshot's file to it.
    fn fetch(&self, file: &str, metadata: &Metadata, pin: Expected<'_>) -> Result<PathBuf> {
        let blobs = self.folder.join("blobs");
        let blob = blobs.join(&metadata.etag);
        let link = self.snapshot(&metadata.commit).join(file);
        let kind = Kind::of(file);
        if kind.fits(&link) && blob_name(&link).is_some_and(|name| name == metadata.etag) {
            // All is here already, and there is nothing to write.
            return Ok(link);
        }
        for folder in [&blobs, &self.locks] {
            fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
        }
        let _lock = lock(
            &self.locks.join(format!("{}.lock", metadata.etag)),
            self.options,
        )?;
        if !kind.fits(&blob) {
            let partial = blobs.join(format!("{}.incomplete", metadata.etag));
            // The commit's own address: a branch might move on between the metadata and the bytes.
            let address = self.address(&metadata.commit, file);
            Transfer {
                target: self.target(&address),
                name: file.rsplit('/').next().unwrap_or(file),
                kind,
                partial: &partial,
                validator: None,
                expected: Expected {
                    size: pin.size.or(metadata.size),
                    sha256: pin.sha256.or(metadata.sha256()),
                },
            }
            .run(&self.agent, self.options, self.progress)?;
            fs::rename(&partial, &blob).map_err(|error| Error::io(&blob, error))?;
        }
        link_to_blob(&blob, &link, &metadata.etag, file)?;
        Ok(link)
    }

    fn snapshot(&self, commit: &str) -> PathBuf {
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
    fn cached_commit(&self) -> Option<String> {
        let revision = &self.place.revision;
        let commit = match fs::read_to_string(self.folder.join("refs").join(revision)) {
            Ok(text) => text.trim().to_owned(),
            Err(_) => revision.clone(),
        };
        (is_plain_name(&commit) && self.snapshot(&commit).is_dir()).then_some(commit)
    }

    /// Keeps which commit the revision is. Where that cannot be written, the hub is asked again the next time.
    fn remember(&self, commit: &str) {
        if self.place.revision == commit || self.cached_commit().as_deref() == Some(commit) {
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
    fn keep_listing(&self, commit: &str, names: &BTreeSet<String>) {
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
fn pin_of_one<'p>(parts: &[String], pin: Expected<'p>) -> Expected<'p> {
    if parts.len() == 1 {
        pin
    } else {
        Expected::default()
    }
}

/// The file among those of a folder that has all weights: the last, unless there is an index of others.
fn weights_in_one(files: &[String], indexed: bool) -> Option<&String> {
    files.last().filter(|_| !indexed)
}

/// The name of the blob that a snapshot's file links to.
fn blob_name(path: &Path) -> Option<String> {
    let target = fs::read_link(path).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}

/// Makes `link` stand for the blob: a relative link, or a copy where the system allows no links.
fn link_to_blob(blob: &Path, link: &Path, etag: &str, file: &str) -> Result<()> {
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
