//! Files of Hugging Face repositories, from the cache or the hub.

use super::address::{Place, encode, is_plain_name, is_safe_path};
use super::cached::{Cached, Certainty, blob_name, link_to_blob, pin_of_one, weights_in_one};
use super::content::{Content, choose, parts};
use super::http::{self, Failure, Target, text_header};
use super::kind::Kind;
use super::transfer::{Expected, Transfer};
use super::{HubOptions, Progress, lock, no_cache, not_cached, refused};
use crate::{DownloadFault, Error, Result};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
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
        cache: Cached {
            model,
            place,
            folder: cache.join(&folder_name),
            options,
        },
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
    cache: Cached<'a>,
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

/// How long the hub may be silent where the cache may do: as long as Hugging Face's own tools wait.
const HASTE: Duration = Duration::from_secs(10);

/// The client and the patience of requests to the hub.
type Requests<'a> = (&'a Agent, &'a HubOptions);

impl Repository<'_> {
    /// The model, from the cache if it is there for certain, else from the hub, else from the cache if it may be there.
    fn model(&self, pin: Expected<'static>) -> Result<PathBuf> {
        if let Some(path) = self.cache.find(pin, Certainty::Known)? {
            return Ok(path);
        }
        let likely = self.cache.find(pin, Certainty::Likely);
        if self.options.offline {
            return likely?.ok_or_else(|| not_cached(self.model));
        }
        // Where the cache may do, the hub need not be waited for.
        let likely = likely.ok().flatten();
        let mut hasty = self.options.clone();
        hasty.retries = 1;
        hasty.silence = hasty.silence.min(HASTE);
        let hasty_agent = http::agent(&hasty);
        let requests = match likely {
            Some(_) => (&hasty_agent, &hasty),
            None => (&self.agent, self.options),
        };
        let outcome = match &self.place.file {
            Some(file) => self.fetch_file(file, pin, requests),
            None => self.fetch_model(pin, requests),
        };
        match (outcome, likely) {
            (Err(failure), Some(path)) if !matches!(failure, Failure::Final(_)) => {
                tracing::warn!(
                    "{failure}; using {} from the cache, which may not be the newest",
                    path.display()
                );
                Ok(path)
            }
            (outcome, _) => outcome.map_err(|failure| failure.into_error(self.model, 0)),
        }
    }

    /// One file from the hub, with the other parts if it is a part.
    fn fetch_file(
        &self,
        file: &str,
        pin: Expected<'static>,
        requests: Requests<'_>,
    ) -> Result<PathBuf, Failure> {
        let parts = parts(file);
        let (first, others) = parts
            .split_first()
            .map_or((file, &[][..]), |(first, others)| (first.as_str(), others));
        let metadata = self.metadata(&self.place.revision, first, requests)?;
        self.check_pin(first, pin, &metadata)?;
        let path = self.fetch(first, &metadata, pin)?;
        for part in others {
            self.obtain(&metadata.commit, part, Expected::default())?;
        }
        self.cache.remember(&metadata.commit);
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
            let address = self.address(&metadata.commit, file);
            self.target(&address).refused(DownloadFault::Content {
                expected,
                found,
                advice: format!(
                    "the file has changed on the hub; to take it as it is now, ask for hf:{whole}"
                ),
            })
        };
        match (pin.sha256, metadata.sha256()) {
            (Some(pinned), Some(found)) if !pinned.eq_ignore_ascii_case(found) => {
                Err(changed(format!("SHA-256 {pinned}"), found.to_owned()))
            }
            _ => match (pin.size, metadata.size) {
                (Some(pinned), Some(found)) if pinned != found => {
                    Err(changed(format!("{pinned} bytes"), format!("{found} bytes")))
                }
                _ => Ok(()),
            },
        }
    }

    /// The single GGUF file of the repository, or the folder of its safetensors with everything they need, from the hub.
    fn fetch_model(
        &self,
        pin: Expected<'static>,
        requests: Requests<'_>,
    ) -> Result<PathBuf, Failure> {
        let address = format!(
            "{}/api/models/{}/revision/{}",
            self.options.endpoint,
            self.place.repository,
            encode(&self.place.revision, false)
        );
        let text = self.target(&address).text(requests.0, requests.1)?;
        let listing: Listing = serde_json::from_str(&text).map_err(|error| {
            // As a network that wants a login first may send anything.
            Failure::Unreachable(self.target(&address).trouble(format_args!(
                "expected the hub's list of files, found something else ({error}); does this network want a login first?"
            )))
        })?;
        if !is_plain_name(&listing.sha) {
            let why = format!("expected a commit, found {:?}", listing.sha);
            return Err(Failure::Final(self.target(&address).not_followed(why)));
        }
        let commit = listing.sha;
        let names: BTreeSet<String> = listing
            .siblings
            .into_iter()
            .map(|sibling| sibling.rfilename)
            .filter(|name| is_safe_path(name))
            .collect();
        let content =
            choose(&names).map_err(|why| refused(self.model, DownloadFault::Name { why }))?;
        self.cache.keep_listing(&commit, &names);
        let path = match content {
            Content::Single(file) => {
                let parts = parts(&file);
                let pin = pin_of_one(&parts, pin);
                for part in &parts {
                    self.obtain(&commit, part, pin)?;
                }
                self.cache.snapshot(&commit).join(file)
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
                    for shard in self.cache.shards(&commit)? {
                        self.obtain(&commit, &shard, Expected::default())?;
                    }
                }
                self.cache.snapshot(&commit)
            }
        };
        self.cache.remember(&commit);
        Ok(path)
    }

    /// A file at a known commit, downloaded if need be.
    fn obtain(&self, commit: &str, file: &str, pin: Expected<'_>) -> Result<PathBuf, Failure> {
        if let Some(path) = self.cache.pinned_file(commit, file, pin) {
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
        requests: Requests<'_>,
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
            .headers(requests.0, requests.1, |answers| {
                let last = answers.last();
                find(answers, "x-repo-commit").is_some()
                    && (find(answers, "x-linked-etag").is_some()
                        || last.is_some_and(|headers| headers.contains_key("etag")))
            })?;
        let find = |name: &str| find(&answers, name);
        let missing = |what: &str| {
            // As a network that wants a login first may answer anything.
            Failure::Unreachable(self.target(&address).trouble(format_args!(
                "the server says no {what}; is it a Hugging Face hub, or does this network want a login first?"
            )))
        };
        let commit = find("x-repo-commit").ok_or_else(|| missing("commit (X-Repo-Commit)"))?;
        let last = answers.last();
        let etag = find("x-linked-etag")
            .or_else(|| text_header(last?, "etag"))
            .ok_or_else(|| missing("ETag"))?;
        let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
        if !is_plain_name(&commit) || !is_plain_name(&etag) {
            let why = format!(
                "expected a commit and an ETag of plain letters, found {commit:?} and {etag:?}"
            );
            return Err(Failure::Final(self.target(&address).not_followed(why)));
        }
        let redirected = last.is_some_and(|headers| headers.contains_key("location"));
        let size = find("x-linked-size")
            .or_else(|| text_header(last.filter(|_| !redirected)?, "content-length"))
            .and_then(|size| size.parse().ok());
        Ok(Metadata { commit, etag, size })
    }

    /// Brings the blob here, verified, and links the snapshot's file to it.
    fn fetch(&self, file: &str, metadata: &Metadata, pin: Expected<'_>) -> Result<PathBuf> {
        let blobs = self.cache.folder.join("blobs");
        let blob = blobs.join(&metadata.etag);
        let link = self.cache.snapshot(&metadata.commit).join(file);
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
}
