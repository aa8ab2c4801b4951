//! The Huffman code of strings (RFC 7541 section 5.2 and appendix B).
//!
//! It is canonical: the codes of one length follow each other in the order of their symbols, and those of the next length
//! follow them. So its lengths say it all, and the tables are made of them when this is compiled.

/// The number of the symbol that is in no string; its first bits fill the last byte of one.
const END: usize = 256;
const SYMBOLS: usize = END + 1;
const BITS_MAX: usize = 30;
/// Codes of up to so many bits, which are those of nearly all that is sent, are found at once.
const SHORT_BITS: usize = 8;

/// Bits of each symbol's code (appendix B).
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, // 0
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, // 16
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, // 32, from the space
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, // 48, from 0
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, // 64, from @
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, // 80, from P
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, // 96, from `
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, // 112, from p
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, // 128
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, // 144
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, // 160
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, // 176
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, // 192
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, // 208
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, // 224
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, // 240
    30, // the end
];

static CODE: Code = Code::new();

/// No string was encoded like this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadHuffman;

/// The code, as those who write and those who read want it.
struct Code {
    /// Of each symbol, in the lowest bits.
    codes: [u32; SYMBOLS],
    /// For what the next eight bits may be, the symbol whose code they begin with, and its length: 0 if it is longer.
    short: [(u8, u8); 1 << SHORT_BITS],
    /// All symbols, in the order of their codes.
    symbols: [u16; SYMBOLS],
    /// For each length, what the next 32 bits are at most if they begin with a code of this length or a shorter one.
    last: [u32; BITS_MAX + 1],
    /// For each length, its first code in the highest of 32 bits, and the place of its symbol among `symbols`.
    first: [(u32, usize); BITS_MAX + 1],
}

impl Code {
    const fn new() -> Code {
        let mut code = Code {
            codes: [0; SYMBOLS],
            short: [(0, 0); 1 << SHORT_BITS],
            symbols: [0; SYMBOLS],
            last: [0; BITS_MAX + 1],
            first: [(0, 0); BITS_MAX + 1],
        };
        // The next code, in the highest of 32 bits, which are none too few until behind the very last.
        let (mut next, mut place, mut length) = (0u64, 0, 1);
        while length <= BITS_MAX {
            code.first[length] = (next as u32, place);
            let mut symbol = 0;
            while symbol < SYMBOLS {
                if LENGTHS[symbol] as usize == length {
                    code.codes[symbol] = (next >> (32 - length)) as u32;
                    code.symbols[place] = symbol as u16;
                    place += 1;
                    let behind = next + (1 << (32 - length));
                    if length <= SHORT_BITS {
                        let mut start = (next >> 24) as usize;
                        while start < (behind >> 24) as usize {
                            code.short[start] = (symbol as u8, length as u8);
                            start += 1;
                        }
                    }
                    next = behind;
                }
                symbol += 1;
            }
            code.last[length] = if next == 0 { 0 } else { (next - 1) as u32 };
            length += 1;
        }
        code
    }

    /// The symbol whose code `bits` begin with, and the length of that, which is more than [`SHORT_BITS`].
    #[cold]
    fn long(&self, bits: u32) -> Result<(u8, u8), BadHuffman> {
        let mut length = SHORT_BITS + 1;
        while bits > self.last[length] {
            // Ends by itself: the last of all is u32::MAX.
            length += 1;
        }
        let (first, place) = self.first[length];
        let symbol = self.symbols[place + ((bits - first) >> (32 - length)) as usize];
        Ok((u8::try_from(symbol).map_err(|_| BadHuffman)?, length as u8))
    }
}

/// What was read of a text and not understood yet: `have` bits, in the highest of `bits`.
struct Window {
    bits: u64,
    have: u32,
}

impl Window {
    /// The symbol that comes next, and the length of its code.
    fn next(&self) -> Result<(u8, u8), BadHuffman> {
        let (symbol, length) = CODE.short[(self.bits >> (64 - SHORT_BITS)) as usize];
        if length > 0 { Ok((symbol, length)) } else { CODE.long((self.bits >> 32) as u32) }
    }

    fn skip(&mut self, length: u8) {
        self.bits <<= length;
        self.have -= u32::from(length);
    }
}

/// Appends what `text` stands for: at most 8/5 of its length.
pub(super) fn decode(text: &[u8], out: &mut Vec<u8>) -> Result<(), BadHuffman> {
    let mut end = out.len();
    // The shortest codes have 5 bits. A place that is there is written to for less than one that is pushed.
    out.resize(end + text.len() * 8 / 5, 0);
    let (mut window, mut rest) = (Window { bits: 0, have: 0 }, text);
    while let Some((word, behind)) = rest.split_first_chunk() {
        window.bits |= u64::from(u32::from_be_bytes(*word)) << (32 - window.have);
        window.have += 32;
        rest = behind;
        while window.have >= 32 {
            let (symbol, length) = window.next()?;
            window.skip(length);
            out[end] = symbol;
            end += 1;
        }
    }
    for byte in rest {
        window.bits |= u64::from(*byte) << (56 - window.have);
        window.have += 8;
    }
    loop {
        // Section 5.2: padding is the beginning of the symbol that ends a string, which is of ones, and shorter than a byte.
        // So ones behind the end change nothing that is whole.
        window.bits |= u64::MAX >> window.have;
        if window.have < 8 && window.bits == u64::MAX {
            break;
        }
        let (symbol, length) = window.next()?;
        if u32::from(length) > window.have {
            return Err(BadHuffman);
        }
        window.skip(length);
        out[end] = symbol;
        end += 1;
    }
    out.truncate(end);
    Ok(())
}

