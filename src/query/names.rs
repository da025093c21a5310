//! Matching of person names (PS3.4 §C.2.2.2.1.1, where the standard leaves the manner to the archive).

use rphonetic::DoubleMetaphone;

use crate::dicom::attributes::PersonName;
use crate::query::text::{Pattern, fold};

/// Words shorter than this sound like too many others.
const MIN_SOUNDING_LETTERS: usize = 3;
/// Letters of a phonetic code that are compared.
const MAX_CODE_LETTERS: usize = 6;
/// Shorter codes say too little; of a second pronunciation, yet longer ones.
const MIN_CODE_LETTERS: usize = 2;
const MIN_ALTERNATE_LETTERS: usize = 3;

/// What a person name must be, without regard to case and accents.
#[derive(Debug, Clone, PartialEq)]
pub struct NameMatcher {
    /// One pattern for any of the component groups, or one for each.
    pub groups: Vec<Pattern>,
    /// For fuzzy matching: each of these must begin a word of the name, or sound like one. Empty without it.
    pub words: Vec<Word>,
}

/// A word of a name, folded, and how it sounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Word {
    text: String,
    sounds: Option<Sounds>,
}

/// The codes of Double Metaphone: how a word is pronounced, and how it may be, too.
#[derive(Debug, Clone, PartialEq)]
struct Sounds {
    primary: String,
    alternate: String,
}

impl NameMatcher {
    /// Reads the value of a matching key.
    pub fn new(value: &str, is_fuzzy: bool) -> Self {
        let groups = value.split('=').map(|group| Pattern::new(normal_name(group))).collect();
        let words = if is_fuzzy { words(&fold(value)).map(Word::new).collect() } else { Vec::new() };
        Self { groups, words }
    }

    /// Whether a name matches.
    pub fn accepts(&self, name: &PersonName) -> bool {
        let found = [&name.alphabetic, &name.ideographic, &name.phonetic].map(|group| normal_name(group));
        self.accepts_groups(&found) || (!self.words.is_empty() && self.accepts_words(&found))
    }

    fn accepts_groups(&self, found: &[String; 3]) -> bool {
        match self.groups.as_slice() {
            [pattern] => found.iter().any(|group| !group.is_empty() && pattern.matches(group)),
            patterns => patterns
                .iter()
                .enumerate()
                .filter(|(_, pattern)| pattern.literal() != Some(""))
                .all(|(index, pattern)| found.get(index).is_some_and(|group| pattern.matches(group))),
        }
    }

    fn accepts_words(&self, found: &[String; 3]) -> bool {
        let is_in = |wanted: &Word| found.iter().any(|group| words(group).any(|word| wanted.accepts(word)));
        self.words.iter().all(is_in)
    }
}

impl Word {
    fn new(text: &str) -> Self {
        Self { text: text.to_owned(), sounds: sounds(text) }
    }

    fn accepts(&self, word: &str) -> bool {
        let sounds_like = || {
            let sounds = self.sounds.as_ref().zip(sounds(word));
            sounds.is_some_and(|(own, other)| own.are_like(&other))
        };
        word.starts_with(self.text.as_str()) || sounds_like()
    }
}

impl Sounds {
    fn are_like(&self, other: &Self) -> bool {
        let is_any = |code: &String| {
            code.len() >= MIN_ALTERNATE_LETTERS && (*code == other.primary || *code == other.alternate)
        };
        self.primary == other.primary || is_any(&self.primary) || is_any(&self.alternate)
    }
}

/// How a folded word sounds; `None` if it is short or not of the Latin alphabet.
fn sounds(word: &str) -> Option<Sounds> {
    let letters: String = word.chars().filter(|character| *character != '\'').collect();
    let is_latin = letters.bytes().all(|byte| byte.is_ascii_alphabetic());
    if !is_latin || letters.len() < MIN_SOUNDING_LETTERS {
        return None;
    }
    let codes = DoubleMetaphone::new(Some(MAX_CODE_LETTERS)).double_metaphone(&letters);
    let sounds = Sounds { primary: codes.primary(), alternate: codes.alternate() };
    (sounds.primary.len() >= MIN_CODE_LETTERS).then_some(sounds)
}

/// A component group, folded, without the spaces and empty components that do not count (PS3.5 §6.2.1).
fn normal_name(group: &str) -> String {
    let components: Vec<&str> = group.split('^').map(str::trim).collect();
    fold(components.join("^").trim_end_matches('^'))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', '^', '=', ',', '.', '*', '?', '-', '\u{3000}']).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuzzy_names_match_words_in_any_order_by_their_beginnings_and_sounds() {
        for (wanted, alphabetic, expected) in [
            ("zoe mul", "Müller^Zoë", true),
            ("Zoë Müller", "Müller^Zoë", true),
            ("zoe meier", "Müller^Zoë", false),
            ("Meyer", "Maier^Anna", true),
            ("Schmidt Jon", "Schmitt^John", true),
            ("Catherine", "Smith^Kathryn", true),
            ("OBrien", "O'Brien^Pat", true),
            ("Stephen", "Steven^Bob", true),
            ("Smith", "Jones^Mary", false),
            ("Anna", "Smith^John", false),
            ("Lee", "Lou^Al", false),
            ("Schmidt", "Smith^Al", true),
            ("Al", "Ell^Ole", false),
            ("Lee", "Yamada^Tarou", false),
            ("Müller-Lüdenscheidt", "Mueller^Luedenscheid", true),
        ] {
            let name = PersonName { alphabetic: alphabetic.into(), ..PersonName::default() };
            assert_eq!(NameMatcher::new(wanted, true).accepts(&name), expected, "{wanted} {alphabetic}");
        }
    }

    #[test]
    fn every_word_has_a_sound_or_none() {
        let mut state = 1_u32;
        for length in 0..60 {
            for _ in 0..300 {
                let letters = (0..length).map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    char::from(b'A' + (state >> 24) as u8 % 26)
                });
                let word: String = letters.collect();
                assert!(
                    sounds(&word).is_none_or(|sounds| sounds.primary.len() <= MAX_CODE_LETTERS),
                    "{word}"
                );
            }
        }
    }
}
