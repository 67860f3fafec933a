//! Prints, as Markdown, how many times as fast as candle on the CPU every backend here multiplies matrices: on a Mac with
//! the feature `mlx` that is what `benches/report/apple.md` is to hold.

use anyhow::{Context, Result};
use bitnet_benchmarks::comparison::{Comparison, Effort, Times};
use bitnet_benchmarks::machine;
use bitnet_benchmarks::matmul::{self, Product};
use std::time::Duration;

/// Turns of every contender, and how long one takes.
const EFFORT: Effort = Effort {
    rounds: 9,
    turn: Duration::from_millis(20),
};

fn main() -> Result<()> {
    println!("# Matrix products on {}\n", machine::describe().join(", "));
    println!(
        "× candle: how many times as fast as candle's faster f32 product on the CPU, in the same run.\n"
    );
    for missing in matmul::missing_backends() {
        println!("Not measured: {missing}.\n");
    }
    println!("| product | who | time | × candle |\n| --- | --- | ---: | ---: |");
    let squares = [256, 512, 1024, 2048].map(Product::square);
    let layers = [1, 512].map(|tokens| Product {
        tokens,
        cols: 2560,
        rows: 2560,
    });
    for product in squares {
        rows("f32", &matmul::float(product))?;
    }
    for product in squares.into_iter().chain(layers) {
        rows("ternary", &matmul::ternary(product))?;
    }
    Ok(())
}

/// A line for each contender but candle's slower ones.
fn rows(kind: &str, comparison: &Comparison) -> Result<()> {
    let times = comparison.interleave(EFFORT)?;
    let is_candle = |times: &&Times| times.label.starts_with("candle");
    let candle = times
        .iter()
        .filter(is_candle)
        .min_by(|a, b| a.median().total_cmp(&b.median()))
        .context("candle is missing")?;
    let ours = times.iter().filter(|times| !is_candle(times));
    for times in ours.chain([candle]) {
        println!(
            "| {kind} {} | {} | {:.3} ms | {:.2} |",
            comparison.name,
            times.label,
            times.median() / 1e6,
            times.faster_than(candle)
        );
    }
    Ok(())
}
