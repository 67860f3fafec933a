//! The summary of the cross tests: a line for each target and kernel set.

use std::collections::BTreeSet;

/// What one kernel set on one target computed.
pub(super) struct Row {
    pub(super) target: String,
    pub(super) isa: String,
    models: BTreeSet<String>,
    threads: BTreeSet<(usize, String)>,
    batches: BTreeSet<(usize, String)>,
    kv: BTreeSet<String>,
    digests: usize,
    /// Those that differ from the reference: model, threads, batch, type of keys and values.
    different: Vec<String>,
}

impl Row {
    pub(super) fn new(target: &str, isa: &str) -> Self {
        Self {
            target: target.to_owned(),
            isa: isa.to_owned(),
            models: BTreeSet::new(),
            threads: BTreeSet::new(),
            batches: BTreeSet::new(),
            kv: BTreeSet::new(),
            digests: 0,
            different: Vec::new(),
        }
    }

    /// Counts a digest in.
    pub(super) fn add(
        &mut self,
        model: &str,
        (threads, batch, kv): (&str, &str, &str),
        equal: bool,
    ) {
        // Sorted by number, not by spelling.
        let keyed = |word: &str| (word.parse().unwrap_or(0), word.to_owned());
        self.models.insert(model.to_owned());
        self.threads.insert(keyed(threads));
        self.batches.insert(keyed(batch));
        self.kv.insert(kv.to_owned());
        self.digests += 1;
        if !equal {
            self.different
                .push(format!("{model} -t {threads} --batch {batch} --kv {kv}"));
        }
    }
}

/// Prints the rows; returns whether all digests are equal.
pub(super) fn print(rows: &[Row]) -> bool {
    println!(
        "\n{:<20} {:<12} {:<8} {:<12} {:<13} {:>6}  {:>7}",
        "target", "kernels", "threads", "batch", "kv", "models", "digests"
    );
    for row in rows {
        let verdict = match row.different.len() {
            0 => format!("{:>7}  equal", row.digests),
            different => format!("{:>7}  {different} DIFFER", row.digests),
        };
        println!(
            "{:<20} {:<12} {:<8} {:<12} {:<13} {:>6}  {verdict}",
            row.target,
            row.isa,
            joined(&row.threads),
            joined(&row.batches),
            row.kv.iter().cloned().collect::<Vec<_>>().join(","),
            row.models.len(),
        );
    }
    for row in rows {
        for run in row.different.iter().take(SHOWN) {
            println!("  {} {}: {run} differs", row.target, row.isa);
        }
    }
    !rows.is_empty() && rows.iter().all(|row| row.different.is_empty())
}

/// Differing runs named of each row.
const SHOWN: usize = 4;

fn joined(words: &BTreeSet<(usize, String)>) -> String {
    let words: Vec<&str> = words.iter().map(|(_, word)| word.as_str()).collect();
    words.join(",")
}
