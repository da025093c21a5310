//! Matching of person names (PS3.4 §C.2.2.2.1.1, which leaves the rules of fuzzy matching to the archive).

use rphonetic::DoubleMetaphone;

use crate::dicom::attributes::PersonName;
use crate::query::hangul::{InitialsPattern, split_clusters};
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
/// The minimum number of letters of a word that is found within a word of a name, in a script in which names
/// are longer than that. Shorter words are found where a word begins.
const MIN_PART_LETTERS: usize = 3;

/// A matching rule for person names that ignores case and accents.
#[derive(Debug, Clone, PartialEq)]
pub struct NameMatcher {
    /// One pattern that any component group may match, or one pattern for each component group.
    pub groups: Vec<Pattern>,
    /// The words for fuzzy matching: each must be a part of the name, or sound like a word of it. Empty if
    /// the matching is not fuzzy.
    pub words: Vec<Word>,
}

/// A word of a key, folded.
#[derive(Debug, Clone, PartialEq)]
pub struct Word {
    text: String,
    /// Whether the word is found in any place of a name, and not only where a word begins.
    is_found_inside: bool,
    /// The word as initial consonants, if it has some.
    initials: Option<InitialsPattern>,
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
        let words = match is_fuzzy {
            true => words(&folded(&split_clusters(value))).map(Word::new).collect(),
            false => Vec::new(),
        };
        Some(Self { groups, words })
    }

    /// Whether a name meets the rule.
    pub fn accepts(&self, name: &PersonName) -> bool {
        if self.words.is_empty() {
            let found = component_groups(name);
            return self.accepts_groups(&found.each_ref().map(String::as_str));
        }
        self.accepts_forms(&NameForms::of(name))
    }

    /// Whether the name of these forms meets the rule.
    pub fn accepts_forms(&self, forms: &NameForms) -> bool {
        let is_found = || self.words.iter().all(|word| word.is_in(forms));
        self.accepts_groups(&forms.groups()) || (!self.words.is_empty() && is_found())
    }

    fn accepts_groups(&self, found: &[&str; 3]) -> bool {
        match self.groups.as_slice() {
            [pattern] => found.iter().any(|group| !group.is_empty() && pattern.matches(group)),
            patterns => patterns
                .iter()
                .enumerate()
                .filter(|(_, pattern)| pattern.literal() != Some(""))
                .all(|(index, pattern)| found.get(index).is_some_and(|group| pattern.matches(group))),
        }
    }
}

/// A name in the forms that names are matched in, as one text.
///
/// The text has the three component groups, folded; then those of several words without separators, followed
/// by their first word, so that `민준김` and `minjunkim` are parts of `김^민준` and `Kim^Minjun`; then the
/// phonetic codes of all words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameForms {
    text: Box<str>,
    /// The place of the phonetic codes in the text.
    codes_at: usize,
}

/// The character before each component group, before each group without separators, and before and after
/// each phonetic code. No folded name has them.
const GROUP: char = '\u{1}';
const JOINED: char = '\u{2}';
const PRIMARY: char = '\u{3}';
const ALTERNATE: char = '\u{4}';
const CODE_END: char = '\u{5}';

impl NameForms {
    /// The forms of a name.
    pub fn of(name: &PersonName) -> Self {
        let groups = component_groups(name);
        let mut text = String::with_capacity(groups.iter().map(String::len).sum::<usize>() * 2 + 32);
        for group in &groups {
            text.push(GROUP);
            text.push_str(group);
        }
        for group in &groups {
            let mut all = words(group);
            if let (Some(first), Some(second)) = (all.next(), all.next()) {
                text.push(JOINED);
                [first, second].into_iter().chain(all).chain([first]).for_each(|word| text.push_str(word));
            }
        }
        let codes_at = text.len();
        for codes in groups.iter().flat_map(|group| words(group)).filter_map(phonetic_codes) {
            text.extend([PRIMARY]);
            text.push_str(&codes.primary);
            text.extend([CODE_END, ALTERNATE]);
            text.push_str(&codes.alternate);
            text.push(CODE_END);
        }
        Self { text: text.into(), codes_at }
    }

    /// The bytes of the text.
    pub fn length_bytes(&self) -> usize {
        self.text.len()
    }

    /// The component groups.
    fn groups(&self) -> [&str; 3] {
        let mut groups = self.names().split([GROUP, JOINED]).skip(1);
        std::array::from_fn(|_| groups.next().unwrap_or_default())
    }

    /// The component groups, with and without separators.
    fn names(&self) -> &str {
        &self.text[..self.codes_at]
    }

