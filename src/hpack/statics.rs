//! The static table (RFC 7541 appendix A), and what is known of its names beforehand.

use crate::fields::{Known, Name};
use crate::hpack::field::Entry;

/// How the values of a name are, from one response to the next. It says which fields are worth a place in the dynamic table,
/// where each that comes pushes an older one out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Habit {
    /// The same each time, or one of a few: what the table is for.
    Steady,
    /// Mostly another one each time: worth a place only if it comes again.
    Varying,
    /// Somebody's secret. Whoever can have other fields sent beside it could find it out by how well they compress (RFC 7541
    /// section 7.1.3), so no table ever has it.
    Secret,
}

use Habit::{Secret, Steady, Varying};

macro_rules! table {
    ($($name:literal $value:literal $habit:ident,)*) => {
        /// Index 1 comes first.
        pub(super) static FIELDS: [Entry; 61] = [$(Entry::fixed($name, $value)),*];
        const NAMES: [&str; 61] = [$($name),*];
        const HABITS: [Habit; 61] = [$($habit),*];
    };
}

table! {
    ":authority" "" Steady,
    ":method" "GET" Steady,
    ":method" "POST" Steady,
    ":path" "/" Varying,
    ":path" "/index.html" Varying,
    ":scheme" "http" Steady,
    ":scheme" "https" Steady,
    ":status" "200" Steady,
    ":status" "204" Steady,
    ":status" "206" Steady,
    ":status" "304" Steady,
    ":status" "400" Steady,
    ":status" "404" Steady,
    ":status" "500" Steady,
    "accept-charset" "" Steady,
    "accept-encoding" "gzip, deflate" Steady,
    "accept-language" "" Steady,
    "accept-ranges" "" Steady,
    "accept" "" Steady,
    "access-control-allow-origin" "" Steady,
    "age" "" Varying,
    "allow" "" Steady,
    "authorization" "" Secret,
    "cache-control" "" Steady,
    "content-disposition" "" Varying,
    "content-encoding" "" Steady,
    "content-language" "" Steady,
    "content-length" "" Varying,
    "content-location" "" Varying,
    "content-range" "" Varying,
    "content-type" "" Steady,
    "cookie" "" Secret,
    "date" "" Varying,
    "etag" "" Varying,
    "expect" "" Steady,
    "expires" "" Varying,
    "from" "" Varying,
    "host" "" Steady,
    "if-match" "" Varying,
    "if-modified-since" "" Varying,
    "if-none-match" "" Varying,
    "if-range" "" Varying,
    "if-unmodified-since" "" Varying,
    "last-modified" "" Varying,
    "link" "" Varying,
    "location" "" Varying,
    "max-forwards" "" Steady,
    "proxy-authenticate" "" Varying,
    "proxy-authorization" "" Secret,
    "range" "" Varying,
    "referer" "" Varying,
    "refresh" "" Varying,
    "retry-after" "" Varying,
    "server" "" Steady,
    "set-cookie" "" Secret,
    "strict-transport-security" "" Steady,
    "transfer-encoding" "" Steady,
    "user-agent" "" Steady,
    "vary" "" Steady,
    "via" "" Steady,
    "www-authenticate" "" Varying,
}

/// More than twice the names, so that most are found where they are looked for first.
const PLACES: usize = 128;
/// Where a name's hash says, or behind: the first index that has the name; 0 where there is none.
const INDEXES: [u8; PLACES] = indexes();

/// By [`Known`], the first index that has the name; 0 where there is none.
const KNOWN: [u8; Known::ALL.len()] = known();

/// A hash of this name, the first index that has it, and the habit of its values.
pub(super) fn find(name: Name<'_>) -> (u64, Option<(usize, Habit)>) {
    if let Some(index) = KNOWN.get(name.known() as usize) {
        let place = usize::from(*index).checked_sub(1);
        return (name.known() as u64, place.map(|place| (place + 1, HABITS[place])));
    }
    let hash = hash(0, name.as_bytes());
    (hash, find_other(name.as_bytes(), hash))
}

fn find_other(name: &[u8], hash: u64) -> Option<(usize, Habit)> {
    let mut place = hash as usize % PLACES;
    loop {
        let index = usize::from(INDEXES[place]);
        let known = NAMES.get(index.checked_sub(1)?)?;
        if known.as_bytes() == name {
            return Some((index, HABITS[index - 1]));
        }
        place = (place + 1) % PLACES;
    }
}

