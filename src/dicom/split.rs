//! Splits the metadata of a request, an array of DICOM JSON objects, while its bytes arrive (PS3.18
//! §10.5.1.4, §F.2.1).
//!
//! Only braces and strings are looked at: the parser decides whether an object is DICOM JSON. One object is
//! held at a time.

use std::collections::VecDeque;

use crate::dicom::failure::Failure;

/// The text of one object, or the reason not to parse it.
pub type SplitObject = Result<Vec<u8>, Failure>;

/// The maximum number of values for each allowed object.
const VALUES_OF_OBJECT: usize = 4;

/// A splitter for one array; a single object counts as an array of one.
pub struct Splitter {
    max_bytes: usize,
    max_objects: usize,
    state: SplitterState,
    /// Whether there is no array around the object.
    is_single: bool,
    object: Vec<u8>,
    /// Objects in the current object, itself included.
    objects: usize,
    commas: usize,
    depth: usize,
    failure: Option<Failure>,
    done: VecDeque<SplitObject>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SplitterState {
    Start,
    /// In the array, after `[` or a comma, or (true) after an object.
    Between(bool),
    Object,
    String,
    Escaped,
    End,
    Malformed,
}

impl Splitter {
    /// A splitter whose objects have at most `max_bytes` of text and `max_objects` objects in them: what a
    /// parser makes of an object can take a hundred times the memory of its text.
    pub fn new(max_bytes: usize, max_objects: usize) -> Self {
        Self {
            max_bytes,
            max_objects,
            state: SplitterState::Start,
            is_single: false,
            object: Vec::new(),
            objects: 0,
            commas: 0,
            depth: 0,
            failure: None,
            done: VecDeque::new(),
        }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.take(byte);
        }
    }

    /// The next object that is complete.
    pub fn take_object(&mut self) -> Option<SplitObject> {
        self.done.pop_front()
    }

    /// Ends the text; whether it was one array of objects, or one object. Those before a mistake are whole.
    pub fn finish(self) -> bool {
        self.state == SplitterState::End
    }

    fn take(&mut self, byte: u8) {
        match (self.state, byte) {
            (SplitterState::Object, b'"') => self.state = SplitterState::String,
            (SplitterState::Object, b'{') => {
                self.depth += 1;
                self.objects += 1;
            }
            (SplitterState::Object, b'}') => self.depth -= 1,
            (SplitterState::Object, b',') => self.commas += 1,
            (SplitterState::Object, _) => {}
            (SplitterState::String, b'\\') => self.state = SplitterState::Escaped,
            (SplitterState::String, b'"') => self.state = SplitterState::Object,
            (SplitterState::String, _) => {}
            (SplitterState::Escaped, _) => self.state = SplitterState::String,
            (SplitterState::Malformed, _) => return,
            (state, byte) => return self.take_outside(state, byte),
        }
        self.keep(byte);
        if self.depth == 0 {
            self.end_object();
        }
    }

    fn take_outside(&mut self, state: SplitterState, byte: u8) {
        self.state = match (state, byte) {
            // White space, and a byte order mark before the start.
            (_, b' ' | b'\t' | b'\r' | b'\n') | (SplitterState::Start, 0xEF | 0xBB | 0xBF) => state,
            (SplitterState::Start, b'[') => SplitterState::Between(false),
            (SplitterState::Start | SplitterState::Between(false), b'{') => {
                (self.depth, self.objects, self.commas) = (1, 1, 0);
                self.object.push(byte);
                self.is_single = state == SplitterState::Start;
                SplitterState::Object
            }
            (SplitterState::Between(true), b',') => SplitterState::Between(false),
            (SplitterState::Between(_), b']') => SplitterState::End,
            _ => SplitterState::Malformed,
        };
    }

    fn keep(&mut self, byte: u8) {
        let failure = if self.object.len() >= self.max_bytes {
            Some(Failure::HeaderTooLarge { limit: self.max_bytes })
        } else if self.objects > self.max_objects {
            Some(Failure::TooManyMetadataElements { limit: self.max_objects })
        } else if self.commas > VALUES_OF_OBJECT * self.max_objects {
            Some(Failure::TooManyValues { limit: VALUES_OF_OBJECT * self.max_objects })
        } else {
            None
        };
        if failure.is_some() {
            self.object = Vec::new();
            self.failure = self.failure.take().or(failure);
        }
        if self.failure.is_none() {
            self.object.push(byte);
        }
    }

    fn end_object(&mut self) {
        let text = std::mem::take(&mut self.object);
        self.done.push_back(self.failure.take().map_or(Ok(text), Err));
        self.state = if self.is_single { SplitterState::End } else { SplitterState::Between(true) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str, size: usize) -> (Vec<String>, bool) {
        let mut splitter = Splitter::new(1000, 100);
        let mut objects = Vec::new();
        for piece in text.as_bytes().chunks(size) {
            splitter.push(piece);
            objects.extend(std::iter::from_fn(|| splitter.take_object()));
        }
        let texts = objects.into_iter().map(|object| String::from_utf8(object.unwrap()).unwrap());
        (texts.collect(), splitter.finish())
    }

    #[test]
    fn arrays_come_apart_wherever_they_are_cut() {
        for (text, expected, is_whole) in [
            ("[]", vec![], true),
            ("{}", vec!["{}"], true),
            (" [ {\"a\":1} ,\r\n{} ] ", vec!["{\"a\":1}", "{}"], true),
            ("\u{FEFF}[{}]", vec!["{}"], true),
            (r#"[{"a":"}\"{","b":[{"c":{}}]},{}]"#, vec![r#"{"a":"}\"{","b":[{"c":{}}]}"#, "{}"], true),
            ("", vec![], false),
            ("[{}", vec!["{}"], false),
            ("[{},", vec!["{}"], false),
            ("[{} {}]", vec!["{}"], false),
            ("[{},{\"a\":\"}", vec!["{}"], false),
            ("[1]", vec![], false),
            ("{}{}", vec!["{}"], false),
            ("text", vec![], false),
        ] {
            for size in 1..=text.len().max(1) {
                let (objects, end) = split(text, size);
                assert_eq!(
                    (objects, end),
                    (expected.iter().map(|text| (*text).to_owned()).collect(), is_whole),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn what_is_too_large_costs_no_other_its_place() {
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(2000));
        let many = format!("{{\"a\":[{}]}}", "{},".repeat(200));
        let values = format!("{{\"a\":[{}]}}", "1,".repeat(450));
        let mut splitter = Splitter::new(1000, 100);
        splitter.push(format!("[{large},{{}},{many},{{\"b\":1}},{values}]").as_bytes());
        let objects: Vec<_> = std::iter::from_fn(|| splitter.take_object()).collect();
        assert_eq!(objects[0], Err(Failure::HeaderTooLarge { limit: 1000 }));
        assert_eq!(objects[1], Ok(b"{}".to_vec()));
        assert_eq!(objects[2], Err(Failure::TooManyMetadataElements { limit: 100 }));
        assert_eq!(objects[3], Ok(b"{\"b\":1}".to_vec()));
        assert_eq!(objects[4], Err(Failure::TooManyValues { limit: 400 }));
        assert!(splitter.finish());
    }
}
