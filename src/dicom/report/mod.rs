//! Structured reports as a person reads them: the content tree in words (PS3.3 §C.17.3).
//!
//! [`read`] makes a [`Report`] of a data set; [`html`] and [`text`] write it.

pub mod html;
mod read;
pub mod text;
mod words;

pub use read::read;

/// A report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The concept name of the root, or what else says best what the document is.
    pub title: String,
    /// What is known of the document besides its content, as label and text: patient, study, state, author.
    pub facts: Vec<(&'static str, String)>,
    /// The content items below the root.
    pub items: Vec<Item>,
}

/// A content item (PS3.3 Table C.17-6).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Item {
    /// How it relates to the item that it is in, in words; empty for what is contained in it or describes it.
    pub relationship: &'static str,
    /// Its concept name.
    pub concept: Option<Concept>,
    /// Its value.
    pub value: Value,
    /// When it was observed, if it says so itself.
    pub observed: String,
    /// The items in it.
    pub items: Vec<Item>,
}

/// A coded concept (PS3.3 §8).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Concept {
    /// The Code Meaning, or the code where there is none.
    pub meaning: String,
    /// Code Value and Coding Scheme Designator.
    pub code: String,
}

/// The value of a content item.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Value {
    /// There is none.
    #[default]
    None,
    /// It is a heading for the items in it.
    Container,
    /// Text, on one line or several.
    Text(String),
    /// A code.
    Code(Concept),
    /// Other instances, or frames of them.
    Instances(Vec<Reference>),
    /// Another content item, by its position: the root is 1, its third item 1.3.
    Item(Vec<u32>),
}

/// A reference to an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// What it refers to, in words.
    pub text: String,
    /// Where its rendered representation is, from `/studies/` on (PS3.18 §10.4.1.1.3); none if the report does not tell which study
    /// and series it is in.
    pub path: Option<String>,
}
