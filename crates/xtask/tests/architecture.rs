//! ARCHITECTURE.md names files that exist.
#![allow(clippy::unwrap_used)]

use std::path::Path;

#[test]
fn every_named_file_exists() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(workspace.join("ARCHITECTURE.md")).unwrap();
    let is_path = |word: &&str| {
        let first = word.split('/').next().unwrap_or_default();
        matches!(first, "crates" | "benches" | "web")
            || matches!(*word, "shaders-wgsl" | "shaders-metal")
    };
    // Every second piece between backticks is code.
    let paths: Vec<&str> = text.split('`').skip(1).step_by(2).filter(is_path).collect();
    assert!(paths.len() > 40, "{} paths", paths.len());
    for path in paths {
        assert!(
            workspace.join(path).exists(),
            "ARCHITECTURE.md names {path}"
        );
    }
}