const fn known() -> [u8; Known::ALL.len()] {
    let mut indexes = [0; Known::ALL.len()];
    let mut index = NAMES.len();
    while index > 0 {
        let mut known = 0;
        while known < indexes.len() {
            if is_same(NAMES[index - 1].as_bytes(), Known::ALL[known].as_bytes()) {
                indexes[known] = index as u8;
            }
            known += 1;
        }
        index -= 1;
    }
    indexes
}

const fn indexes() -> [u8; PLACES] {
    let mut indexes = [0; PLACES];
    let mut index = 1;
    while index <= NAMES.len() {
        let name = NAMES[index - 1].as_bytes();
        // Names that are there more than once stand together.
        if index == 1 || !is_same(NAMES[index - 2].as_bytes(), name) {
            let mut place = hash(0, name) as usize % PLACES;
            while indexes[place] != 0 {
                place = (place + 1) % PLACES;
            }
            indexes[place] = index as u8;
        }
        index += 1;
    }
    indexes
}

const fn is_same(one: &[u8], other: &[u8]) -> bool {
    let mut place = 0;
    while place < one.len() && place < other.len() && one[place] == other[place] {
        place += 1;
    }
    place == one.len() && place == other.len()
}

/// Of `bytes` behind what `seed` is of. Whoever wants two to be equal may have that: what is found by a hash is compared.
pub(super) const fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let mut hash = mixed(seed, bytes.len() as u64);
    let mut rest = bytes;
    while let Some((word, behind)) = rest.split_first_chunk::<8>() {
        hash = mixed(hash, u64::from_le_bytes(*word));
        rest = behind;
    }
    // What is left is less than a word: the last word has it again, and of short ones the first and last half.
    let last = match (bytes.last_chunk::<8>(), bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        (Some(word), _, _) => u64::from_le_bytes(*word),
        (None, Some(first), Some(last)) => {
            (u32::from_le_bytes(*first) as u64) << 32 | u32::from_le_bytes(*last) as u64
        }
        _ => match bytes {
            [one] => *one as u64,
            [one, .., last] => (*one as u64) << 16 | (bytes[bytes.len() / 2] as u64) << 8 | *last as u64,
            [] => 0,
        },
    };
    mixed(hash, last)
}

const fn mixed(hash: u64, word: u64) -> u64 {
    // 2^64 divided by the golden ratio, and odd: it spreads the low bits to the high ones, which then come back.
    let product = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ product >> 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hpack::field::Field;

    #[test]
    fn each_name_is_found_by_its_first_index_and_no_other() {
        for (place, name) in NAMES.iter().enumerate() {
            let first = NAMES.iter().position(|other| other == name).unwrap();
            let expected = Some((first + 1, HABITS[place]));
            assert_eq!(find((*name).into()).1, expected, "{name}");
            assert_eq!(find_other(name.as_bytes(), hash(0, name.as_bytes())), expected, "{name}");
            assert_eq!(Field::of(&FIELDS[place]).name, name.as_bytes());
        }
        for name in ["", "x-request-id", "content-typ", ":"] {
            assert_eq!(find(name.into()).1, None, "{name}");
            // However unlucky its hash.
            assert!((0..PLACES as u64).all(|hash| find_other(name.as_bytes(), hash).is_none()));
        }
        let large = b"Content-Type";
        assert_eq!(find_other(large, hash(0, large)), None);
        assert!((0..PLACES as u64).all(|hash| find_other(large, hash).is_none()));
    }

    #[test]
    fn indexes_are_those_of_appendix_a() {
        for (index, name, value) in [
            (1, ":authority", ""),
            (2, ":method", "GET"),
            (8, ":status", "200"),
            (14, ":status", "500"),
            (16, "accept-encoding", "gzip, deflate"),
            (28, "content-length", ""),
            (33, "date", ""),
            (46, "location", ""),
            (55, "set-cookie", ""),
            (61, "www-authenticate", ""),
        ] {
            let field = Field::of(&FIELDS[index - 1]);
            assert_eq!((field.name, field.value), (name.as_bytes(), value.as_bytes()));
        }
    }
}
