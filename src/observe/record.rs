//! One request as one line, as JSON or in the Combined Log Format.
//!
//! Nearly every field may be chosen by someone hostile. Whatever the bytes, a
//! record is one line, its fields stay apart, and a terminal that shows it is
//! not commanded by it. Made by hand, because it is made for each request:
//! nothing is allocated but the block the line is written to.

use std::io::Write;
use std::net::IpAddr;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use crate::config::AccessFormat;
use crate::fields::digits;

/// What there is to say about one request. Empty text and `None` mean: there was none.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// When the request's head was complete.
    pub time: SystemTime,
    /// Who asked; behind a trusted proxy, whom that proxy names.
    pub client: IpAddr,
    /// Name of the listener.
    pub listener: &'a str,
    /// As sent.
    pub method: &'a str,
    /// "http" or "https".
    pub scheme: &'a str,
    /// `Host` or `:authority`, as sent.
    pub host: &'a [u8],
    /// Path and query, as sent.
    pub target: &'a [u8],
    /// "HTTP/1.1", "HTTP/2.0".
    pub version: &'a str,
    /// 0 when the client left before there was one.
    pub status: u16,
    /// Name of the route.
    pub route: &'a str,
    /// Name of the upstream.
    pub upstream: &'a str,
    /// The server of the last attempt.
    pub server: &'a str,
    /// Body bytes from the client.
    pub bytes_received: u64,
    /// Body bytes to the client.
    pub bytes_sent: u64,
    /// From the head of the request to the end of the response, in µs.
    pub total_us: u64,
    /// Waiting for leave to start (limits, collapsing), in µs.
    pub queue_us: Option<u64>,
    /// Connecting to the server, in µs; `None` when a connection was there.
    pub connect_us: Option<u64>,
    /// From sending to the server to the head of its response, in µs.
    pub first_byte_us: Option<u64>,
    /// What the cache did.
    pub cache: &'a str,
    /// Why it did that.
    pub cache_reason: &'a str,
    /// Attempts at servers.
    pub attempts: u32,
    /// The request's identity, ours or the client's.
    pub request_id: &'a [u8],
    /// Why the status is what it is, when we chose it.
    pub reason: &'a str,
    /// `User-Agent`, as sent.
    pub user_agent: &'a [u8],
    /// `Referer`, as sent.
    pub referer: &'a [u8],
}

/// Bytes of one text that are written; the rest is cut off. Longer than what
/// honest clients send. Five texts are a client's and JSON makes at most six
/// bytes of one, so that a line is under 128 KiB.
pub(super) const TEXT_BYTES_MAX: usize = 4096;

impl Record<'_> {
    /// One line in the given format, with its line feed.
    pub fn write(&self, format: AccessFormat, out: &mut Vec<u8>) {
        match format {
            AccessFormat::Json => self.json(out),
            AccessFormat::Common => self.common(out),
        }
    }

    /// One JSON object and a line feed. Bytes that are not UTF-8 become U+FFFD;
    /// what is absent is left out.
    pub fn json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        Utc::new(self.time).rfc3339(out);
        out.extend_from_slice(b"\",\"client\":\"");
        address(out, self.client);
        out.push(b'"');
        json_text(out, "listener", self.listener.as_bytes());
        json_text(out, "method", self.method.as_bytes());
        json_text(out, "scheme", self.scheme.as_bytes());
        json_text(out, "host", self.host);
        json_text(out, "target", self.target);
        json_text(out, "version", self.version.as_bytes());
        json_number(out, "status", Some(self.status.into()));
        json_text(out, "reason", self.reason.as_bytes());
        json_text(out, "route", self.route.as_bytes());
        json_text(out, "upstream", self.upstream.as_bytes());
        json_text(out, "server", self.server.as_bytes());
        json_number(out, "attempts", Some(self.attempts.into()));
        json_number(out, "bytes_received", Some(self.bytes_received));
        json_number(out, "bytes_sent", Some(self.bytes_sent));
        json_number(out, "total_us", Some(self.total_us));
        json_number(out, "queue_us", self.queue_us);
        json_number(out, "connect_us", self.connect_us);
        json_number(out, "first_byte_us", self.first_byte_us);
        json_text(out, "cache", self.cache.as_bytes());
        json_text(out, "cache_reason", self.cache_reason.as_bytes());
        json_text(out, "request_id", self.request_id);
        json_text(out, "user_agent", self.user_agent);
        json_text(out, "referer", self.referer);
        out.extend_from_slice(b"}\n");
    }

    /// The Combined Log Format, then the rest as `name="text"` and `name=number`.
    ///
    /// Quotes and backslashes get a backslash, as Apache does; every byte that
    /// is not printable ASCII becomes `\xhh`, so that the original can be told.
    pub fn common(&self, out: &mut Vec<u8>) {
        address(out, self.client);
        out.extend_from_slice(b" - - [");
        Utc::new(self.time).common(out);
        out.extend_from_slice(b"] \"");
        escape_common(out, self.method.as_bytes());
        out.push(b' ');
        escape_common(out, self.target);
        out.push(b' ');
        escape_common(out, self.version.as_bytes());
        out.extend_from_slice(b"\" ");
        digits(out, self.status.into(), 3);
        out.push(b' ');
        digits(out, self.bytes_sent, 1);
        common_quoted(out, self.referer);
        common_quoted(out, self.user_agent);
        common_text(out, "host", self.host);
        common_text(out, "scheme", self.scheme.as_bytes());
        common_text(out, "listener", self.listener.as_bytes());
        common_text(out, "route", self.route.as_bytes());
        common_text(out, "upstream", self.upstream.as_bytes());
        common_text(out, "server", self.server.as_bytes());
        common_text(out, "reason", self.reason.as_bytes());
        common_text(out, "cache", self.cache.as_bytes());
        common_text(out, "cache_reason", self.cache_reason.as_bytes());
        common_text(out, "request_id", self.request_id);
        common_number(out, "attempts", Some(self.attempts.into()));
        common_number(out, "bytes_received", Some(self.bytes_received));
        common_number(out, "total_us", Some(self.total_us));
        common_number(out, "queue_us", self.queue_us);
        common_number(out, "connect_us", self.connect_us);
        common_number(out, "first_byte_us", self.first_byte_us);
        out.push(b'\n');
    }
}

