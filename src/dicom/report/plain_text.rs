//! A structured report as plain text, two spaces for each level.

use std::fmt::Write;

use crate::dicom::report::{Report, ReportItem, ReportValue};

/// Writes a report. References lead to `base_url`, before `/studies/…`.
pub fn write(report: &Report, base_url: &str) -> String {
    let mut out = format!("{}\n\n", line(&report.title));
    for (label, text) in &report.facts {
        let _ = writeln!(out, "{label}: {}", line(text));
    }
    out.push('\n');
    items(&report.items, &mut vec![1], base_url, &mut out);
    out
}

fn items(list: &[ReportItem], position: &mut Vec<u32>, base_url: &str, out: &mut String) {
    for (index, item) in (1..).zip(list) {
        let indent = "  ".repeat(position.len() - 1);
        position.push(index);
        let concept = item.concept.as_ref().map(|concept| line(&concept.meaning) + ":");
        let value = indented(&value(&item.value, base_url), &indent);
        let parts = [item.relationship.to_owned(), concept.unwrap_or_default(), value, line(&item.observed)];
        let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        if !parts.is_empty() {
            let _ = writeln!(out, "{indent}{}", parts.join(" "));
        }
        items(&item.items, position, base_url, out);
        position.pop();
    }
}

fn value(value: &ReportValue, base_url: &str) -> String {
    match value {
        ReportValue::None | ReportValue::Container => String::new(),
        ReportValue::Text(text) => text.clone(),
        ReportValue::Code(concept) => concept.meaning.clone(),
        ReportValue::Instances(references) => {
            let written = references.iter().map(|reference| match &reference.path {
                Some(path) => format!("{} <{base_url}{path}>", reference.text),
                None => reference.text.clone(),
            });
            written.collect::<Vec<_>>().join(", ")
        }
        ReportValue::Item(position) => {
            let number = position.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
            format!("item {number}")
        }
    }
}

/// Text on one line.
fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Indents the lines after the first by one more level than the first.
fn indented(text: &str, indent: &str) -> String {
    let unified = text.replace("\r\n", "\n").replace('\r', "\n");
    let visible: String = unified.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
    visible.replace('\n', &format!("\n{indent}  "))
}
