//! Comparison of text: folding of case and accents, and wildcards (PS3.4 §C.2.2.2.1, §C.2.2.2.4).

use std::collections::HashMap;

use unicode_normalization::UnicodeNormalization;

/// Folds case, accents and character widths, so that `Müller`, `MULLER` and `ｍuller` are equal.
///
/// Only combining marks of Latin, Greek and Cyrillic are dropped; the marks that distinguish kana stay.
pub fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_uppercase();
    }
    let is_accent = |character: &char| ('\u{300}'..='\u{36F}').contains(character);
    text.nfkd()
        .filter(|character| !is_accent(character))
        .flat_map(char::to_uppercase)
        .flat_map(replace_letter)
        .collect()
}

/// Replaces the Latin letters that have no Unicode decomposition.
fn replace_letter(letter: char) -> impl Iterator<Item = char> {
    let (first, second) = match letter {
        'Æ' => ('A', Some('E')),
        'Œ' => ('O', Some('E')),
        'Ø' => ('O', None),
        'Ł' => ('L', None),
        'Đ' | 'Ð' => ('D', None),
        other => (other, None),
    };
    std::iter::once(first).chain(second)
}

/// The maximum number of characters between two `*` with a `?` among them: they are searched for with a
/// machine word.
pub const MAX_SEARCHED_CHARACTERS: usize = 64;

/// A text with or without the wildcards `*` and `?`.
///
/// The time of a comparison is proportional to the sum of the lengths of the pattern and the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    /// The segment before the first `*`.
    first: Segment,
    /// The segments between two `*`.
    middle: Vec<SearchedSegment>,
    /// The segment after the last `*`; `None` without `*`.
    last: Option<Segment>,
}

impl Pattern {
    /// Parses a pattern, in which `*` stands for any number of characters and `?` for one. `None` if there is
    /// a `?` among more than [`MAX_SEARCHED_CHARACTERS`] characters between two `*`.
    pub fn new(text: String) -> Option<Self> {
        let mut segments = text.split('*');
        let first = Segment::new(segments.next().unwrap_or_default());
        let last = segments.next_back().map(Segment::new);
        let middle = segments.filter(|segment| !segment.is_empty()).map(SearchedSegment::new);
        let middle = middle.collect::<Option<_>>()?;
        Some(Self { text, first, middle, last })
    }

    /// Whether the whole of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        let Some(rest) = self.first.strip_from_start(text) else { return false };
        let Some(last) = &self.last else { return rest.is_empty() };
        let Some(mut rest) = last.strip_from_end(rest) else { return false };
        for segment in &self.middle {
            // The first place is the best: it leaves the longest rest for the segments that follow.
            let Some(end) = segment.end_of_first(rest) else { return false };
            rest = &rest[end..];
        }
        true
    }

    /// The length of the pattern in bytes.
    pub fn length_bytes(&self) -> usize {
        self.text.len()
    }

    /// The characters before the first wildcard.
    pub fn literal_prefix(&self) -> &str {
        self.text.split(['*', '?']).next().unwrap_or("")
    }

    /// The text if the pattern has no wildcard.
    pub fn literal(&self) -> Option<&str> {
        (self.last.is_none() && !self.first.is_wild).then_some(self.text.as_str())
    }
}

/// A part of a pattern without `*`, for a fixed place in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Segment {
    text: String,
    is_wild: bool,
}

impl Segment {
    fn new(text: &str) -> Self {
        Self { text: text.to_owned(), is_wild: text.contains('?') }
    }

    /// The rest of a text that begins with the segment.
    fn strip_from_start<'a>(&self, text: &'a str) -> Option<&'a str> {
        if !self.is_wild {
            return text.strip_prefix(self.text.as_str());
        }
        let mut rest = text.chars();
        self.text
            .chars()
            .all(|expected| rest.next().is_some_and(|found| accepts(expected, found)))
            .then_some(rest.as_str())
    }

    /// The rest of a text that ends with the segment.
    fn strip_from_end<'a>(&self, text: &'a str) -> Option<&'a str> {
        if !self.is_wild {
            return text.strip_suffix(self.text.as_str());
        }
        let mut rest = text.chars();
        self.text
            .chars()
            .rev()
            .all(|expected| rest.next_back().is_some_and(|found| accepts(expected, found)))
            .then_some(rest.as_str())
    }
}

fn accepts(expected: char, found: char) -> bool {
    expected == '?' || expected == found
}

/// A part of a pattern without `*`, for any place in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
enum SearchedSegment {
    /// A segment without `?`.
    Literal(String),
    /// A segment with `?`, of 1 to 64 characters.
    Wild {
        /// For each character of the segment, a bit for each place where the character or `?` stands.
        places: HashMap<char, u64>,
        /// The places of `?`.
        any: u64,
        /// The bit of the last place.
        last: u64,
    },
}

