//! Reads the Native DICOM Model from untrusted input: no document type, no entities, bounded depth (PS3.19
//! §A.1.5).

use std::collections::BTreeMap;

use quick_xml::XmlVersion;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesDecl, BytesStart, Event};
use quick_xml::reader::Reader;
use serde_json::{Map, Number, Value as Json, json};

use crate::dicom::attributes::{Tag, Vr};
use crate::dicom::dictionary;
use crate::dicom::value_reader::json_number;
use crate::dicom::xml::{Error, NAME_GROUPS, NAME_PARTS};

/// XML attributes of one element, at most: finding doubles among them takes the square of their number.
const MAX_XML_ATTRIBUTES: usize = 16;
/// Empty values in a row that may be left out before a `Value`, `Item` or `PersonName`, at most. Each takes
/// memory.
const MAX_LEFT_OUT: usize = 16;
/// XML elements for each attribute or item that is allowed, at most: values, names and their parts.
const XML_ELEMENTS: usize = 4;

/// Reads one `NativeDicomModel` as a DICOM JSON object; `BulkData` elements become `BulkDataURI`.
///
/// Private attributes get the block that their creator has reserved in the data set; if it has none it gets
/// the first free one, with a Private Creator. Group lengths are left out. Numbers become JSON numbers; those
/// of DS and IS stay text where a JSON number would be written otherwise. The result takes about a kilobyte
/// for each attribute, so that their number is limited to `max_elements`, items included.
///
/// # Errors
/// [`Error::Syntax`] if it is no XML in UTF-8, or has a document type or an entity of its own;
/// [`Error::Model`] if it is no Native DICOM Model, has an attribute twice, or too many elements;
/// [`Error::TooDeep`] if more than `max_depth` sequences are within each other. Reading recurses for each of
/// them.
pub fn read(text: &[u8], max_depth: usize, max_elements: usize) -> Result<Json, Error> {
    let text = std::str::from_utf8(text).map_err(|_| syntax("the text is not UTF-8"))?;
    let reader = Reader::from_str(text.trim_start_matches('\u{FEFF}'));
    let mut parser = Parser { reader, open: 0, elements: 0, xml_elements: 0, max_depth, max_elements };
    parser.reader.config_mut().expand_empty_elements = true;
    let Some(root) = parser.child()? else { return Err(model("there is no element")) };
    if root.name != "NativeDicomModel" {
        return Err(model("the root is not NativeDicomModel"));
    }
    let data_set = parser.data_set(0)?;
    match parser.child()? {
        None => Ok(data_set),
        Some(_) => Err(model("there is more than one root")),
    }
}

/// An element's name without prefix, and its XML attributes.
struct XmlElement {
    name: String,
    attributes: Vec<(String, String)>,
}

impl XmlElement {
    fn new(start: &BytesStart<'_>) -> Result<Self, Error> {
        let mut attributes = Vec::new();
        for attribute in start.attributes() {
            if attributes.len() == MAX_XML_ATTRIBUTES {
                return Err(model("an element has too many XML attributes"));
            }
            let attribute = attribute.map_err(syntax)?;
            let value = attribute.normalized_value(XmlVersion::Explicit1_0).map_err(syntax)?;
            attributes.push((attribute.key.local_name().as_ref().to_owned(), value.into_owned()));
        }
        Ok(Self { name: start.local_name().as_ref().to_owned(), attributes })
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// An attribute as it stands in the text, before its private block is known.
struct ReadElement {
    tag: Tag,
    creator: Option<String>,
    attribute: Json,
}

struct Parser<'a> {
    reader: Reader<&'a [u8]>,
    /// Open elements: quick-xml reports a wrong end, but not a missing one.
    open: usize,
    /// Attributes and items so far.
    elements: usize,
    /// Elements of XML so far.
    xml_elements: usize,
    max_elements: usize,
    max_depth: usize,
}

impl Parser<'_> {
    /// The next element within the one that is open; `None` at its end, which is consumed, or at the end of
    /// the text.
    fn child(&mut self) -> Result<Option<XmlElement>, Error> {
        loop {
            match self.reader.read_event().map_err(syntax)? {
                Event::Start(start) => {
                    self.open += 1;
                    self.xml_elements += 1;
                    if self.xml_elements > XML_ELEMENTS.saturating_mul(self.max_elements) {
                        return Err(self.too_many());
                    }
                    return XmlElement::new(&start).map(Some);
                }
                Event::End(_) => {
                    self.open -= 1;
                    return Ok(None);
                }
                Event::Eof if self.open == 0 => return Ok(None),
                Event::Eof => return Err(syntax("the text ends within an element")),
                Event::Decl(declaration) => check_encoding(&declaration)?,
                Event::Text(text) if text.trim().is_empty() => {}
                Event::Comment(_) | Event::PI(_) => {}
                Event::DocType(_) => return Err(syntax("a document type is not allowed")),
                Event::Text(_) | Event::CData(_) | Event::GeneralRef(_) => {
                    return Err(model("there is text where an element should be"));
                }
                Event::Empty(_) => return Err(syntax("an element has no end")),
            }
        }
    }