fn json_text(out: &mut Vec<u8>, name: &str, text: &[u8]) {
    if text.is_empty() {
        return;
    }
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":\"");
    escape_json(out, text);
    out.push(b'"');
}

fn json_number(out: &mut Vec<u8>, name: &str, number: Option<u64>) {
    let Some(number) = number else { return };
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    digits(out, number, 1);
}

/// A field that has its place, so that its absence must be written.
fn common_quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(b" \"");
    escape_common(out, if text.is_empty() { b"-" } else { text });
    out.push(b'"');
}

fn common_text(out: &mut Vec<u8>, name: &str, text: &[u8]) {
    if text.is_empty() {
        return;
    }
    out.push(b' ');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"=\"");
    escape_common(out, text);
    out.push(b'"');
}

fn common_number(out: &mut Vec<u8>, name: &str, number: Option<u64>) {
    let Some(number) = number else { return };
    out.push(b' ');
    out.extend_from_slice(name.as_bytes());
    out.push(b'=');
    digits(out, number, 1);
}

/// Bytes that stand for themselves in both formats: printable ASCII but for quote and backslash.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0x20;
    while byte < 0x7f {
        plain[byte] = byte != b'"' as usize && byte != b'\\' as usize;
        byte += 1;
    }
    plain
};

/// How much of the text's beginning is plain.
fn plain_length(text: &[u8]) -> usize {
    text.iter().position(|&byte| !PLAIN[usize::from(byte)]).unwrap_or(text.len())
}

fn cut(text: &[u8]) -> &[u8] {
    &text[..text.len().min(TEXT_BYTES_MAX)]
}

// RFC 8259 §7 demands: quote, backslash, U+0000 to U+001F. Beyond it, for those
// who read lines and terminals: U+007F to U+009F (controls) and U+2028, U+2029
// (line ends for some readers).
fn escape_json(out: &mut Vec<u8>, text: &[u8]) {
    let (plain, rest) = cut(text).split_at(plain_length(cut(text)));
    out.extend_from_slice(plain);
    for chunk in rest.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' | '\\' => out.extend_from_slice(&[b'\\', character as u8]),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                '\0'..='\u{1f}' => escape_unicode(out, character),
                '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' => escape_unicode(out, character),
                _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// `\uhhhh`, for characters below U+10000.
fn escape_unicode(out: &mut Vec<u8>, character: char) {
    let [_, _, high, low] = u32::from(character).to_be_bytes();
    out.extend_from_slice(b"\\u");
    hex(out, high);
    hex(out, low);
}

fn escape_common(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = cut(text);
    loop {
        let (plain, special) = rest.split_at(plain_length(rest));
        out.extend_from_slice(plain);
        let Some((&byte, after)) = special.split_first() else { return };
        if byte == b'"' || byte == b'\\' {
            out.extend_from_slice(&[b'\\', byte]);
        } else {
            out.extend_from_slice(b"\\x");
            hex(out, byte);
        }
        rest = after;
    }
}

fn hex(out: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(four) => {
            for (index, octet) in four.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                digits(out, octet.into(), 1);
            }
        }
        IpAddr::V6(six) => write!(out, "{six}").expect("writing to a Vec does not fail"),
    }
}

