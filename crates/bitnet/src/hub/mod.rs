//! From the name of a model to a path on this machine, downloading what is not there yet.
//!
//! ```text
//!   MODEL ── existing path ───────────────────────────────────────────────► that path
//!         ├─ http(s)://host/file.gguf ──── transfer ──► <cache>/bitnet/downloads/<SHA-256 of the address>/file.gguf
//!         ├─ hf:owner/repo[/file][@revision] ─ listing ─ transfer ──► <HF cache>/models--owner--repo/snapshots/<commit>/…
//!         └─ short name (2b4t, …) ── one of the above, with a pinned digest where one is known
//! ```
//!
//! Nothing touches the network unless the name asks for it and the file is not in the cache. A broken transfer goes on
//! where it stopped, also after the program was ended; what arrives is checked against its announced size, must begin as
//! what it was asked for as (a network that wants a login first answers with a page), and where a SHA-256 is known (large
//! files on Hugging Face, pinned models), is checked against that; only then does it get its final name. A cache that is
//! complete is never written, so that it may be read-only; where the hub cannot be reached, what is here is used.
//! The Hugging Face cache has the layout of that company's own tools, so files are shared with them in both directions.

mod address;
mod cached;
mod content;
mod http;
mod kind;
mod known;
mod redirect;
mod repository;
mod transfer;

pub use known::{KNOWN_MODELS, KnownModel};

use crate::{Cancel, DownloadFault, Error, Result};
use address::Source;
use http::Target;
use kind::Kind;
use std::env;
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;
use transfer::{Expected, Transfer};

/// What a download tells about itself.
///
/// `()` is the progress that says nothing.
pub trait Progress {
    /// A file begins: its name, its size in bytes where the server says it, and how many bytes an earlier attempt left here.
    /// Called again for the same file when a transfer has to begin over.
    fn start(&self, name: &str, total: Option<u64>, resumed: u64);
    /// So many more bytes of the file have arrived.
    fn advance(&self, bytes: u64);
    /// The file is complete and verified.
    fn finish(&self);
}

impl Progress for () {
    fn start(&self, _name: &str, _total: Option<u64>, _resumed: u64) {}
    fn advance(&self, _bytes: u64) {}
    fn finish(&self) {}
}

/// Where files come from and where they are kept.
#[derive(Clone)]
#[non_exhaustive]
pub struct HubOptions {
    /// Address of the Hugging Face hub or a mirror of it, without a trailing slash.
    pub endpoint: String,
    /// Sent to the endpoint as a bearer token, and wherever that redirects to neither to another host nor to another port or
    /// scheme.
    pub token: Option<String>,
    /// The folder with `models--owner--repo` inside. `None` where the platform names no cache folder.
    pub hub_cache: Option<PathBuf>,
    /// Our own folder, for files from plain addresses. `None` where the platform names no cache folder.
    pub bitnet_cache: Option<PathBuf>,
    /// Never touch the network: only what is in the cache is found.
    pub offline: bool,
    /// How many attempts in a row may bring nothing before a transfer is given up. An attempt that brings bytes counts anew.
    /// Where the cache may do instead, the hub is asked once.
    pub retries: u32,
    /// The pause before the second attempt; doubles with each further one, up to sixteen times this.
    pub pause: Duration,
    /// A connection that is silent for so long counts as broken.
    pub silence: Duration,
    /// Ends a download with [`Error::Cancelled`]; what has arrived is kept, and a later one goes on from there.
    pub cancel: Cancel,
}

impl Default for HubOptions {
    /// The public hub and the platform's cache folders, without a look at the environment variables.
    fn default() -> Self {
        let base = directories::BaseDirs::new();
        Self {
            endpoint: "https://huggingface.co".to_owned(),
            token: None,
            hub_cache: base
                .as_ref()
                .map(|base| base.home_dir().join(".cache/huggingface/hub")),
            bitnet_cache: base.as_ref().map(|base| base.cache_dir().join("bitnet")),
            offline: false,
            retries: 6,
            pause: Duration::from_millis(500),
            silence: Duration::from_secs(20),
            cancel: Cancel::default(),
        }
    }
}

