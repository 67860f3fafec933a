//! What the cache alone can do: read-only, without the network, as other tools leave it.

use super::{COMMIT, Hub, content, options, shard};
use crate::server::{Reply, Server};
use bitnet::hub::{HubOptions, resolve};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:9";

const INDEX: &[u8] = br#"{"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors"}}"#;

fn folder_model() -> Hub {
    Hub::start(&[
        ("config.json", b"{}".to_vec()),
        ("tokenizer.json", b"{ }".to_vec()),
        ("model.safetensors.index.json", INDEX.to_vec()),
        ("model-1.safetensors", shard(9_000)),
        ("model-2.safetensors", shard(2_000)),
    ])
}

/// A cache with `model` in it, as other tools leave it: without our listings.
fn filled(server: &Hub, model: &str) -> (TempDir, HubOptions, PathBuf) {
    let cache = TempDir::new().unwrap();
    let mut options = options(cache.path(), &server.hub.address);
    let path = resolve(model, &options, &()).unwrap();
    options.bitnet_cache = Some(cache.path().join("no listings"));
    (cache, options, path)
}

fn repository(cache: &TempDir) -> PathBuf {
    cache.path().join("hub/models--owner--repo")
}

/// Puts a file where a folder would have to be, so that nobody, whatever his rights, can write below it.
fn block(path: &Path) {
    if path.is_dir() {
        fs::remove_dir_all(path).unwrap();
    }
    fs::write(path, "").unwrap();
}

/// Every path below `folder`, with when it changed last.
fn state(folder: &Path) -> BTreeMap<PathBuf, std::time::SystemTime> {
    let mut state = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let metadata = entry.metadata().unwrap();
        state.insert(entry.path(), metadata.modified().unwrap());
        if metadata.is_dir() {
            state.extend(self::state(&entry.path()));
        }
    }
    state
}

#[test]
fn a_complete_cache_need_not_be_writable() {
    let folder = folder_model();
    let file = Hub::start(&[("m.gguf", content(5_000))]);
    for (server, model) in [
        (&folder, "hf:owner/repo"),
        (&file, "hf:owner/repo/m.gguf"),
        (&file, "hf:owner/repo"),
    ] {
        let (cache, options, path) = filled(server, model);
        block(&cache.path().join("hub/.locks"));
        block(&cache.path().join("no listings"));
        let before = state(cache.path());
        assert_eq!(resolve(model, &options, &()).unwrap(), path, "{model}");
        assert_eq!(state(cache.path()), before, "{model}");

        // The cache does not say which commit the branch is either: the hub does.
        block(&repository(&cache).join("refs"));
        let before = state(cache.path());
        assert_eq!(resolve(model, &options, &()).unwrap(), path, "{model}");
        assert_eq!(state(cache.path()), before, "{model}");
    }
}

#[test]
fn without_the_network_what_is_cached_does() {
    let folder = folder_model();
    let file = Hub::start(&[("m.gguf", content(5_000))]);
    for (server, model) in [
        (&folder, "hf:owner/repo"),
        (&file, "hf:owner/repo/m.gguf"),
        (&file, "hf:owner/repo"),
    ] {
        let (cache, mut options, path) = filled(server, model);
        for refs in [true, false] {
            if !refs {
                fs::remove_dir_all(repository(&cache).join("refs")).unwrap();
            }
            let portal = Server::start(|_| Reply::new(200, "<html>log in</html>"));
            let busy = Server::start(|_| Reply::new(503, ""));
            for endpoint in [NOWHERE, &portal.address, &busy.address] {
                options.endpoint = endpoint.to_owned();
                assert_eq!(resolve(model, &options, &()).unwrap(), path, "{model}");
            }
            // Where the cache does, nobody waits for a server in trouble.
            assert!(busy.count() <= 1, "{}", busy.count());
            options.offline = true;
            assert_eq!(resolve(model, &options, &()).unwrap(), path, "{model}");
            options.offline = false;
        }
        // A server that knows the answer is believed.
        let gone = Server::start(|_| Reply::new(404, ""));
        options.endpoint = gone.address.clone();
        let error = resolve(model, &options, &()).unwrap_err().to_string();
        assert!(error.contains("404"), "{error}");
        // Another branch is not what is here.
        options.endpoint = NOWHERE.to_owned();
        let error = resolve(&format!("{model}@other"), &options, &()).unwrap_err();
        assert!(error.to_string().contains(NOWHERE), "{error}");
    }
}

