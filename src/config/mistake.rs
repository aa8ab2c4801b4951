//! What is wrong in the operator's file, said so that it can be put right.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Everything wrong in one file, in the order of its lines. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The file as the operator named it, or `command line`.
    pub file: PathBuf,
    /// `None`: the file as a whole.
    pub place: Option<Place>,
    /// Dotted, such as `upstream.app.balance`; empty when no key is to blame.
    pub key: String,
    /// What was found.
    pub message: String,
    /// What is allowed, or the nearest valid word.
    pub help: Option<String>,
}

/// Where in the file a mistake is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The line itself, fit for a terminal.
    pub source: String,
    /// How many characters of it are underlined; at least 1.
    pub width: usize,
}

impl Place {
    /// The place of a byte range of `text`; a range over several lines is cut at the first.
    pub(super) fn find(text: &str, span: Range<usize>) -> Place {
        let start = text.floor_char_boundary(span.start);
        let end = text.floor_char_boundary(span.end.max(start));
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);

        let source = text[line_start..line_end].trim_end();
        Place {
            line: text[..line_start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            source: source.chars().map(printable).collect(),
            width: text[start..end.min(line_end)].trim_end().chars().count().max(1),
        }
    }
}

impl Mistake {
    /// A mistake about a file as a whole, or about something that is in no file.
    pub(super) fn whole(file: &Path, key: &str, message: String, help: &str) -> Mistake {
        let help = Some(help).filter(|help| !help.is_empty()).map(str::to_owned);
        Mistake { file: file.to_owned(), place: None, key: key.to_owned(), message, help }
    }

    /// The first line of the report, without the source below it.
    pub fn headline(&self) -> String {
        let mut line = self.file.display().to_string();
        if let Some(place) = &self.place {
            line += &format!(":{}:{}", place.line, place.column);
        }
        if !self.key.is_empty() {
            line += &format!(": {}", self.key);
        }
        line += &format!(": {}", self.message);
        if let Some(help) = &self.help {
            line += &format!("; {help}");
        }
        line
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline())?;
        let Some(place) = &self.place else { return Ok(()) };

        let number = place.line.to_string();
        let gutter = " ".repeat(number.len());
        // Tabs are kept in the padding, so that the carets stand where the terminal puts the text.
        let before =
            place.source.chars().map(|c| if c == '\t' { c } else { ' ' }).chain(std::iter::repeat(' '));
        let padding: String = before.take(place.column - 1).collect();
        write!(f, "\n{number} | {}\n{gutter} | {padding}{}", place.source, "^".repeat(place.width))
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, mistake) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

impl From<Mistake> for Mistakes {
    fn from(mistake: Mistake) -> Mistakes {
        Mistakes(vec![mistake])
    }
}

/// A hint that names the nearest of `options`, or all of them when none is near.
pub fn did_you_mean(found: &str, options: &[&str]) -> String {
    let plain = |word: &str| word.to_ascii_lowercase().replace(['_', ' '], "-");
    let found = plain(found);
    let distance = |option: &str| match option {
        // "warning" for "warn", "conn" for "connections": far apart by letters, not by meaning.
        _ if found.len() > 3 && (found.starts_with(option) || option.starts_with(&found)) => 1,
        _ => strsim::damerau_levenshtein(&found, &plain(option)),
    };
    let nearest = options
        .iter()
        .map(|option| (distance(option), option))
        .filter(|(distance, option)| *distance <= allowed_distance(option))
        .min_by_key(|(distance, _)| *distance);

    match (nearest, options) {
        (Some((_, option)), _) => format!("did you mean {option:?}?"),
        (None, []) => String::new(),
        (None, options) => format!("known: {}", options.join(", ")),
    }
}

/// A third of the word may be mistyped: less misses swaps in short words, more suggests nonsense.
fn allowed_distance(word: &str) -> usize {
    (word.len() / 3).max(1)
}

/// Control characters of a file must not reach the operator's terminal.
fn printable(c: char) -> char {
    if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_counted_in_lines_and_characters() {
        let text = "a = 1\nnäme = \"x\"\r\nlast";
        let cases = [
            (0..1, 1, 1, 1),
            (6..11, 2, 1, 4),
            (14..17, 2, 8, 3),
            (19..23, 3, 1, 4),
            (23..23, 3, 5, 1),
            (6..23, 2, 1, 10),
        ];

        for (span, line, column, width) in cases {
            let place = Place::find(text, span.clone());

            assert_eq!((place.line, place.column, place.width), (line, column, width), "{span:?}");
        }
    }

    #[test]
    fn the_nearest_word_is_suggested_and_far_ones_are_not() {
        let options = ["round-robin", "random", "maglev"];

        assert_eq!(did_you_mean("round-robbin", &options), "did you mean \"round-robin\"?");
        assert_eq!(did_you_mean("Round_Robin", &options), "did you mean \"round-robin\"?");
        assert_eq!(did_you_mean("fastest", &options), "known: round-robin, random, maglev");
    }
}
