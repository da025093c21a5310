//! Values of DICOM JSON as bytes, little endian, not padded (PS3.5 §6.2, PS3.18 §F.2.3).

use serde_json::{Number, Value as Json};

use crate::dicom::attributes::{Tag, Vr};

/// Characters of a value of DS (PS3.5 §6.2).
const MAX_DECIMAL_CHARACTERS: usize = 16;

/// The bytes of the values of an attribute; `vr` is not SQ.
///
/// # Errors
/// The fault, as the end of a sentence about the attribute. No value is repeated: it may be patient data.
pub(super) fn encode(vr: Vr, values: &[Json]) -> Result<Vec<u8>, String> {
    match &vr.0 {
        b"OB" | b"OD" | b"OF" | b"OL" | b"OV" | b"OW" | b"UN" if values.is_empty() => Ok(Vec::new()),
        b"OB" | b"OD" | b"OF" | b"OL" | b"OV" | b"OW" | b"UN" => {
            Err(format!("has a Value, which {vr:?} cannot have: it takes InlineBinary or BulkDataURI"))
        }
        b"AT" => numbers(vr, values, |value| {
            let tag: Tag = value.as_str()?.parse().ok()?;
            Some([tag.group().to_le_bytes(), tag.element().to_le_bytes()].concat())
        }),
        b"SS" => numbers(vr, values, |value| Some(i16::try_from(integer(value)?).ok()?.to_le_bytes())),
        b"US" => numbers(vr, values, |value| Some(u16::try_from(integer(value)?).ok()?.to_le_bytes())),
        b"SL" => numbers(vr, values, |value| Some(i32::try_from(integer(value)?).ok()?.to_le_bytes())),
        b"UL" => numbers(vr, values, |value| Some(u32::try_from(integer(value)?).ok()?.to_le_bytes())),
        b"SV" => numbers(vr, values, |value| Some(i64::try_from(integer(value)?).ok()?.to_le_bytes())),
        b"UV" => numbers(vr, values, |value| Some(u64::try_from(integer(value)?).ok()?.to_le_bytes())),
        b"FL" => numbers(vr, values, |value| Some((real(value)? as f32).to_le_bytes())),
        b"FD" => numbers(vr, values, |value| Some(real(value)?.to_le_bytes())),
        b"PN" => joined(vr, values, name),
        b"DS" => joined(vr, values, |value| match value {
            Json::Number(number) => Some(decimal(number)),
            other => text(other),
        }),
        b"LT" | b"ST" | b"UR" | b"UT" if values.len() > 1 => {
            Err(format!("has more than one value, which {vr:?} cannot have"))
        }
        _ => joined(vr, values, text),
    }
}

fn numbers<B: AsRef<[u8]>>(
    vr: Vr,
    values: &[Json],
    read: impl Fn(&Json) -> Option<B>,
) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    for value in values {
        bytes.extend_from_slice(read(value).ok_or_else(|| wrong(vr))?.as_ref());
    }
    Ok(bytes)
}

fn joined(vr: Vr, values: &[Json], read: impl Fn(&Json) -> Option<String>) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            bytes.push(b'\\');
        }
        bytes.extend_from_slice(read(value).ok_or_else(|| wrong(vr))?.as_bytes());
    }
    Ok(bytes)
}

fn wrong(vr: Vr) -> String {
    format!("has a value that is not {vr:?}")
}

/// An integer, also as text, and as a real number that is one.
fn integer(value: &Json) -> Option<i128> {
    match value {
        Json::Number(number) => {
            let whole = || number.as_f64().filter(|real| real.fract() == 0.0).map(|real| real as i128);
            number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from)).or_else(whole)
        }
        Json::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A real number, also as text, as JSON cannot write infinity otherwise.
