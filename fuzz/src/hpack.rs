//! Field blocks are read as a slow and simple reader reads them, whatever came before, and what is written of their fields
//! says the same.
//!
//! An input is blocks, one behind the other: a byte that may change the size of our own table, the block's length, the block.

use std::collections::{BTreeMap, VecDeque};

use http::{HeaderName, HeaderValue, StatusCode};
use tidegate::fields::Fields;
use tidegate::hpack::{Decoder, Encoder, Field};

/// What the peer may set its table to.
const TABLE_MAX: usize = 8192;

type Pair = (Vec<u8>, Vec<u8>);

pub fn holds(data: &[u8]) {
    let (mut decoder, mut simple) = (Decoder::new(TABLE_MAX), Simple::new());
    let (mut encoder, mut again) = (Encoder::new(), Decoder::new(TABLE_MAX));
    let mut rest = data;
    while let [size, length, behind @ ..] = rest {
        let (block, behind) = behind.split_at(usize::from(*length).min(behind.len()));
        rest = behind;
        let mut fields = Fields::new();
        let read = read(&mut decoder, block, &mut fields);

        assert_eq!(read, simple.read(block));
        let Some(pairs) = read else { return };
        assert!(pairs.len() <= block.len());
        if size % 2 == 1 {
            encoder.resize(usize::from(*size) * 32);
        }
        let mut written = Vec::new();
        encoder.begin(&mut written);
        encoder.status(StatusCode::FOUND, &mut written);
        for field in fields.iter() {
            encoder.field(field.name(), field.value(), &mut written);
        }
        let mut copies = Fields::new();
        self::read(&mut again, &written, &mut copies).expect("what we write is right");
        assert_eq!(copies, fields);
    }
}

/// All fields, and apart those that are HTTP's.
fn read(decoder: &mut Decoder, block: &[u8], fields: &mut Fields) -> Option<Vec<Pair>> {
    let mut pairs = Vec::new();
    let each = |field: &Field<'_>| {
        pairs.push((field.name.to_vec(), field.value.to_vec()));
        assert_eq!(field.shared_value(), field.value);
        assert_eq!(field.size(), field.name.len() + field.value.len() + 32);
        assert_eq!(field.pseudo().is_some(), field.name.first() == Some(&b':'));
        // As another library sees it, which makes names small.
        let is_name =
            HeaderName::from_bytes(field.name).is_ok_and(|name| name.as_str().as_bytes() == field.name);
        let is_value = HeaderValue::from_bytes(field.value).is_ok();
        match field.ordinary() {
            Ok((name, value)) => {
                assert!(is_name && is_value);
                assert_eq!((name.as_bytes(), value), (field.name, field.value));
                fields.append(name, value);
                let last = fields.iter().next_back().map(|last| (last.name(), last.value()));
                assert_eq!(last, Some((field.name, field.value)));
            }
            Err(_) => assert!(!is_name || !is_value),
        }
    };
    decoder.decode(block, each).ok().map(|()| pairs)
}

/// RFC 7541, as it stands there.
struct Simple {
    table: VecDeque<Pair>,
    size_max: usize,
    codes: BTreeMap<(u8, u32), usize>,
}

impl Simple {
    fn new() -> Simple {
        Simple { table: VecDeque::new(), size_max: 4096, codes: codes() }
    }

    fn read(&mut self, block: &[u8]) -> Option<Vec<Pair>> {
        let (mut rest, mut pairs, mut sizes) = (block, Vec::new(), 0);
        while let [first, behind @ ..] = rest {
            rest = behind;
            if first & 0x80 != 0 {
                let index = integer(first & 0x7f, 0x7f, &mut rest)?;
                pairs.push(self.get(index)?);
            } else if first & 0xe0 == 0x20 {
                let size = integer(first & 0x1f, 0x1f, &mut rest)?;
                sizes += 1;
                if !pairs.is_empty() || sizes > 2 || size > TABLE_MAX as u64 {
                    return None;
                }
                self.size_max = size as usize;
                self.evict();
            } else {
                let full = if first & 0x40 != 0 { 0x3f } else { 0x0f };
                let index = integer(first & full, full, &mut rest)?;
                let name = if index == 0 { self.string(&mut rest)? } else { self.get(index)?.0 };
                let pair = (name, self.string(&mut rest)?);
                if first & 0x40 != 0 {
                    self.table.push_front(pair.clone());
                    self.evict();
                }
                pairs.push(pair);
            }
        }
        Some(pairs)
    }

    fn get(&self, index: u64) -> Option<Pair> {
        let index = usize::try_from(index).ok()?;
        match index {
            0 => None,
            1..=61 => {
                let (name, value) = STATIC[index - 1].split_once('|')?;
                Some((name.into(), value.into()))
            }
            _ => self.table.get(index - 62).cloned(),
        }
    }

    /// One that is larger than all there is room for goes too, as the last.
    fn evict(&mut self) {
        let size = |table: &VecDeque<Pair>| table.iter().map(|(n, v)| n.len() + v.len() + 32).sum::<usize>();
        while size(&self.table) > self.size_max {
            self.table.pop_back();
        }
    }

