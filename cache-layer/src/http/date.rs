//! Dates in header fields (RFC 9110, section 5.6.7).

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, header::DATE};

/// Reads the first line of a field. `None` if there is none, or if it is not a date.
pub(crate) fn read(headers: &HeaderMap, name: &HeaderName, now: SystemTime) -> Option<SystemTime> {
    parse(headers.get(name)?.as_bytes(), now)
}

/// Reads a date in any of the three forms, with names in any case (RFC 9111, section 4.2).
///
/// The year of an RFC 850 date has two digits. It is the one that is at most 50 years after `now`.
pub(crate) fn parse(text: &[u8], now: SystemTime) -> Option<SystemTime> {
    let text = with_usual_case(text.trim_ascii())?;
    match text.split_once(", ") {
        Some((day, rest)) if day.len() > 3 => parse_rfc850(day, rest, now),
        _ => httpdate::parse_http_date(&text).ok(),
    }
}

/// Writes `now` as the `Date` of a response that has none, or one that cannot be read (RFC 9110, section 6.6.1).
pub(crate) fn record(headers: &mut HeaderMap, now: SystemTime) {
    if read(headers, &DATE, now).is_none() {
        headers.insert(DATE, write(now));
    }
}

fn write(time: SystemTime) -> HeaderValue {
    // Later years have no form.
    let last = SystemTime::UNIX_EPOCH + LAST;
    let text = httpdate::fmt_http_date(time.min(last));
    HeaderValue::try_from(text).expect("a date is printable ASCII")
}

/// Reads a date such as `Sunday, 06-Nov-94 08:49:37 GMT`, of which `day` is the first word.
fn parse_rfc850(day: &str, rest: &str, now: SystemTime) -> Option<SystemTime> {
    if !DAYS.contains(&day) {
        return None;
    }
    let (date, time) = rest.split_once(' ')?;
    let (day_and_month, year) = date.rsplit_once('-')?;
    let (number, month) = day_and_month.split_once('-')?;
    if year.len() != 2 {
        return None;
    }
    let year: u64 = year.parse().ok()?;
    // The one of the next 50 years, or else of the last 50.
    let latest = year_of(now) + 50;
    let year = latest - (latest + 100 - year) % 100;
    let at = |year| {
        let text = format!("{}, {number} {month} {year:04} {time}", &day[..3]);
        httpdate::parse_http_date(&text).ok()
    };
    at(year).or_else(|| at(year - 100))
}

/// Writes each word with a capital and small letters, and `GMT`. `None` if the text is not ASCII.
fn with_usual_case(text: &[u8]) -> Option<String> {
    if !text.is_ascii() {
        return None;
    }
    let mut usual = String::with_capacity(text.len());
    let mut in_word = false;
    for byte in text {
        usual.push(char::from(match in_word {
            true => byte.to_ascii_lowercase(),
            false => byte.to_ascii_uppercase(),
        }));
        in_word = byte.is_ascii_alphabetic();
    }
    if usual.ends_with(" Gmt") {
        usual.truncate(usual.len() - 3);
        usual.push_str("GMT");
    }
    Some(usual)
}

fn year_of(time: SystemTime) -> u64 {
    let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH);
    1970 + since_1970.unwrap_or_default().as_secs() / YEAR
}

const DAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];
/// A Gregorian year, in seconds.
const YEAR: u64 = 31_556_952;
/// The end of the year 9999.
const LAST: Duration = Duration::from_secs(253_402_300_799);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2027.
    const NOW: u64 = 1_800_000_000;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn seconds(text: &str) -> Option<u64> {
        let time = parse(text.as_bytes(), at(NOW))?;
        Some(
            time.duration_since(SystemTime::UNIX_EPOCH)
                .unwrap()
                .as_secs(),
        )
    }

    #[test]
    fn three_forms_are_read_in_any_case() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "sun, 06 NOV 1994 08:49:37 gmt",
            "SUNDAY, 06-nov-94 08:49:37 Gmt",
            "sUN nOV  6 08:49:37 1994",
            " Sun, 06 Nov 1994 08:49:37 GMT ",
        ] {
            assert_eq!(seconds(text), Some(784_111_777), "{text}");
        }
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "0",
            "soon",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Nov 1994 08:49:37 +0000",
            "Sun, 32 Nov 1994 08:49:37 GMT",
            "Sun, 31 Feb 2027 08:49:37 GMT",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sunday, 06-Nov-1994 08:49:37 GMT",
            "Someday, 06-Nov-94 08:49:37 GMT",
            "Sunday, 06-Nov-é4 08:49:37 GMT",
            "Sunday, ",
            "Sunday, --",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn a_year_of_two_digits_is_the_one_nearest_to_now() {
        let year = |text: &str| {
            let time = parse(text.as_bytes(), at(NOW))?;
            Some(httpdate::fmt_http_date(time)[12..16].to_owned())
        };
        assert_eq!(year("Friday, 15-Jan-27 08:00:00 GMT").unwrap(), "2027");
        // At most 50 years ahead, where the date has that day of the week.
        assert_eq!(year("Friday, 01-Jan-77 00:00:00 GMT").unwrap(), "2077");
        assert_eq!(year("Sunday, 01-Jan-78 00:00:00 GMT").unwrap(), "1978");
        assert_eq!(year("Friday, 01-Jan-99 00:00:00 GMT").unwrap(), "1999");
    }

    #[test]
    fn a_date_is_recorded_only_where_none_can_be_read() {
        let recorded = |date: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(date) = date {
                headers.insert(DATE, date.parse().unwrap());
            }
            record(&mut headers, at(784_111_777));
            headers[DATE].to_str().unwrap().to_owned()
        };
        let received = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(recorded(None), received);
        assert_eq!(recorded(Some("yesterday")), received);
        let own = "Sat, 05 Nov 1994 08:49:37 GMT";
        assert_eq!(recorded(Some(own)), own);
        assert_eq!(write(at(u64::MAX >> 24)), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[A-Za-z]{0,9}[, ]{0,2}[0-9A-Za-z :-]{0,30}") {
            let _ = seconds(&text);
        }

        #[test]
        fn what_is_written_is_read(time in 0u64..253_402_300_800) {
            let text = write(at(time));
            prop_assert_eq!(seconds(text.to_str().unwrap()), Some(time));
        }
    }
}
