//! Every bench target registers at least one benchmark, and the targets are those that the package promises.
//!
//! `cargo test` builds the bench targets before it runs this (`test = true`), into the folder where this test lies.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// What `cargo bench --bench …` must know.
const TARGETS: [&str; 9] = [
    "test_minimal",
    "constraint_mask",
    "kernels",
    "wgpu_kernels",
    "tensor_performance",
    "mlx_vs_candle",
    "quantization_performance",
    "simd_performance",
    "tensor_operations_comprehensive",
];

/// The newest program in `folder` that was built of the target `name`.
fn newest(folder: &Path, name: &str) -> Option<PathBuf> {
    let built = std::fs::read_dir(folder).ok()?.flatten().filter(|entry| {
        let path = entry.path();
        let extension = path.extension().unwrap_or_default();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let hash = stem
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('-'));
        extension == std::env::consts::EXE_EXTENSION
            && hash.is_some_and(|hash| hash.chars().all(|c| c.is_ascii_hexdigit()))
    });
    let time = |entry: &std::fs::DirEntry| {
        let modified = entry.metadata().and_then(|data| data.modified());
        modified.unwrap_or(SystemTime::UNIX_EPOCH)
    };
    built.max_by_key(time).map(|entry| entry.path())
}

#[test]
fn every_bench_target_registers_a_benchmark() {
    let own = std::env::current_exe().expect("the path of this test");
    let folder = own.parent().expect("the folder of this test");
    for name in TARGETS {
        let program = newest(folder, name).unwrap_or_else(|| {
            panic!(
                "no bench target {name} in {}: it is built by `cargo test -p bitnet-benchmarks`",
                folder.display()
            )
        });
        let output = Command::new(&program)
            .args(["--bench", "--list", "--format", "terse"])
            .output()
            .expect("the bench target runs");
        let listed = String::from_utf8_lossy(&output.stdout);
        let count = listed
            .lines()
            .filter(|l| l.ends_with(": benchmark"))
            .count();
        assert!(
            output.status.success() && count > 0,
            "{name} lists {count} benchmarks ({}): {listed}",
            output.status
        );
    }
}

#[test]
fn the_manifest_declares_exactly_these_targets() {
    let manifest = include_str!("../Cargo.toml");
    let mut declared: Vec<&str> = manifest
        .split("[[bench]]")
        .skip(1)
        .filter_map(|section| section.split('"').nth(1))
        .collect();
    declared.sort_unstable();
    let mut expected = TARGETS;
    expected.sort_unstable();
    assert_eq!(declared, expected);
    let without_harness = manifest.matches("\nharness = false\n").count();
    assert_eq!(without_harness, TARGETS.len(), "harness = false for each");
}