    fn codes(&self) -> &str {
        &self.text[self.codes_at..]
    }
}

impl Word {
    fn new(text: &str) -> Self {
        let min_letters = if text.chars().all(has_short_words) { 1 } else { MIN_PART_LETTERS };
        Self {
            text: text.to_owned(),
            is_found_inside: text.chars().count() >= min_letters,
            initials: InitialsPattern::new(text),
            codes: phonetic_codes(text),
        }
    }

    /// Whether the word is the start of a word of a name, a part of a name, or sounds like a word of it.
    fn is_in(&self, forms: &NameForms) -> bool {
        let names = forms.names();
        let is_start = |at: usize| names[..at].ends_with(|before: char| is_separator(before) || before < ' ');
        names.match_indices(self.text.as_str()).any(|(at, _)| self.is_found_inside || is_start(at))
            || self.initials.as_ref().is_some_and(|initials| initials.is_part_of(names))
            || self.codes.as_ref().is_some_and(|codes| codes.are_in(forms.codes()))
    }
}

/// Whether a letter is of a script in which one or two letters are a name: Han, kana, Hangul.
fn has_short_words(letter: char) -> bool {
    matches!(letter, '\u{1100}'..='\u{11FF}' | '\u{2E80}'..='\u{A4CF}' | '\u{A960}'..='\u{A97F}'
        | '\u{AC00}'..='\u{D7FF}' | '\u{F900}'..='\u{FAFF}' | '\u{1B000}'..='\u{1B16F}' | '\u{20000}'..='\u{3FFFF}')
}

