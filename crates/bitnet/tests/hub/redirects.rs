//! Redirects: which are followed, and who is told the token.

use super::{COMMIT, content, options, sha256};
use crate::server::{Reply, Request, Server};
use bitnet::hub::resolve;
use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use tempfile::TempDir;

/// A server that knows its own address.
fn server(handler: impl Fn(&Request, &str) -> Reply + Send + Sync + 'static) -> Server {
    let own = Arc::new(OnceLock::<String>::new());
    let known = Arc::clone(&own);
    let server = Server::start(move |request| handler(request, known.wait()));
    own.set(server.address.clone()).unwrap();
    server
}

fn metadata(reply: Reply, bytes: &[u8]) -> Reply {
    reply
        .with("X-Repo-Commit", COMMIT)
        .with("X-Linked-Size", bytes.len().to_string())
        .with("X-Linked-ETag", format!("\"{}\"", sha256(bytes)))
}

fn tokens(server: &Server) -> Vec<Option<String>> {
    let requests = server.requests();
    requests
        .iter()
        .map(|request| request.header("authorization").map(str::to_owned))
        .collect()
}

/// As huggingface_hub does, and curl since 7.83: another port is another server.
#[test]
fn the_token_goes_to_no_other_port_of_the_same_host() {
    let file = content(5_000);
    let stored = file.clone();
    let storage = Server::start(move |request| Reply::file(request, &stored, "s"));
    let (announced, elsewhere) = (file.clone(), storage.url("/m.gguf"));
    let hub = Server::start(move |_| {
        metadata(
            Reply::new(302, "").with("Location", elsewhere.as_str()),
            &announced,
        )
    });
    let cache = TempDir::new().unwrap();
    let mut options = options(cache.path(), &hub.address);
    options.token = Some("secret".to_owned());
    let path = resolve("hf:owner/repo/m.gguf", &options, &()).unwrap();
    assert_eq!(fs::read(path).unwrap(), file);
    assert_eq!(tokens(&storage), [None]);
    assert_eq!(tokens(&hub), vec![Some("Bearer secret".to_owned()); 2]);
}

/// As proxies and renamed repositories answer.
#[test]
fn a_full_address_on_the_same_host_is_followed_for_the_commit_too() {
    let file = content(5_000);
    let served = file.clone();
    let hub = server(move |request, own| match request.path.split_once("/old/") {
        Some((before, after)) => {
            Reply::new(307, "").with("Location", format!("{own}{before}/new/{after}"))
        }
        None => metadata(Reply::file(request, &served, "x"), &served),
    });
    let cache = TempDir::new().unwrap();
    let mut options = options(cache.path(), &hub.address);
    options.token = Some("secret".to_owned());
    let path = resolve("hf:owner/old/m.gguf", &options, &()).unwrap();
    assert_eq!(fs::read(path).unwrap(), file);
    assert!(
        tokens(&hub)
            .iter()
            .all(|token| token.as_deref() == Some("Bearer secret"))
    );
}

/// A mirror that sends its clients on before it has said which commit it means.
#[test]
fn another_host_is_asked_for_what_is_not_known_yet_without_the_token() {
    let file = content(5_000);
    let served = file.clone();
    let origin =
        Server::start(move |request| metadata(Reply::file(request, &served, "x"), &served));
    let elsewhere = origin.address.clone();
    let mirror = Server::start(move |request| {
        Reply::new(308, "").with("Location", format!("{elsewhere}{}", request.path))
    });
    let cache = TempDir::new().unwrap();
    let mut options = options(cache.path(), &mirror.address);
    options.token = Some("secret".to_owned());
    let path = resolve("hf:owner/repo/m.gguf", &options, &()).unwrap();
    assert_eq!(fs::read(path).unwrap(), file);
    assert!(tokens(&origin).iter().all(Option::is_none));
}

/// Who was sent elsewhere and back comes back without it: where he is sent is not for others to say.
#[test]
fn the_token_does_not_come_back() {
    let file = content(5_000);
    let hub = Arc::new(OnceLock::<String>::new());
    let back = Arc::clone(&hub);
    let other = Server::start(move |_| {
        Reply::new(302, "").with("Location", format!("{}/back", back.wait()))
    });
    let elsewhere = other.url("/x");
    let served = file.clone();
    let server = Server::start(move |request| match request.path.as_str() {
        "/back" => metadata(Reply::file(request, &served, "x"), &served),
        _ => Reply::new(302, "").with("Location", elsewhere.as_str()),
    });
    hub.set(server.address.clone()).unwrap();
    let cache = TempDir::new().unwrap();
    let mut options = options(cache.path(), &server.address);
    options.token = Some("secret".to_owned());
    resolve("hf:owner/repo/m.gguf", &options, &()).unwrap();
    for request in server.requests() {
        let token = request.header("authorization");
        assert_eq!(token.is_some(), request.path != "/back", "{}", request.path);
    }
}

#[test]
fn endless_redirects_and_other_schemes_are_refused() {
    let cache = TempDir::new().unwrap();
    let ended = |location: fn(&Request) -> String| {
        let server =
            Server::start(move |request| Reply::new(302, "").with("Location", location(request)));
        let options = options(cache.path(), "http://unused");
        let error = resolve(&server.url("/m.gguf"), &options, &()).unwrap_err();
        assert!(server.count() <= 12, "{}", server.count());
        error.to_string()
    };
    let error = ended(|_| "/m.gguf".to_owned());
    assert!(error.contains("redirected more than 10 times"), "{error}");
    let error = ended(|request| format!("{}x", request.path));
    assert!(error.contains("redirected more than 10 times"), "{error}");
    for location in ["file:///etc/passwd", "ftp://h/x", "http://"] {
        let server = Server::start(move |_| Reply::new(302, "").with("Location", location));
        let options = options(cache.path(), "http://unused");
        let error = resolve(&server.url("/m.gguf"), &options, &())
            .unwrap_err()
            .to_string();
        assert!(error.contains("redirected to"), "{error}");
    }
    assert!(!has_model(cache.path()));
}

/// Ranges are asked for behind redirects too.
#[test]
fn a_redirected_download_is_resumed() {
    let file = content(90_000);
    let served = file.clone();
    let server = Server::start(move |request| match request.path.as_str() {
        "/m.gguf" => Reply::new(303, "").with("Location", "files/m.gguf?signature=x"),
        path => {
            assert_eq!(path, "/files/m.gguf?signature=x");
            Reply::file(request, &served, "v").cut_after(40_000)
        }
    });
    let cache = TempDir::new().unwrap();
    let options = options(cache.path(), "http://unused");
    let path = resolve(&server.url("/m.gguf"), &options, &()).unwrap();
    assert_eq!(fs::read(path).unwrap(), file);
    assert_eq!(server.count(), 6);
}

fn has_model(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            has_model(&path)
        } else {
            path.extension()
                .is_some_and(|extension| extension == "gguf")
        }
    })
}
