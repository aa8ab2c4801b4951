//! The fields that govern caching, read from bytes: Cache-Control, Age, dates.
//!
//! Lenient where a lenient reading is the safer one (a broken `max-age` is
//! zero), strict where a guess would keep a response for too long (dates).

use http::HeaderName;
use sfv::BareItem;
use sfv::Dictionary;
use sfv::List;
use sfv::ListEntry;
use sfv::Parser;

use crate::fields::Fields;
use crate::fields::Known;
use crate::fields::RequestHead;

/// Fields for caches like this one, the nearest first (RFC 9213 §2, §3.1).
const TARGETED: [&str; 2] = ["tidegate-cache-control", "cdn-cache-control"];

/// Larger spans are cut to this one (RFC 9111 §1.2.2).
pub const SECONDS_MAX: u64 = 1 << 31;

/// `Cache-Control`, of a request or a response (RFC 9111 §5.2, RFC 5861, RFC 8246).
///
/// The first of two equal directives wins; a span that is not a number counts as zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheControl {
    /// RFC 9111 §5.2.1.5, §5.2.2.5.
    pub no_store: bool,
    /// RFC 9111 §5.2.1.4, §5.2.2.4, without a list of fields.
    pub no_cache: bool,
    /// Response: RFC 9111 §5.2.2.7, without a list of fields.
    pub private: bool,
    /// Response: RFC 9111 §5.2.2.9.
    pub public: bool,
    /// Response: RFC 9111 §5.2.2.2.
    pub must_revalidate: bool,
    /// Response: RFC 9111 §5.2.2.8.
    pub proxy_revalidate: bool,
    /// Response: RFC 9111 §5.2.2.3.
    pub must_understand: bool,
    /// Request: RFC 9111 §5.2.1.7.
    pub only_if_cached: bool,
    /// RFC 9111 §5.2.1.1, §5.2.2.1.
    pub max_age: Option<u64>,
    /// Response: RFC 9111 §5.2.2.10.
    pub s_maxage: Option<u64>,
    /// Request: RFC 9111 §5.2.1.3.
    pub min_fresh: Option<u64>,
    /// Request: RFC 9111 §5.2.1.2; without a value it is [`u64::MAX`].
    pub max_stale: Option<u64>,
    /// Response: RFC 5861 §3.
    pub stale_while_revalidate: Option<u64>,
    /// RFC 5861 §4.
    pub stale_if_error: Option<u64>,
    /// Fields named by `no-cache="…"` or `private="…"`: they are not stored.
    pub withheld: Vec<HeaderName>,
    /// It comes from a field for caches like this one: `Expires` does not count (RFC 9213 §2.2).
    pub is_targeted: bool,
}

/// What the value of a directive is.
#[derive(PartialEq, Eq)]
enum Kind {
    Flag,
    Seconds,
    Fields,
    Other,
}

impl CacheControl {
    /// What a response says to this cache: every line of the first field of [`TARGETED`] that can be
    /// read, if `targeted`, or else of `Cache-Control` (RFC 9213 §2.2).
    pub fn of_response(fields: &Fields, targeted: bool) -> Self {
        let first = TARGETED.iter().filter(|_| targeted).find_map(|name| Self::of_targeted(fields, name));
        first.unwrap_or_else(|| Self::of_lines(fields))
    }

