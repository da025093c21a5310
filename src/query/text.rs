//! Comparison of text: folding of case and accents, and wildcards (PS3.4 §C.2.2.2.1, §C.2.2.2.4).

use std::str::Chars;

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

/// A text with or without the wildcards `*` and `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    is_wild: bool,
}

impl Pattern {
    /// Parses a pattern, in which `*` stands for any number of characters and `?` for one.
    pub fn new(text: String) -> Self {
        let is_wild = text.contains(['*', '?']);
        Self { text, is_wild }
    }

    /// Whether the whole of `text` matches. The time is at most proportional to the product of the lengths.
    pub fn matches(&self, text: &str) -> bool {
        if !self.is_wild {
            return self.text == text;
        }
        let (mut pattern, mut rest) = (self.text.chars(), text.chars());
        let mut retry: Option<(Chars<'_>, Chars<'_>)> = None;
        loop {
            let here = rest.clone();
            match (pattern.next(), rest.next()) {
                (None, None) => return true,
                (Some('*'), _) => {
                    retry = Some((pattern.clone(), here.clone()));
                    rest = here;
                }
                (Some(expected), Some(found)) if expected == '?' || expected == found => {}
                // Only the last `*` needs to match more: it can match all that an earlier one could.
                _ => {
                    let Some((after_star, from)) = &mut retry else { return false };
                    if from.next().is_none() {
                        return false;
                    }
                    pattern = after_star.clone();
                    rest = from.clone();
                }
            }
        }
    }

    /// The characters before the first wildcard.
    pub fn literal_prefix(&self) -> &str {
        self.text.split(['*', '?']).next().unwrap_or("")
    }

    /// The text if the pattern has no wildcard.
    pub fn literal(&self) -> Option<&str> {
        (!self.is_wild).then_some(self.text.as_str())
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
        ] {
            assert_eq!(Pattern::new(pattern.into()).matches(text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_ends() {
        let pattern = Pattern::new("*a".repeat(500) + "b");
        assert!(!pattern.matches(&"a".repeat(10_000)));
    }
}
