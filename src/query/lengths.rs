//! The lengths of matching keys: a key longer than any value of its VR matches nothing, and costs time
//! (PS3.5 §6.2).

use crate::dicom::attributes::Vr;

/// The maximum number of values in a list, except a list of UIDs.
const MAX_LIST_VALUES: usize = 1000;
/// The maximum number of component groups of a name (PS3.5 §6.2.1).
const MAX_GROUPS: usize = 3;
/// The maximum length of a short text. The standard allows 16 characters for AE, CS and SH; many systems send
/// more, such as accession numbers of 20 characters, and what is stored can be found.
const MAX_SHORT_CHARACTERS: usize = 64;
/// The maximum length of a key for the VRs without a limit (UC, UR, UT, UN): that of LT.
const MAX_LONG_CHARACTERS: usize = 10_240;

/// The maximum length of a value of a VR in a query, in characters without `*`; for PN, of a component group.
/// `None` for values that are parsed as dates, times or numbers.
fn max_characters(vr: Vr) -> Option<usize> {
    match &vr.0 {
        b"AE" | b"AS" | b"AT" | b"CS" | b"LO" | b"PN" | b"SH" | b"UI" => Some(MAX_SHORT_CHARACTERS),
        b"ST" => Some(1024),
        b"DA" | b"TM" | b"DT" | b"IS" | b"DS" | b"US" | b"SS" | b"UL" | b"SL" | b"FL" | b"FD" | b"UV"
        | b"SV" => None,
        _ => Some(MAX_LONG_CHARACTERS),
    }
}

/// The characters that separate the values of a list: the comma of PS3.18 for UIDs and codes, and the
/// backslash of PS3.4.
fn separators(vr: Vr) -> &'static [char] {
    match &vr.0 {
        b"UI" | b"CS" => &[',', '\\'],
        b"AE" | b"AS" | b"AT" | b"LO" | b"PN" | b"SH" | b"UC" => &['\\'],
        _ => &[],
    }
}

/// Checks the length of a matching key.
///
/// # Errors
/// The limit in words, if a value is longer than its VR allows, or if a list has too many values.
pub(super) fn check(vr: Vr, value: &str) -> Result<(), String> {
    let Some(max) = max_characters(vr) else { return Ok(()) };
    let mut values = 0;
    for value in value.split(separators(vr)) {
        values += 1;
        let groups = if vr.0 == *b"PN" { value.split('=').count() } else { 1 };
        let is_short = |group: &str| group.chars().filter(|character| *character != '*').nth(max).is_none();
        let is_valid = match &vr.0 {
            b"PN" => groups <= MAX_GROUPS && value.split('=').map(str::trim).all(is_short),
            _ => is_short(value.trim()),
        };
        if !is_valid {
            let vr = vr.as_str();
            return Err(format!("a value of at most {max} characters ({vr})"));
        }
    }
    if values > MAX_LIST_VALUES && vr.0 != *b"UI" {
        return Err(format!("a list of at most {MAX_LIST_VALUES} values"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_as_long_as_a_value_of_its_vr_at_most() {
        let of = |length: usize| "x".repeat(length);
        for (vr, value, is_valid) in [
            (b"LO", of(64), true),
            (b"LO", of(65), false),
            (b"LO", "ü".repeat(64), true),
            (b"LO", format!("*{}*", of(64)), true),
            (b"LO", format!("  {} ", of(64)), true),
            (b"LO", format!("{}\\{}", of(64), of(64)), true),
            (b"SH", of(20), true),
            (b"SH", of(65), false),
            (b"CS", format!("{},{}", of(64), of(64)), true),
            (b"CS", format!("{},{}", of(64), of(65)), false),
            (b"CS", "a,".repeat(999), true),
            (b"CS", "a,".repeat(1000), false),
            (b"UI", "1.2,".repeat(5000), true),
            (b"UI", format!("1.2,{}", of(65)), false),
            (b"PN", format!("{}={}={}", of(64), of(64), of(64)), true),
            (b"PN", of(65), false),
            (b"PN", "a=b=c=d".to_owned(), false),
            (b"ST", of(1024), true),
            (b"ST", of(1025), false),
            (b"LT", of(10_240), true),
            (b"LT", of(10_241), false),
            (b"UT", of(10_241), false),
            (b"UC", of(10_241), false),
            (b"UR", of(10_241), false),
            (b"UN", of(10_241), false),
        ] {
            assert_eq!(check(Vr(*vr), &value).is_ok(), is_valid, "{vr:?} {}", value.len());
        }
    }
}
