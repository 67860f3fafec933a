//! Quantities for people: bytes, counts, durations.

/// `1.18 GB`, with the decimal units that disks and downloads are measured in.
pub(crate) fn bytes(count: u64) -> String {
    scaled(count as f64, &["B", "kB", "MB", "GB", "TB", "PB"])
}

/// `2.41 B` for parameters and tokens.
pub(crate) fn count(count: u64) -> String {
    scaled(count as f64, &["", "k", "M", "B", "T"])
}

/// `1.2 ms`, `3.4 s`.
pub(crate) fn seconds(time: f64) -> String {
    if time < 1e-3 {
        format!("{:.0} µs", time * 1e6)
    } else if time < 1.0 {
        format!("{:.1} ms", time * 1e3)
    } else {
        format!("{time:.2} s")
    }
}

fn scaled(mut value: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match value {
        _ if unit == 0 => 0,
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {}", units[unit])
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_a_unit() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_187_801_280), "1.19 GB");
        assert_eq!(bytes(99_960), "100 kB");
        assert_eq!(count(2_412_820_480), "2.41 B");
        assert_eq!(count(512), "512");
        assert_eq!(seconds(0.0123), "12.3 ms");
    }
}
