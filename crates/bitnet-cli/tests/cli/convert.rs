//! `bitnet convert`.

use super::{failure, stdout, tiny};
use tempfile::TempDir;

#[test]
fn convert_says_what_it_kept() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let said = stdout(&["convert", tiny(), &path("packed"), "--type", "safetensors"]);
    assert!(said.contains("Lossless"), "{said}");
    let said = stdout(&[
        "convert",
        &path("packed"),
        &path("back.gguf"),
        "--type",
        "i2_s",
    ]);
    assert!(said.contains("Lossless"), "{said}");
    let digest = |model: &str| stdout(&["logits", "-m", model, "--tokens", "1,2,3", "--digest"]);
    assert_eq!(digest(&path("back.gguf")), digest(tiny()));
    assert_eq!(digest(&path("packed")), digest(tiny()));
    let said = stdout(&["convert", tiny(), &path("tq2.gguf"), "--type", "tq2_0"]);
    assert!(said.contains("Lossless"), "{said}");
    failure(&["convert", tiny(), &path("x.gguf"), "--type", "q4_k"], 2);
}
