//! Figures of bitnet.cpp, which is in no package registry and so cannot be built by a chore. They were measured on another
//! machine and never enter a ratio of this run.

use bitnet_benchmarks::report::Table;

/// One file, with one thread and with two.
pub(crate) struct Reference {
    /// Ternary type and embedding.
    pub(crate) file: &'static str,
    /// Tokens per second of 512 prompt tokens.
    pub(crate) prefill: Option<[f64; 2]>,
    /// Tokens per second of 64 decoded tokens.
    pub(crate) decode: [f64; 2],
}

/// What is to be said wherever such a figure stands.
pub(crate) const OF: &str = "another machine's figure, not of this run";

/// bitnet.cpp (kernels of July 2026, clang 19, -O3, native) on an idle x86-64 machine of the Sapphire or Emerald Rapids
/// class with two cores that read 17.4 and 34.6 GB/s with one thread and two.
pub(crate) const BITNET_CPP: [Reference; 2] = [
    Reference {
        file: "I2_S-F16",
        prefill: Some([33.5, 64.8]),
        decode: [5.87, 10.90],
    },
    Reference {
        file: "I2_S-Q6_K",
        prefill: None,
        decode: [8.21, 15.63],
    },
];

/// llama.cpp TQ2_0 on that machine, which puts the figures beside those of this run.
const LLAMA_CPP: [(&str, Option<[f64; 2]>, [f64; 2]); 2] = [
    ("TQ2_0-F16", Some([23.9, 47.0]), [5.89, 11.08]),
    ("TQ2_0-Q6_K", None, [7.72, 14.74]),
];

/// The figures as a table of their own.
pub(crate) fn table() -> Table {
    let mut table = Table::new(
        "For reference: figures of another machine, not of this run",
        "bitnet.cpp is in no package registry and was not run here. These are medians in tokens/s (1 thread / 2 threads) of \
         llama-bench on an idle x86-64 machine of the Sapphire or Emerald Rapids class, two cores, 17.4 / 34.6 GB/s; files of \
         the same shape. Do not divide them by figures of the other tables.",
        &["program and file", "prefill 512", "decode 64"],
    );
    let ours = BITNET_CPP
        .iter()
        .map(|it| ("bitnet.cpp", it.file, it.prefill, it.decode));
    let theirs = LLAMA_CPP
        .iter()
        .map(|(file, prefill, decode)| ("llama.cpp", *file, *prefill, *decode));
    for (who, file, prefill, decode) in ours.chain(theirs) {
        table.row([
            format!("{who} {file}"),
            prefill.map_or("–".into(), pair),
            pair(decode),
        ]);
    }
    table
}

/// The figure with one thread and the one with two.
pub(crate) fn pair([one, two]: [f64; 2]) -> String {
    format!("{one} / {two}")
}