impl HubOptions {
    /// The defaults, changed by the variables that Hugging Face's tools know: `HF_ENDPOINT`, `HF_HUB_CACHE`
    /// (`HUGGINGFACE_HUB_CACHE`), `HF_HOME`, `XDG_CACHE_HOME`, `HF_TOKEN` (`HUGGING_FACE_HUB_TOKEN`), `HF_TOKEN_PATH`,
    /// `HF_HUB_DISABLE_IMPLICIT_TOKEN` and `HF_HUB_OFFLINE` (`TRANSFORMERS_OFFLINE`).
    #[must_use]
    pub fn from_env() -> Self {
        Self::from_variables(|name| env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let mut options = Self::default();
        let text = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let is_on = |value: String| {
            matches!(
                value.trim().to_ascii_lowercase().as_str(),
                "1" | "true" | "yes" | "on"
            )
        };
        if let Some(endpoint) = text("HF_ENDPOINT") {
            options.endpoint = endpoint.trim().trim_end_matches('/').to_owned();
        }
        let home = text("HF_HOME").map(expand_home).or_else(|| {
            text("XDG_CACHE_HOME")
                .map(|cache| expand_home(cache).join("huggingface"))
                .or_else(|| {
                    directories::BaseDirs::new()
                        .map(|base| base.home_dir().join(".cache/huggingface"))
                })
        });
        options.hub_cache = text("HF_HUB_CACHE")
            .or_else(|| text("HUGGINGFACE_HUB_CACHE"))
            .map(expand_home)
            .or_else(|| home.as_ref().map(|home| home.join("hub")));
        options.token = text("HF_TOKEN")
            .or_else(|| text("HUGGING_FACE_HUB_TOKEN"))
            .or_else(|| {
                let path = text("HF_TOKEN_PATH")
                    .map(expand_home)
                    .or_else(|| home.as_ref().map(|home| home.join("token")))?;
                fs::read_to_string(path).ok()
            })
            // Files made on Windows, or by hand, may have line ends anywhere.
            .map(|token| token.replace(['\r', '\n'], "").trim().to_owned())
            .filter(|token| !token.is_empty())
            .filter(|_| !text("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some_and(is_on));
        options.offline = text("HF_HUB_OFFLINE")
            .or_else(|| text("TRANSFORMERS_OFFLINE"))
            .is_some_and(is_on);
        options
    }

    /// Sleeps, but wakes up soon when cancelled.
    fn sleep(&self, time: Duration) -> Result<()> {
        let slice = Duration::from_millis(50);
        let mut left = time;
        while !left.is_zero() {
            self.cancel.check()?;
            let now = left.min(slice);
            thread::sleep(now);
            left -= now;
        }
        self.cancel.check()
    }
}

impl fmt::Debug for HubOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("HubOptions")
            .field("endpoint", &address::shown(&self.endpoint))
            .field("token", &self.token.as_ref().map(|_| "(hidden)"))
            .field("hub_cache", &self.hub_cache)
            .field("bitnet_cache", &self.bitnet_cache)
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

/// Whether `model` is a name that [`resolve`] would look for in a cache or download, and not a path that exists.
#[must_use]
pub fn is_remote(model: &str) -> bool {
    matches!(
        Source::parse(model, &HubOptions::default()),
        Ok(Source::Address(_) | Source::Repository { .. })
    )
}

/// The path of `model` on this machine, after downloading whatever part of it is missing.
///
/// A file name gives that file (of a GGUF file in parts, `x-00001-of-00003.gguf`, the first, with the others beside it), a
/// Hugging Face repository of safetensors the folder with its files. Files in the cache are used without asking the network
/// whether they are still the newest.
///
/// # Errors
/// [`Error::Download`] for names that mean nothing here, and when a server refuses or the content is not what it should be;
/// [`Error::Io`] when the cache cannot be written; [`Error::Cancelled`].
pub fn resolve(model: &str, options: &HubOptions, progress: &dyn Progress) -> Result<PathBuf> {
    match Source::parse(model, options)? {
        Source::Path(path) => Ok(path),
        Source::Address(address) => resolve_address(model, &address, options, progress),
        Source::Repository { place, pin } => {
            repository::resolve(model, &place, pin, options, progress)
        }
    }
}

/// The file behind a plain address, from our own cache folder.
fn resolve_address(
    model: &str,
    address: &str,
    options: &HubOptions,
    progress: &dyn Progress,
) -> Result<PathBuf> {
    let cache = options
        .bitnet_cache
        .as_ref()
        .ok_or_else(|| no_cache(model))?;
    let name = address::file_name(address);
    let folder = cache
        .join("downloads")
        .join(transfer::sha256_of(address.as_bytes()));
    let target = folder.join(&name);
    let kind = Kind::of_model(&name);
    // Earlier versions kept whatever came.
    let is_here = || target.is_file() && kind.fits(&target);
    if is_here() {
        return Ok(target);
    }
    if options.offline {
        return Err(not_cached(model));
    }
    fs::create_dir_all(&folder).map_err(|error| Error::io(&folder, error))?;
    let _lock = lock(&folder.join(format!("{name}.lock")), options)?;
    if is_here() {
        return Ok(target);
    }
    let partial = folder.join(format!("{name}.incomplete"));
    let validator = folder.join(format!("{name}.validator"));
    let agent = http::agent(options);
    Transfer {
        target: Target {
            model,
            address,
            hub: false,
            token: None,
        },
        name: &name,
        kind,
        partial: &partial,
        validator: Some(&validator),
        expected: Expected::default(),
    }
    .run(&agent, options, progress)?;
    fs::rename(&partial, &target).map_err(|error| Error::io(&target, error))?;
    // What is left of the bookkeeping does no harm.
    let _ = fs::remove_file(&validator);
    Ok(target)
}

/// Holds `path` locked while it lives, waiting for another process that holds it.
///
/// Some network file systems have no locks; there, two downloads at once cost bandwidth but still end in a verified file.
fn lock(path: &Path, options: &HubOptions) -> Result<Option<File>> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|error| Error::io(path, error))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) => options.sleep(Duration::from_millis(100))?,
            Err(TryLockError::Error(error)) => {
                tracing::warn!(path = %path.display(), %error, "the file system has no locks");
                return Ok(None);
            }
        }
    }
}

