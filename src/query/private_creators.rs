//! Private attributes in queries (PS3.5 §7.8.1, PS3.18 §8.3.4.1).
//!
//! A query reserves blocks for private creators itself. In a data set, the same creator may have another
//! block, so that tags must be translated.

use crate::dicom::attributes::{Attribute, Attributes, Tag};

/// Whether a tag is that of a Private Creator element.
pub fn is_creator(tag: Tag) -> bool {
    tag.is_private() && (0x10..=0xFF).contains(&tag.element())
}

/// The tag of the Private Creator element that reserves the block of a private attribute; `None` for other
/// attributes.
pub fn creator_of(tag: Tag) -> Option<Tag> {
    let is_in_block = tag.is_private() && tag.element() >= 0x1000;
    is_in_block.then_some(Tag(tag.0 & 0xFFFF_0000 | u32::from(tag.element() >> 8)))
}

/// Whether a tag is that of a creator that the query names, or lies in the block of one.
pub fn is_named(tag: Tag, creators: &[(Tag, String)]) -> bool {
    let creator = if is_creator(tag) { Some(tag) } else { creator_of(tag) };
    creator.is_some_and(|creator| creators.iter().any(|(known, _)| *known == creator))
}

/// Translates the tag of an attribute from the query's blocks to those of a data set.
///
/// Returns the same tag if it is not private, or if the query does not name its creator; `None` if the
/// creator has no block in the data set.
pub fn tag_in_data_set(tag: Tag, creators: &[(Tag, String)], data_set: &Attributes) -> Option<Tag> {
    let of_query = if is_creator(tag) { Some(tag) } else { creator_of(tag) };
    let known = of_query.and_then(|creator| creators.iter().find(|(known, _)| *known == creator));
    let Some((creator, name)) = known else { return Some(tag) };
    let blocks = Tag(creator.0 & 0xFFFF_0000 | 0x10)..=Tag(creator.0 & 0xFFFF_0000 | 0xFF);
    let is_named = |attribute: &Attribute| attribute.first_text().is_some_and(|text| text.trim() == name);
    let (block, _) = data_set.range(blocks).find(|(_, attribute)| is_named(attribute))?;
    let is_creator = tag == *creator;
    Some(if is_creator { *block } else { Tag(tag.0 & 0xFFFF_00FF | u32::from(block.element()) << 8) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_tags_are_translated_to_the_block_of_their_creator() {
        let creator = |name: &str| Attribute::text(b"LO", name);
        let data_set = Attributes::from([
            (Tag(0x0009_0010), creator("OTHER")),
            (Tag(0x0009_0020), creator("ACME ")),
            (Tag(0x000B_0010), creator("ACME")),
        ]);
        let creators = [(Tag(0x0009_0010), "ACME".to_owned()), (Tag(0x000D_0010), "ACME".to_owned())];
        for (tag, expected) in [
            (0x0009_1001, Some(0x0009_2001)),
            (0x0009_0010, Some(0x0009_0020)),
            (0x0009_1101, Some(0x0009_1101)),
            (0x000B_1001, Some(0x000B_1001)),
            (0x000D_1001, None),
            (0x0010_0010, Some(0x0010_0010)),
        ] {
            assert_eq!(tag_in_data_set(Tag(tag), &creators, &data_set), expected.map(Tag), "{tag:08X}");
        }
    }
}