/// How many bytes [`encode`] makes of `text`.
pub(super) fn encoded_len(text: &[u8]) -> usize {
    let bits: usize = text.iter().map(|byte| usize::from(LENGTHS[usize::from(*byte)])).sum();
    bits.div_ceil(8)
}

/// Appends the code of `text`, which has `encoded_len` bytes.
pub(super) fn encode(text: &[u8], encoded_len: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + encoded_len, 0);
    let (words, last) = out[start..].as_chunks_mut();
    let mut words = words.iter_mut();
    // The lowest `have` of them are still to be written.
    let (mut bits, mut have) = (0u64, 0);
    for byte in text {
        let symbol = usize::from(*byte);
        bits = bits << LENGTHS[symbol] | u64::from(CODE.codes[symbol]);
        have += u32::from(LENGTHS[symbol]);
        if have >= 32 {
            have -= 32;
            let Some(word) = words.next() else { return };
            *word = ((bits >> have) as u32).to_be_bytes();
        }
    }
    // Ones behind the end.
    let ones = 32 - have;
    let word = ((((bits + 1) << ones) - 1) as u32).to_be_bytes();
    match words.next() {
        Some(whole) => *whole = word,
        None => last.copy_from_slice(&word[..last.len()]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<Vec<u8>, BadHuffman> {
        let mut out = Vec::new();
        decode(text, &mut out).map(|()| out)
    }

    fn written(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(text, encoded_len(text), &mut out);
        out
    }

    /// `bits` as text of 0 and 1, filled up with ones.
    fn bytes(bits: &str) -> Vec<u8> {
        let filled = format!("{bits:1<width$}", width = bits.len().next_multiple_of(8));
        let byte = |start: usize| u8::from_str_radix(&filled[start..start + 8], 2).unwrap();
        (0..filled.len()).step_by(8).map(byte).collect()
    }

    fn code_of(symbol: usize) -> String {
        format!("{:0width$b}", CODE.codes[symbol], width = usize::from(LENGTHS[symbol]))
    }

    #[test]
    fn codes_are_those_of_appendix_b() {
        for (symbol, code, length) in [
            (0, 0x1ff8, 13),
            (1, 0x7fffd8, 23),
            (10, 0x3ffffffc, 30),
            (usize::from(b' '), 0x14, 6),
            (usize::from(b'0'), 0x0, 5),
            (usize::from(b'~'), 0x1ffd, 13),
            (usize::from(b'\\'), 0x7fff0, 19),
            (127, 0xffffffc, 28),
            (200, 0x3ffffe2, 26),
            (249, 0xffffffe, 28),
            (255, 0x3ffffee, 26),
            (END, 0x3fffffff, 30),
        ] {
            assert_eq!((CODE.codes[symbol], LENGTHS[symbol]), (code, length), "{symbol}");
        }
        // The code is whole: no bits are no code.
        let room: u64 = LENGTHS.iter().map(|length| 1 << (32 - length)).sum();
        assert_eq!(room, 1 << 32);
    }

    #[test]
    fn each_symbol_is_read_alone_and_among_others_and_needs_its_last_bit() {
        for symbol in 0..END {
            let byte = symbol as u8;
            for text in [vec![byte], vec![b'a', byte, b'0'], vec![byte; 9]] {
                assert_eq!(read(&written(&text)).as_ref(), Ok(&text));
            }
            let code = code_of(symbol);
            assert_eq!(written(&[byte]), bytes(&code), "{symbol}");
            // Its last bit may be taken for padding only if it is a one.
            if let Some(cut) = code.strip_suffix('0') {
                assert_ne!(read(&bytes(cut)), Ok(vec![byte]), "{symbol}");
            }
        }
    }

    #[test]
    fn padding_is_shorter_than_a_byte_and_of_ones_and_the_end_is_in_no_string() {
        let end = code_of(END);
        let (a, long) = (code_of(usize::from(b'a')), code_of(10));
        for (bits, expected) in [
            (String::new(), Ok(&b""[..])),
            (format!("{a}111"), Ok(b"a")),
            (format!("{a}110"), Err(())),
            (format!("{a}000"), Err(())),
            (format!("{a}11111111111"), Err(())),
            ("1".repeat(8), Err(())),
            ("1".repeat(16), Err(())),
            ("1".repeat(7) + "0", Err(())),
            (end.clone(), Err(())),
            (format!("{a}{end}{a}"), Err(())),
            (format!("{}{end}", a.repeat(20)), Err(())),
            (long.clone(), Ok(b"\n")),
            (long[..28].to_owned(), Err(())),
            (format!("{}{long}11111111", a.repeat(3)), Err(())),
        ] {
            let expected = expected.map(<[u8]>::to_vec).map_err(|()| BadHuffman);
            assert_eq!(read(&bytes(&bits)), expected, "{bits}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_was_written_is_read(text: Vec<u8>) {
            proptest::prop_assert_eq!(read(&written(&text)), Ok(text));
        }

        /// Two texts have two codes, and a code has one text: what is read is written the same.
        #[test]
        fn what_is_read_was_written_so(text: Vec<u8>) {
            if let Ok(read) = read(&text) {
                proptest::prop_assert!(read.len() <= text.len() * 8 / 5);
                proptest::prop_assert_eq!(written(&read), text);
            }
        }
    }
}