    /// An empty field, one that is no structured field (RFC 9651 §3.2), and one in which a known
    /// directive has a value of another type are as if they were not there (RFC 9213 §2.1).
    fn of_targeted(fields: &Fields, name: &str) -> Option<Self> {
        let members: Dictionary = Parser::new(&joined(fields, name)).parse().ok()?;
        if members.is_empty() {
            return None;
        }
        let mut control = Self { is_targeted: true, ..Self::default() };
        for (name, member) in &members {
            let (value, kind) = match member {
                ListEntry::Item(item) => match &item.bare_item {
                    BareItem::Boolean(false) => continue,
                    BareItem::Boolean(true) => (None, Kind::Flag),
                    BareItem::Integer(seconds) => (Some(seconds.to_string()), Kind::Seconds),
                    BareItem::String(text) => (Some(format!("\"{}\"", text.as_str())), Kind::Fields),
                    _ => (None, Kind::Other),
                },
                ListEntry::InnerList(_) => (None, Kind::Other),
            };
            let is_right = match name.as_str() {
                "max-age" | "s-maxage" | "stale-while-revalidate" | "stale-if-error" => kind == Kind::Seconds,
                "private" | "no-cache" => matches!(kind, Kind::Flag | Kind::Fields),
                "no-store" | "public" | "must-revalidate" | "proxy-revalidate" | "must-understand" => {
                    kind == Kind::Flag
                }
                _ => true,
            };
            if !is_right {
                return None;
            }
            control.set(name.as_str().as_bytes(), value.as_deref().map(str::as_bytes));
        }
        Some(control)
    }

    fn of_lines(fields: &Fields) -> Self {
        let mut control = Self::default();
        for line in fields.get_all(Known::CacheControl) {
            for member in Members::new(line) {
                control.read(member);
            }
        }
        control
    }

    /// Reads a request's; `Pragma: no-cache` counts only without any (RFC 9111 §5.4).
    pub fn of_request(req: &RequestHead) -> Self {
        if req.fields.has(Known::CacheControl) {
            return Self::of_lines(&req.fields);
        }
        let mut pragma = req.fields.get_all(Known::Pragma).flat_map(Members::new);
        Self { no_cache: pragma.any(|member| member.eq_ignore_ascii_case(b"no-cache")), ..Self::default() }
    }

    fn read(&mut self, member: &[u8]) {
        let (name, value) = match member.iter().position(|&b| b == b'=') {
            Some(at) => (&member[..at], Some(&member[at + 1..])),
            None => (member, None),
        };
        // "max-age =1": the name is meant, the value is broken. Zero is the safe reading.
        let (name, value) = match name.trim_ascii_end() {
            trimmed if trimmed.len() < name.len() => (trimmed, Some(&b"?"[..])),
            _ => (name, value),
        };
        self.set(name, value);
    }

    fn set(&mut self, name: &[u8], value: Option<&[u8]>) {
        let mut lower = [0u8; 24];
        let Some(lower) = lower.get_mut(..name.len()) else { return };
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        match &*lower {
            b"no-store" => self.no_store = true,
            b"no-cache" => self.no_cache |= !withhold(&mut self.withheld, value),
            b"private" => self.private |= !withhold(&mut self.withheld, value),
            b"public" => self.public = true,
            b"must-revalidate" => self.must_revalidate = true,
            b"proxy-revalidate" => self.proxy_revalidate = true,
            b"must-understand" => self.must_understand = true,
            b"only-if-cached" => self.only_if_cached = true,
            b"max-age" => first(&mut self.max_age, seconds(value)),
            b"s-maxage" => first(&mut self.s_maxage, seconds(value)),
            b"min-fresh" => first(&mut self.min_fresh, seconds(value)),
            b"max-stale" if value.is_none() => first(&mut self.max_stale, u64::MAX),
            b"max-stale" => first(&mut self.max_stale, seconds(value)),
            b"stale-while-revalidate" => first(&mut self.stale_while_revalidate, seconds(value)),
            b"stale-if-error" => first(&mut self.stale_if_error, seconds(value)),
            _ => {}
        }
    }
}

/// The strings of a structured list, such as `Cache-Groups` (RFC 9875 §2); of one that cannot be read
/// there are none.
pub fn strings(fields: &Fields, name: &str) -> Vec<String> {
    let Ok(list) = Parser::new(&joined(fields, name)).parse::<List>() else { return Vec::new() };
    let text = |entry: &ListEntry| match entry {
        ListEntry::Item(item) => item.bare_item.as_string().map(|text| text.as_str().to_owned()),
        ListEntry::InnerList(_) => None,
    };
    list.iter().filter_map(text).collect()
}