/// `~` and `~/…` as Hugging Face's variables may have them.
fn expand_home(path: String) -> PathBuf {
    let rest = match path.strip_prefix('~') {
        Some("") => Some(""),
        Some(rest) => rest.strip_prefix('/'),
        None => None,
    };
    match (rest, directories::BaseDirs::new()) {
        (Some(rest), Some(base)) => base.home_dir().join(rest),
        _ => PathBuf::from(path),
    }
}

/// An error about `model`, which is about no address of its own.
fn refused(model: &str, fault: DownloadFault) -> Error {
    Error::Download {
        model: address::shown(model),
        address: None,
        fault,
    }
}

fn no_cache(model: &str) -> Error {
    let why = "this system names no cache folder; set HF_HOME (for hf: names) or give the path of a downloaded file";
    refused(model, DownloadFault::NotCached { why: why.into() })
}

fn not_cached(model: &str) -> Error {
    let why = "not in the cache, and downloads are switched off (HF_HUB_OFFLINE)";
    refused(model, DownloadFault::NotCached { why: why.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(variables: &[(&str, &str)]) -> HubOptions {
        HubOptions::from_variables(|name| {
            let (_, value) = variables.iter().find(|(known, _)| *known == name)?;
            Some((*value).to_owned())
        })
    }

    /// The variables and their order are those of huggingface_hub's `constants.py`.
    #[test]
    fn variables_are_those_of_hugging_face() {
        let cache = |variables: &[(&str, &str)]| options(variables).hub_cache.unwrap();
        assert_eq!(cache(&[("HF_HOME", "/h")]), Path::new("/h/hub"));
        assert_eq!(
            cache(&[("XDG_CACHE_HOME", "/x")]),
            Path::new("/x/huggingface/hub")
        );
        assert_eq!(
            cache(&[("HF_HOME", "/h"), ("HUGGINGFACE_HUB_CACHE", "/old")]),
            Path::new("/old")
        );
        assert_eq!(
            cache(&[("HF_HUB_CACHE", "/new"), ("HUGGINGFACE_HUB_CACHE", "/old")]),
            Path::new("/new")
        );
        assert!(options(&[("HF_HUB_OFFLINE", "ON")]).offline);
        assert!(options(&[("TRANSFORMERS_OFFLINE", "1")]).offline);
        assert!(!options(&[("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")]).offline);
        let endpoint = options(&[("HF_ENDPOINT", "https://mirror.org/ ")]).endpoint;
        assert_eq!(endpoint, "https://mirror.org");
    }

    #[test]
    fn a_token_is_found_and_cleaned() {
        let folder = env::temp_dir().join(format!("bitnet-token-{}", std::process::id()));
        fs::write(&folder, "hf_file\r\n").unwrap();
        let path = folder.to_str().unwrap();
        let token = |variables: &[(&str, &str)]| options(variables).token;
        assert_eq!(token(&[("HF_TOKEN_PATH", path)]).unwrap(), "hf_file");
        let both = [("HF_TOKEN_PATH", path), ("HF_TOKEN", " hf_own\n")];
        assert_eq!(token(&both).unwrap(), "hf_own");
        let old = [("HUGGING_FACE_HUB_TOKEN", "hf_old"), ("HF_HOME", "/none")];
        assert_eq!(token(&old).unwrap(), "hf_old");
        let off = [
            ("HF_TOKEN", "hf_own"),
            ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"),
        ];
        assert_eq!(token(&off), None);
        assert_eq!(token(&[("HF_HOME", "/none")]), None);
        fs::remove_file(folder).unwrap();
    }
}
