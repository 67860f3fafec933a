//! `strftime_now`: the time by the format of C's `strftime`, as glibc writes it where no language is set.

use super::meter::Outcome;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// The time that a template is told.
#[derive(Debug, Clone, Copy)]
pub(in crate::chat) struct Clock {
    /// Seconds since 1970, UTC.
    pub(in crate::chat) unix: i64,
    /// What the local time is ahead of UTC, in seconds.
    pub(in crate::chat) offset: i32,
}

/// A local time in parts.
struct Moment {
    unix: i64,
    year: i64,
    month: i64,
    day: i64,
    day_of_year: i64,
    /// From Sunday.
    weekday: i64,
    hour: i64,
    minute: i64,
    second: i64,
}

/// How a number is padded.
#[derive(Clone, Copy)]
enum Pad {
    Zero,
    Space,
    None,
}

/// The local time by `format`.
pub(in crate::chat) fn strftime(clock: Clock, format: &str) -> Outcome<String> {
    let moment = Moment::new(clock);
    let mut out = String::new();
    moment.write(&mut out, format)?;
    Ok(out)
}

impl Moment {
    fn new(clock: Clock) -> Self {
        let local = clock.unix.saturating_add(clock.offset.into());
        let (days, second) = (local.div_euclid(86_400), local.rem_euclid(86_400));
        let (year, month, day) = civil(days);
        Self {
            unix: clock.unix,
            year,
            month,
            day,
            day_of_year: days - days_before(year) + 1,
            weekday: (days + 4).rem_euclid(7),
            hour: second / 3600,
            minute: second / 60 % 60,
            second: second % 60,
        }
    }

    fn write(&self, out: &mut String, format: &str) -> Outcome<()> {
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let mut pad = None;
            let mut upper = false;
            let mut swap = false;
            let mut next = chars.next();
            while let Some(flag @ ('-' | '_' | '0' | '^' | '#')) = next {
                match flag {
                    '-' => pad = Some(Pad::None),
                    '_' => pad = Some(Pad::Space),
                    '0' => pad = Some(Pad::Zero),
                    '^' => upper = true,
                    _ => swap = true,
                }
                next = chars.next();
            }
            // Forms of other calendars and digits, which no language set has none of.
            if let Some('E' | 'O') = next {
                next = chars.next();
            }
            let Some(kind) = next else {
                return Err("strftime_now: the format ends in the middle".into());
            };
            let start = out.len();
            self.conversion(out, kind, pad)?;
            if upper || (swap && "aAbBh".contains(kind)) {
                let text = out.split_off(start).to_uppercase();
                out.push_str(&text);
            } else if swap {
                let text = out.split_off(start).to_lowercase();
                out.push_str(&text);
            }
        }
        Ok(())
    }

    fn conversion(&self, out: &mut String, kind: char, pad: Option<Pad>) -> Outcome<()> {
        let month = MONTHS[(self.month - 1).clamp(0, 11) as usize];
        let weekday = DAYS[self.weekday.clamp(0, 6) as usize];
        let hour_12 = (self.hour + 11) % 12 + 1;
        let (iso_year, iso_week) = self.iso_week();
        let from_monday = (self.weekday + 6) % 7;
        let (value, width, usual) = match kind {
            'a' | 'b' | 'h' => {
                out.push_str(&if kind == 'a' { weekday } else { month }[..3]);
                return Ok(());
            }
            'A' => {
                out.push_str(weekday);
                return Ok(());
            }
            'B' => {
                out.push_str(month);
                return Ok(());
            }
            'p' | 'P' => {
                let half = if self.hour < 12 { "AM" } else { "PM" };
                out.push_str(&if kind == 'p' {
                    half.to_owned()
                } else {
                    half.to_lowercase()
                });
                return Ok(());
            }
            'c' => return self.write(out, "%a %b %e %H:%M:%S %Y"),
            'D' | 'x' => return self.write(out, "%m/%d/%y"),
            'F' => return self.write(out, "%Y-%m-%d"),
            'r' => return self.write(out, "%I:%M:%S %p"),
            'R' => return self.write(out, "%H:%M"),
            'T' | 'X' => return self.write(out, "%H:%M:%S"),
            'n' => {
                out.push('\n');
                return Ok(());
            }
            't' => {
                out.push('\t');
                return Ok(());
            }
            '%' => {
                out.push('%');
                return Ok(());
            }
            // Python's time has no zone of its own.
            'z' | 'Z' => return Ok(()),
            'C' => (self.year.div_euclid(100), 2, Pad::Zero),
            'd' => (self.day, 2, Pad::Zero),
            'e' => (self.day, 2, Pad::Space),
            // Microseconds, which nobody tells.
            'f' => (0, 6, Pad::Zero),
            'G' => (iso_year, 1, Pad::None),
            'g' => (iso_year.rem_euclid(100), 2, Pad::Zero),
            'H' => (self.hour, 2, Pad::Zero),
            'I' => (hour_12, 2, Pad::Zero),
            'j' => (self.day_of_year, 3, Pad::Zero),
            'k' => (self.hour, 2, Pad::Space),
            'l' => (hour_12, 2, Pad::Space),
            'M' => (self.minute, 2, Pad::Zero),
            'm' => (self.month, 2, Pad::Zero),
            'S' => (self.second, 2, Pad::Zero),
            's' => (self.unix, 1, Pad::None),
            'U' => ((self.day_of_year + 6 - self.weekday) / 7, 2, Pad::Zero),
            'u' => (from_monday + 1, 1, Pad::None),
            'V' => (iso_week, 2, Pad::Zero),
            'W' => ((self.day_of_year + 6 - from_monday) / 7, 2, Pad::Zero),
            'w' => (self.weekday, 1, Pad::None),
            'Y' => (self.year, 1, Pad::None),
            'y' => (self.year.rem_euclid(100), 2, Pad::Zero),
            other => {
                return Err(format!("strftime_now: the format %{other} is not known").into());
            }
        };
        out.push_str(&match pad.unwrap_or(usual) {
            Pad::Zero => format!("{value:0width$}"),
            Pad::Space => format!("{value:width$}"),
            Pad::None => value.to_string(),
        });
        Ok(())
    }

    /// Year and number of the week, which belongs to the year that its Thursday is in.
    fn iso_week(&self) -> (i64, i64) {
        let thursday = self.day_of_year + 3 - (self.weekday + 6) % 7;
        let length = |year: i64| days_before(year + 1) - days_before(year);
        if thursday < 1 {
            let before = self.year - 1;
            return (before, (thursday + length(before) - 1) / 7 + 1);
        }
        if thursday > length(self.year) {
            return (self.year + 1, 1);
        }
        (self.year, (thursday - 1) / 7 + 1)
    }
}

