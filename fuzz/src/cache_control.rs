//! What governs caching is read as a slow and simple reader reads it, and never made looser by how it is written.
//!
//! The lines are values, each taken for `Cache-Control`, `CDN-Cache-Control`, `Age`, a date and a list of groups.

use http::HeaderName;
use tidegate::cache::directives::{CacheControl, SECONDS_MAX, age_of, parse_date, strings};
use tidegate::cache::tags::{Tags, invalidated_groups};
use tidegate::fields::Fields;

use super::head;

/// 2033: a moment like any other.
const NOW: u64 = 2_000_000_000;
/// As `cache::tags` has it.
const TAGS_MAX: usize = 128;

const CONTROL: &str = "cache-control";
const CDN: &str = "cdn-cache-control";
const GROUPS: &str = "cache-groups";
const INVALIDATION: &str = "cache-group-invalidation";
const TAG: &str = "cache-tag";

pub fn holds(data: &[u8]) {
    let lines = head::lines(CONTROL, data);
    let control = CacheControl::of_response(&lines, false);
    assert_eq!(control, read(&lines));
    assert_eq!(control, CacheControl::of_response(&in_capitals(&lines), false));
    assert_eq!(control, CacheControl::of_response(&with_empty_members(&lines), false));
    is_never_loosened(&lines);
    is_targeted(data);
    data.split(|&b| b == b'\n').for_each(is_a_moment);
    let age = age_of(&head::lines("age", data));
    assert!(age.is_none_or(|age| age <= SECONDS_MAX));
    are_named(data);
}

/// Member by member, character by character.
fn read(fields: &Fields) -> CacheControl {
    let mut control = CacheControl::default();
    for line in head::all(fields, CONTROL) {
        members(line).iter().for_each(|member| obey(&mut control, member));
    }
    control
}

fn members(line: &[u8]) -> Vec<String> {
    let (mut members, mut member, mut quoted, mut escaped) = (Vec::new(), String::new(), false, false);
    for character in line.iter().map(|&b| char::from(b)) {
        match character {
            ',' if !quoted => members.push(std::mem::take(&mut member)),
            _ => {
                (quoted, escaped) = match character {
                    _ if escaped => (quoted, false),
                    '\\' if quoted => (quoted, true),
                    '"' => (!quoted, false),
                    _ => (quoted, false),
                };
                member.push(character);
            }
        }
    }
    members.push(member);
    members.iter().map(|member| trimmed(member).to_owned()).filter(|member| !member.is_empty()).collect()
}

fn trimmed(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

fn obey(control: &mut CacheControl, member: &str) {
    let (name, value) = match member.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (member, None),
    };
    // White space before the `=`: no value of the grammar.
    let value = if trimmed(name).len() < name.len() { Some("?") } else { value };
    let name = trimmed(name).to_ascii_lowercase();
    let seconds = seconds(value.unwrap_or_default());
    match name.as_str() {
        "no-store" => control.no_store = true,
        "no-cache" if fields(value).is_empty() => control.no_cache = true,
        "private" if fields(value).is_empty() => control.private = true,
        "no-cache" | "private" => control.withheld.extend(fields(value)),
        "public" => control.public = true,
        "must-revalidate" => control.must_revalidate = true,
        "proxy-revalidate" => control.proxy_revalidate = true,
        "must-understand" => control.must_understand = true,
        "only-if-cached" => control.only_if_cached = true,
        "max-age" => control.max_age = control.max_age.or(Some(seconds)),
        "s-maxage" => control.s_maxage = control.s_maxage.or(Some(seconds)),
        "min-fresh" => control.min_fresh = control.min_fresh.or(Some(seconds)),
        "max-stale" => {
            control.max_stale = control.max_stale.or(Some(value.map_or(u64::MAX, |_| seconds)));
        }
        "stale-while-revalidate" => {
            control.stale_while_revalidate = control.stale_while_revalidate.or(Some(seconds));
        }
        "stale-if-error" => control.stale_if_error = control.stale_if_error.or(Some(seconds)),
        _ => {}
    }
}

fn unquoted(value: &str) -> &str {
    let is_quoted = value.len() > 1 && value.starts_with('"') && value.ends_with('"');
    if is_quoted { &value[1..value.len() - 1] } else { value }
}