fn real(value: &Json) -> Option<f64> {
    match value {
        Json::Number(number) => number.as_f64(),
        Json::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A string; some senders write numbers for what is text.
fn text(value: &Json) -> Option<String> {
    match value {
        Json::Null => Some(String::new()),
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A person name: its groups with `=` between, those that end empty left out (PS3.5 §6.2.1.1). Some senders
/// write a string.
fn name(value: &Json) -> Option<String> {
    let Json::Object(groups) = value else { return text(value) };
    let mut name = String::new();
    for (index, key) in ["Alphabetic", "Ideographic", "Phonetic"].into_iter().enumerate() {
        if index > 0 {
            name.push('=');
        }
        match groups.get(key) {
            None | Some(Json::Null) => {}
            Some(Json::String(group)) => name.push_str(group),
            Some(_) => return None,
        }
    }
    Some(name.trim_end_matches('=').to_owned())
}

/// A number as DS, with as many digits as the representation has room for.
fn decimal(number: &Number) -> String {
    let exact = number.to_string();
    let Some(real) = number.as_f64().filter(|_| exact.len() > MAX_DECIMAL_CHARACTERS) else { return exact };
    let shortest = format!("{real:e}");
    if shortest.len() <= MAX_DECIMAL_CHARACTERS {
        return shortest;
    }
    // The digits that are lost are beyond the tenth.
    let fixed = (0..MAX_DECIMAL_CHARACTERS).rev().map(|digits| format!("{real:.digits$}"));
    let fixed = fixed.filter(|_| (1e-3..1e15).contains(&real.abs()));
    let scientific = (0..MAX_DECIMAL_CHARACTERS).rev().map(|digits| format!("{real:.digits$e}"));
    fixed.chain(scientific).find(|text| text.len() <= MAX_DECIMAL_CHARACTERS).unwrap_or(exact)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_encoded_by_their_representation() {
        for (vr, values, expected) in [
            (b"LO", json!(["a", null, "b"]), b"a\\\\b".to_vec()),
            (b"IS", json!([1, "+2", -3]), b"1\\+2\\-3".to_vec()),
            (b"DS", json!([0.5, "1.50", 7, null]), b"0.5\\1.50\\7\\".to_vec()),
            (b"UT", json!(["a\\b"]), b"a\\b".to_vec()),
            (b"UI", json!(["1.2"]), b"1.2".to_vec()),
            (b"PN", json!([{"Alphabetic": "A^B", "Phonetic": "C"}, "D^E", {}]), b"A^B==C\\D^E\\".to_vec()),
            (b"AT", json!(["00100020", "7fe00010"]), vec![0x10, 0, 0x20, 0, 0xE0, 0x7F, 0x10, 0]),
            (b"SS", json!([-2, "3", 4.0]), vec![0xFE, 0xFF, 3, 0, 4, 0]),
            (b"US", json!([65535]), vec![0xFF, 0xFF]),
            (b"SL", json!([-1]), vec![0xFF; 4]),
            (b"UL", json!([4_294_967_295_u32]), vec![0xFF; 4]),
            (b"SV", json!(["-1"]), vec![0xFF; 8]),
            (b"UV", json!([u64::MAX]), vec![0xFF; 8]),
            (b"FL", json!([0.5]), 0.5_f32.to_le_bytes().to_vec()),
            (b"FD", json!([1, "-inf"]), [1_f64.to_le_bytes(), f64::NEG_INFINITY.to_le_bytes()].concat()),
            (b"OB", json!([]), vec![]),
        ] {
            let found = encode(Vr(*vr), values.as_array().unwrap());
            assert_eq!(found, Ok(expected), "{} {values}", Vr(*vr).as_str());
        }
    }

    #[test]
    fn what_is_no_value_of_the_representation_is_refused() {
        for (vr, values) in [
            (b"US", json!([65536])),
            (b"US", json!([-1])),
            (b"US", json!([1.5])),
            (b"SS", json!([null])),
            (b"UV", json!([-1])),
            (b"SL", json!(["x"])),
            (b"FD", json!(["x"])),
            (b"AT", json!(["PatientID"])),
            (b"AT", json!([1])),
            (b"LO", json!([{}])),
            (b"LO", json!([true])),
            (b"PN", json!([{"Alphabetic": 1}])),
            (b"LT", json!(["a", "b"])),
            (b"OW", json!([1])),
        ] {
            assert!(encode(Vr(*vr), values.as_array().unwrap()).is_err(), "{} {values}", Vr(*vr).as_str());
        }
    }

    #[test]
    fn decimals_have_as_many_digits_as_there_is_room_for() {
        for (number, expected) in [
            (json!(0.5), "0.5"),
            (json!(0.333_333_333_333_333_3), "0.33333333333333"),
            (json!(-123_456.789_012_345_67), "-123456.78901235"),
            (json!(1.5e-7), "1.5e-7"),
            (json!(-1.234_567_890_123_456_7e-10), "-1.234567890e-10"),
            (json!(12_345_678_901_234_567_u64), "1.23456789012e16"),
        ] {
            let Json::Number(number) = number else { panic!("a number") };
            let text = decimal(&number);
            assert!(text.len() <= MAX_DECIMAL_CHARACTERS, "{text}");
            assert_eq!(text, expected);
        }
    }
}
