//! Networks and servers that answer with something else than the file: login pages, refusals, pointers.

use super::{COMMIT, content, options, shard};
use crate::server::{Reply, Server};
use bitnet::hub::resolve;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

const PAGE: &str = "<html>log in</html>";

#[test]
fn a_login_page_is_not_kept_as_the_model() {
    let portal = Arc::new(AtomicBool::new(true));
    let closed = Arc::clone(&portal);
    let server = Server::start(move |request| {
        if closed.load(Ordering::Relaxed) {
            return Reply::new(200, PAGE);
        }
        let file = if request.path.ends_with(".safetensors") {
            shard(3_000)
        } else {
            content(3_000)
        };
        Reply::file(request, &file, "x")
    });
    let cache = TempDir::new().unwrap();
    let options = options(cache.path(), "http://unused");
    let names = ["/m.gguf", "/m.safetensors", "/download?id=7"];
    for name in names {
        portal.store(true, Ordering::Relaxed);
        let error = resolve(&server.url(name), &options, &())
            .unwrap_err()
            .to_string();
        assert!(error.contains("a web page"), "{error}");
        assert_eq!(error.matches(name).count(), 1, "{error}");
        portal.store(false, Ordering::Relaxed);
        let path = resolve(&server.url(name), &options, &()).unwrap();
        assert_eq!(fs::read(&path).unwrap().len(), 3_000);
        // As an earlier version may have kept it.
        fs::write(&path, PAGE).unwrap();
        assert_eq!(resolve(&server.url(name), &options, &()).unwrap(), path);
        assert_eq!(fs::read(path).unwrap().len(), 3_000);
    }
}

/// What has arrived before the network asked for a login again is not lost for its page.
#[test]
fn a_login_page_in_between_costs_nothing() {
    let file = content(100_000);
    let served = file.clone();
    let server = Server::start(move |request| match request.index {
        0 => Reply::file(request, &served, "v").cut_after(60_000),
        1 => Reply::new(200, PAGE),
        _ => Reply::file(request, &served, "v"),
    });
    let cache = TempDir::new().unwrap();
    let options = options(cache.path(), "http://unused");
    let error = resolve(&server.url("/m.gguf"), &options, &())
        .unwrap_err()
        .to_string();
    assert!(error.contains("a web page"), "{error}");
    let path = resolve(&server.url("/m.gguf"), &options, &()).unwrap();
    assert_eq!(fs::read(path).unwrap(), file);
    assert_eq!(server.requests()[2].range_start(), Some(60_000));
}

/// On the hub, small files have no SHA-256 that would show it.
#[test]
fn a_login_page_is_not_kept_as_a_description() {
    let server = Server::start(move |request| {
        if request.path.starts_with("/api/") {
            let files = r#"[{"rfilename":"config.json"},{"rfilename":"model.safetensors"}]"#;
            return Reply::new(200, format!(r#"{{"sha":"{COMMIT}","siblings":{files}}}"#));
        }
        Reply::new(200, PAGE)
            .with("X-Repo-Commit", COMMIT)
            .with("ETag", "\"a1\"")
    });
    let cache = TempDir::new().unwrap();
    let options = options(cache.path(), &server.address);
    let error = resolve("hf:owner/repo", &options, &())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("config.json: wrong content: expected JSON, found a web page"),
        "{error}"
    );
    assert!(
        !cache
            .path()
            .join("hub/models--owner--repo/blobs/a1")
            .exists()
    );
}

#[test]
fn what_is_no_model_says_what_it_is() {
    let server = Server::start(|request| match request.path.as_str() {
        "/raw/m.gguf" => Reply::new(
            200,
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        ),
        "/empty.gguf" => Reply::new(200, ""),
        _ => Reply::new(200, "PK\x03\x04 and so on"),
    });
    let cache = TempDir::new().unwrap();
    let options = options(cache.path(), "http://unused");
    for (path, expected) in [
        ("/raw/m.gguf", "/resolve/ in place of /raw/"),
        ("/empty.gguf", "found an empty file"),
        (
            "/m.zip",
            "expected a GGUF or safetensors file, found one that begins with \"PK\\x03\\x04",
        ),
    ] {
        let error = resolve(&server.url(path), &options, &())
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// The codes are those that the hub sends in `X-Error-Code` (`huggingface_hub/utils/_http.py`).
#[test]
fn refusals_say_what_to_do() {
    for (status, code, token, expected) in [
        (401, "", None, "needs HF_TOKEN"),
        (
            401,
            "RepoNotFound",
            None,
            "no such repository, or it is private",
        ),
        (401, "", Some("t"), "refused with this token"),
        (403, "GatedRepo", Some("t"), "accept its terms"),
        (404, "EntryNotFound", None, "no such file in this revision"),
        (
            404,
            "RevisionNotFound",
            None,
            "no such branch, tag or commit",
        ),
        (404, "", None, "check the spelling"),
        (429, "", None, "wait some minutes, or set HF_TOKEN"),
        (429, "", Some("t"), "wait some minutes"),
        (503, "", None, "try again later"),
        (418, "", None, "cannot be had"),
    ] {
        let server = Server::start(move |_| Reply::new(status, "").with("X-Error-Code", code));
        let cache = TempDir::new().unwrap();
        let mut options = options(cache.path(), &server.address);
        options.token = token.map(str::to_owned);
        for model in ["hf:owner/repo", "hf:owner/repo/m.gguf"] {
            let error = resolve(model, &options, &()).unwrap_err().to_string();
            assert!(
                error.contains(&status.to_string()) && error.contains(expected),
                "{error}"
            );
        }
    }
}

/// Two sources agree on the size of this one, and the hub's etag here is no digest: the size alone tells.
#[test]
fn a_pinned_size_that_changed_is_refused_before_the_download() {
    let server = Server::start(|_| {
        Reply::new(200, "GGUF of another")
            .with("X-Repo-Commit", COMMIT)
            .with("ETag", "\"a1\"")
    });
    let cache = TempDir::new().unwrap();
    let options = options(cache.path(), &server.address);
    let error = resolve("falcon-e-3b", &options, &())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("expected 999908608 bytes, found 15 bytes")
            && error.contains("ask for hf:tiiuae/Falcon-E-3B-Instruct-GGUF/"),
        "{error}"
    );
    assert_eq!(server.count(), 1);
}

/// The same of a folder, whose size is that of its weights.
#[test]
fn the_weights_of_a_folder_are_pinned_too() {
    let server = Server::start(|request| {
        if request.path.starts_with("/api/") {
            let files = r#"[{"rfilename":"config.json"},{"rfilename":"model.safetensors"}]"#;
            return Reply::new(200, format!(r#"{{"sha":"{COMMIT}","siblings":{files}}}"#));
        }
        Reply::new(200, "{}")
            .with("X-Repo-Commit", COMMIT)
            .with("ETag", "\"a1\"")
    });
    let cache = TempDir::new().unwrap();
    let options = options(cache.path(), &server.address);
    let error = resolve("2b4t-packed", &options, &())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("/model.safetensors: wrong content")
            && error.contains("expected 1178623988 bytes, found 2 bytes")
            && error.ends_with("ask for hf:microsoft/bitnet-b1.58-2B-4T"),
        "{error}"
    );
}