impl SearchedSegment {
    fn new(text: &str) -> Option<Self> {
        if !text.contains('?') {
            return Some(Self::Literal(text.to_owned()));
        }
        let characters: Vec<char> = text.chars().take(MAX_SEARCHED_CHARACTERS + 1).collect();
        let last = u32::try_from(characters.len() - 1).ok().and_then(|place| 1_u64.checked_shl(place))?;
        let places_of = |wanted: char| {
            let bits = characters.iter().enumerate().filter(|(_, found)| accepts(**found, wanted));
            bits.fold(0, |places, (place, _)| places | 1_u64 << place)
        };
        let places = characters.iter().map(|character| (*character, places_of(*character))).collect();
        Some(Self::Wild { places, any: places_of('?'), last })
    }

    /// The end of the first occurrence in a text, in bytes.
    fn end_of_first(&self, text: &str) -> Option<usize> {
        let (places, any, last) = match self {
            Self::Literal(literal) => return text.find(literal.as_str()).map(|at| at + literal.len()),
            Self::Wild { places, any, last } => (places, *any, *last),
        };
        // Bit n is set if the last n + 1 characters are the first n + 1 of the segment ("shift-and").
        let mut begun = 0_u64;
        text.char_indices().find_map(|(at, character)| {
            begun = (begun << 1 | 1) & places.get(&character).copied().unwrap_or(any);
            (begun & last != 0).then(|| at + character.len_utf8())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_accents_and_widths_are_folded() {
        for (text, expected) in [
            ("Müller", "MULLER"),
            ("Łukasiewicz^Zoë", "LUKASIEWICZ^ZOE"),
            ("strøm", "STROM"),
            ("Straße", "STRASSE"),
            ("Ｙａｍａｄａ", "YAMADA"),
            ("Nguyễn", "NGUYEN"),
        ] {
            assert_eq!(fold(text), expected);
        }
        assert_ne!(fold("が"), fold("か"));
        assert_eq!(fold("ﾔﾏﾀﾞ"), fold("ヤマダ"));
    }

    #[test]
    fn wildcards_match_the_whole_text() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("?", "", false),
            ("a*c", "abc", true),
            ("a*c", "abcd", false),
            ("*b*", "abc", true),
            ("*bc*bc", "abcbcbc", true),
            ("a?c", "aéc", true),
            ("a?c", "ac", false),
            ("*.x", "a.x.x", true),
            ("ab*ba", "aba", false),
            ("*?", "", false),
            ("*?é*", "éé", true),
            ("*a?c*", "abaac", true),
            ("*a?c*a", "xabca", true),
        ] {
            assert_eq!(Pattern::new(pattern.into()).unwrap().matches(text), expected, "{pattern} {text}");
        }
    }

    /// The definition of a match, in exponential time.
    fn matches_by_definition(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|at| matches_by_definition(rest, &text[at..])),
            Some((expected, rest)) => text.split_first().is_some_and(|(found, left)| {
                (*expected == b'?' || expected == found) && matches_by_definition(rest, left)
            }),
        }
    }

    #[test]
    fn patterns_match_as_they_are_defined() {
        let texts = |letters: &str, length: usize| -> Vec<String> {
            let all = (0..length).fold(vec![String::new()], |all, _| {
                let longer = |text: String| letters.chars().map(move |letter| format!("{text}{letter}"));
                all.into_iter().flat_map(longer).collect()
            });
            all.into_iter().map(|text| text.trim_end_matches('_').to_owned()).collect()
        };
        let found = texts("ab_", 5);
        for pattern in texts("ab*?_", 5) {
            let parsed = Pattern::new(pattern.clone()).unwrap();
            for text in &found {
                let expected = matches_by_definition(pattern.as_bytes(), text.as_bytes());
                assert_eq!(parsed.matches(text), expected, "{pattern} {text}");
            }
        }
    }

    #[test]
    fn a_long_pattern_against_a_long_text_takes_linear_time() {
        let text = "a".repeat(1 << 20);
        let segment = "a".repeat(MAX_SEARCHED_CHARACTERS - 1);
        // With one attempt at each place, the first of these would take 10^11 comparisons.
        for pattern in [
            format!("*{}b*", "a".repeat(1 << 17)),
            "*a".repeat(1 << 17) + "b",
            format!("*{segment}b*?"),
            format!("*?{}b*", &segment[1..]),
            "*?a".repeat(1 << 17) + "*b",
        ] {
            assert!(!Pattern::new(pattern).unwrap().matches(&text));
        }
    }

    #[test]
    fn a_question_mark_is_not_searched_for_among_more_characters_than_a_word_has_bits() {
        let of_length = |length: usize| format!("?{}", "a".repeat(length - 1));
        for (pattern, is_valid) in [
            (format!("*{}*", of_length(MAX_SEARCHED_CHARACTERS)), true),
            (format!("*{}*", of_length(MAX_SEARCHED_CHARACTERS + 1)), false),
            (format!("*{}", of_length(1000)), true),
            (format!("{}*", of_length(1000)), true),
            (of_length(1000), true),
        ] {
            assert_eq!(Pattern::new(pattern.clone()).is_some(), is_valid, "{pattern}");
        }
    }
}
