//! Lines, as heads and trailers are made of.

/// A line that ends in LF alone: what one reader takes for two lines is one for another (RFC 9112 section 2.2 lets a
/// recipient take it; we do not).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BareLf;

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

    /// Bytes of the first line, once it has ended.
    pub fn first(&self) -> Option<usize> {
        (self.first > 0).then_some(self.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        }
    }
}
