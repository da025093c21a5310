//! Writes a structured report as a self-contained HTML document: no script, no external resource. The
//! document is well-formed XML too.

use std::borrow::Cow;
use std::fmt::Write;

use crate::dicom::report::{Concept, Report, ReportItem, ReportReference, ReportValue};

/// The style sheet in the document, between its tags.
pub const STYLE: &str = include_str!("report.css");

/// The deepest heading of HTML.
const DEEPEST_HEADING: usize = 6;

/// Writes a report in UTF-8. References lead to `base_url`, before `/studies/…`.
pub fn write(report: &Report, base_url: &str) -> String {
    let mut out = String::with_capacity(16 * 1024);
    let title = escape(&report.title);
    let _ = write!(
        out,
        "<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n<dl>\n"
    );
    for (label, text) in &report.facts {
        let _ = writeln!(out, "<div><dt>{label}</dt><dd>{}</dd></div>", escape(text));
    }
    out += "</dl>\n</header>\n<main>\n";
    let mut writer = HtmlWriter { out, base_url, position: vec![1] };
    writer.items(&report.items);
    writer.out += "</main>\n</body>\n</html>\n";
    writer.out
}

struct HtmlWriter<'a> {
    out: String,
    base_url: &'a str,
    /// The position of the current item: the root is 1, its third item 1.3.
    position: Vec<u32>,
}

impl HtmlWriter<'_> {
    fn items(&mut self, items: &[ReportItem]) {
        for (index, item) in (1..).zip(items) {
            self.position.push(index);
            match item.value {
                ReportValue::Container => self.container(item),
                _ => self.item(item),
            }
            self.position.pop();
        }
    }

    fn container(&mut self, item: &ReportItem) {
        let _ = writeln!(self.out, "<section id=\"{}\">", identifier(&self.position));
        if let Some(concept) = &item.concept {
            let level = self.position.len().min(DEEPEST_HEADING);
            let _ = write!(self.out, "<h{level}>");
            self.concept(concept);
            let _ = writeln!(self.out, "</h{level}>");
        }
        self.items(&item.items);
        self.out += "</section>\n";
    }

    fn item(&mut self, item: &ReportItem) {
        let _ = write!(self.out, "<div class=\"item\" id=\"{}\"><p>", identifier(&self.position));
        if !item.relationship.is_empty() {
            let _ = write!(self.out, "<i>{}</i> ", item.relationship);
        }
        if let Some(concept) = &item.concept {
            self.out += "<b>";
            self.concept(concept);
            self.out += "</b> ";
        }
        self.value(&item.value);
        if !item.observed.is_empty() {
            let _ = write!(self.out, " <small>{}</small>", escape(&item.observed));
        }
        self.out += "</p>\n";
        self.items(&item.items);
        self.out += "</div>\n";
    }

    fn value(&mut self, value: &ReportValue) {
        match value {
            ReportValue::Container | ReportValue::None => {}
            ReportValue::Text(text) => {
                let _ = write!(self.out, "<span>{}</span>", escape(text));
            }
            ReportValue::Code(concept) => self.concept(concept),
            ReportValue::Instances(references) => {
                for (index, reference) in references.iter().enumerate() {
                    self.out += if index > 0 { ", " } else { "" };
                    self.reference(reference);
                }
            }
            ReportValue::Item(position) => {
                let number = position.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
                let _ = write!(self.out, "<a href=\"#{}\">item {number}</a>", identifier(position));
            }
        }
    }

    fn concept(&mut self, concept: &Concept) {
        let (code, meaning) = (escape(&concept.code), escape(&concept.meaning));
        let _ = write!(self.out, "<span title=\"{code}\">{meaning}</span>");
    }

    fn reference(&mut self, reference: &ReportReference) {
        let text = escape(&reference.text);
        let _ = match &reference.path {
            Some(path) => {
                write!(self.out, "<a href=\"{}{}\">{text}</a>", escape(self.base_url), escape(path))
            }
            None => write!(self.out, "<span>{text}</span>"),
        };
    }
}

fn identifier(position: &[u32]) -> String {
    position.iter().fold("item".to_owned(), |text, number| text + "-" + &number.to_string())
}

/// Escapes text for elements and quoted attributes.
fn escape(text: &str) -> Cow<'_, str> {
    let is_unseen = |c: char| c.is_control() || matches!(c, '\u{FFFE}' | '\u{FFFF}');
    let is_special = |c: char| matches!(c, '&' | '<' | '>' | '"' | '\'') || (is_unseen(c) && c != '\n');
    if !text.contains(is_special) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 32);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            '\t' | '\n' => escaped.push(letter),
            // Lines end with both, or with the first alone (PS3.5 §6.1.3).
            '\r' if letters.peek() == Some(&'\n') => {}
            '\r' | '\u{C}' => escaped.push('\n'),
            unseen if is_unseen(unseen) => escaped.push('\u{FFFD}'),
            letter => escaped.push(letter),
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_text() {
        for (text, expected) in [
            ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
            ("\" onclick=\"x", "&quot; onclick=&quot;x"),
            ("' & \0\u{1b}", "&#39; &amp; \u{FFFD}\u{FFFD}"),
            ("a\r\nb\rc\nd\te", "a\nb\nc\nd\te"),
            ("plain é", "plain é"),
            ("\u{FFFE}", "\u{FFFD}"),
        ] {
            assert_eq!(escape(text), expected);
        }
    }

    #[test]
    fn nothing_in_a_report_becomes_markup() {
        let evil = "</style><script>x</script>\"'";
        let concept = Concept { meaning: evil.into(), code: evil.into() };
        let reference = ReportReference { text: evil.into(), path: Some(evil.into()) };
        let values = [
            ReportValue::Container,
            ReportValue::Text(evil.into()),
            ReportValue::Code(concept.clone()),
            ReportValue::Instances(vec![reference.clone(), ReportReference { path: None, ..reference }]),
        ];
        let items = values.map(|value| ReportItem {
            concept: Some(concept.clone()),
            value,
            observed: evil.into(),
            ..ReportItem::default()
        });
        let report =
            Report { title: evil.into(), facts: vec![("Patient", evil.into())], items: items.into() };
        let html = write(&report, evil);
        assert!(!html.contains("<script"), "{html}");
        assert_eq!(html.matches("</style>").count(), 1);
        assert!(!html.contains("=\"</style"), "{html}");
    }
}
