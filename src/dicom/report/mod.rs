//! Structured reports for people: the content tree as text (PS3.3 §C.17.3).
//!
//! [`read`] reads a data set into a [`Report`]; [`html`] and [`plain_text`] write the report.

pub mod html;
mod item_values;
pub mod plain_text;
mod read;

pub use read::read;

/// A report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The title: the concept name of the root, or else the Document Title or the Series Description.
    pub title: String,
    /// The facts about the document besides its content, as label and text: patient, study, state, author.
    pub facts: Vec<(&'static str, String)>,
    /// The content items below the root.
    pub items: Vec<ReportItem>,
}

/// A content item (PS3.3 Table C.17-6).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReportItem {
    /// Its relationship to the item that contains it, in words; empty for `CONTAINS` and for properties.
    pub relationship: &'static str,
    /// Its concept name.
    pub concept: Option<Concept>,
    /// Its value.
    pub value: ReportValue,
    /// The date and time of its observation, if it has one of its own.
    pub observed: String,
    /// The items in it.
    pub items: Vec<ReportItem>,
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
pub enum ReportValue {
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
    Instances(Vec<ReportReference>),
    /// Another content item, by its position: the root is 1, its third item 1.3.
    Item(Vec<u32>),
}

/// A reference to an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportReference {
    /// The description of the instance, in words.
    pub text: String,
    /// The path of its rendered resource, from `/studies/` on (PS3.18 §10.4.1.1.3); `None` if the report does
    /// not say in which study and series the instance is.
    pub path: Option<String>,
}
