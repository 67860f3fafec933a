//! `bitnet devices --calibrate`: measures, stores, and shows the curves.

use crate::commands::print_json;
use crate::progress::Steps;
use crate::{printable, units};
use anstyle::Style;
use bitnet_core::cpu::tuning::{self, Calibration, Curve, KernelTimes, Tuning, file};
use bitnet_core::device::grouped;
use std::io::Write;

/// Measures and stores; gives the table that follows.
pub(super) fn run(json: bool) -> anyhow::Result<Tuning> {
    let path = file::default_path().ok_or_else(|| {
        anyhow::anyhow!("this system names no cache folder to keep a calibration in")
    })?;
    if let Some(load) = tuning::foreign_load() {
        tracing::warn!(
            "the machine is busy ({load:.1} tasks for {} threads): what is measured now may not hold when it is idle",
            tuning::Identity::here().threads
        );
    }
    let calibration = {
        let mut steps = Steps::new("measuring");
        tuning::calibrate(|done, all| steps.set(done as u64, all as u64))
            .map_err(bitnet::Error::from)?
    };
    file::store(&path, &calibration).map_err(bitnet::Error::from)?;
    if json {
        print_json(&calibration)?;
    } else {
        print(&calibration)?;
        writeln!(
            anstream::stdout(),
            "\nmeasured in {}, kept in {}",
            units::seconds(calibration.seconds),
            printable::line(&path.to_string_lossy())
        )?;
    }
    Ok(Tuning::measured(calibration, Some(path)))
}

fn print(calibration: &Calibration) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    let (bold, dim) = (Style::new().bold(), Style::new().dimmed());
    let identity = &calibration.identity;
    let processor = printable::line(&identity.processor);
    writeln!(out, "{processor}, {} threads", identity.threads)?;
    writeln!(
        out,
        "{dim}▁▂▃▄ the second way is slower, ▅▆▇█ it is faster; a step is a factor of 1.4{dim:#}"
    )?;
    for times in &calibration.kernel_sets {
        if identity.threads > 1 {
            writeln!(
                out,
                "\n{bold}{}{bold:#}: 1 thread, then {}, by work",
                times.kernels, identity.threads
            )?;
            for (operation, curve) in &times.split {
                writeln!(out, "{}", line(operation.name(), curve, operation.unit()))?;
            }
        }
        print_direct(&mut out, times)?;
    }
    writeln!(out, "\nkernels chosen: {}", calibration.preferred())?;
    Ok(())
}

fn print_direct(out: &mut impl Write, times: &KernelTimes) -> anyhow::Result<()> {
    let bold = Style::new().bold();
    writeln!(
        out,
        "\n{bold}{}{bold:#}: rows as they are packed, then unpacked, by tokens",
        times.kernels
    )?;
    for (format, curve) in &times.direct {
        writeln!(out, "{}", line(format, curve, "tokens"))?;
    }
    Ok(())
}

/// `  norm            from   65,536 elements       ▁▂▄▅▆▆  0.21× at 2,048, 1.73× at 1,048,576`.
fn line(name: &str, curve: &Curve, unit: &str) -> String {
    let from = match curve.threshold() {
        Some(found) if found.measured => format!("from {:>9} {unit}", grouped(found.from)),
        _ => format!("at no size ({unit})"),
    };
    let bars: String = curve
        .points
        .iter()
        .map(|point| bar(point.small_ns / point.large_ns))
        .collect();
    let ends: Vec<_> = [curve.points.first(), curve.points.last()]
        .into_iter()
        .flatten()
        .map(|point| {
            let ratio = point.small_ns / point.large_ns;
            format!("{ratio:.2}× at {}", grouped(point.size))
        })
        .collect();
    format!("  {name:<16} {from:<29} {bars:<10} {}", ends.join(", "))
}

/// Eight heights: the lower four below 1, the upper four from 1 on, a factor of √2 each.
fn bar(ratio: f64) -> char {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let height = (2.0 * ratio.log2()).floor() + 4.0;
    HEIGHTS[height.clamp(0.0, 7.0) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_tell_slower_from_faster() {
        let bars: String = [0.0, 0.2, 0.4, 0.7, 0.72, 0.99, 1.0, 1.5, 2.0, 3.0, 99.0]
            .into_iter()
            .map(bar)
            .collect();
        assert_eq!(bars, "▁▁▂▃▄▄▅▆▇██");
    }
}
