//! `strftime`, in UTC and in the C locale.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

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
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
    }
}

/// A time by a format; a directive that is not known here is an error, because guessing would change the prompt.
pub(super) fn format(seconds: i64, format: &str) -> Result<String, String> {
    let days = seconds.div_euclid(86_400);
    let (year, month, day) = date(days);
    let weekday = (days + 4).rem_euclid(7);
    let second = seconds.rem_euclid(86_400);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let hour12 = (hour + 11) % 12 + 1;
    let mut out = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut directive = rest.next();
        // GNU's and musl's flag: no padding.
        let bare = directive == Some('-');
        if bare {
            directive = rest.next();
        }
        let two = |out: &mut String, number: i64| {
            let _ = if bare { write!(out, "{number}") } else { write!(out, "{number:02}") };
        };
        match directive {
            Some('Y') => drop(write!(out, "{year}")),
            Some('y') => two(&mut out, year.rem_euclid(100)),
            Some('m') => two(&mut out, month),
            Some('d') => two(&mut out, day),
            Some('e') if !bare => drop(write!(out, "{day:2}")),
            Some('H') => two(&mut out, hour),
            Some('I') => two(&mut out, hour12),
            Some('M') => two(&mut out, minute),
            Some('S') => two(&mut out, second % 60),
            Some('p') => out.push_str(if hour < 12 { "AM" } else { "PM" }),
            Some('B') => out.push_str(name(&MONTHS, month - 1)),
            Some('b' | 'h') => out.push_str(&name(&MONTHS, month - 1)[..3]),
            Some('A') => out.push_str(name(&DAYS, weekday)),
            Some('a') => out.push_str(&name(&DAYS, weekday)[..3]),
            Some('j') => {
                let number = days - days_to(year, 1, 1) + 1;
                let _ = if bare { write!(out, "{number}") } else { write!(out, "{number:03}") };
            }
            Some('F') => drop(write!(out, "{year}-{month:02}-{day:02}")),
            Some('T') => drop(write!(out, "{hour:02}:{minute:02}:{:02}", second % 60)),
            Some('%') => out.push('%'),
            other => {
                return Err(format!(
                    "strftime_now: %{} is not known here",
                    other.map_or(String::new(), String::from)
                ));
            }
        }
    }
    Ok(out)
}

fn name(names: &[&'static str], index: i64) -> &'static str {
    usize::try_from(index).ok().and_then(|index| names.get(index)).copied().unwrap_or("???")
}

/// Year, month (1..=12) and day of a number of days since 1970 (Hinnant, "chrono-compatible low-level date
/// algorithms": eras of 400 years that begin in March).
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Days since 1970 of a date.
fn days_to(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00 Thu Thursday January 001 12 AM"),
            (951_782_399, "2000-02-28 23:59:59 Mon Monday February 059 11 PM"),
            (951_782_400, "2000-02-29 00:00:00 Tue Tuesday February 060 12 AM"),
            (1_735_689_599, "2024-12-31 23:59:59 Tue Tuesday December 366 11 PM"),
            (4_107_542_400, "2100-03-01 00:00:00 Mon Monday March 060 12 AM"),
            (-1, "1969-12-31 23:59:59 Wed Wednesday December 365 11 PM"),
        ] {
            assert_eq!(format(seconds, "%Y-%m-%d %H:%M:%S %a %A %B %j %I %p").unwrap(), expected);
        }
        assert_eq!(
            format(951_782_399, "%-d %e %b %y %F %T %%").unwrap(),
            "28 28 Feb 00 2000-02-28 23:59:59 %"
        );
    }

    #[test]
    fn an_unknown_directive_is_an_error() {
        assert!(format(0, "%Q").unwrap_err().contains("%Q"));
        assert!(format(0, "%").is_err());
    }
}
