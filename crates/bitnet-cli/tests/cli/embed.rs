//! `bitnet embed`.

use super::{failure, json, run, stdout};
use std::fs;
use tempfile::TempDir;

/// A tiny model that embeds.
const MODEL: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../bitnet/tests/vectors/tiny-qwen3.gguf"
);

#[test]
fn texts_become_vectors() {
    let report = json(&["embed", "-m", MODEL, "the hand", "a tin", "--json"]);
    assert_eq!(report["pooling"], "last");
    assert_eq!(report["dimensions"], 128);
    let rows = report["embeddings"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[1]["text"], "a tin");
    let numbers = rows[0]["embedding"].as_array().unwrap();
    let squares: f64 = numbers.iter().map(|x| x.as_f64().unwrap().powi(2)).sum();
    assert!((squares - 1.0).abs() < 1e-5, "{squares}");
    let text = stdout(&["embed", "-m", MODEL, "the hand"]);
    assert!(text.ends_with("tokens  the hand\n"), "{text}");
    // What the file says is another pooling.
    let mean = json(&[
        "embed",
        "-m",
        MODEL,
        "the hand",
        "--json",
        "--pooling",
        "file",
    ]);
    assert_eq!(mean["pooling"], "mean");
    assert_ne!(mean["embeddings"][0]["embedding"], rows[0]["embedding"]);
}

#[test]
fn vectors_are_written_for_numpy() {
    let arguments = [
        "embed",
        "-m",
        MODEL,
        "the hand",
        "a tin",
        "--npy",
        "--dimensions",
        "16",
    ];
    let bytes = run(&arguments).stdout;
    assert!(bytes.starts_with(b"\x93NUMPY\x01\x00"));
    let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    assert!((10 + header).is_multiple_of(64));
    let text = String::from_utf8_lossy(&bytes[10..10 + header]);
    assert!(
        text.contains("'descr': '<f4'") && text.contains("(2, 16)"),
        "{text}"
    );
    assert_eq!(bytes.len(), 10 + header + 2 * 16 * 4);
}

#[test]
fn the_nearest_lines_of_a_file_are_found() {
    let folder = TempDir::new().unwrap();
    let corpus = folder.path().join("lines.txt");
    fs::write(&corpus, "the sea\n\nthe hand\na tin and the rest\n").unwrap();
    let corpus = corpus.to_str().unwrap();
    let found = json(&[
        "embed",
        "-m",
        MODEL,
        "the hand",
        "--similar",
        corpus,
        "--top",
        "2",
        "--json",
    ]);
    let found = found.as_array().unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(
        (&found[0]["text"], &found[0]["line"]),
        (&"the hand".into(), &2.into())
    );
    assert!(found[0]["similarity"].as_f64().unwrap() > 0.9999);
    let query = stdout(&[
        "embed",
        "-m",
        MODEL,
        "--query",
        "the hand",
        "--similar",
        corpus,
    ]);
    assert_eq!(query.lines().count(), 3, "{query}");
}

#[test]
fn nothing_to_embed_is_wrong_usage_and_such_a_model_does_not_talk() {
    assert!(failure(&["embed", "-m", MODEL], 2).contains("nothing to embed"));
    assert!(failure(&["embed", "-m", MODEL, "a", "--dimensions", "999"], 2).contains("1 to 128"));
    let talk = failure(&["run", "-m", MODEL, "Once"], 1);
    assert!(talk.contains("bitnet embed"), "{talk}");
}
