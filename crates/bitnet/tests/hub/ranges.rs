//! Servers that answer a range with another one, and what a busy server asks for.

use super::{content, options};
use crate::server::{Reply, Request, Server};
use bitnet::hub::resolve;
use std::fs;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Downloads from a server whose first connection breaks and which answers ranges by `part`.
fn resumed(part: fn(&Request, &[u8]) -> Reply) -> (Result<Vec<u8>, String>, usize) {
    let served = content(50_000);
    let server = Server::start(move |request| match request.range_start() {
        None => Reply::file(request, &served, "v").cut_after(if request.index == 0 {
            20_000
        } else {
            served.len()
        }),
        Some(_) => part(request, &served),
    });
    let cache = TempDir::new().unwrap();
    let options = options(cache.path(), "http://unused");
    let outcome = resolve(&server.url("/m.gguf"), &options, &());
    let outcome = outcome
        .map(|path| fs::read(path).unwrap())
        .map_err(|error| error.to_string());
    (outcome, server.count())
}

#[test]
fn a_range_that_is_not_the_one_asked_for_is_not_appended() {
    let whole = content(50_000);
    // Another beginning; another size; an end that lies behind the end.
    let others: [fn(&Request, &[u8]) -> Reply; 2] = [
        |_, file| Reply::new(206, &file[10_000..]).with("Content-Range", "bytes 10000-49999/50000"),
        |_, file| Reply::new(206, &file[20_000..]).with("Content-Range", "bytes 20000-49999/60000"),
    ];
    for other in others {
        assert_eq!(resumed(other), (Ok(whole.clone()), 3));
    }
    let wrong: [fn(&Request, &[u8]) -> Reply; 3] = [
        |_, file| Reply::new(206, &file[20_000..]),
        |_, file| Reply::new(206, &file[20_000..]).with("Content-Range", "bytes 20000-70000/50000"),
        |_, file| Reply::new(206, &file[20_000..]).with("Content-Range", "items 20000-49999/50000"),
    ];
    for wrong in wrong {
        let (outcome, _) = resumed(wrong);
        let error = outcome.unwrap_err();
        assert!(error.contains("without saying which"), "{error}");
    }
}

/// A server may send less than was asked for; the rest is asked for.
#[test]
fn short_ranges_are_put_together() {
    let (outcome, requests) = resumed(|request, file| {
        let start = request.range_start().unwrap();
        let end = (start + 10_000).min(file.len());
        Reply::new(206, &file[start..end])
            .with("ETag", "\"v\"")
            .with(
                "Content-Range",
                format!("bytes {start}-{}/{}", end - 1, file.len()),
            )
    });
    assert_eq!((outcome, requests), (Ok(content(50_000)), 4));
}

#[test]
fn a_busy_server_is_left_alone_as_long_as_it_asks() {
    let file = content(5_000);
    let served = file.clone();
    let server = Server::start(move |request| match request.index {
        0 => Reply::new(429, "").with("Retry-After", "1"),
        // A date, which few send: the usual pause does.
        1 => Reply::new(503, "").with("Retry-After", "Wed, 21 Oct 2026 07:28:00 GMT"),
        _ => Reply::file(request, &served, "v"),
    });
    let cache = TempDir::new().unwrap();
    let options = options(cache.path(), "http://unused");
    let begin = Instant::now();
    let path = resolve(&server.url("/m.gguf"), &options, &()).unwrap();
    assert!(begin.elapsed() >= Duration::from_secs(1));
    assert_eq!(fs::read(path).unwrap(), file);
    assert_eq!(server.count(), 3);
}
