//! Downloads, against a server on this machine that breaks connections, changes files and lies.
#![cfg(feature = "hub")]
#![allow(clippy::unwrap_used)]

mod cache;
mod kinds;
mod login;
mod ranges;
mod redirects;
mod server;

use bitnet::hub::{HubOptions, Progress, is_remote, resolve};
use bitnet::{Cancel, Error};
use server::{Reply, Request, Server};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;

fn options(cache: &Path, endpoint: &str) -> HubOptions {
    let mut options = HubOptions::default();
    options.endpoint = endpoint.to_owned();
    options.hub_cache = Some(cache.join("hub"));
    options.bitnet_cache = Some(cache.join("bitnet"));
    options.retries = 3;
    options.pause = Duration::from_millis(1);
    options
}

/// Bytes that begin as a GGUF file, without a pattern that a wrong offset could keep.
fn content(length: usize) -> Vec<u8> {
    beginning_with(b"GGUF", length)
}

/// The same as a safetensors file.
fn shard(length: usize) -> Vec<u8> {
    beginning_with(b"\x40\0\0\0\0\0\0\0{", length)
}

fn beginning_with(beginning: &[u8], length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let rest = (beginning.len()..length).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    beginning.iter().copied().chain(rest).collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Counts what it is told.
#[derive(Default)]
struct Count {
    starts: AtomicU64,
    resumed: AtomicU64,
    advanced: AtomicU64,
    finished: AtomicU64,
}

impl Progress for Count {
    fn start(&self, _name: &str, _total: Option<u64>, resumed: u64) {
        self.starts.fetch_add(1, Ordering::Relaxed);
        self.resumed.store(resumed, Ordering::Relaxed);
        self.advanced.store(0, Ordering::Relaxed);
    }

    fn advance(&self, bytes: u64) {
        self.advanced.fetch_add(bytes, Ordering::Relaxed);
    }

    fn finish(&self) {
        self.finished.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn broken_connections_are_resumed() {
    let file = content(300_000);
    let served = file.clone();
    let server =
        Server::start(move |request| Reply::file(request, &served, "v1").cut_after(70_000));
    let cache = TempDir::new().unwrap();
    let count = Count::default();
    let options = options(cache.path(), "http://unused");

    let path = resolve(&server.url("/models/m.gguf?x=1"), &options, &count).unwrap();

    assert_eq!(fs::read(&path).unwrap(), file);
    assert_eq!(path.file_name().unwrap(), "m.gguf");
    let requests = server.requests();
    let starts: Vec<_> = requests.iter().map(Request::range_start).collect();
    assert_eq!(
        starts,
        [
            None,
            Some(70_000),
            Some(140_000),
            Some(210_000),
            Some(280_000)
        ]
    );
    assert!(
        requests[1..]
            .iter()
            .all(|request| request.header("if-range") == Some("\"v1\""))
    );
    assert_eq!(count.starts.load(Ordering::Relaxed), 1);
    assert_eq!(count.advanced.load(Ordering::Relaxed), 300_000);
    assert_eq!(count.finished.load(Ordering::Relaxed), 1);

    // The second time the cache has it.
    let again = resolve(&server.url("/models/m.gguf?x=1"), &options, &count).unwrap();
    assert_eq!(again, path);
    assert_eq!(server.count(), 5);
}

#[test]
fn a_later_program_goes_on() {
    let file = content(100_000);
    let served = file.clone();
    let server = Server::start(move |request| match request.index {
        0 => Reply::file(request, &served, "v1").cut_after(60_000),
        1..4 => Reply::new(503, ""),
        _ => Reply::file(request, &served, "v1"),
    });
    let cache = TempDir::new().unwrap();
    let options = options(cache.path(), "http://unused");
    let error = resolve(&server.url("/m.gguf"), &options, &())
        .unwrap_err()
        .to_string();
    assert!(error.contains("503") && error.contains("kept"), "{error}");

    let count = Count::default();
    let path = resolve(&server.url("/m.gguf"), &options, &count).unwrap();
    assert_eq!(fs::read(path).unwrap(), file);
    assert_eq!(count.resumed.load(Ordering::Relaxed), 60_000);
    assert_eq!(count.advanced.load(Ordering::Relaxed), 40_000);
}

#[test]
fn a_file_that_changes_is_begun_over() {
    for honours_if_range in [true, false] {
        let (old, new) = (content(90_000), [&b"GGUF"[..], &[7; 80_000]].concat());
        let expected = new.clone();
        let server = Server::start(move |request| {
            if request.index == 0 {
                return Reply::file(request, &old, "old").cut_after(50_000);
            }
            let mut request = request.clone();
            if !honours_if_range {
                request.headers.remove("if-range");
            }
            Reply::file(&request, &new, "new")
        });
        let cache = TempDir::new().unwrap();
        let count = Count::default();
        let options = options(cache.path(), "http://unused");
        let path = resolve(&server.url("/m.gguf"), &options, &count).unwrap();
        assert_eq!(fs::read(path).unwrap(), expected);
        assert_eq!(count.starts.load(Ordering::Relaxed), 2);
    }
}

#[test]
fn a_server_without_ranges_that_always_breaks_is_given_up() {
    let server = Server::start(|_| Reply::new(200, content(50_000)).cut_after(20_000));
    let cache = TempDir::new().unwrap();
    let error = resolve(
        &server.url("/m.gguf"),
        &options(cache.path(), "http://unused"),
        &(),
    )
    .unwrap_err()
    .to_string();
    assert!(error.contains("m.gguf"), "{error}");
    assert_eq!(server.count(), 4);
}

#[test]
fn a_silent_connection_counts_as_broken() {
    let file = content(50_000);
    let served = file.clone();
    let server = Server::start(move |request| {
        let mut reply = Reply::file(request, &served, "v1");
        if request.index == 0 {
            reply = reply.cut_after(10_000);
            reply.hang = true;
        }
        reply
    });
    let cache = TempDir::new().unwrap();
    let mut options = options(cache.path(), "http://unused");
    options.silence = Duration::from_millis(300);
    let path = resolve(&server.url("/m.gguf"), &options, &()).unwrap();
    assert_eq!(fs::read(path).unwrap(), file);
}

#[test]
fn length_need_not_be_announced() {
    let file = content(40_000);
    let served = file.clone();
    let server = Server::start(move |_| {
        let mut reply = Reply::new(200, served.clone());
        reply.announce = false;
        reply
    });
    let cache = TempDir::new().unwrap();
    let options = options(cache.path(), "http://unused");
    let path = resolve(&server.url("/m.gguf"), &options, &()).unwrap();
    assert_eq!(fs::read(path).unwrap(), file);
}

#[test]
fn refusals_are_final_and_say_why() {
    let server = Server::start(|request| match request.path.as_str() {
        "/gated" => Reply::new(403, "no"),
        _ => Reply::new(404, "no"),
    });
    let cache = TempDir::new().unwrap();
    let options = options(cache.path(), "http://unused");
    let error = resolve(&server.url("/m.gguf"), &options, &())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("404") && error.contains("no such"),
        "{error}"
    );
    let error = resolve(&server.url("/gated"), &options, &())
        .unwrap_err()
        .to_string();
    assert!(error.contains("download the file in a browser"), "{error}");
    assert_eq!(server.count(), 2);

    let closed = "http://127.0.0.1:9/m.gguf";
    let error = resolve(closed, &options, &()).unwrap_err().to_string();
    assert!(error.contains(closed), "{error}");
}

#[test]
fn cancelling_keeps_what_has_arrived() {
    struct Stop(Cancel);
    impl Progress for Stop {
        fn start(&self, _name: &str, _total: Option<u64>, _resumed: u64) {}
        fn advance(&self, _bytes: u64) {
            self.0.cancel();
        }
        fn finish(&self) {}
    }
    let file = content(2_000_000);
    let served = file.clone();
    let server = Server::start(move |request| Reply::file(request, &served, "v1"));
    let cache = TempDir::new().unwrap();
    let options = options(cache.path(), "http://unused");
    let stop = Stop(options.cancel.clone());

    let outcome = resolve(&server.url("/m.gguf"), &options, &stop);
    assert!(matches!(outcome, Err(Error::Cancelled)), "{outcome:?}");

    options.cancel.reset();
    let count = Count::default();
    let path = resolve(&server.url("/m.gguf"), &options, &count).unwrap();
    assert_eq!(fs::read(path).unwrap(), file);
    assert!(count.resumed.load(Ordering::Relaxed) > 0);
}

#[test]
fn two_downloads_at_once_transfer_the_file_once() {
    let file = content(500_000);
    let served = file.clone();
    let server = Server::start(move |request| Reply::file(request, &served, "v1"));
    let cache = TempDir::new().unwrap();
    let (options, url) = (
        options(cache.path(), "http://unused"),
        server.url("/m.gguf"),
    );
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let path = resolve(&url, &options, &()).unwrap();
                assert_eq!(fs::read(path).unwrap(), file);
            });
        }
    });
    assert_eq!(server.count(), 1);
}

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A hub with one repository `owner/repo`; large files are on another server, as on the real one.
struct Hub {
    hub: Server,
    storage: Server,
}