    /// Counts an attribute or an item.
    fn count(&mut self) -> Result<(), Error> {
        self.elements += 1;
        if self.elements > self.max_elements { Err(self.too_many()) } else { Ok(()) }
    }

    fn too_many(&self) -> Error {
        model(format!("there are more than {} elements (ingest.max_metadata_elements)", self.max_elements))
    }

    /// The text of the element that is open, whose end is consumed.
    fn text(&mut self) -> Result<String, Error> {
        let mut text = String::new();
        loop {
            match self.reader.read_event().map_err(syntax)? {
                Event::Text(part) => text += &part.xml10_content(),
                Event::CData(part) => text += &part.xml10_content(),
                Event::GeneralRef(reference) => match reference.resolve_char_ref().map_err(syntax)? {
                    Some(character) => text.push(character),
                    None => match resolve_predefined_entity(&reference) {
                        Some(character) => text += character,
                        None => return Err(syntax("an entity is not one of those that XML has by itself")),
                    },
                },
                Event::End(_) => {
                    self.open -= 1;
                    return Ok(text);
                }
                Event::Comment(_) | Event::PI(_) => {}
                Event::Eof => return Err(syntax("the text ends within an element")),
                Event::DocType(_) | Event::Decl(_) => return Err(syntax("a declaration is out of place")),
                Event::Start(_) | Event::Empty(_) => {
                    return Err(model("there is an element where text should be"));
                }
            }
        }
    }

    /// The attributes of the element that is open. `depth` counts the sequences around them.
    fn data_set(&mut self, depth: usize) -> Result<Json, Error> {
        let mut attributes = Vec::new();
        while let Some(element) = self.child()? {
            if element.name != "DicomAttribute" {
                return Err(unexpected(&element.name, "a data set"));
            }
            self.count()?;
            let tag = element.get("tag").and_then(|tag| tag.parse::<Tag>().ok());
            let tag = tag.ok_or_else(|| model("a DicomAttribute has no tag of eight hexadecimal digits"))?;
            let vr = match element.get("vr").map(str::as_bytes) {
                Some(&[first, second]) if [first, second].iter().all(u8::is_ascii_uppercase) => {
                    Vr([first, second])
                }
                Some(_) => return Err(model(format!("the vr of {tag} is not two capital letters"))),
                None => dictionary::vr(tag, false),
            };
            let creator = element.get("privateCreator").filter(|_| tag.is_private()).map(str::to_owned);
            let attribute = self.attribute(tag, vr, depth)?;
            if tag.element() != 0 {
                attributes.push(ReadElement { tag, creator, attribute });
            }
        }
        place(attributes).map(Json::Object)
    }