/// Days from 1970 to the first of January of `year`.
fn days_before(year: i64) -> i64 {
    let before = year - 1;
    365 * year + before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400) - 719_527
}

/// Year, month and day of the Gregorian calendar, `days` after 1 January 1970.
///
/// Years are counted from March, so that the leap day is the last of its year, in eras of 400 years.
fn civil(days: i64) -> (i64, i64, i64) {
    const ERA: i64 = 146_097;
    let from_march_0 = days.saturating_add(719_468);
    let (era, day) = (from_march_0.div_euclid(ERA), from_march_0.rem_euclid(ERA));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(unix: i64, format: &str) -> String {
        strftime(Clock { unix, offset: 0 }, format).unwrap()
    }

    /// Values of Python 3.12 on glibc: `datetime.fromtimestamp(t, UTC).strftime(format)`.
    #[test]
    fn dates_are_right() {
        let format = "%Y-%m-%d %H:%M:%S %a %b %I%p %e %y %%";
        assert_eq!(utc(0, format), "1970-01-01 00:00:00 Thu Jan 12AM  1 70 %");
        assert_eq!(
            utc(951_827_696, "%F %T %A %d %B"),
            "2000-02-29 12:34:56 Tuesday 29 February"
        );
        assert_eq!(utc(-1, "%F %T"), "1969-12-31 23:59:59");
        assert_eq!(utc(4_107_542_400, "%F %A"), "2100-03-01 Monday");
        assert_eq!(
            utc(
                951_827_696,
                "%-d %j %-m %U %W %V %G %g %u %w %C %k %l %P %D %R %r %s %h"
            ),
            "29 060 2 09 09 09 2000 00 2 2 20 12 12 pm 02/29/00 12:34 12:34:56 PM 951827696 Feb"
        );
        assert_eq!(
            utc(1_609_459_200, "%G-W%V %U %W %c %x %X %^a %#B %_d"),
            "2020-W53 00 00 Fri Jan  1 00:00:00 2021 01/01/21 00:00:00 FRI JANUARY  1"
        );
        assert_eq!(utc(1_735_603_200, "%G-W%V"), "2025-W01");
        let told = Clock {
            unix: 951_827_696,
            offset: -13 * 3600,
        };
        assert_eq!(strftime(told, "%F %T%z").unwrap(), "2000-02-28 23:34:56");
        let at_zero = Clock { unix: 0, offset: 0 };
        assert!(strftime(at_zero, "%Q").is_err());
        assert!(strftime(at_zero, "%").is_err());
        for unix in [i64::MIN, i64::MAX] {
            assert!(strftime(Clock { unix, offset: 0 }, format).is_ok());
        }
    }
}
