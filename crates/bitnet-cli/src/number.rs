//! Numbers as arguments, whose bounds are judged before any work begins.

use std::ops::RangeInclusive;

/// Reads a number that is at least `least`.
pub(crate) fn at_least(
    least: usize,
) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    within(least..=usize::MAX)
}

/// Reads a number of `range`.
pub(crate) fn within(
    range: RangeInclusive<usize>,
) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    move |text| {
        let (least, most) = (range.start(), range.end());
        match text.parse() {
            Ok(number) if range.contains(&number) => Ok(number),
            Ok(_) | Err(_) if *most == usize::MAX => {
                Err(format!("expected a number of at least {least}"))
            }
            Ok(_) | Err(_) => Err(format!("expected a number from {least} to {most}")),
        }
    }
}

/// Reads a number of bytes: `500000000`, `500MB`, `4GiB`. Units are those of 1000 and, with an i, of 1024.
pub(crate) fn bytes(text: &str) -> Result<usize, String> {
    const UNITS: [&str; 5] = ["", "k", "m", "g", "t"];
    let expected = || "expected bytes, such as 500MB or 4GiB".to_owned();
    let text = text.trim();
    let end = text.find(|letter: char| letter.is_ascii_alphabetic());
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let unit = unit.to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let (unit, base) = match unit.strip_suffix('i') {
        Some(unit) if !unit.is_empty() => (unit, 1024.0_f64),
        _ => (unit, 1000.0),
    };
    let power = UNITS.iter().position(|known| *known == unit);
    let (Ok(number), Some(power)) = (number.trim().parse::<f64>(), power) else {
        return Err(expected());
    };
    let bytes = number * base.powi(power as i32);
    // Not for numbers that are none either.
    if bytes >= 1.0 && bytes < usize::MAX as f64 {
        Ok(bytes as usize)
    } else {
        Err(expected())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units_or_none() {
        for (text, expected) in [
            ("1", 1),
            ("4096", 4096),
            ("500MB", 500_000_000),
            ("4GiB", 4 << 30),
            ("4 gib", 4 << 30),
            ("1.5G", 1_500_000_000),
            ("64Ki", 64 << 10),
            ("7 B", 7),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for wrong in [
            "", "GB", "0", "-1", "4XB", "4iB", "nan", "inf", "1e40", "4GiBs",
        ] {
            let error = bytes(wrong).unwrap_err();
            assert!(error.contains("4GiB"), "{wrong}: {error}");
        }
    }

    #[test]
    fn bounds_are_part_of_the_message() {
        assert_eq!(at_least(1)("7"), Ok(7));
        assert_eq!(
            at_least(1)("0"),
            Err("expected a number of at least 1".to_owned())
        );
        for wrong in ["0", "9", "-1", "1.5", "", "99999999999999999999"] {
            assert_eq!(
                within(1..=8)(wrong),
                Err("expected a number from 1 to 8".to_owned()),
                "{wrong}"
            );
        }
    }
}
