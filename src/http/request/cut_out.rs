//! The parameters of a cut-out of a volume (docs/mini.md).

use std::ops::Range;

use crate::archive::derived::mini::{CutOutRequest, PixelBox};
use crate::http::error::Error;
use crate::http::request::SIGNATURE_PREFIX;

/// The parameters.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::http) struct CutOutParameters {
    pub(in crate::http) request: CutOutRequest,
    /// Whether the cut-out is to be stored.
    pub(in crate::http) is_stored: bool,
}

impl CutOutParameters {
    /// Reads the parameters of a query. Those of the representation are read elsewhere.
    ///
    /// # Errors
    /// [`Error::Parameter`] if a parameter cannot be read, is there twice, or is unknown.
    pub(in crate::http) fn of(pairs: &[(String, String)]) -> Result<Self, Error> {
        let request = CutOutRequest { slices: None, area: None, binning: 1 };
        let mut found = Self { request, is_stored: false };
        for (place, (name, value)) in pairs.iter().enumerate() {
            let wrong = |reason: &str| Error::Parameter { name: name.clone(), reason: reason.into() };
            let request = &mut found.request;
            match name.as_str() {
                "accept" | "charset" => continue,
                "slices" => {
                    let range = slices(value).ok_or_else(|| wrong("is not `first-last`, from 0"))?;
                    request.slices = Some(range);
                }
                "box" => {
                    let area = area(value).ok_or_else(|| wrong("is not `x,y,width,height` in pixels"))?;
                    request.area = Some(area);
                }
                "binning" => match value.as_str() {
                    "1" | "2" | "4" => request.binning = u32::from(value.as_bytes()[0] - b'0'),
                    _ => return Err(wrong("is not 1, 2 or 4")),
                },
                "store" => match value.as_str() {
                    "true" => found.is_stored = true,
                    "false" => found.is_stored = false,
                    _ => return Err(wrong("is neither true nor false")),
                },
                name if name.starts_with(SIGNATURE_PREFIX) => continue,
                // The whole volume for a mistyped `slices` would be much that nobody asked for.
                _ => return Err(wrong("is no parameter of a cut-out")),
            }
            if pairs[..place].iter().any(|(other, _)| other == name) {
                return Err(wrong("is there twice"));
            }
        }
        Ok(found)
    }
}

/// Slices `first-last`, from 0, both included.
pub(in crate::http) fn slices(text: &str) -> Option<Range<u32>> {
    let (first, last) = text.split_once('-')?;
    let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
    Some(first..last.checked_add(1)?).filter(|range| range.start < range.end)
}

/// A box `x,y,width,height`.
fn area(text: &str) -> Option<PixelBox> {
    let numbers: Option<Vec<u32>> = text.split(',').map(|number| number.trim().parse().ok()).collect();
    match numbers?[..] {
        [x, y, width, height] => Some(PixelBox { x, y, width, height }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::query_pairs;

    fn of(query: &str) -> Result<CutOutParameters, Error> {
        CutOutParameters::of(&query_pairs(Some(query)))
    }

    #[test]
    fn parameters_are_read() {
        let found = of("slices=2-5&box=1,2,30,40&binning=4&accept=application/zip&store=true").unwrap();
        let area = Some(PixelBox { x: 1, y: 2, width: 30, height: 40 });
        assert_eq!(found.request, CutOutRequest { slices: Some(2..6), area, binning: 4 });
        assert!(found.is_stored);
        let nothing = of("cuspid-key=k&cuspid-expires=1").unwrap();
        assert_eq!(nothing.request, CutOutRequest { slices: None, area: None, binning: 1 });
        assert!(!nothing.is_stored);
    }

    #[test]
    fn a_wrong_parameter_is_named() {
        for (query, expected) in [
            ("slices=5-2", "slices"),
            ("slices=5", "slices"),
            ("slices=-1-2", "slices"),
            ("slices=0-4294967295", "slices"),
            ("box=1,2,3", "box"),
            ("box=1,2,3,4,5", "box"),
            ("box=-1,2,3,4", "box"),
            ("box=1.5,2,3,4", "box"),
            ("binning=3", "binning"),
            ("binning=", "binning"),
            ("store=yes", "store"),
            ("slice=0-1", "slice"),
            ("slices=0-1&slices=0-1", "slices"),
        ] {
            let Err(Error::Parameter { name, .. }) = of(query) else { panic!("{query} is read") };
            assert_eq!(name, expected, "{query}");
        }
    }
}
