//! What is wrong with a kernel is found: faults are planted in one that works.
//!
//! These need clang: `cargo xtask test --metal` runs them.

use super::*;
use crate::gpu::kernel::{Epilogue, Kernel, RowPlace, Teams, TernaryRow};

const ROWS: u32 = 40;
const WORDS: u32 = 16;
const COLS: u32 = 16 * WORDS;
const X: RowPlace = RowPlace {
    cols: COLS,
    offset: 0,
    stride: COLS,
};

fn driver() -> Arc<dyn Driver> {
    open(&GpuOptions::default()).expect("clang").driver
}

fn kernel() -> Kernel {
    Kernel::Gemv {
        teams: Teams {
            threads: 256,
            each: 4,
        },
        pieces: None,
        x: X,
        eps: None,
        row: TernaryRow {
            words: WORDS,
            group: 0,
        },
        rows: [ROWS, 0, 0],
        out: [0; 3],
        out_stride: ROWS,
        epilogue: Epilogue::Store,
    }
}

/// The product of a ramp with rows of a pattern of codes, after `change` to the kernel's text.
fn run(change: impl Fn(String) -> String) -> Result<Vec<f32>> {
    let mut source = kernel().source(Lanes::of_apple(true));
    let changed = change(source.text.clone());
    source.text = changed;
    let x: Vec<f32> = (0..COLS).map(|i| 127.0 - 2.0 * (i % 128) as f32).collect();
    let mut matrix = vec![1.0f32.to_bits(), 0, 0, 0];
    // Codes 0 and 1.
    matrix.extend((0..ROWS * WORDS).map(|i| i.wrapping_mul(0x9e37_79b1) & 0x5555_5555));
    let buffers = [
        bytemuck::cast_slice(&x).to_vec(),
        bytemuck::cast_slice(&matrix).to_vec(),
        vec![0; 4 * ROWS as usize],
    ];
    let groups = [ROWS.div_ceil(32), 1, 1];
    answer(&source, &buffers, &[0, 0, 1, 1, 1, 0, 2], groups)
}

/// What a kernel leaves in the last of `buffers`; `bound` are those it is bound to, in the order of its parameters.
pub(super) fn answer(
    source: &Source,
    contents: &[Vec<u8>],
    bound: &[usize],
    groups: [u32; 3],
) -> Result<Vec<f32>> {
    let driver = driver();
    let pipeline = Pipeline {
        kernel: kernel(),
        object: driver.compile(source)?,
        id: 0,
    };
    let mut buffers = Vec::new();
    for bytes in contents {
        let buffer = driver.reserve(bytes.len()).expect("memory");
        driver.write(&buffer, 0, bytes)?;
        buffers.push(buffer);
    }
    let parts: Vec<Part<'_>> = bound
        .iter()
        .map(|index| Part {
            buffer: &buffers[*index],
            at: 0,
            bytes: buffers[*index].bytes,
        })
        .collect();
    let bindings = Bindings {
        object: driver.bind(&pipeline, &parts)?,
        _held: Vec::new(),
    };
    dispatch(&pipeline, &bindings, groups)?;
    let out = buffers.last().expect("a buffer");
    let written: &Bytes = out.object.get()?;
    Ok(bytemuck::pod_collect_to_vec(&written.read(0, out.bytes)))
}

/// What is said of a kernel whose text has `from` replaced by `to`.
fn complaint(from: &str, to: &str) -> String {
    let changed = run(|text| {
        assert!(text.contains(from), "{from} is not in {text}");
        text.replacen(from, to, 1)
    });
    let complaint = changed.expect_err("a fault").to_string();
    assert!(complaint.contains("gemv"), "{complaint}");
    complaint
}

const BARRIER: &str = "threadgroup_barrier(mem_flags::mem_threadgroup);\n\n    const uint first";

#[test]
#[ignore = "needs clang: cargo xtask test --metal"]
fn a_kernel_without_faults_runs() {
    let products = run(|text| text).expect("products");
    assert!(products.iter().any(|product| *product != 0.0));
    let again = run(|text| text).expect("products");
    assert_eq!(products, again);
}

#[test]
#[ignore = "needs clang: cargo xtask test --metal"]
fn a_missing_barrier_is_found() {
    let found = complaint(BARRIER, "const uint first");
    assert!(found.contains("depends on the order"), "{found}");
}

#[test]
#[ignore = "needs clang: cargo xtask test --metal"]
fn a_barrier_that_some_threads_pass_by_is_found() {
    let found = complaint(
        BARRIER,
        "if (local > 40u) threadgroup_barrier(mem_flags::mem_threadgroup);\n    const uint first",
    );
    assert!(
        found.contains("barrier") || found.contains("lanes"),
        "{found}"
    );
}

#[test]
#[ignore = "needs clang: cargo xtask test --metal"]
fn a_sum_that_some_lanes_pass_by_is_found() {
    let found = complaint(
        "float(simd_sum(int(",
        "lane == 3u ? 0.0f : float(simd_sum(int(",
    );
    assert!(found.contains("lanes"), "{found}");
}

#[test]
#[ignore = "needs clang: cargo xtask test --metal"]
fn an_index_past_the_end_is_found() {
    let found = complaint(
        "out[token * OUT_STRIDE + column] = value;",
        "out[token * OUT_STRIDE + column + 1u] = value;",
    );
    assert!(found.contains("beside a buffer"), "{found}");
}

#[test]
#[ignore = "needs clang: cargo xtask test --metal"]
fn a_pointer_into_other_memory_is_found() {
    let found = complaint(
        "threadgroup const char4* quantized, uint w",
        "device const char4* quantized, uint w",
    );
    assert!(found.contains("does not compile"), "{found}");
}

#[test]
#[ignore = "needs clang: cargo xtask test --metal"]
fn too_much_threadgroup_memory_is_found() {
    let found = complaint("quantized[4u * PLANE];", "quantized[8192];");
    assert!(found.contains("more threadgroup memory"), "{found}");
}