#[test]
fn an_incomplete_cache_does_not_do() {
    let server = folder_model();
    let (_cache, mut options, folder) = filled(&server, "hf:owner/repo");
    fs::remove_file(folder.join("model-2.safetensors")).unwrap();
    options.endpoint = NOWHERE.to_owned();
    let error = resolve("hf:owner/repo", &options, &()).unwrap_err();
    assert!(error.to_string().contains(NOWHERE), "{error}");
}

#[test]
fn a_page_in_the_cache_is_replaced() {
    let server = Hub::start(&[("m.gguf", content(5_000)), ("config.json", b"{}".to_vec())]);
    let (cache, options, path) = filled(&server, "hf:owner/repo/m.gguf");
    fs::write(fs::canonicalize(&path).unwrap(), "<html>log in</html>").unwrap();
    assert_eq!(
        resolve("hf:owner/repo/m.gguf", &options, &()).unwrap(),
        path
    );
    assert_eq!(fs::read(&path).unwrap(), content(5_000));
    assert!(repository(&cache).join("refs/main").is_file());
}

/// A link of the cache that leads nowhere, and one that leads to another content.
#[test]
#[cfg(unix)]
fn links_of_the_cache_that_lead_astray_are_mended() {
    let server = Hub::start(&[("m.gguf", content(5_000)), ("n.gguf", content(6_000))]);
    let (cache, options, path) = filled(&server, "hf:owner/repo/m.gguf");
    let other = resolve("hf:owner/repo/n.gguf", &options, &()).unwrap();
    fs::remove_file(repository(&cache).join("refs/main")).unwrap();
    for target in [
        Path::new("../../blobs/none"),
        &fs::read_link(&other).unwrap(),
    ] {
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(target, &path).unwrap();
        assert_eq!(
            resolve("hf:owner/repo/m.gguf", &options, &()).unwrap(),
            path
        );
        assert_eq!(fs::read(&path).unwrap(), content(5_000));
        let _ = fs::remove_file(repository(&cache).join("refs/main"));
    }
}

#[test]
fn all_parts_of_a_split_file_come_together() {
    let parts = [
        "q/m-00001-of-00003.gguf",
        "q/m-00002-of-00003.gguf",
        "q/m-00003-of-00003.gguf",
    ];
    let server = Hub::start(&[
        (parts[0], content(5_000)),
        (parts[1], content(4_000)),
        (parts[2], content(3_000)),
    ]);
    for model in [
        "hf:owner/repo".to_owned(),
        format!("hf:owner/repo/{}", parts[0]),
        format!("hf:owner/repo/{}", parts[2]),
    ] {
        let (cache, mut options, path) = filled(&server, &model);
        let snapshot = repository(&cache).join("snapshots").join(COMMIT);
        assert_eq!(path, snapshot.join(parts[0]));
        for (part, length) in parts.iter().zip([5_000, 4_000, 3_000]) {
            assert_eq!(fs::read(snapshot.join(part)).unwrap(), content(length));
        }
        options.offline = true;
        assert_eq!(resolve(&model, &options, &()).unwrap(), path);
        // One part is missed, and only it is fetched.
        options.offline = false;
        fs::remove_file(snapshot.join(parts[1])).unwrap();
        let stored = server.storage.count();
        assert_eq!(resolve(&model, &options, &()).unwrap(), path);
        assert_eq!(server.storage.count(), stored, "the blob was still there");
        assert!(snapshot.join(parts[1]).is_file());
    }
    let torn = Hub::start(&[(parts[0], content(5_000)), (parts[2], content(3_000))]);
    let cache = TempDir::new().unwrap();
    let options = options(cache.path(), &torn.hub.address);
    let error = resolve("hf:owner/repo", &options, &())
        .unwrap_err()
        .to_string();
    assert!(error.contains(parts[1]), "{error}");
}