    fn attribute(&mut self, tag: Tag, vr: Vr, depth: usize) -> Result<Json, Error> {
        let mut attribute = json!({ "vr": vr.as_str() });
        let mut values = BTreeMap::new();
        let mut has_binary = false;
        while let Some(element) = self.child()? {
            let value = match element.name.as_str() {
                "Value" => number_or_text(vr, self.text()?),
                "PersonName" => self.person_name()?,
                "Item" if depth < self.max_depth => {
                    self.count()?;
                    self.data_set(depth + 1)?
                }
                "Item" => return Err(Error::TooDeep(self.max_depth)),
                name @ ("InlineBinary" | "BulkData") => {
                    let (key, binary) = self.binary(tag, name, &element)?;
                    if std::mem::replace(&mut has_binary, true) {
                        return Err(model(format!("{tag} has more than one value")));
                    }
                    attribute[key] = binary.into();
                    continue;
                }
                name => return Err(unexpected(name, &tag.to_string())),
            };
            let number = number(tag, &element, &values)?;
            if values.insert(number, value).is_some() {
                return Err(model(format!("{tag} has value {number} twice")));
            }
        }
        match (has_binary, values.is_empty()) {
            (true, false) => return Err(model(format!("{tag} has values of more than one kind"))),
            (false, false) => attribute["Value"] = in_order(tag, values)?,
            (_, true) => {}
        }
        Ok(attribute)
    }

    /// The key in DICOM JSON and the value of an `InlineBinary` or `BulkData`.
    fn binary(
        &mut self,
        tag: Tag,
        name: &str,
        element: &XmlElement,
    ) -> Result<(&'static str, String), Error> {
        let text = self.text()?;
        if name == "InlineBinary" {
            return Ok(("InlineBinary", text.split_ascii_whitespace().collect()));
        }
        let uri = element.get("uri").map(str::to_owned);
        Ok(("BulkDataURI", uri.ok_or_else(|| model(format!("the BulkData of {tag} has no uri")))?))
    }

    fn person_name(&mut self) -> Result<Json, Error> {
        let mut name = Map::new();
        while let Some(group) = self.child()? {
            if !NAME_GROUPS.contains(&group.name.as_str()) {
                return Err(unexpected(&group.name, "a PersonName"));
            }
            let mut parts: [String; NAME_PARTS.len()] = Default::default();
            while let Some(part) = self.child()? {
                let index = NAME_PARTS.iter().position(|name| *name == part.name);
                let index = index.ok_or_else(|| unexpected(&part.name, &group.name))?;
                parts[index] = self.text()?;
            }
            let text = parts.join("^");
            let text = text.trim_end_matches('^');
            if !text.is_empty() {
                name.insert(group.name, text.into());
            }
        }
        Ok(if name.is_empty() { Json::Null } else { Json::Object(name) })
    }
}

/// The number (from 1) of a value; the next one if it does not say.
fn number(tag: Tag, element: &XmlElement, before: &BTreeMap<usize, Json>) -> Result<usize, Error> {
    let last = before.last_key_value().map_or(0, |(number, _)| *number);
    let Some(number) = element.get("number") else { return Ok(last + 1) };
    let number = number.trim().parse::<u32>().ok().filter(|number| *number > 0);
    number.map(|number| number as usize).ok_or_else(|| model(format!("a number in {tag} is not one from 1")))
}

/// The values by their numbers, `null` where some were left out.
fn in_order(tag: Tag, values: BTreeMap<usize, Json>) -> Result<Json, Error> {
    let mut array = Vec::with_capacity(values.len());
    for (number, value) in values {
        if number - 1 - array.len() > MAX_LEFT_OUT {
            return Err(model(format!("more than {MAX_LEFT_OUT} values of {tag} are left out")));
        }
        array.resize(number - 1, Json::Null);
        array.push(value);
    }
    Ok(Json::Array(array))
}

fn number_or_text(vr: Vr, text: String) -> Json {
    let is_number =
        matches!(&vr.0, b"DS" | b"IS" | b"FD" | b"FL" | b"SL" | b"SS" | b"SV" | b"UL" | b"US" | b"UV");
    let number = || serde_json::from_str::<Number>(json_number(text.trim())?.as_ref()).ok();
    match is_number.then(number).flatten() {
        // A decimal string keeps the digits of its sender: 1.50 says more than 1.5.
        Some(number) if !matches!(&vr.0, b"DS" | b"IS") || number.to_string() == text => Json::Number(number),
        _ if text.is_empty() => Json::Null,
        _ => Json::String(text),
    }
}