/// A moment as the calendar has it. Before 1970 it is 1970: only a broken clock says so.
struct Utc {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
    micros: u64,
}

impl Utc {
    // The days-to-date conversion is Howard Hinnant's `civil_from_days`: years
    // begin in March, so that the leap day is the last, and 400 years repeat.
    fn new(time: SystemTime) -> Utc {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (seconds, micros) = (since.as_secs(), since.subsec_micros().into());
        let days = seconds / 86_400 + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        Utc {
            year: era * 400 + year_of_era + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * from_march + 2) / 5 + 1,
            hour: seconds / 3600 % 24,
            minute: seconds / 60 % 60,
            second: seconds % 60,
            micros,
        }
    }

    /// `2026-11-21T14:35:37.000042Z`
    fn rfc3339(&self, out: &mut Vec<u8>) {
        digits(out, self.year, 4);
        out.push(b'-');
        digits(out, self.month, 2);
        out.push(b'-');
        digits(out, self.day, 2);
        out.push(b'T');
        self.clock(out);
        out.push(b'.');
        digits(out, self.micros, 6);
        out.push(b'Z');
    }

    /// `21/Nov/2026:14:35:37 +0000`
    fn common(&self, out: &mut Vec<u8>) {
        const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
        let month = (self.month as usize - 1) * 3;
        digits(out, self.day, 2);
        out.push(b'/');
        out.extend_from_slice(&MONTHS[month..month + 3]);
        out.push(b'/');
        digits(out, self.year, 4);
        out.push(b':');
        self.clock(out);
        out.extend_from_slice(b" +0000");
    }

    fn clock(&self, out: &mut Vec<u8>) {
        digits(out, self.hour, 2);
        out.push(b':');
        digits(out, self.minute, 2);
        out.push(b':');
        digits(out, self.second, 2);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    pub(in crate::observe) fn record() -> Record<'static> {
        Record {
            time: UNIX_EPOCH + Duration::from_micros(1_795_271_737_000_042),
            client: Ipv4Addr::new(192, 0, 2, 10).into(),
            listener: "public",
            method: "GET",
            scheme: "https",
            host: b"example.com",
            target: b"/a?b=c",
            version: "HTTP/1.1",
            status: 200,
            route: "site",
            upstream: "app",
            server: "127.0.0.1:3000",
            bytes_received: 0,
            bytes_sent: 48,
            total_us: 1234,
            queue_us: None,
            connect_us: Some(99),
            first_byte_us: Some(1000),
            cache: "miss",
            cache_reason: "no-store",
            attempts: 1,
            request_id: b"01hx",
            reason: "",
            user_agent: b"curl/8",
            referer: b"",
        }
    }

    /// Every byte, and what has broken other logs.
    fn hostile() -> Vec<Vec<u8>> {
        let mut all = vec![
            (0..=255).collect(),
            b"\",\"status\":200,\"x\":\"".to_vec(),
            b"x\" 200 1 \"-\" \"-\"\n192.0.2.1 - - [".to_vec(),
            b"\x1b]0;title\x07\x1b[2J".to_vec(),
            b"\xff\xfe\xc0\x80\xed\xa0\x80\xf0\x9f\x98".to_vec(),
            "Grüße \u{1f600} \u{2028}\u{2029}\u{85}\u{9b}31m".as_bytes().to_vec(),
            b"\\\\\"\\".to_vec(),
        ];
        all.extend((0..=255).map(|byte| vec![byte]));
        all
    }

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_text_is_escaped() {
        let table: &[(&[u8], &str)] = &[
            (b"plain /a?b=c", "plain /a?b=c"),
            (b"a\"b\\c/d", r#"a\"b\\c/d"#),
            (b"a\nb\rc\td", r"a\nb\rc\td"),
            (b"\0\x1b\x1f\x7f", r"\u0000\u001b\u001f\u007f"),
            ("é\u{9b}\u{2028}".as_bytes(), r"é\u009b\u2028"),
            (b"a\xffb\xc3", "a\u{fffd}b\u{fffd}"),
        ];

        for (input, output) in table {
            assert_eq!(text(|out| escape_json(out, input)), *output);
        }
    }

    #[test]
    fn common_text_is_escaped() {
        let table: &[(&[u8], &str)] = &[
            (b"plain /a?b=c", "plain /a?b=c"),
            (b"a\"b\\c", r#"a\"b\\c"#),
            (b"a\nb\x1b\x7f", r"a\x0ab\x1b\x7f"),
            ("é".as_bytes(), r"\xc3\xa9"),
            (b"\xff\\xff", r"\xff\\xff"),
        ];

        for (input, output) in table {
            assert_eq!(text(|out| escape_common(out, input)), *output);
        }
    }

    #[test]
    fn a_json_line_gives_hostile_bytes_back() {
        for bytes in hostile() {
            let hostile = Record {
                host: &bytes,
                target: &bytes,
                request_id: &bytes,
                user_agent: &bytes,
                referer: &bytes,
                ..record()
            };

            let line = text(|out| hostile.json(out));

            let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
            for field in ["host", "target", "request_id", "user_agent", "referer"] {
                assert_eq!(parsed[field], String::from_utf8_lossy(&bytes).as_ref(), "{line}");
            }
            assert_eq!(parsed["status"], 200);
            assert_eq!(line.find(|c: char| c.is_control()), Some(line.len() - 1), "{line}");
        }
    }

    #[test]
    fn a_common_line_is_one_printable_line_with_its_quotes_in_pairs() {
        for bytes in hostile() {
            let hostile = Record { target: &bytes, user_agent: &bytes, referer: &bytes, ..record() };

            let line = text(|out| hostile.common(out));

            let shown = line.strip_suffix('\n').unwrap();
            assert!(shown.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{line}");
            let bare = shown.replace(r"\\", "").replace(r#"\""#, "");
            // Three of the Combined Log Format, nine named ones.
            assert_eq!(bare.matches('"').count(), 2 * 12, "{line}");
        }
    }

    #[test]
    fn a_json_line_has_what_there_is_in_order() {
        assert_eq!(
            text(|out| record().json(out)),
            concat!(
                r#"{"time":"2026-11-21T14:35:37.000042Z","client":"192.0.2.10","listener":"public","#,
                r#""method":"GET","scheme":"https","host":"example.com","target":"/a?b=c","#,
                r#""version":"HTTP/1.1","status":200,"route":"site","upstream":"app","#,
                r#""server":"127.0.0.1:3000","attempts":1,"bytes_received":0,"bytes_sent":48,"#,
                r#""total_us":1234,"connect_us":99,"first_byte_us":1000,"cache":"miss","#,
                r#""cache_reason":"no-store","request_id":"01hx","user_agent":"curl/8"}"#,
                "\n",
            )
        );
    }

    #[test]
    fn a_common_line_begins_as_the_combined_log_format() {
        let line = text(|out| record().common(out));

        let begin =
            r#"192.0.2.10 - - [21/Nov/2026:14:35:37 +0000] "GET /a?b=c HTTP/1.1" 200 48 "-" "curl/8" host="#;
        assert!(line.starts_with(begin), "{line}");
    }

    #[test]
    fn a_text_beyond_the_limit_is_cut() {
        let long = vec![b'a'; TEXT_BYTES_MAX + 1];

        assert_eq!(text(|out| escape_json(out, &long)).len(), TEXT_BYTES_MAX);
        assert_eq!(text(|out| escape_common(out, &long)).len(), TEXT_BYTES_MAX);
    }

    #[test]
    fn dates_agree_with_the_calendar() {
        let table = [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399, "2000-02-28T23:59:59.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000000Z"),
            (1_735_689_600, "2025-01-01T00:00:00.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ];

        for (seconds, date) in table {
            let time = Utc::new(UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!(text(|out| time.rfc3339(out)), date);
        }
        for day in 0..80_000 {
            let time = UNIX_EPOCH + Duration::from_secs(day * 86_400 + 3_723);
            let expected = httpdate::fmt_http_date(time);
            let found = text(|out| Utc::new(time).common(out)).replace(['/', ':'], " ");
            assert_eq!(found[..20], expected[5..25].replace(':', " "));
        }
    }

    #[test]
    fn a_clock_before_1970_is_1970() {
        let time = Utc::new(UNIX_EPOCH - Duration::from_secs(1));

        assert_eq!(text(|out| time.rfc3339(out)), "1970-01-01T00:00:00.000000Z");
    }

    #[test]
    fn numbers_and_addresses_are_written_as_usual() {
        for number in [0, 9, 10, 255, u64::MAX] {
            assert_eq!(text(|out| digits(out, number, 1)), number.to_string());
        }
        for (input, output) in [("::ffff:192.0.2.1", "192.0.2.1"), ("2001:db8::1", "2001:db8::1")] {
            assert_eq!(text(|out| address(out, input.parse().unwrap())), output);
        }
    }
}