    fn string(&self, rest: &mut &[u8]) -> Option<Vec<u8>> {
        let (first, behind) = rest.split_first()?;
        *rest = behind;
        let length = usize::try_from(integer(first & 0x7f, 0x7f, rest)?).ok()?;
        let (text, behind) = rest.split_at_checked(length)?;
        *rest = behind;
        if first & 0x80 == 0 { Some(text.to_vec()) } else { self.huffman(text) }
    }

    fn huffman(&self, text: &[u8]) -> Option<Vec<u8>> {
        let (mut out, mut length, mut code) = (Vec::new(), 0, 0);
        for bit in text.iter().flat_map(|byte| (0..8).rev().map(move |place| byte >> place & 1)) {
            (length, code) = (length + 1, code << 1 | u32::from(bit));
            if let Some(symbol) = self.codes.get(&(length, code)) {
                out.push(u8::try_from(*symbol).ok()?);
                (length, code) = (0, 0);
            }
        }
        (length < 8 && code == (1 << length) - 1).then_some(out)
    }
}

fn integer(begin: u8, full: u8, rest: &mut &[u8]) -> Option<u64> {
    let mut value = u64::from(begin);
    if begin < full {
        return Some(value);
    }
    for place in 0..5 {
        let (byte, behind) = rest.split_first()?;
        *rest = behind;
        value += u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Appendix B: of each length, the symbols in their order, the codes counted up.
fn codes() -> BTreeMap<(u8, u32), usize> {
    let (mut codes, mut next) = (BTreeMap::new(), 0);
    for (length, symbols) in (5..).zip(SYMBOLS) {
        for symbol in *symbols {
            codes.insert((length, next), *symbol);
            next += 1;
        }
        next <<= 1;
    }
    codes
}

/// Symbols by the length of their codes, from 5 bits on.
#[rustfmt::skip]
const SYMBOLS: &[&[usize]] = &[
    &[48, 49, 50, 97, 99, 101, 105, 111, 115, 116], // 5
    &[32, 37, 45, 46, 47, 51, 52, 53, 54, 55, 56, 57, 61, 65, 95, 98, 100, 102, 103, 104, 108, 109, 110,
       112, 114, 117], // 6
    &[58, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 82, 83, 84, 85, 86, 87, 89, 106,
       107, 113, 118, 119, 120, 121, 122], // 7
    &[38, 42, 44, 59, 88, 90], // 8
    &[], // 9
    &[33, 34, 40, 41, 63], // 10
    &[39, 43, 124], // 11
    &[35, 62], // 12
    &[0, 36, 64, 91, 93, 126], // 13
    &[94, 125], // 14
    &[60, 96, 123], // 15
    &[], // 16
    &[], // 17
    &[], // 18
    &[92, 195, 208], // 19
    &[128, 130, 131, 162, 184, 194, 224, 226], // 20
    &[153, 161, 167, 172, 176, 177, 179, 209, 216, 217, 227, 229, 230], // 21
    &[129, 132, 133, 134, 136, 146, 154, 156, 160, 163, 164, 169, 170, 173, 178, 181, 185, 186, 187, 189,
       190, 196, 198, 228, 232, 233], // 22
    &[1, 135, 137, 138, 139, 140, 141, 143, 147, 149, 150, 151, 152, 155, 157, 158, 165, 166, 168, 174,
       175, 180, 182, 183, 188, 191, 197, 231, 239], // 23
    &[9, 142, 144, 145, 148, 159, 171, 206, 215, 225, 236, 237], // 24
    &[199, 207, 234, 235], // 25
    &[192, 193, 200, 201, 202, 205, 210, 213, 218, 219, 238, 240, 242, 243, 255], // 26
    &[203, 204, 211, 212, 214, 221, 222, 223, 241, 244, 245, 246, 247, 248, 250, 251, 252, 253, 254],
    &[2, 3, 4, 5, 6, 7, 8, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 27, 28, 29, 30, 31, 127,
       220, 249], // 28
    &[], // 29
    &[10, 13, 22, 256], // 30
];

/// Appendix A.
#[rustfmt::skip]
const STATIC: [&str; 61] = [
    ":authority|", ":method|GET", ":method|POST", ":path|/", ":path|/index.html", ":scheme|http",
    ":scheme|https", ":status|200", ":status|204", ":status|206", ":status|304", ":status|400", ":status|404",
    ":status|500", "accept-charset|", "accept-encoding|gzip, deflate", "accept-language|", "accept-ranges|",
    "accept|", "access-control-allow-origin|", "age|", "allow|", "authorization|", "cache-control|",
    "content-disposition|", "content-encoding|", "content-language|", "content-length|", "content-location|",
    "content-range|", "content-type|", "cookie|", "date|", "etag|", "expect|", "expires|", "from|", "host|",
    "if-match|", "if-modified-since|", "if-none-match|", "if-range|", "if-unmodified-since|",
    "last-modified|", "link|", "location|", "max-forwards|", "proxy-authenticate|", "proxy-authorization|",
    "range|", "referer|", "refresh|", "retry-after|", "server|", "set-cookie|", "strict-transport-security|",
    "transfer-encoding|", "user-agent|", "vary|", "via|", "www-authenticate|",
];