/// Puts attributes into a data set, private ones where their creators have their blocks (PS3.5 §7.8.1).
fn place(attributes: Vec<ReadElement>) -> Result<Map<String, Json>, Error> {
    let mut blocks = Blocks::new(&attributes);
    let mut placed = BTreeMap::new();
    for ReadElement { tag, creator, attribute } in attributes {
        let tag = match &creator {
            Some(creator) => blocks.place(tag, creator)?,
            None => tag,
        };
        if placed.insert(tag, attribute).is_some() {
            return Err(model(format!("{tag} is there twice")));
        }
    }
    for (tag, creator) in blocks.added {
        placed.insert(tag, json!({ "vr": "LO", "Value": [creator] }));
    }
    Ok(placed.into_iter().map(|(tag, attribute)| (tag.to_string(), attribute)).collect())
}

/// The private blocks of a data set.
struct Blocks {
    /// The creator of each block, by its tag; `None` for a block that is used without a creator.
    owners: BTreeMap<Tag, Option<String>>,
    /// Creators that are to be added.
    added: Vec<(Tag, String)>,
}

impl Blocks {
    fn new(attributes: &[ReadElement]) -> Self {
        let mut owners = BTreeMap::new();
        for ReadElement { tag, attribute, .. } in
            attributes.iter().filter(|read| read.tag.is_private() && read.creator.is_none())
        {
            match tag.element() {
                0x10..=0xFF => {
                    let creator = attribute["Value"][0].as_str().map(|creator| creator.trim_end().to_owned());
                    owners.insert(*tag, creator);
                }
                element => drop(owners.entry(creator_tag(*tag, element >> 8)).or_insert(None)),
            }
        }
        Self { owners, added: Vec::new() }
    }

    /// The tag of a private attribute of a creator in this data set.
    fn place(&mut self, tag: Tag, creator: &str) -> Result<Tag, Error> {
        let creator = creator.trim_end();
        let named = creator_tag(tag, tag.element() >> 8);
        let is_owner = |owner: &Tag| self.owners.get(owner).is_some_and(|it| it.as_deref() == Some(creator));
        let mut all = (0x10..=0xFF).map(|block| creator_tag(tag, block));
        // A block that the tag names is kept where it can be; usually the tag is `gggg00ee` and names none.
        let known = Some(named).filter(is_owner).or_else(|| all.clone().find(is_owner));
        let block = known.or_else(|| {
            let is_free = |block: &Tag| !self.owners.contains_key(block);
            let block =
                Some(named).filter(|it| it.element() >= 0x10 && is_free(it)).or_else(|| all.find(is_free))?;
            self.owners.insert(block, Some(creator.to_owned()));
            self.added.push((block, creator.to_owned()));
            Some(block)
        });
        let block =
            block.ok_or_else(|| model(format!("group {:04X} has no private block left", tag.group())))?;
        Ok(Tag(tag.0 & 0xFFFF_00FF | u32::from(block.element()) << 8))
    }
}

fn creator_tag(tag: Tag, block: u16) -> Tag {
    Tag(tag.0 & 0xFFFF_0000 | u32::from(block))
}

fn check_encoding(declaration: &BytesDecl<'_>) -> Result<(), Error> {
    let encoding = declaration.encoding().transpose().map_err(syntax)?;
    let is_utf8 = |name: &str| ["utf-8", "utf8", "us-ascii"].contains(&name.to_ascii_lowercase().as_str());
    if encoding.is_none_or(|name| is_utf8(&name)) { Ok(()) } else { Err(syntax("the encoding is not UTF-8")) }
}

fn unexpected(name: &str, place: &str) -> Error {
    let name: String = name.chars().take(40).collect();
    model(format!("`{name}` is not an element of {place}"))
}

fn syntax(reason: impl ToString) -> Error {
    Error::Syntax(reason.to_string())
}

fn model(reason: impl Into<String>) -> Error {
    Error::Model(reason.into())
}
