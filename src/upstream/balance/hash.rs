//! What strategies hash with.

/// 2^64 over the golden ratio: its multiples, and keys multiplied with it, spread evenly (Knuth, volume 3, section 6.4).
pub(super) const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
