//! Whatever a request says of itself, its record is one line, and what it said can be read from it.
//!
//! The input is cut into five equal texts.

use std::time::{Duration, UNIX_EPOCH};

use tidegate::config::AccessFormat;
use tidegate::observe::Record;

/// As `observe::record` has it.
const TEXT_BYTES_MAX: usize = 4096;

pub fn holds(data: &[u8]) {
    let size = data.len() / 5;
    let text = |nth: usize| &data[nth * size..(nth + 1) * size];
    let method = String::from_utf8_lossy(&data[5 * size..]).into_owned();
    let record = Record {
        time: UNIX_EPOCH + Duration::from_micros(data.len() as u64 * 1_234_567_891),
        client: [192, 0, 2, 1].into(),
        listener: "web",
        method: &method,
        scheme: "https",
        host: text(0),
        target: text(1),
        version: "HTTP/1.1",
        status: 200,
        route: "r",
        upstream: "app",
        server: "10.0.0.1:80",
        bytes_received: 1,
        bytes_sent: u64::MAX,
        total_us: 2,
        queue_us: None,
        connect_us: Some(3),
        first_byte_us: Some(4),
        cache: "",
        cache_reason: "",
        attempts: 1,
        request_id: text(2),
        reason: "",
        user_agent: text(3),
        referer: text(4),
    };
    is_one_object(&record);
    is_one_line_of_common(&record);
}

fn cut(text: &[u8]) -> &[u8] {
    &text[..text.len().min(TEXT_BYTES_MAX)]
}

fn is_one_object(record: &Record<'_>) {
    let mut line = Vec::new();
    record.write(AccessFormat::Json, &mut line);

    let line = String::from_utf8(line).expect("text");
    let line = line.strip_suffix('\n').expect("a line feed ends it");
    assert!(!line.contains(|c: char| c.is_control() || c == '\u{2028}' || c == '\u{2029}'));
    let object: serde_json::Value = serde_json::from_str(line).expect("an object");
    for (name, text) in [
        ("method", record.method.as_bytes()),
        ("host", record.host),
        ("target", record.target),
        ("request_id", record.request_id),
        ("user_agent", record.user_agent),
        ("referer", record.referer),
    ] {
        let expected = (!text.is_empty()).then(|| String::from_utf8_lossy(cut(text)).into_owned());
        assert_eq!(object.get(name).and_then(|value| value.as_str()), expected.as_deref(), "{name}");
    }
    assert_eq!(object["bytes_sent"].as_u64(), Some(u64::MAX));
}

fn is_one_line_of_common(record: &Record<'_>) {
    let mut line = Vec::new();
    record.write(AccessFormat::Common, &mut line);

    let line = line.strip_suffix(b"\n").expect("a line feed ends it");
    assert!(line.iter().all(|&b| b.is_ascii_graphic() || b == b' '));
    let quoted = quoted(line);
    let request = [cut(record.method.as_bytes()), cut(record.target), b"HTTP/1.1"].join(&b' ');
    let said = |text: &[u8]| if text.is_empty() { b"-".to_vec() } else { cut(text).to_vec() };
    assert_eq!(quoted[..3], [request, said(record.referer), said(record.user_agent)]);
    if !record.host.is_empty() {
        assert_eq!(quoted[3], cut(record.host));
    }
}

/// All texts in quotes, with their escapes undone.
fn quoted(line: &[u8]) -> Vec<Vec<u8>> {
    let (mut texts, mut bytes) = (Vec::new(), line.iter().copied());
    while bytes.any(|b| b == b'"') {
        let mut text = Vec::new();
        loop {
            match bytes.next().expect("a text has an end") {
                b'"' => break,
                b'\\' => text.push(escaped(&mut bytes)),
                byte => text.push(byte),
            }
        }
        texts.push(text);
    }
    texts
}

/// `xhh`, or the byte itself.
fn escaped(bytes: &mut impl Iterator<Item = u8>) -> u8 {
    match bytes.next().expect("an escape is whole") {
        b'x' => {
            let hex: String = bytes.take(2).map(char::from).collect();
            u8::from_str_radix(&hex, 16).expect("two digits")
        }
        byte => byte,
    }
}
