//! Lines, as heads and trailers are made of.

/// A line that ends in LF alone: what one reader takes for two lines is one for another (RFC 9112 section 2.2 lets a
/// recipient take it; we do not).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BareLf;

/// Line ends that are remembered: those of heads as they mostly are.
const REMEMBERED: usize = 24;

/// Looks for the empty line that ends a block, and for lines that end in LF alone. Each byte is looked at once, however
/// the block arrives.
#[derive(Debug, Clone, Default)]
pub struct Lines {
    /// So far.
    scanned: usize,
    /// Where the line that has not ended begins.
    begin: usize,
    /// Bytes of the first line, without its end; 0 while it has none.
    first: usize,
    /// Where the first lines end: whoever reads them need not look for that again.
    newlines: [u16; REMEMBERED],
    remembered: usize,
}

impl Lines {
    /// Just behind the empty line, once it is there; `bytes` is the block from its beginning, each time more of it.
    ///
    /// # Errors
    /// A line ends in LF alone.
    pub fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, BareLf> {
        for newline in memchr::memchr_iter(b'\n', &bytes[self.scanned..]) {
            let end = self.scanned + newline;
            if end == self.begin || bytes[end - 1] != b'\r' {
                return Err(BareLf);
            }
            self.remember(end);
            if end - 1 == self.begin {
                return Ok(Some(end + 1));
            }
            if self.begin == 0 {
                self.first = end - 1;
            }
            self.begin = end + 1;
        }
        self.scanned = bytes.len();
        Ok(None)
    }

    fn remember(&mut self, newline: usize) {
        if let (Some(place), Ok(newline)) = (self.newlines.get_mut(self.remembered), u16::try_from(newline)) {
            *place = newline;
            self.remembered += 1;
        }
    }

    /// Where the LF of each line stands, from the first line on; of the later ones of many there may be none.
    pub fn newlines(&self) -> impl Iterator<Item = usize> {
        self.newlines[..self.remembered].iter().map(|newline| usize::from(*newline))
    }

    /// Bytes of the first line, once it has ended.
    pub fn first(&self) -> Option<usize> {
        (self.first > 0).then_some(self.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_lines_the_first_are_remembered() {
        let short = "a\r\n".repeat(REMEMBERED + 3) + "\r\n";
        let mut lines = Lines::default();
        assert_eq!(lines.end(short.as_bytes()), Ok(Some(short.len())));
        assert_eq!(
            lines.newlines().collect::<Vec<_>>(),
            (0..REMEMBERED).map(|n| 3 * n + 2).collect::<Vec<_>>()
        );

        let long = format!("a\r\n{}\r\nb\r\n\r\n", "x".repeat(usize::from(u16::MAX)));
        let mut lines = Lines::default();
        assert_eq!(lines.end(long.as_bytes()), Ok(Some(long.len())));
        assert_eq!(lines.newlines().collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_block_ends_with_its_empty_line_and_only_in_crlf() {
        for (text, expected) in [
            ("a\r\nb\r\n\r\nc", Ok(Some(8))),
            ("\r\nc", Ok(Some(2))),
            ("a\r\n\r", Ok(None)),
            ("a\r\r\n\r\n", Ok(Some(6))),
            ("", Ok(None)),
            ("a\n\r\n", Err(BareLf)),
            ("a\r\n\n", Err(BareLf)),
            ("\n", Err(BareLf)),
        ] {
            assert_eq!(Lines::default().end(text.as_bytes()), expected, "{text:?}");
            let mut lines = Lines::default();
            let found = (0..=text.len()).map(|n| lines.end(&text.as_bytes()[..n])).find(|f| *f != Ok(None));
            assert_eq!(found.unwrap_or(Ok(None)), expected, "{text:?}, byte by byte");
            if let Ok(Some(end)) = expected {
                let newlines: Vec<_> = text[..end].match_indices('\n').map(|(at, _)| at).collect();
                assert_eq!(lines.newlines().collect::<Vec<_>>(), newlines, "{text:?}");
            }
        }
    }
}