impl PhoneticCodes {
    /// Whether a word of a name sounds alike, from the codes of all its words: the primary codes are the
    /// same, or one of the others is, if it is long enough.
    fn are_in(&self, codes: &str) -> bool {
        let has = |before: char, code: &str| {
            codes.match_indices(code).any(|(at, _)| {
                codes[..at].ends_with(before) && codes[at + code.len()..].starts_with(CODE_END)
            })
        };
        let is_shared =
            |code: &str| code.len() >= MIN_ALTERNATE_LETTERS && (has(PRIMARY, code) || has(ALTERNATE, code));
        has(PRIMARY, &self.primary) || is_shared(&self.primary) || is_shared(&self.alternate)
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

/// The component groups of a name, folded.
fn component_groups(name: &PersonName) -> [String; 3] {
    [&name.alphabetic, &name.ideographic, &name.phonetic].map(|group| normal_name(group))
}

/// Folds a component group and drops the spaces and empty components that are not significant (PS3.5 §6.2.1).
fn normal_name(group: &str) -> String {
    let group = &group[..group.floor_char_boundary(MAX_GROUP_BYTES)];
    let components: Vec<&str> = group.split('^').map(str::trim).collect();
    folded(components.join("^").trim_end_matches('^'))
}

/// Folds a text, without control characters, which are no part of a name.
fn folded(text: &str) -> String {
    let mut folded = fold(text);
    folded.retain(|character| !character.is_control());
    folded
}

fn is_separator(character: char) -> bool {
    [' ', '^', '=', ',', '.', '*', '?', '-', '\u{3000}'].contains(&character)
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_separator).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use unicode_normalization::UnicodeNormalization;

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
            ("민준김", "김^민준", true),
            ("준김", "김^민준", true),
            ("민준 김", "김^민준", true),
            ("김민준", "김^민수", false),
            ("山田太郎", "山田^太郎", true),
            ("민준", "김민준", true),
            ("준김", "김민준", false),
            ("준", "김^민준", true),
            ("ㄱㅁㅈ", "김^민준", true),
            ("ㅁㅈ ㄱ", "김^민준", true),
            ("ㄱㅁㅈ", "박^민준", false),
            ("김ㅁ", "김^민준", true),
            ("김미", "김^민준", true),
            ("太郎", "山田太郎", true),
            ("minjun", "Kim^Min Jun", true),
            ("minjun", "Kim^Min-Jun", true),
            ("kimminjun", "Kim^Minjun", true),
            ("MinjunKim", "Kim^Minjun", true),
            ("min kim", "Kim^Minjun", true),
            ("injun", "Kim^Minjun", true),
            ("ju", "Kim^Minjun", false),
            ("ÜLL", "Müller^Zoë", true),
            ("анн", "Иванова^Анна", true),
            ("ан", "Иванова^Анна", true),
            ("но", "Иванова^Анна", false),
        ] {
            let name = PersonName { alphabetic: alphabetic.into(), ..PersonName::default() };
            assert_eq!(
                NameMatcher::new(wanted, true).unwrap().accepts(&name),
                expected,
                "{wanted} {alphabetic}"
            );
        }
    }

    /// A word of a name of one script, with the minimum letters of a part that is found anywhere.
    fn word() -> impl Strategy<Value = (String, usize)> {
        prop_oneof![
            ("[가-힣]{1,3}", Just(1)),
            ("[一-龥]{1,3}", Just(1)),
            ("[ア-ン]{1,4}", Just(1)),
            ("[A-Za-zàéïõüñçÅŁØŽ]{3,8}", Just(3)),
            ("[А-Яа-я]{3,8}", Just(3)),
        ]
    }

    /// A part of a word, as it is typed: composed or decomposed, in any case.
    fn part(word: &str, min: usize, (from, length): (usize, usize), form: usize) -> String {
        let letters: Vec<char> = word.chars().collect();
        let from = from % (letters.len() - min + 1);
        let length = min + length % (letters.len() - from - min + 1);
        let part: String = letters[from..from + length].iter().collect();
        match form % 4 {
            0 => part.nfd().collect(),
            1 => part.nfc().collect(),
            2 => part.to_lowercase(),
            _ => part.to_uppercase(),
        }
    }

    fn initials(word: &str) -> String {
        let consonants: Vec<char> = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ".chars().collect();
        word.chars().map(|syllable| consonants[(syllable as usize - '가' as usize) / 588]).collect()
    }

    fn fuzzy(typed: &str, name: &PersonName) -> bool {
        NameMatcher::new(typed, true).unwrap().accepts(name)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn parts_of_words_of_any_group_are_found_in_any_order(
            groups in [vec(word(), 0..3), vec(word(), 0..3), vec(word(), 1..3)],
            places in vec((any::<usize>(), any::<usize>(), any::<usize>(), any::<usize>(), any::<usize>()), 1..4),
            stored_decomposed: bool,
        ) {
            let text = |words: &Vec<(String, usize)>| {
                let text = words.iter().map(|(word, _)| word.as_str()).collect::<Vec<_>>().join("^");
                if stored_decomposed { text.nfd().collect() } else { text }
            };
            let [alphabetic, ideographic, phonetic] = groups.each_ref().map(text);
            let name = PersonName { alphabetic, ideographic, phonetic };
            let words: Vec<&(String, usize)> = groups.iter().flatten().collect();
            let parts = places.iter().map(|(word, from, length, form, _)| {
                let (word, min) = words[word % words.len()];
                part(word, *min, (*from, *length), *form)
            });
            let typed = parts.collect::<Vec<_>>().join(" ");
            prop_assert!(fuzzy(&typed, &name), "{typed:?} {name:?}");
        }

        #[test]
        fn initial_consonants_find_a_part_of_a_name_and_no_other_name(
            name in "[가-힣]{2,4}",
            other in "[가-힣]{2,4}",
            place: (usize, usize),
            has_separator: bool,
        ) {
            let stored = |name: &str| {
                let at = name.char_indices().nth(1).map_or(0, |(at, _)| at);
                let (family, given) = name.split_at(at);
                let text = if has_separator { format!("{family}^{given}") } else { name.to_owned() };
                PersonName { phonetic: text, ..PersonName::default() }
            };
            let typed = part(&initials(&name), 2, place, 1);
            prop_assert!(fuzzy(&typed, &stored(&name)), "{typed} {name}");
            let around = if has_separator { initials(&other[..3]) } else { String::new() };
            let has_part = (initials(&other) + &around).contains(&typed);
            prop_assert_eq!(fuzzy(&typed, &stored(&other)), has_part, "{} {}", typed, other);
            // Whole syllables among the initial consonants.
            let mixed = name.chars().take(1).chain(initials(&name).chars().skip(1)).collect::<String>();
            prop_assert!(fuzzy(&mixed, &stored(&name)), "{mixed} {name}");
        }

        #[test]
        fn any_key_and_any_name_are_compared_in_the_same_way_by_forms(
            typed in ".{0,20}", groups in [".{0,20}", ".{0,20}", ".{0,20}"], is_fuzzy: bool,
        ) {
            let [alphabetic, ideographic, phonetic] = groups;
            let name = PersonName { alphabetic, ideographic, phonetic };
            if let Some(matcher) = NameMatcher::new(&typed, is_fuzzy) {
                prop_assert_eq!(matcher.accepts(&name), matcher.accepts_forms(&NameForms::of(&name)));
            }
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
