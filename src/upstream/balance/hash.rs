//! What the strategies that hash have in common. The same in every worker and on every machine, so that several proxies
//! send a key to the same server.

use super::Pick;
use super::PickReason;
use super::Pool;

/// 2^64 over the golden ratio: its multiples, and keys multiplied with it, spread evenly (Knuth, volume 3, section 6.4).
pub(super) const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Two numbers into one that looks like chance: the halves of their product, one over the other, as wyhash does.
pub(super) fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    product as u64 ^ (product >> 64) as u64
}

/// The key of another attempt; the first is the key itself.
fn another(key: u64, attempt: u64) -> u64 {
    match attempt {
        0 => key,
        // Twice: one product leaves keys that are near each other in order.
        _ => fold(fold(key ^ attempt.wrapping_mul(GOLDEN), GOLDEN | 1) ^ GOLDEN, 0xA24B_AED4_963E_E407),
    }
}

/// A key as an index below `len`, by its high bits: the product in the place of a division (Lemire, "Fast Random Integer
/// Generation in an Interval", 2019).
pub(super) fn scale(key: u64, len: usize) -> usize {
    ((u128::from(key) * len as u128) >> 64) as usize
}

/// The key's server by `owner`, or that of another at it while the one it has may not
/// serve: so the keys of a server that is away spread over all others.
pub(super) fn draw(
    pool: &Pool<'_>,
    key: u64,
    attempts: u64,
    owner: impl Fn(u64) -> Option<usize>,
) -> Option<Pick> {
    for attempt in 0..attempts {
        let Some(server) = owner(another(key, attempt)) else { break };
        if pool.may_serve(server) {
            let reason = if attempt == 0 { PickReason::Hash } else { PickReason::HashNext };
            return Some(Pick { server, reason });
        }
    }
    anyone(pool, key).map(|server| Pick { server, reason: PickReason::HashNext })
}

/// The last resort when the draws of a key found nobody: the first that may serve from the key's place among the
/// candidates on. Linear in servers at worst.
pub(super) fn anyone(pool: &Pool<'_>, key: u64) -> Option<usize> {
    let candidates = pool.candidates();
    let (before, after) = candidates.split_at(scale(key, candidates.len()));
    let mut round = after.iter().chain(before).map(|&server| server as usize);
    round.find(|&server| pool.may_serve(server))
}