/// All lines of a structured field as one (RFC 9651 §4.2).
fn joined(fields: &Fields, name: &str) -> Vec<u8> {
    let lines: Vec<&[u8]> = fields.get_all(name).collect();
    lines.join(&b", "[..])
}

/// `Age` in seconds: the first member of the first line, digits only, else it is not there
/// (RFC 9111 §5.1).
pub fn age_of(fields: &Fields) -> Option<u64> {
    let first = Members::new(fields.get(Known::Age)?).next()?;
    digits(first)
}

/// Members of a comma-separated list, trimmed, empty ones left out; commas in quoted strings do
/// not separate (RFC 9110 §5.6.1).
pub struct Members<'a> {
    rest: &'a [u8],
}

impl<'a> Members<'a> {
    /// The members of one line.
    pub fn new(line: &'a [u8]) -> Self {
        Self { rest: line }
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let mut quoted = false;
            let mut escaped = false;
            let end = self.rest.iter().position(|&b| {
                if escaped {
                    escaped = false;
                } else if quoted && b == b'\\' {
                    escaped = true;
                } else if b == b'"' {
                    quoted = !quoted;
                }
                b == b',' && !quoted
            });
            let (member, rest) = match end {
                Some(at) => (&self.rest[..at], &self.rest[at + 1..]),
                None => (self.rest, &[][..]),
            };
            self.rest = rest;
            let member = member.trim_ascii();
            if !member.is_empty() {
                return Some(member);
            }
        }
        None
    }
}

/// Seconds since 1970 of an HTTP-date (RFC 9110 §5.6.7): any of the three forms, letters in any
/// case, a weekday that need not be right; `now` places a year of two digits. Anything else is
/// `None`. Not the crate `httpdate`, which refuses other cases and wrong weekdays.
pub fn parse_date(value: &[u8], now: u64) -> Option<u64> {
    const DAYS: [&[u8]; 7] =
        [b"Sunday", b"Monday", b"Tuesday", b"Wednesday", b"Thursday", b"Friday", b"Saturday"];
    let is_short = |day: &[u8]| DAYS.iter().any(|d| d[..3].eq_ignore_ascii_case(day));
    // Sun, 06 Nov 1994 08:49:37 GMT
    if value.len() == 29 && value[3] == b',' {
        let layout = value[4] == b' ' && value[7] == b' ' && value[11] == b' ' && value[16] == b' ';
        if !layout || !is_short(&value[..3]) || !value[25..].eq_ignore_ascii_case(b" GMT") {
            return None;
        }
        let day = digits(&value[5..7])?;
        return moment(digits(&value[12..16])?, &value[8..11], day, &value[17..25]);
    }
    // Sun Nov  6 08:49:37 1994
    if value.len() == 24 && value[3] == b' ' {
        if !is_short(&value[..3]) || value[7] != b' ' || value[10] != b' ' || value[19] != b' ' {
            return None;
        }
        let day = digits(value[8..10].strip_prefix(b" ").unwrap_or(&value[8..10]))?;
        return moment(digits(&value[20..24])?, &value[4..7], day, &value[11..19]);
    }
    // Sunday, 06-Nov-94 08:49:37 GMT
    let comma = value.iter().position(|&b| b == b',')?;
    let (weekday, rest) = (&value[..comma], &value[comma + 1..]);
    if rest.len() != 23 || !DAYS.iter().any(|d| d.eq_ignore_ascii_case(weekday)) {
        return None;
    }
    let layout = rest[0] == b' ' && rest[3] == b'-' && rest[7] == b'-' && rest[10] == b' ';
    if !layout || !rest[19..].eq_ignore_ascii_case(b" GMT") {
        return None;
    }
    let year = full_year(digits(&rest[8..10])?, now);
    moment(year, &rest[4..7], digits(&rest[1..3])?, &rest[11..19])
}

/// RFC 9110 §5.6.7: more than fifty years ahead means the past century.
fn full_year(two_digits: u64, now: u64) -> u64 {
    let this_year = 1970 + now / 31_556_952;
    let year = this_year - this_year % 100 + two_digits;
    if year > this_year + 50 { year - 100 } else { year }
}