/// Zero, unless it is a number; large ones are cut.
fn seconds(value: &str) -> u64 {
    let digits = unquoted(value);
    if digits.is_empty() || !digits.chars().all(|c| c.is_ascii_digit()) {
        return 0;
    }
    let digits = digits.trim_start_matches('0');
    if digits.len() > 12 { SECONDS_MAX } else { digits.parse().unwrap_or(0).min(SECONDS_MAX) }
}

/// The names in it, if it is nothing but names.
fn fields(value: Option<&str>) -> Vec<HeaderName> {
    let list: Vec<u8> = unquoted(value.unwrap_or_default()).chars().map(|c| c as u8).collect();
    let names: Result<Vec<_>, _> = members(&list).iter().map(|name| name.parse()).collect();
    names.unwrap_or_default()
}

fn in_capitals(fields: &Fields) -> Fields {
    mapped(fields, |line| line.to_ascii_uppercase())
}

fn with_empty_members(fields: &Fields) -> Fields {
    mapped(fields, |line| [b",\t, ", line].concat())
}

fn mapped(fields: &Fields, change: impl Fn(&[u8]) -> Vec<u8>) -> Fields {
    head::all(fields, CONTROL).into_iter().map(|line| (CONTROL, change(line))).collect()
}

/// What else is said, on whichever line, `no-store` is heard; and of two spans the first counts.
fn is_never_loosened(fields: &Fields) {
    let mut fields = fields.clone();
    let before = CacheControl::of_response(&fields, false);
    fields.append(CONTROL, b"no-store, max-age=7, private");
    let after = CacheControl::of_response(&fields, false);
    assert!(after.no_store && after.private);
    assert_eq!(after.max_age, before.max_age.or(Some(7)));
}

/// RFC 9213: a field for caches like this one is a dictionary or nothing.
fn is_targeted(data: &[u8]) {
    let mut fields = head::lines(CDN, data);
    fields.append(CONTROL, b"max-age=5");
    let control = CacheControl::of_response(&fields, true);
    let lines = head::all(&fields, CDN);
    let dictionary = sfv::Parser::new(&lines.join(&b", "[..])).parse::<sfv::Dictionary>();
    let is_usable = dictionary.is_ok_and(|members| !members.is_empty());
    if !is_usable || !control.is_targeted {
        let plain = CacheControl { max_age: Some(5), ..CacheControl::default() };
        return assert_eq!(control, plain, "as if it were not there");
    }
    let spans = [control.max_age, control.s_maxage, control.stale_while_revalidate, control.stale_if_error];
    assert!(spans.iter().flatten().all(|&seconds| seconds <= SECONDS_MAX));
}

/// Another library reads the same, as far as it reads anything.
fn is_a_moment(text: &[u8]) {
    let ours = parse_date(text, NOW);
    // The year 9999 is the last that a date can say.
    assert!(ours.is_none_or(|seconds| seconds <= 253_402_300_800));
    let Some(theirs) = std::str::from_utf8(text).ok().and_then(|text| httpdate::parse_http_date(text).ok())
    else {
        return;
    };
    let theirs = theirs.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // Of a year with two digits the century is a matter of what time it is.
    if text.len() == 29 && text.get(3) == Some(&b',') || text.len() == 24 {
        assert_eq!(ours, Some(theirs), "{}", String::from_utf8_lossy(text));
    }
    let written = httpdate::fmt_http_date(std::time::UNIX_EPOCH + std::time::Duration::from_secs(theirs));
    assert_eq!(parse_date(written.as_bytes(), NOW), Some(theirs));
}

/// Tags are bounded, and of a list that is none there are no groups.
fn are_named(data: &[u8]) {
    let fields = head::lines(INVALIDATION, data);
    let groups = invalidated_groups(&fields);
    assert!(groups.len() <= TAGS_MAX);
    let lines = head::all(&fields, INVALIDATION);
    let list = sfv::Parser::new(&lines.join(&b", "[..])).parse::<sfv::List>();
    assert!(groups.iter().all(|name| (1..=256).contains(&name.len())));
    assert_eq!(list.is_err() || groups.is_empty(), groups.is_empty());
    let fields = head::lines(GROUPS, data);
    let tags = Tags::of(&fields);
    let named = strings(&fields, GROUPS);
    let stored = named.iter().filter(|name| (1..=256).contains(&name.len())).take(TAGS_MAX);
    assert!(tags.groups().eq(stored));
    assert!(Tags::of(&head::lines(TAG, data)).bytes() <= TAGS_MAX * (256 + 16));
}