impl Hub {
    fn start(files: &[(&str, Vec<u8>)]) -> Self {
        Self::lying(files, None)
    }

    /// `lie`: the digest announced for every large file.
    fn lying(files: &[(&str, Vec<u8>)], lie: Option<String>) -> Self {
        let files: Vec<(String, Vec<u8>)> = files
            .iter()
            .map(|(name, bytes)| ((*name).to_owned(), bytes.clone()))
            .collect();
        let stored = files.clone();
        let storage = Server::start(move |request| {
            let name = request.path.trim_start_matches('/');
            let (_, bytes) = stored.iter().find(|(known, _)| known == name).unwrap();
            Reply::file(request, bytes, "storage-tag").cut_after(64_000)
        });
        // Another host than the hub's, as far as a client can tell.
        let storage_address = storage.address.replace("127.0.0.1", "localhost");
        let hub = Server::start(move |request| {
            if request.path.starts_with("/api/models/owner/repo/revision/") {
                let siblings: Vec<String> = files
                    .iter()
                    .map(|(name, _)| format!(r#"{{"rfilename":"{name}"}}"#))
                    .collect();
                return Reply::new(
                    200,
                    format!(
                        r#"{{"sha":"{COMMIT}","siblings":[{}]}}"#,
                        siblings.join(",")
                    ),
                );
            }
            let wanted = ["main", COMMIT].iter().find_map(|revision| {
                request
                    .path
                    .strip_prefix(&format!("/owner/repo/resolve/{revision}/"))
            });
            if let Some(name) = request.path.strip_prefix("/cache/") {
                let (_, bytes) = files.iter().find(|(known, _)| known == name).unwrap();
                return Reply::file(request, bytes, &format!("git-{}", &sha256(bytes)[..20]));
            }
            let Some((name, bytes)) =
                wanted.and_then(|name| files.iter().find(|(known, _)| known == name))
            else {
                return Reply::new(404, "Entry not found");
            };
            if name.ends_with(".gguf") || name.ends_with(".safetensors") {
                let digest = lie.clone().unwrap_or_else(|| sha256(bytes));
                Reply::new(302, "")
                    .with("Location", format!("{storage_address}/{name}"))
                    .with("X-Repo-Commit", COMMIT)
                    .with("X-Linked-Size", bytes.len().to_string())
                    .with("X-Linked-ETag", format!("\"{digest}\""))
            } else {
                Reply::new(307, "")
                    .with("Location", format!("/cache/{name}"))
                    .with("X-Repo-Commit", COMMIT)
            }
        });
        Self { hub, storage }
    }
}

#[test]
fn a_file_of_a_repository() {
    let file = content(150_000);
    let server = Hub::start(&[
        ("sub/m.gguf", file.clone()),
        ("README.md", b"hello".to_vec()),
    ]);
    let cache = TempDir::new().unwrap();
    let mut options = options(cache.path(), &server.hub.address);
    options.token = Some("secret".to_owned());

    let path = resolve("hf:owner/repo/sub/m.gguf", &options, &()).unwrap();

    let repository = cache.path().join("hub/models--owner--repo");
    assert_eq!(
        path,
        repository.join("snapshots").join(COMMIT).join("sub/m.gguf")
    );
    assert_eq!(fs::read(&path).unwrap(), file);
    assert_eq!(
        fs::read(repository.join("blobs").join(sha256(&file))).unwrap(),
        file
    );
    assert_eq!(
        fs::read_to_string(repository.join("refs/main")).unwrap(),
        COMMIT
    );
    #[cfg(unix)]
    assert_eq!(
        fs::read_link(&path).unwrap(),
        Path::new("../../../blobs").join(sha256(&file))
    );
    assert!(server.storage.count() >= 3);
    assert!(
        server
            .hub
            .requests()
            .iter()
            .all(|r| r.header("authorization") == Some("Bearer secret"))
    );
    assert!(
        server
            .storage
            .requests()
            .iter()
            .all(|r| r.header("authorization").is_none())
    );

    // Neither the second time nor offline is the network asked.
    let before = server.hub.count();
    assert_eq!(
        resolve("hf:owner/repo/sub/m.gguf", &options, &()).unwrap(),
        path
    );
    options.offline = true;
    let by_commit = format!("hf:owner/repo/sub/m.gguf@{COMMIT}");
    assert_eq!(resolve(&by_commit, &options, &()).unwrap(), path);
    let error = resolve("hf:owner/repo/other.gguf", &options, &())
        .unwrap_err()
        .to_string();
    assert!(error.contains("not in the cache"), "{error}");
    assert_eq!(server.hub.count(), before);
}

#[test]
fn content_that_is_not_what_the_hub_announced() {
    let lie = sha256(b"something else");
    let server = Hub::lying(&[("m.gguf", content(10_000))], Some(lie.clone()));
    let cache = TempDir::new().unwrap();
    let options = options(cache.path(), &server.hub.address);
    let error = resolve("hf:owner/repo/m.gguf", &options, &())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("wrong content")
            && error.contains(&lie)
            && error.contains(&sha256(&content(10_000))),
        "{error}"
    );
    let blob = cache
        .path()
        .join("hub/models--owner--repo/blobs")
        .join(&lie);
    assert!(!blob.exists());
}

#[test]
fn a_spoilt_partial_file_heals() {
    let file = content(30_000);
    let server = Hub::start(&[("m.gguf", file.clone())]);
    let cache = TempDir::new().unwrap();
    let blobs = cache.path().join("hub/models--owner--repo/blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(
        blobs.join(format!("{}.incomplete", sha256(&file))),
        vec![0; 12_000],
    )
    .unwrap();
    let options = options(cache.path(), &server.hub.address);
    let path = resolve("hf:owner/repo/m.gguf", &options, &()).unwrap();
    assert_eq!(fs::read(path).unwrap(), file);
}

#[test]
fn a_folder_of_safetensors() {
    let index = br#"{"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors","c":"model-1.safetensors"}}"#;
    let server = Hub::start(&[
        ("README.md", b"read me".to_vec()),
        ("config.json", b"{}".to_vec()),
        ("tokenizer.json", b"{ }".to_vec()),
        ("model.safetensors.index.json", index.to_vec()),
        ("model-1.safetensors", shard(90_000)),
        ("model-2.safetensors", shard(20_000)),
    ]);
    let cache = TempDir::new().unwrap();
    let mut options = options(cache.path(), &server.hub.address);

    let folder = resolve("hf:owner/repo", &options, &()).unwrap();

    assert_eq!(
        fs::read(folder.join("model-1.safetensors")).unwrap(),
        shard(90_000)
    );
    assert_eq!(
        fs::read(folder.join("model-2.safetensors")).unwrap(),
        shard(20_000)
    );
    assert_eq!(fs::read(folder.join("config.json")).unwrap(), b"{}");
    assert!(!folder.join("README.md").exists());

    let before = server.hub.count();
    assert_eq!(resolve("hf:owner/repo", &options, &()).unwrap(), folder);
    options.offline = true;
    // As other tools leave it: no listing.
    options.bitnet_cache = Some(cache.path().join("empty"));
    assert_eq!(resolve("hf:owner/repo", &options, &()).unwrap(), folder);
    assert_eq!(server.hub.count(), before);

    // A shard that is missing is not overlooked, and only it is fetched.
    options.offline = false;
    fs::remove_file(folder.join("model-2.safetensors")).unwrap();
    let stored = server.storage.count();
    assert_eq!(resolve("hf:owner/repo", &options, &()).unwrap(), folder);
    assert_eq!(
        fs::read(folder.join("model-2.safetensors")).unwrap(),
        shard(20_000)
    );
    assert_eq!(server.storage.count(), stored, "the blob was still there");
}

#[test]
fn an_index_cannot_reach_out_of_its_folder() {
    let index = br#"{"weight_map":{"a":"../../../../etc/passwd"}}"#;
    let server = Hub::start(&[
        ("config.json", b"{}".to_vec()),
        ("model.safetensors.index.json", index.to_vec()),
    ]);
    let cache = TempDir::new().unwrap();
    let options = options(cache.path(), &server.hub.address);
    let error = resolve("hf:owner/repo", &options, &())
        .unwrap_err()
        .to_string();
    assert!(error.contains("same folder"), "{error}");
}

#[test]
fn a_pinned_model_that_changed_is_refused_before_the_download() {
    let digest = sha256(b"another model");
    let announced = digest.clone();
    let hub = Server::start(move |_| {
        Reply::new(302, "")
            .with("Location", "http://127.0.0.1:9/")
            .with("X-Repo-Commit", COMMIT)
            .with("X-Linked-Size", "13")
            .with("X-Linked-ETag", format!("\"{announced}\""))
    });
    let cache = TempDir::new().unwrap();
    let options = options(cache.path(), &hub.address);
    let error = resolve("2b4t", &options, &()).unwrap_err().to_string();
    assert!(
        error.contains("has changed") && error.contains(&digest),
        "{error}"
    );
}

#[test]
fn paths_need_no_network() {
    let folder = TempDir::new().unwrap();
    let mut options = options(folder.path(), "http://127.0.0.1:9");
    options.offline = true;
    let path = folder.path().to_str().unwrap();
    assert_eq!(resolve(path, &options, &()).unwrap(), folder.path());
    assert!(!is_remote(path));
    assert!(is_remote("2b4t") && is_remote("hf:a/b") && is_remote("https://h.org/m.gguf"));
    assert!(!is_remote("no/such/thing"));
}
