//! Matching of person names (PS3.4 §C.2.2.2.1.1, which leaves the rules of fuzzy matching to the archive).

use rphonetic::DoubleMetaphone;

use crate::dicom::attributes::PersonName;
use crate::query::text::{Pattern, fold};

/// The minimum number of letters of a word that is compared by sound; shorter words sound like too many
/// others.
const MIN_PHONETIC_LETTERS: usize = 3;
/// The maximum number of letters of a word that is compared by sound; a component group has no more (PS3.5
/// §6.2).
const MAX_PHONETIC_LETTERS: usize = 64;
/// The maximum number of bytes of a component group that are compared: sixteen times what the standard
/// allows.
const MAX_GROUP_BYTES: usize = 4096;
/// The maximum number of letters of a phonetic code that are compared.
const MAX_CODE_LETTERS: usize = 6;
/// The minimum lengths of a primary and of an alternate phonetic code; shorter ones are too ambiguous.
const MIN_CODE_LETTERS: usize = 2;
const MIN_ALTERNATE_LETTERS: usize = 3;

/// A matching rule for person names that ignores case and accents.
#[derive(Debug, Clone, PartialEq)]
pub struct NameMatcher {
    /// One pattern that any component group may match, or one pattern for each component group.
    pub groups: Vec<Pattern>,
    /// The words for fuzzy matching: each must be the start of a word of the name, or sound like one. Empty
    /// if the matching is not fuzzy.
    pub words: Vec<Word>,
}

/// A word of a name, folded, with its phonetic codes.
#[derive(Debug, Clone, PartialEq)]
pub struct Word {
    text: String,
    codes: Option<PhoneticCodes>,
}

/// The Double Metaphone codes of a word: of its usual pronunciation and of an alternate one.
#[derive(Debug, Clone, PartialEq)]
struct PhoneticCodes {
    primary: String,
    alternate: String,
}

impl NameMatcher {
    /// Reads the value of a matching key; `None` if it has a pattern that cannot be matched.
    pub fn new(value: &str, is_fuzzy: bool) -> Option<Self> {
        let groups = value.split('=').map(|group| Pattern::new(normal_name(group))).collect::<Option<_>>()?;
        let words = if is_fuzzy { words(&fold(value)).map(Word::new).collect() } else { Vec::new() };
        Some(Self { groups, words })
    }

    /// Whether a name meets the rule.
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
        // The sound of a word is worked out once, however many words it is compared with.
        let words_found: Vec<Word> = found.iter().flat_map(|group| words(group)).map(Word::new).collect();
        let joined: Vec<String> = found.iter().map(|group| words(group).collect()).collect();
        self.words.iter().all(|expected| {
            words_found.iter().any(|word| expected.accepts(word))
                || joined.iter().any(|name| expected.begins_joined(name))
        })
    }
}

impl Word {
    fn new(text: &str) -> Self {
        Self { text: text.to_owned(), codes: phonetic_codes(text) }
    }

    fn accepts(&self, word: &Self) -> bool {
        let sounds_like = || {
            let codes = self.codes.as_ref().zip(word.codes.as_ref());
            codes.is_some_and(|(own, other)| own.is_similar(other))
        };
        word.text.starts_with(self.text.as_str()) || sounds_like()
    }

    /// Whether the word begins a name of which the components are written without spaces between them, as
    /// names in Hangul, Han characters and kana are: `김^민준` is found by `김민준`.
    fn begins_joined(&self, name: &str) -> bool {
        !self.text.is_ascii() && name.starts_with(self.text.as_str())
    }
}

impl PhoneticCodes {
    fn is_similar(&self, other: &Self) -> bool {
        let is_shared = |code: &String| {
            code.len() >= MIN_ALTERNATE_LETTERS && (*code == other.primary || *code == other.alternate)
        };
        self.primary == other.primary || is_shared(&self.primary) || is_shared(&self.alternate)
    }
}

/// The phonetic codes of a folded word; `None` if it is too short or too long, or not in the Latin alphabet.
fn phonetic_codes(word: &str) -> Option<PhoneticCodes> {
    if word.len() > MAX_PHONETIC_LETTERS {
        return None;
    }
    let letters: String = word.chars().filter(|character| *character != '\'').collect();
    let is_latin = letters.bytes().all(|byte| byte.is_ascii_alphabetic());
    if !is_latin || letters.len() < MIN_PHONETIC_LETTERS {
        return None;
    }
    let codes = DoubleMetaphone::new(Some(MAX_CODE_LETTERS)).double_metaphone(&letters);
    let codes = PhoneticCodes { primary: codes.primary(), alternate: codes.alternate() };
    (codes.primary.len() >= MIN_CODE_LETTERS).then_some(codes)
}

/// Folds a component group and drops the spaces and empty components that are not significant (PS3.5 §6.2.1).
fn normal_name(group: &str) -> String {
    let group = &group[..group.floor_char_boundary(MAX_GROUP_BYTES)];
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
            ("김민준", "김^민준", true),
            ("민준", "김^민준", true),
            ("김민", "김^민준", true),
            ("민준김", "김^민준", false),
            ("김민준", "김^민수", false),
            ("山田太郎", "山田^太郎", true),
        ] {
            let name = PersonName { alphabetic: alphabetic.into(), ..PersonName::default() };
            assert_eq!(
                NameMatcher::new(wanted, true).unwrap().accepts(&name),
                expected,
                "{wanted} {alphabetic}"
            );
        }
    }

    #[test]
    fn phonetic_codes_of_any_word_are_bounded() {
        let mut state = 1_u32;
        for length in 0..60 {
            for _ in 0..300 {
                let letters = (0..length).map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    char::from(b'A' + (state >> 24) as u8 % 26)
                });
                let word: String = letters.collect();
                assert!(
                    phonetic_codes(&word).is_none_or(|codes| codes.primary.len() <= MAX_CODE_LETTERS),
                    "{word}"
                );
            }
        }
    }
}
