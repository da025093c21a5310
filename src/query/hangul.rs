//! Hangul as people type it: syllables, a syllable that is not finished, and initial consonants alone
//! (`ㄱㅁㅈ` for `김민준`).
//!
//! Texts are decomposed (NFKD): a syllable is a leading consonant, a vowel and maybe a trailing consonant,
//! and a letter that stands alone (`ㄱ`) is a leading consonant.

/// Pairs of consonants that a keyboard joins to one letter, although both are the initial consonants of two
/// syllables.
const CLUSTERS: [(char, &str); 11] = [
    ('ㄳ', "ㄱㅅ"),
    ('ㄵ', "ㄴㅈ"),
    ('ㄶ', "ㄴㅎ"),
    ('ㄺ', "ㄹㄱ"),
    ('ㄻ', "ㄹㅁ"),
    ('ㄼ', "ㄹㅂ"),
    ('ㄽ', "ㄹㅅ"),
    ('ㄾ', "ㄹㅌ"),
    ('ㄿ', "ㄹㅍ"),
    ('ㅀ', "ㄹㅎ"),
    ('ㅄ', "ㅂㅅ"),
];

/// Replaces each letter that is two consonants by both.
pub(super) fn split_clusters(text: &str) -> String {
    let mut split = String::with_capacity(text.len());
    for letter in text.chars() {
        match CLUSTERS.iter().find(|(cluster, _)| *cluster == letter) {
            Some((_, both)) => split.push_str(both),
            None => split.push(letter),
        }
    }
    split
}

/// Whether a decomposed letter begins a syllable.
fn is_leading(letter: char) -> bool {
    ('\u{1100}'..='\u{115F}').contains(&letter)
}

/// Whether a decomposed letter is in a syllable and does not begin it.
fn is_inner(letter: char) -> bool {
    ('\u{1160}'..='\u{11FF}').contains(&letter)
}

/// A part of a name in which initial consonants stand for syllables, such as `ㄱㅁㅈ` or `김ㅁㅈ`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct InitialsPattern {
    syllables: Vec<String>,
}

impl InitialsPattern {
    /// Reads a decomposed word. `None` if no initial consonant stands for a syllable before the last: such a
    /// word is a part of every name that it stands for.
    pub(super) fn new(word: &str) -> Option<Self> {
        let mut syllables: Vec<String> = Vec::new();
        for letter in word.chars() {
            match syllables.last_mut() {
                Some(syllable) if is_inner(letter) => syllable.push(letter),
                _ => syllables.push(letter.into()),
            }
        }
        let (_, before_last) = syllables.split_last()?;
        before_last.iter().any(|syllable| is_initial(syllable)).then_some(Self { syllables })
    }

    /// Whether a decomposed text has such a part.
    pub(super) fn is_part_of(&self, text: &str) -> bool {
        let Some(first) = self.syllables.first() else { return false };
        text.match_indices(first.as_str()).any(|(at, _)| self.begins(&text[at..]))
    }

    fn begins(&self, text: &str) -> bool {
        let mut rest = text;
        for (number, syllable) in self.syllables.iter().enumerate() {
            let Some(after) = rest.strip_prefix(syllable.as_str()) else { return false };
            rest = after;
            if is_initial(syllable) {
                rest = after.trim_start_matches(is_inner);
            } else if after.starts_with(is_inner) && number + 1 < self.syllables.len() {
                // Only the last syllable may be unfinished.
                return false;
            }
        }
        true
    }
}

/// Whether a syllable is an initial consonant alone.
fn is_initial(syllable: &str) -> bool {
    let mut letters = syllable.chars();
    letters.next().is_some_and(is_leading) && letters.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::text::fold;

    fn accepts(typed: &str, name: &str) -> Option<bool> {
        let typed = fold(&split_clusters(typed));
        Some(InitialsPattern::new(&typed)?.is_part_of(&fold(name)))
    }

    #[test]
    fn initial_consonants_stand_for_syllables() {
        for (typed, name, expected) in [
            ("ㄱㅁㅈ", "김민준", Some(true)),
            ("ㅁㅈ", "김민준", Some(true)),
            ("ㄱㅁ", "김민준", Some(true)),
            ("ㄱㅈ", "김민준", Some(false)),
            ("ㅁㄱㅈ", "김민준", Some(false)),
            ("김ㅁㅈ", "김민준", Some(true)),
            ("ㄱ민준", "김민준", Some(true)),
            ("ㄱ민주", "김민준", Some(true)),
            ("기ㅁㅈ", "김민준", Some(false)),
            ("ㄱㅁㅈㅎ", "김민준", Some(false)),
            ("ㅂㅅ", "박서준", Some(true)),
            ("ㅄㅈ", "박서준", Some(true)),
            ("ㄲㅂ", "깜보", Some(true)),
            ("ㄱㅂ", "깜보", Some(false)),
            ("ㄱ", "김민준", None),
            ("김민", "김민준", None),
            ("김ㅁ", "김민준", None),
            ("kim", "김민준", None),
            ("", "김민준", None),
        ] {
            assert_eq!(accepts(typed, name), expected, "{typed} {name}");
        }
    }

    #[test]
    fn every_cluster_is_two_letters_that_begin_syllables() {
        for (cluster, both) in CLUSTERS {
            assert_eq!(split_clusters(&cluster.to_string()), both);
            let folded = fold(both);
            assert_eq!(folded.chars().filter(|letter| is_leading(*letter)).count(), 2, "{cluster}");
        }
    }
}
