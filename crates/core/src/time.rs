//! Points in time, always handed in: core reads no clock.

use core::fmt;

/// Microseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Timestamp(u64);

impl Timestamp {
    /// From microseconds since 1970.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970.
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// Whole seconds since 1970.
    pub const fn seconds(self) -> u64 {
        self.0 / 1_000_000
    }

    /// This point moved by a number of seconds into the future, stopping at the end of time.
    pub const fn plus_seconds(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1_000_000)))
    }

    /// Reads what [`Timestamp::text`] writes, and nothing else.
    pub fn parse(text: &str) -> Option<Self> {
        let number = |from: usize, to: usize| {
            let digits = text.get(from..to).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
            digits.parse::<u64>().ok()
        };
        let days = days(number(0, 4)?, number(5, 7)?, number(8, 10)?)?;
        let in_day = number(11, 13)?.checked_mul(3600)? + number(14, 16)?.checked_mul(60)? + number(17, 19)?;
        let seconds = days.checked_mul(86_400)?.checked_add(in_day)?;
        let time = Self(seconds.checked_mul(1_000_000)?.checked_add(number(20, 26)?)?);
        (time.text().as_slice() == text.as_bytes()).then_some(time)
    }

    /// RFC 3339 in UTC with microseconds, 27 bytes: `2026-11-23T19:03:17.000000Z`. Years past 9999 print as 9999.
    pub fn text(self) -> [u8; 27] {
        let days = i64::try_from(self.seconds() / 86_400).unwrap_or(i64::MAX).min(2_932_896);
        let in_day = self.seconds() % 86_400;
        let (year, month, day) = civil(days);
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        let mut put = |at: usize, width: usize, mut value: u64| {
            for slot in text.iter_mut().skip(at).take(width).rev() {
                *slot = b'0' + u8::try_from(value % 10).unwrap_or(0);
                value /= 10;
            }
        };
        put(0, 4, year);
        put(5, 2, month);
        put(8, 2, day);
        put(11, 2, in_day / 3600);
        put(14, 2, in_day / 60 % 60);
        put(17, 2, in_day % 60);
        put(20, 6, self.0 % 1_000_000);
        text
    }
}

/// Year, month and day of a count of days since 1970 (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: i64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    let unsigned = |value: i64| u64::try_from(value).unwrap_or(0);
    (unsigned(year), unsigned(month), unsigned(day))
}

/// Days since 1970 of a date, the inverse of [`civil`]; what is no date gives some other day, or none.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month > 2 { year } else { year.checked_sub(1)? };
    let (era, yoe) = (year / 400, year % 400);
    let mp = (month + 9) % 12;
    let doy = (153 * mp + 2) / 5 + day.checked_sub(1)?;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    (era * 146_097 + doe).checked_sub(719_468)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text().iter().try_for_each(|b| fmt::Write::write_char(f, char::from(*b)))
    }
}

#[cfg(test)]
mod tests {
    use super::Timestamp;

    #[test]
    fn prints_rfc_3339() {
        let text =
            |seconds: u64, micros: u64| Timestamp::from_micros(seconds * 1_000_000 + micros).to_string();
        assert_eq!(text(0, 0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(text(951_782_400, 1), "2000-02-29T00:00:00.000001Z");
        assert_eq!(text(1_795_460_597, 123_456), "2026-11-23T19:03:17.123456Z");
        assert_eq!(text(4_107_542_399, 999_999), "2100-02-28T23:59:59.999999Z");
        for seconds in (0..200_000_000_000).step_by(86_399 * 1009) {
            let time = Timestamp::from_micros(seconds * 1_000_000 + 17);
            assert_eq!(Timestamp::parse(&time.to_string()), Some(time));
        }
        for wrong in [
            "",
            "2026-11-23",
            "2026-02-30T00:00:00.000000Z",
            "2026-11-23T19:03:17.123456+",
            "1969-12-31T00:00:00.000000Z",
        ] {
            assert_eq!(Timestamp::parse(wrong), None, "{wrong}");
        }
    }
}
