//! Durations and sizes as operators write them: a whole number and its unit, nothing between.
//!
//! Stricter than jiff and bytesize on purpose: one way to write each, and a
//! bare number (seconds? milliseconds?) is never guessed.

use std::time::Duration;

const DURATIONS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZES: [(&str, u64); 4] = [("B", 1), ("KiB", KIB), ("MiB", MIB), ("GiB", GIB)];

pub(super) const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;

/// A default in seconds.
pub(super) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What a duration may look like, for people.
pub(super) const DURATION_HELP: &str =
    "write a whole number and its unit (ms, s, m, h or d), such as \"30s\"";
/// What a size may look like, for people.
pub(super) const SIZE_HELP: &str =
    "write a whole number and its unit (B, KiB, MiB or GiB), such as \"64KiB\"";

/// `"250ms"`, `"30s"`, `"5m"`, `"1h"`, `"7d"`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    amount(text, &DURATIONS).map(Duration::from_millis)
}

/// `"512B"`, `"64KiB"`, `"8MiB"`, `"1GiB"`.
pub(super) fn size(text: &str) -> Option<u64> {
    amount(text, &SIZES)
}

/// A duration in the largest unit that says it exactly.
pub(super) fn spell_duration(duration: Duration) -> String {
    spell(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), "0s", &DURATIONS)
}

/// A size in the largest unit that says it exactly.
pub(super) fn spell_size(bytes: u64) -> String {
    spell(bytes, "0B", &SIZES)
}

fn amount(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn spell(amount: u64, zero: &str, units: &[(&str, u64)]) -> String {
    let exact = units.iter().rev().find(|(_, factor)| amount.is_multiple_of(*factor));
    match exact {
        Some((unit, factor)) if amount > 0 => format!("{}{unit}", amount / factor),
        _ => zero.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_whole_number_and_its_unit() {
        let cases = [
            ("250ms", Some(250)),
            ("30s", Some(30_000)),
            ("5m", Some(300_000)),
            ("1h", Some(3_600_000)),
            ("7d", Some(604_800_000)),
            ("0s", Some(0)),
            ("30", None),
            ("s", None),
            ("", None),
            ("1.5s", None),
            ("-1s", None),
            ("+1s", None),
            ("30 s", None),
            ("1h30m", None),
            ("30S", None),
            ("99999999999999999999s", None),
            ("18446744073709551615d", None),
        ];

        for (text, millis) in cases {
            assert_eq!(duration(text), millis.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn a_size_is_a_whole_number_and_a_binary_unit() {
        let cases =
            [("512B", Some(512)), ("64KiB", Some(65_536)), ("8MiB", Some(8 << 20)), ("1GiB", Some(1 << 30))];
        for (text, bytes) in cases {
            assert_eq!(size(text), bytes, "{text:?}");
            assert_eq!(spell_size(size(text).unwrap()), text);
        }

        for text in ["64", "64KB", "64k", "1.5MiB", "MiB", "64 KiB", "17179869184GiB"] {
            assert_eq!(size(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_duration_is_spelt_in_its_largest_exact_unit() {
        for text in ["250ms", "90s", "5m", "1h", "400d", "0s"] {
            assert_eq!(spell_duration(duration(text).unwrap()), text);
        }
    }
}
