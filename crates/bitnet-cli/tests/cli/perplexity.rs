//! `bitnet perplexity`.

use super::{bitnet, json, stdout, tiny};
use std::fs::{self, File};
use tempfile::TempDir;

#[test]
fn perplexity_of_a_random_model_is_about_its_vocabulary() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("text.txt");
    fs::write(
        &path,
        "The quick brown fox jumps over the lazy dog. ".repeat(20),
    )
    .unwrap();
    let path = path.to_str().unwrap();
    let report = json(&[
        "perplexity",
        "-m",
        tiny(),
        "-f",
        path,
        "--window",
        "64",
        "--json",
    ]);
    let perplexity = report["perplexity"].as_f64().unwrap();
    assert!(perplexity > 50.0 && perplexity.is_finite(), "{perplexity}");
    assert!(stdout(&["perplexity", "-m", tiny(), "-f", path]).starts_with("perplexity "));

    // The same text from stdin.
    let piped = bitnet(&[
        "perplexity",
        "-m",
        tiny(),
        "-f",
        "-",
        "--window",
        "64",
        "--json",
    ])
    .stdin(File::open(path).unwrap())
    .output()
    .unwrap();
    let piped: serde_json::Value = serde_json::from_slice(&piped.stdout).unwrap();
    assert_eq!(piped["perplexity"], report["perplexity"]);
}
