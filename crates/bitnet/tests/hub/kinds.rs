//! Failed downloads by their kind, as a program that embeds the library tells them apart.

use super::{Hub, content, options, sha256};
use crate::server::{Reply, Server};
use bitnet::hub::resolve;
use bitnet::{DownloadFault, Error};
use tempfile::TempDir;

/// The address and fault of a download that fails.
fn fault(model: &str, endpoint: &str) -> (Option<String>, DownloadFault) {
    let cache = TempDir::new().unwrap();
    match resolve(model, &options(cache.path(), endpoint), &()) {
        Err(Error::Download { address, fault, .. }) => (address, fault),
        other => panic!("{model}: {other:?}"),
    }
}

#[test]
fn refusals_are_told_apart() {
    let server = Server::start(|request| match request.path.as_str() {
        "/licensed.gguf" => Reply::new(403, ""),
        "/owner/gated/resolve/main/m.gguf" => Reply::new(401, "").with("X-Error-Code", "GatedRepo"),
        "/busy.gguf" => Reply::new(503, ""),
        _ => Reply::new(404, ""),
    });
    let (address, missing) = fault(&server.url("/m.gguf"), "http://unused");
    assert_eq!(address, Some(server.url("/m.gguf")));
    assert!(
        matches!(&missing, DownloadFault::NotFound { found, advice }
            if found.starts_with("404") && advice.contains("check the address")),
        "{missing:?}"
    );
    let (_, refused) = fault(&server.url("/licensed.gguf"), "http://unused");
    assert!(
        matches!(&refused, DownloadFault::Forbidden { found, .. } if found.starts_with("403")),
        "{refused:?}"
    );
    let (address, gated) = fault("hf:owner/gated/m.gguf", &server.address);
    assert_eq!(
        address,
        Some(server.url("/owner/gated/resolve/main/m.gguf"))
    );
    assert!(
        matches!(&gated, DownloadFault::Forbidden { advice, .. }
            if advice.contains("terms") && advice.contains("HF_TOKEN")),
        "{gated:?}"
    );
    let (_, busy) = fault(&server.url("/busy.gguf"), "http://unused");
    assert!(
        matches!(&busy, DownloadFault::Network { kept: 0, .. }),
        "{busy:?}"
    );
    for name in ["no-such-model", "hf:owner", "hf:owner/"] {
        let (address, unknown) = fault(name, "http://unused");
        assert!(
            address.is_none() && matches!(unknown, DownloadFault::Name { .. }),
            "{unknown:?}"
        );
    }
}

#[test]
fn a_broken_network_tells_what_is_kept() {
    let server = Server::start(|request| match request.index {
        0 => Reply::file(request, &content(9_000), "v").cut_after(4_000),
        _ => Reply::new(503, ""),
    });
    let (_, broken) = fault(&server.url("/m.gguf"), "http://unused");
    assert!(
        matches!(&broken, DownloadFault::Network { kept: 4_000, .. }),
        "{broken:?}"
    );
    // Nobody listens there.
    let (address, closed) = fault("hf:owner/repo/m.gguf", "http://127.0.0.1:9");
    assert!(address.is_some_and(|address| address.starts_with("http://127.0.0.1:9/owner")));
    assert!(
        matches!(&closed, DownloadFault::Network { kept: 0, .. }),
        "{closed:?}"
    );
}

#[test]
fn other_content_names_both() {
    let lie = sha256(b"something else");
    let server = Hub::lying(&[("m.gguf", content(5_000))], Some(lie.clone()));
    let (address, other) = fault("hf:owner/repo/m.gguf", &server.hub.address);
    assert!(address.is_some_and(|address| address.ends_with("/m.gguf")));
    let DownloadFault::Content {
        expected,
        found,
        advice,
    } = other
    else {
        panic!("{other:?}");
    };
    assert!(expected.contains(&lie), "{expected}");
    assert!(found.contains(&sha256(&content(5_000))), "{found}");
    assert!(!advice.is_empty());
    let pages = Server::start(|_| Reply::new(200, "<html>"));
    let (_, page) = fault(&pages.url("/m.gguf"), "http://unused");
    assert!(
        matches!(&page, DownloadFault::Content { found, .. } if found.contains("a web page")),
        "{page:?}"
    );
}

/// Neither what is printed nor what is in the error.
#[test]
fn a_password_in_an_address_is_not_shown() {
    let server = Server::start(|request| match request.path.as_str() {
        "/away.gguf" => Reply::new(302, "").with("Location", "/x?signature=hidden1"),
        path if path.starts_with("/x") => {
            Reply::new(302, "").with("Location", format!("{path}&again"))
        }
        "/busy.gguf" => Reply::new(503, ""),
        "/page.gguf" => Reply::new(200, "<html>"),
        _ => Reply::new(404, ""),
    });
    let host = server.address.replace("http://", "");
    let names = [
        format!("http://me:hidden1@{host}/m.gguf"),
        format!("http://me:hidden1@{host}/busy.gguf"),
        format!("http://me:hidden1@{host}/page.gguf"),
        format!("http://me:hidden1@{host}/away.gguf"),
        format!("HTTP://me:hidden1@{host}/m.gguf"),
        "http://me:hidden1@/m.gguf".to_owned(),
        "http://me:hidden1@127.0.0.1:9/m.gguf".to_owned(),
        "http://me:hid/den1@h.org/m.gguf".to_owned(),
    ];
    for name in names {
        let cache = TempDir::new().unwrap();
        let error = resolve(&name, &options(cache.path(), "http://unused"), &()).unwrap_err();
        for text in [error.to_string(), format!("{error:?}")] {
            assert!(
                !text.contains("hidden1") && !text.contains("den1"),
                "{name}: {text}"
            );
        }
    }
    let mut mirror = bitnet::hub::HubOptions::default();
    mirror.endpoint = "https://me:hidden1@mirror.org".to_owned();
    assert!(!format!("{mirror:?}").contains("hidden1"));
}
