//! The one place where the command line reads the clock.

use holdfast_core::Timestamp;
use std::time::{SystemTime, UNIX_EPOCH};

/// Now.
#[expect(clippy::disallowed_methods, reason = "a person's command has no other clock than the machine's")]
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// A point in time as a person writes it: RFC 3339, a date, or how long ago (`15min`, `2h`, `3days`).
pub(crate) fn moment(text: &str) -> Result<Timestamp, String> {
    let of = |time: SystemTime| {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    };
    if let Ok(ago) = humantime::parse_duration(text) {
        let ago = u64::try_from(ago.as_micros()).unwrap_or(u64::MAX);
        return Ok(Timestamp::from_micros(now().micros().saturating_sub(ago)));
    }
    let midnight = format!("{text}T00:00:00Z");
    let time = humantime::parse_rfc3339_weak(text).or_else(|_| humantime::parse_rfc3339(&midnight));
    time.map(of).map_err(|_| {
        "expected `2026-11-23T19:00:00Z`, `2026-11-23`, or how long ago, such as `15min`".to_owned()
    })
}

/// A date of HTTP (RFC 9110 §5.6.7) as seconds since 1970.
pub(crate) fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_ascii_whitespace().skip(1);
    let (day, month, year, time) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let time = humantime::parse_rfc3339(&format!("{year}-{month:02}-{day}T{time}Z")).ok()?;
    time.duration_since(std::time::UNIX_EPOCH).ok().map(|since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_http() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("yesterday"), None);
    }

    #[test]
    fn moments_as_people_write_them() {
        assert_eq!(moment("2026-11-23").unwrap().to_string(), "2026-11-23T00:00:00.000000Z");
        assert_eq!(moment("2026-11-23T19:03:17Z").unwrap().to_string(), "2026-11-23T19:03:17.000000Z");
        assert!(moment("2h").unwrap() < now());
        assert!(moment("yesterday").is_err());
    }
}
