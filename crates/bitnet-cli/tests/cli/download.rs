//! Models behind an address.

use super::{bitnet, tiny};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// Sends `bytes` to whoever asks, from where they ask, but only `piece` bytes for a connection, with a pause after each
/// kilobyte; to a HEAD as a Hugging Face hub does. Returns the server's address.
fn serve(bytes: Vec<u8>, piece: usize, pause: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut start, mut head_only) = (0, false);
            for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                let line = line.unwrap().to_ascii_lowercase();
                if let Some(range) = line.strip_prefix("range: bytes=") {
                    start = range.trim_end_matches('-').parse().unwrap();
                }
                head_only |= line.starts_with("head ");
                if line.is_empty() {
                    break;
                }
            }
            let head = format!(
                "HTTP/1.1 206 x\r\nX-Repo-Commit: abc\r\nETag: \"1\"\r\nContent-Range: bytes {start}-{}/{}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                bytes.len() - 1,
                bytes.len(),
                bytes.len() - start
            );
            let end = (start + piece).min(bytes.len());
            let _ = stream.write_all(head.as_bytes());
            if head_only {
                continue;
            }
            for chunk in bytes[start..end].chunks(1024) {
                if stream.write_all(chunk).is_err() {
                    break;
                }
                thread::sleep(pause);
            }
        }
    });
    address
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .unwrap()
        .flat_map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files_below(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

#[test]
fn a_model_behind_an_address_is_downloaded_once() {
    let bytes = fs::read(tiny()).unwrap();
    let address = serve(bytes.clone(), bytes.len() / 3, Duration::ZERO) + "/tiny.gguf";
    let cache = TempDir::new().unwrap();
    let inspect = |offline: &str| {
        bitnet(&["inspect", &address, "--json"])
            .env("HOME", cache.path())
            .env("XDG_CACHE_HOME", cache.path())
            .env("HF_HUB_OFFLINE", offline)
            .output()
            .unwrap()
    };
    let output = inspect("0");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("downloading tiny.gguf"));
    let found = files_below(cache.path());
    let model = found
        .iter()
        .find(|path| path.ends_with("tiny.gguf"))
        .unwrap();
    assert_eq!(fs::read(model).unwrap(), bytes);
    let again = inspect("1");
    assert!(again.status.success());
    assert_eq!(again.stdout, output.stdout);
    assert!(again.stderr.is_empty());
}

#[test]
fn the_variables_of_hugging_face_are_respected() {
    let bytes = fs::read(tiny()).unwrap();
    let endpoint = serve(bytes.clone(), bytes.len() / 2, Duration::ZERO);
    let home = TempDir::new().unwrap();
    let output = bitnet(&["inspect", "hf:owner/repo/tiny.gguf", "--json"])
        .env("HF_ENDPOINT", endpoint + "/")
        .env("HF_HOME", home.path())
        .env("HF_HUB_OFFLINE", "0")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let snapshot = home
        .path()
        .join("hub/models--owner--repo/snapshots/abc/tiny.gguf");
    assert_eq!(fs::read(snapshot).unwrap(), bytes);
}

#[test]
fn without_the_network_a_line_says_what_is_used() {
    let bytes = fs::read(tiny()).unwrap();
    let endpoint = serve(bytes.clone(), bytes.len(), Duration::ZERO);
    let home = TempDir::new().unwrap();
    let inspect = |endpoint: &str| {
        bitnet(&["inspect", "hf:owner/repo/tiny.gguf", "--json"])
            .env("HF_ENDPOINT", endpoint)
            .env("HF_HOME", home.path())
            .env("HF_HUB_OFFLINE", "0")
            .output()
            .unwrap()
    };
    let first = inspect(&endpoint);
    assert!(first.status.success());
    // As where only the files were copied: nothing says which commit the branch is.
    fs::remove_dir_all(home.path().join("hub/models--owner--repo/refs")).unwrap();
    // Nobody listens there.
    let second = inspect("http://127.0.0.1:9");
    let stderr = String::from_utf8(second.stderr).unwrap();
    assert!(second.status.success(), "{stderr}");
    assert_eq!(second.stdout, first.stdout);
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(
        stderr.contains("http://127.0.0.1:9") && stderr.contains("from the cache"),
        "{stderr}"
    );
}

#[test]
#[cfg(unix)]
fn ctrl_c_ends_a_download_in_good_order() {
    let mut bytes = vec![0; 1 << 20];
    bytes[..4].copy_from_slice(b"GGUF");
    let address = serve(bytes, 1 << 20, Duration::from_millis(20)) + "/tiny.gguf";
    let cache = TempDir::new().unwrap();
    let mut child = bitnet(&["run", "-m", &address, "x"])
        .env("HOME", cache.path())
        .env("XDG_CACHE_HOME", cache.path())
        .env("HF_HUB_OFFLINE", "0")
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.starts_with("downloading"), "{line}");
    let kill = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(kill.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    line.clear();
    stderr.read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "error: cancelled");
    assert!(
        files_below(cache.path())
            .iter()
            .any(|path| path.ends_with("tiny.gguf.incomplete"))
    );
}
