//! Targets that a loop can measure: creation, the pool, elementwise kernels, matrix products.

use anyhow::{Context, Result};
use bitnet_benchmarks::comparison::{Effort, Times};
use bitnet_benchmarks::matmul::{self, Product};
use bitnet_benchmarks::report::{Chart, Report, Verdict};
use bitnet_benchmarks::{creation, elementwise};

/// The times of the contender with this label.
fn of<'a>(times: &'a [Times], label: &str) -> Result<&'a Times> {
    times
        .iter()
        .find(|times| times.label == label)
        .with_context(|| format!("nobody called {label} was measured"))
}

fn nanoseconds(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns:.1} ns"),
        ns if ns < 1e6 => format!("{:.1} µs", ns / 1e3),
        ns => format!("{:.2} ms", ns / 1e6),
    }
}

/// `BitNetTensor::zeros`, and taking and giving back blocks.
pub(crate) fn creation(validation: &mut Report, effort: Effort) -> Result<()> {
    let mut chart = Chart::new("creation", "Making f32 zeros", "ns");
    for side in [32, 256, 1024] {
        let times = creation::zeros_of(side).interleave(effort)?;
        for times in &times {
            chart.bar(&format!("{side}×{side}"), &times.label, times.median());
        }
        if side == 32 {
            let (ours, theirs) = (of(&times, creation::BITNET)?, of(&times, creation::CANDLE)?);
            validation.target(
                "zeros of 32×32 f32 from a warm pool",
                "< 100 ns",
                nanoseconds(ours.median()),
                Verdict::of(ours.median() < 100.0),
                "4 KiB are zeroed each time",
            );
            let ratio = ours.faster_than(theirs);
            validation.target(
                "zeros of 32×32 f32 against candle's",
                "≥ 2× faster",
                format!("{ratio:.2}× (candle {})", nanoseconds(theirs.median())),
                Verdict::of(ratio >= 2.0),
                "",
            );
        }
    }
    validation.charts.push(chart);

    let mut chart = Chart::new("pool", "Taking a block and giving it back", "ns");
    chart.line = Some((25.0, "25 ns".into()));
    let (mut slowest, mut worst) = ((0.0, 0), (0.0, 0));
    for bytes in creation::BLOCKS {
        let times = creation::block(bytes).interleave(effort)?;
        for times in &times {
            chart.bar(&size(bytes), &times.label, times.median());
        }
        let one = of(&times, creation::ONE_THREAD)?;
        let two = of(&times, creation::TWO_THREADS)?;
        if one.median() > slowest.0 {
            slowest = (one.median(), bytes);
        }
        let ratio = one.faster_than(two);
        if ratio > worst.0 {
            worst = (ratio, bytes);
        }
    }
    validation.charts.push(chart);
    validation.target(
        "pool: block of ≤ 1 MiB taken and given back, one thread",
        "< 25 ns",
        format!(
            "{} at the slowest size, {}",
            nanoseconds(slowest.0),
            size(slowest.1)
        ),
        Verdict::of(slowest.0 < 25.0),
        "",
    );
    validation.target(
        "pool: the same on two threads at once",
        "≤ 1.2× of one thread",
        format!("{:.2}× at the worst size, {}", worst.0, size(worst.1)),
        Verdict::of(worst.0 <= 1.2),
        "two threads need two idle cores: other work on the machine counts against this",
    );
    Ok(())
}

fn size(bytes: usize) -> String {
    match bytes {
        bytes if bytes < 1 << 10 => format!("{bytes} B"),
        bytes if bytes < 1 << 20 => format!("{} KiB", bytes >> 10),
        bytes => format!("{} MiB", bytes >> 20),
    }
}

/// Kernels against scalar code and candle.
pub(crate) fn elementwise(validation: &mut Report, effort: Effort) -> Result<()> {
    let mut speedups = Chart::new("simd", "SIMD kernels against scalar code", "× faster");
    speedups.line = Some((5.0, "5×".into()));
    let mut beside = Chart::new("candle", "Tensor operations against candle", "× faster");
    beside.line = Some((1.0, "candle".into()));
    let (mut plain, mut demanding, mut against) = (Vec::new(), Vec::new(), Vec::new());
    let slice = (elementwise::LEN * size_of::<f32>()) as f64;
    let copy = elementwise::copy().interleave(effort)?;
    let copied = 2.0 * slice / of(&copy, "copy")?.median();
    let mut moved = Vec::new();
    for comparison in elementwise::all() {
        let name = &comparison.name;
        let times = comparison.interleave(effort)?;
        let ours = of(&times, elementwise::SIMD)?;
        let ratio = ours.faster_than(of(&times, elementwise::SCALAR)?);
        // Bytes in a nanosecond are GB/s.
        match name.as_str() {
            "add" | "sub" | "mul" | "div" => {
                moved.push((name.clone(), 3.0 * slice / ours.median()))
            }
            "sqr" | "relu" | "relu2" => moved.push((name.clone(), 2.0 * slice / ours.median())),
            _ => {}
        }
        speedups.bar(name, "SIMD against scalar", ratio);
        if elementwise::DEMANDING.contains(&name.as_str()) {
            demanding.push((name.clone(), ratio));
        } else {
            plain.push((name.clone(), ratio));
        }
        // Like with like: both make a new tensor, where there is such an operation.
        if let Ok(theirs) = of(&times, elementwise::CANDLE) {
            let ratio = of(&times, elementwise::TENSOR)
                .unwrap_or(ours)
                .faster_than(theirs);
            beside.bar(name, "bitnet against candle", ratio);
            against.push((name.clone(), ratio));
        }
    }
    validation.charts.extend([speedups, beside]);
    // What falls short of the target and yet moves its slices as fast as a copy does, can do no better in this cache.
    let at_roofline: Vec<String> = moved
        .iter()
        .filter(|(_, rate)| *rate >= ROOFLINE * copied)
        .map(|(name, _)| name.clone())
        .collect();
    least(
        validation,
        "elementwise and reduction kernels in L2 against scalar code",
        ("≥ 5×", 5.0),
        plain,
        &at_roofline,
        &format!(
            "roofline: a copy in the same cache moves {copied:.0} GB/s, {} (no faster from {:.0} on)",
            moved
                .iter()
                .map(|(name, rate)| format!("{name} {rate:.0}"))
                .collect::<Vec<_>>()
                .join(", "),
            ROOFLINE * copied
        ),
    );
    least(
        validation,
        "exp, GELU, SiLU, softmax, int8 quantization in L2 against scalar code",
        ("≥ 8×", 8.0),
        demanding,
        &[],
        "",
    );
    least(
        validation,
        "elementwise operations against candle",
        ("never slower (≥ 1×)", 1.0),
        against,
        &[],
        "one thread on both sides",
    );
    Ok(())
}