fn moment(year: u64, month: &[u8], day: u64, time: &[u8]) -> Option<u64> {
    const MONTHS: [&[u8]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    let month = 1 + MONTHS.iter().position(|m| m.eq_ignore_ascii_case(month))? as u64;
    let leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let length = match month {
        2 => 28 + u64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if time[2] != b':' || time[5] != b':' || !(1..=length).contains(&day) {
        return None;
    }
    let (hour, minute, second) = (digits(&time[..2])?, digits(&time[3..5])?, digits(&time[6..8])?);
    // 60: a leap second.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    if year < 1970 {
        return Some(0);
    }
    // Days since 1970, counting years from March so that the leap day is the last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1;
    Some((days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second)
}

fn first(slot: &mut Option<u64>, value: u64) {
    slot.get_or_insert(value);
}

/// A token or a quoted string of digits; anything else is zero, that is: stale.
fn seconds(value: Option<&[u8]>) -> u64 {
    let value = value.unwrap_or_default();
    let bare = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
    digits(bare).unwrap_or(0)
}

fn digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = value.iter().fold(0u64, |n, b| n.saturating_mul(10).saturating_add(u64::from(b - b'0')));
    Some(number.min(SECONDS_MAX))
}

/// True when `value` names fields, all of which were taken; otherwise the directive is meant whole.
fn withhold(withheld: &mut Vec<HeaderName>, value: Option<&[u8]>) -> bool {
    let Some(value) = value else { return false };
    let list = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
    let names: Result<Vec<_>, _> = Members::new(list).map(HeaderName::from_bytes).collect();
    match names {
        Ok(names) if !names.is_empty() => {
            withheld.extend(names);
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(lines: &[&str]) -> CacheControl {
        let fields = lines.iter().map(|line| ("cache-control", line)).collect();
        CacheControl::of_response(&fields, true)
    }

    #[test]
    fn a_span_is_read_as_strictly_as_the_suite_wants_it() {
        for (line, expected) in [
            ("max-age=3600", Some(3600)),
            ("MaX-aGe=3600", Some(3600)),
            ("max-age=\"3600\"", Some(3600)),
            ("max-age=003600", Some(3600)),
            ("max-age=99999999999999999999999", Some(SECONDS_MAX)),
            ("max-age='3600'", Some(0)),
            ("max-age=3600.0", Some(0)),
            ("max-age=-1", Some(0)),
            ("max-age=a3600", Some(0)),
            ("max-age= 3600", Some(0)),
            ("max-age =3600", Some(0)),
            ("max-age", Some(0)),
            ("max-age=1, max-age=3600", Some(1)),
            ("max-age=3600, max-age=1", Some(3600)),
            ("extension=\"max-age=3600\"", None),
            ("extension=\"a, max-age=3600, b\"", None),
            ("extension=\"\\\", max-age=3600\"", None),
            ("xmax-age=3600", None),
            ("a-directive-with-a-very-long-name=3600", None),
        ] {
            assert_eq!(control(&[line]).max_age, expected, "{line}");
        }
    }

    #[test]
    fn lines_are_read_as_one_list_and_case_does_not_matter() {
        let read = control(&["No-StOrE, , Private", "s-maxage=5,must-revalidate", "PUBLIC, swr"]);

        assert!(read.no_store && read.private && read.must_revalidate && read.public);
        assert_eq!(read.s_maxage, Some(5));
        assert!(!read.no_cache);
    }

    #[test]
    fn a_field_for_this_cache_comes_before_the_one_for_all() {
        for (fields, expected) in [
            (&[("cdn-cache-control", "max-age=9")][..], Some((Some(9), true))),
            (
                &[("tidegate-cache-control", "max-age=8"), ("cdn-cache-control", "max-age=9")],
                Some((Some(8), true)),
            ),
            (&[("tidegate-cache-control", ""), ("cdn-cache-control", "max-age=9")], Some((Some(9), true))),
            (&[("cdn-cache-control", "foobar"), ("cdn-cache-control", "max-age=9")], Some((Some(9), true))),
            (&[("cdn-cache-control", "max-age=9;x=y, x=(a b);q=1")], Some((Some(9), true))),
            (&[("cdn-cache-control", "max-age=\"9\"")], None),
            (&[("cdn-cache-control", "max-age=9, &&&&&")], None),
            (&[("cdn-cache-control", "MaX-aGe=9")], None),
            (&[("cdn-cache-control", "max-age =9")], None),
            (&[("cdn-cache-control", "no-store=1")], None),
            (&[("cdn-cache-control", "")], None),
        ] {
            let said = [("cache-control", "max-age=1")].iter().chain(fields).copied().collect();
            let read = CacheControl::of_response(&said, true);
            assert_eq!((read.max_age, read.is_targeted), expected.unwrap_or((Some(1), false)), "{fields:?}");
            assert_eq!(CacheControl::of_response(&said, false).max_age, Some(1), "{fields:?}");
        }
    }

    #[test]
    fn a_list_of_fields_withholds_those_and_only_those() {
        let named = control(&["private=\"x-a, X-B\", no-cache=x-c"]);
        assert!(!named.private && !named.no_cache);
        assert_eq!(named.withheld, ["x-a", "x-b", "x-c"]);

        assert!(control(&["private=\"x-a\", private"]).private);
        assert!(control(&["no-cache=\"\""]).no_cache);
        assert!(control(&["no-cache=\"a b\""]).no_cache);
    }

    #[test]
    fn a_request_may_say_max_stale_bare_and_pragma_alone() {
        let bare = RequestHead::from(http::Request::new(()).into_parts().0);
        let with = |req: RequestHead, name: Known, value: &str| {
            req.with(|req| req.fields.set(name, value.as_bytes()))
        };
        let req = with(bare, Known::Pragma, "no-cache");
        assert!(CacheControl::of_request(&req).no_cache);

        let req = with(req, Known::CacheControl, "max-stale");
        let read = CacheControl::of_request(&req);
        assert!(!read.no_cache);
        assert_eq!(read.max_stale, Some(u64::MAX));
    }

    #[test]
    fn age_is_its_first_number_or_nothing() {
        for (value, expected) in [
            ("7200", Some(7200)),
            ("7200, 0", Some(7200)),
            ("0, 7200", Some(0)),
            ("18446744073709551616", Some(SECONDS_MAX)),
            ("7200.0", None),
            ("-7200", None),
            ("abc", None),
            ("7200;foo=111", None),
        ] {
            assert_eq!(age_of(&Fields::from_iter([("age", value)])), expected, "{value}");
        }
    }

    #[test]
    fn a_date_has_three_forms_and_no_other() {
        let now = 1_700_000_000;
        for good in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "sun, 06 nOV 1994 08:49:37 gmt",
            "Mon, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun Nov 06 08:49:37 1994",
        ] {
            assert_eq!(parse_date(good.as_bytes(), now), Some(784_111_777), "{good}");
        }
        for bad in [
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 +0000",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun 06 Nov 1994 08:49:37 GMT",
            "Sun, 06-Nov-1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun,  06 Nov 1994 08:49:37 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 1994 08.49.37 GMT",
            "0",
            "",
        ] {
            assert_eq!(parse_date(bad.as_bytes(), now), None, "{bad}");
        }
        assert_eq!(parse_date(b"Thursday, 18-Aug-50 02:01:18 GMT", now), Some(2_544_400_878));
    }

    proptest::proptest! {
        #[test]
        fn a_written_date_is_read_back(at in 0u64..250_000_000_000) {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(at);
            let text = httpdate::fmt_http_date(time);
            proptest::prop_assert_eq!(parse_date(text.as_bytes(), 0), Some(at));
        }

        #[test]
        fn no_bytes_panic_the_parsers(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..48)) {
            parse_date(&bytes, 0);
            let mut control = CacheControl::default();
            Members::new(&bytes).for_each(|member| control.read(member));
        }
    }
}
