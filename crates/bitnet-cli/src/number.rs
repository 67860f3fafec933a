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

#[cfg(test)]
mod tests {
    use super::*;

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