/// The share of a copy's speed at which a kernel counts as bound by the cache.
const ROOFLINE: f64 = 0.9;

/// A row about the least of several ratios. Those of `at_roofline` may fall short.
fn least(
    validation: &mut Report,
    what: &str,
    (target, bound): (&str, f64),
    mut ratios: Vec<(String, f64)>,
    at_roofline: &[String],
    note: &str,
) {
    ratios.sort_by(|a, b| a.1.total_cmp(&b.1));
    let Some((name, worst)) = ratios.first() else {
        validation.target(what, target, "", Verdict::Unmeasured, "nothing to compare");
        return;
    };
    let below: Vec<String> = ratios
        .iter()
        .filter(|(_, ratio)| *ratio < bound)
        .map(|(name, ratio)| format!("{name} {ratio:.2}×"))
        .collect();
    let measured = format!(
        "{worst:.2}× at worst ({name}); {} of {} reach it",
        ratios.len() - below.len(),
        ratios.len()
    );
    let note = match (below.is_empty(), note) {
        (true, _) => String::new(),
        (false, "") => format!("below: {}", below.join(", ")),
        (false, note) => format!("below: {}; {note}", below.join(", ")),
    };
    let short = ratios.iter().filter(|(_, ratio)| *ratio < bound);
    let verdict = if below.is_empty() {
        Verdict::Met
    } else if short.clone().all(|(name, _)| at_roofline.contains(name)) {
        Verdict::Roofline
    } else {
        Verdict::Unmet
    };
    validation.target(what, target, measured, verdict, note);
}

/// Products of every backend against candle's.
pub(crate) fn matmul(validation: &mut Report, effort: Effort, bandwidth: f64) -> Result<()> {
    // A product takes milliseconds: fewer rounds do.
    let effort = Effort {
        rounds: effort.rounds.div_ceil(3),
        ..effort
    };
    let mut floats = Chart::new("matmul_f32", "f32 matrix products n×n×n", "GFLOP/s");
    let mut ternary = Chart::new("matmul_ternary", "Ternary matrix products n×n×n", "G op/s");
    for n in [64, 128, 256, 512, 1024, 2048] {
        let product = Product::square(n);
        let rate = |times: &Times| 2.0 * product.multiplications() as f64 / times.median();
        for times in matmul::float(product).interleave(effort)? {
            floats.bar(&n.to_string(), &times.label, rate(&times));
        }
        for times in matmul::ternary(product).interleave(effort)? {
            ternary.bar(&n.to_string(), &times.label, rate(&times));
        }
    }
    let mut layer = Chart::new(
        "matmul_layer",
        "A layer of 2560×2560, by tokens",
        "× of candle's f32",
    );
    for (tokens, bound) in [(1, 8.0), (512, 3.0)] {
        let product = Product {
            tokens,
            cols: 2560,
            rows: 2560,
        };
        let times = matmul::ternary(product).interleave(effort)?;
        let fastest = |candle: bool| {
            let side = times
                .iter()
                .filter(move |t| t.label.starts_with("candle") == candle);
            side.min_by(|a, b| a.median().total_cmp(&b.median()))
                .context("a side of the comparison is missing")
        };
        let (ours, theirs) = (fastest(false)?, fastest(true)?);
        for times in &times {
            layer.bar(&tokens.to_string(), &times.label, times.faster_than(theirs));
        }
        let ratio = ours.faster_than(theirs);
        let packed = (product.rows * product.cols / 4) as f64;
        let note = if tokens == 1 {
            format!(
                "roofline: reading {:.1} MB of packed weights from memory takes {}, candle's {:.1} MB {}; \
                 weights that stay in a cache are read faster",
                packed / 1e6,
                nanoseconds(packed / bandwidth * 1e9),
                16.0 * packed / 1e6,
                nanoseconds(16.0 * packed / bandwidth * 1e9),
            )
        } else {
            let rate = |times: &Times| 2.0 * product.multiplications() as f64 / times.median();
            format!("{:.0} G op/s against {:.0}", rate(ours), rate(theirs))
        };
        validation.target(
            format!("ternary product {product} (int8 × packed) against candle's f32"),
            format!("≥ {bound:.0}×"),
            format!(
                "{ratio:.2}× ({} on {}, {} {})",
                nanoseconds(ours.median()),
                ours.label,
                theirs.label,
                nanoseconds(theirs.median())
            ),
            Verdict::of(ratio >= bound),
            note,
        );
    }
    validation.charts.extend([floats, ternary, layer]);
    Ok(())
}
