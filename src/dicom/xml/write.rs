//! Writing the Native DICOM Model (PS3.19 §A.1.5).

use serde_json::{Map, Value as Json};

use crate::dicom::attributes::Tag;
use crate::dicom::dictionary;
use crate::dicom::xml::{NAME_GROUPS, NAME_PARTS, NAMESPACE};

/// Appends one data set, a DICOM JSON object, as a `NativeDicomModel` document in UTF-8, with its XML
/// declaration.
///
/// A private attribute is written as `gggg00ee` with its creator beside it, whatever block the creator
/// reserved in this data set; creators are written too. Characters that XML 1.0 cannot hold become U+FFFD.
/// Values that are not DICOM JSON are left out.
pub fn write(data_set: &Json, out: &mut Vec<u8>) {
    out.extend_from_slice(b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<NativeDicomModel xmlns=\"");
    out.extend_from_slice(NAMESPACE.as_bytes());
    out.extend_from_slice(b"\" xml:space=\"preserve\">");
    write_attributes(data_set, out);
    out.extend_from_slice(b"</NativeDicomModel>\n");
}

fn write_attributes(data_set: &Json, out: &mut Vec<u8>) {
    let Json::Object(attributes) = data_set else { return };
    for (key, attribute) in attributes {
        let Ok(tag) = key.parse::<Tag>() else { continue };
        let vr = attribute["vr"].as_str().unwrap_or("UN");
        let (tag_written, creator) = match private_creator(tag, attributes) {
            Some((creator, true)) => (Tag(tag.0 & 0xFFFF_00FF), Some(creator)),
            Some((creator, false)) => (tag, Some(creator)),
            None => (tag, None),
        };
        out.extend_from_slice(format!("<DicomAttribute tag=\"{tag_written}\" vr=\"").as_bytes());
        write_text(vr, out);
        for (name, value) in [("keyword", dictionary::keyword(tag)), ("privateCreator", creator)] {
            if let Some(value) = value {
                out.extend_from_slice(format!("\" {name}=\"").as_bytes());
                write_text(value, out);
            }
        }
        out.extend_from_slice(b"\">");
        write_content(vr, attribute, out);
        out.extend_from_slice(b"</DicomAttribute>");
    }
}

/// Returns the creator of a private attribute, and whether the creator reserved no block before this one, so
/// that the creator alone identifies the block. `None` if the attribute is not private, is a creator, or has
/// none.
fn private_creator(tag: Tag, attributes: &Map<String, Json>) -> Option<(&str, bool)> {
    let block = u32::from(tag.element() >> 8);
    if !tag.is_private() || block < 0x10 {
        return None;
    }
    let creator_of = |block: u32| {
        let creator = Tag(tag.0 & 0xFFFF_0000 | block);
        let creator = attributes.get(&creator.to_string())?["Value"][0].as_str()?;
        Some(creator.trim_end()).filter(|creator| !creator.is_empty())
    };
    let creator = creator_of(block)?;
    Some((creator, (0x10..block).all(|earlier| creator_of(earlier) != Some(creator))))
}

fn write_content(vr: &str, attribute: &Json, out: &mut Vec<u8>) {
    if let Json::String(uri) = &attribute["BulkDataURI"] {
        out.extend_from_slice(b"<BulkData uri=\"");
        write_text(uri, out);
        out.extend_from_slice(b"\"/>");
    }
    if let Json::String(base64) = &attribute["InlineBinary"] {
        write_element("InlineBinary", base64, out);
    }
    let Json::Array(values) = &attribute["Value"] else { return };
    let element = match vr {
        "SQ" => "Item",
        "PN" => "PersonName",
        _ => "Value",
    };
    for (index, value) in values.iter().enumerate() {
        out.extend_from_slice(format!("<{element} number=\"{}\">", index + 1).as_bytes());
        match value {
            Json::Object(_) if vr == "SQ" => write_attributes(value, out),
            Json::Object(_) => NAME_GROUPS.iter().for_each(|group| write_name(group, &value[*group], out)),
            Json::String(_) if vr == "PN" => write_name(NAME_GROUPS[0], value, out),
            Json::String(text) => write_text(text, out),
            Json::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Json::Null | Json::Bool(_) | Json::Array(_) => {}
        }
        out.extend_from_slice(format!("</{element}>").as_bytes());
    }
}

/// Writes a component group of a name. The text after a fifth separator stays part of the fifth component.
fn write_name(group: &str, name: &Json, out: &mut Vec<u8>) {
    let Some(name) = name.as_str().filter(|name| name.contains(|letter| letter != '^')) else { return };
    out.extend_from_slice(format!("<{group}>").as_bytes());
    for (part, element) in name.splitn(NAME_PARTS.len(), '^').zip(NAME_PARTS) {
        if !part.is_empty() {
            write_element(element, part, out);
        }
    }
    out.extend_from_slice(format!("</{group}>").as_bytes());
}

fn write_element(name: &str, text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("<{name}>").as_bytes());
    write_text(text, out);
    out.extend_from_slice(format!("</{name}>").as_bytes());
}

/// Appends text that may stand in an element or in a quoted attribute. Line ends are written as character
/// references where a parser would normalize them.
fn write_text(text: &str, out: &mut Vec<u8>) {
    for character in text.chars() {
        match character {
            '&' => out.extend_from_slice(b"&amp;"),
            '<' => out.extend_from_slice(b"&lt;"),
            '>' => out.extend_from_slice(b"&gt;"),
            '"' => out.extend_from_slice(b"&quot;"),
            '\t' | '\n' | '\r' => out.extend_from_slice(format!("&#{};", character as u32).as_bytes()),
            '\0'..' ' | '\u{FFFE}' | '\u{FFFF}' => out.extend_from_slice("\u{FFFD}".as_bytes()),
            _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}
