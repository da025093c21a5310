//! Media types: what a client accepts, and which of the possible answers suits it best (PS3.18 §8.7).
//!
//! Viewers send merged, repeated, quoted, half quoted and misspelled forms; all that can be understood counts.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

/// A media type as it stands in Content-Type or Accept; names in lower case, `multipart/related` taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaType {
    /// Whether it is `multipart/related`.
    pub is_multipart: bool,
    /// The type; of a multipart type, that of its parts; `*/*` if none is named.
    pub essence: String,
    /// The `transfer-syntax` parameters: UIDs or `*`. More than one is against §8.7.3.5.2 but occurs.
    pub transfer_syntaxes: Vec<String>,
    /// The `boundary` parameter.
    pub boundary: Option<String>,
    /// The weight `q` in thousandths.
    pub weight: u16,
}

/// What a client accepts, best first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accept(Vec<MediaType>);

/// A form in which an answer could be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Whether as `multipart/related`.
    pub is_multipart: bool,
    /// The media type (of the parts).
    pub essence: &'static str,
    /// The transfer syntax UID; `None` where there is none to choose.
    pub transfer_syntax: Option<String>,
    /// Whether this form is meant when the client names none (PS3.18 Table 8.7.3-1, "default").
    pub is_default: bool,
}

impl Accept {
    /// What a request accepts: its query parameters `accept` (percent-encoded, as in the URL) if there are any
    /// (PS3.18 §8.3.3.1), else its Accept header fields, else anything.
    pub fn of(headers: &HeaderMap, query: Option<&str>) -> Self {
        let mut types: Vec<MediaType> = query
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.strip_prefix("accept="))
            .flat_map(|value| {
                let value = percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned();
                parse_list(&value)
            })
            .collect();
        if types.is_empty() {
            let fields = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
            types = fields.flat_map(parse_list).collect();
        }
        if types.is_empty() {
            types.push(MediaType::anything());
        }
        types.sort_by_key(|media_type| std::cmp::Reverse(media_type.weight));
        Self(types)
    }

    /// The offer that suits best: by the client's weights, then its order, then the order of the offers.
    pub fn choose<'a>(&self, offers: &'a [Offer]) -> Option<&'a Offer> {
        let refused = |offer: &Offer| self.0.iter().any(|range| range.weight == 0 && range.is_exactly(offer));
        self.0
            .iter()
            .filter(|range| range.weight > 0)
            .find_map(|range| offers.iter().find(|offer| range.takes(offer) && !refused(offer)))
    }

    /// Whether one of the ranges names a transfer syntax.
    pub fn names_transfer_syntax(&self) -> bool {
        self.0.iter().any(|range| !range.transfer_syntaxes.is_empty())
    }

    /// Whether one of the ranges names this transfer syntax.
    pub fn names(&self, transfer_syntax: &str) -> bool {
        self.0.iter().flat_map(|range| &range.transfer_syntaxes).any(|uid| uid == transfer_syntax)
    }

    /// Whether the client prefers one body or several parts, of whatever type; `None` if it accepts nothing.
    pub fn prefers_multipart(&self) -> Option<bool> {
        self.0.iter().find(|range| range.weight > 0).map(|range| range.is_multipart)
    }
}

impl MediaType {
    /// Reads one media type with its parameters; `None` if there is none in `text`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parameters = split_outside_quotes(text, ';').into_iter();
        let essence = canonical(unquote(parameters.next()?));
        let is_multipart = essence == "multipart/related" || essence == "multipart/*";
        let mut media_type = Self { is_multipart, essence, ..Self::anything() };
        if is_multipart || media_type.essence == "*" {
            media_type.essence = "*/*".into();
        } else if !media_type.essence.contains('/') {
            return None;
        }
        for parameter in parameters {
            media_type.set(parameter);
        }
        Some(media_type)
    }

    fn anything() -> Self {
        let essence = "*/*".to_owned();
        Self { is_multipart: false, essence, transfer_syntaxes: Vec::new(), boundary: None, weight: 1000 }
    }

    fn set(&mut self, parameter: &str) {
        let Some((name, value)) = parameter.split_once('=') else { return };
        let value = unquote(value);
        match name.trim().to_ascii_lowercase().as_str() {
            // Some write further parameters of the part's type inside the quotation marks.
            "type" if self.is_multipart => {
                let mut inner = value.split(';');
                let essence = canonical(inner.next().unwrap_or_default());
                if essence.contains('/') {
                    self.essence = essence;
                }
                inner.for_each(|parameter| self.set(parameter));
            }
            "transfer-syntax" if !value.is_empty() => self.transfer_syntaxes.push(value.to_owned()),
            "boundary" if !value.is_empty() => self.boundary = Some(value.to_owned()),
            "q" => self.weight = weight(value),
            _ => {}
        }
    }

    /// Whether a range of media types covers an offer.
    fn takes(&self, offer: &Offer) -> bool {
        let is_any = self.essence == "*/*" && !self.is_multipart;
        (is_any || self.is_multipart == offer.is_multipart)
            && self.covers_type(offer)
            && self.covers_syntax(offer)
    }

    fn covers_type(&self, offer: &Offer) -> bool {
        match self.essence.strip_suffix('*') {
            Some("*/") => true,
            Some(prefix) => offer.essence.starts_with(prefix),
            None => self.essence == offer.essence,
        }
    }

    fn covers_syntax(&self, offer: &Offer) -> bool {
        let Some(offered) = &offer.transfer_syntax else { return true };
        let named = &self.transfer_syntaxes;
        if named.is_empty() { offer.is_default } else { named.iter().any(|uid| uid == "*" || uid == offered) }
    }

    fn is_exactly(&self, offer: &Offer) -> bool {
        !self.essence.ends_with('*') && self.takes(offer)
    }
}

/// The media types of a comma-separated list.
fn parse_list(text: &str) -> Vec<MediaType> {
    split_outside_quotes(text, ',').into_iter().filter_map(MediaType::parse).collect()
}

/// Splits at a separator that does not stand within quotation marks; empty pieces are left out.
fn split_outside_quotes(text: &str, separator: char) -> Vec<&str> {
    let mut is_quoted = false;
    let pieces = text.split(move |c: char| {
        is_quoted ^= c == '"';
        c == separator && !is_quoted
    });
    pieces.map(str::trim).filter(|piece| !piece.is_empty()).collect()
}

fn unquote(text: &str) -> &str {
    text.trim().trim_matches('"').trim()
}

/// `q` in thousandths; what is no number counts as 1.
fn weight(text: &str) -> u16 {
    let weight: f32 = text.parse().unwrap_or(1.0);
    if weight.is_nan() { 1000 } else { (weight.clamp(0.0, 1.0) * 1000.0) as u16 }
}

/// The standard's spelling of a media type.
fn canonical(essence: &str) -> String {
    let essence = essence.trim().to_ascii_lowercase();
    let standard = match essence.as_str() {
        // A plus sign that went through a decoder for forms.
        "application/dicom json" => "application/dicom+json",
        // Before the standard had its own names for them (notes to Table 8.7.3-5).
        "image/x-jls" | "image/dicom+jpeg-ls" | "image/dicom+jls" => "image/jls",
        "image/x-dicom-rle" | "image/dicom+rle" => "image/dicom-rle",
        "image/dicom+jpeg" | "image/jpg" => "image/jpeg",
        "image/dicom+jp2" | "image/x-jp2" | "image/j2c" | "image/j2k" => "image/jp2",
        "image/dicom+jpx" => "image/jpx",
        "image/jph" => "image/jphc",
        "video/h265" => "video/H265",
        _ => return essence,
    };
    standard.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPLICIT: &str = "1.2.840.10008.1.2.1";
    const LOSSLESS: &str = "1.2.840.10008.1.2.4.70";

    fn accept(header: &str) -> Accept {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, header.parse().unwrap());
        Accept::of(&headers, None)
    }

    fn offer(is_multipart: bool, essence: &'static str, transfer_syntax: &str, is_default: bool) -> Offer {
        let transfer_syntax = (!transfer_syntax.is_empty()).then(|| transfer_syntax.to_owned());
        Offer { is_multipart, essence, transfer_syntax, is_default }
    }

    /// What a frame that is stored as JPEG lossless could be given as.
    fn frame_offers() -> Vec<Offer> {
        vec![
            offer(true, "image/jpeg", LOSSLESS, true),
            offer(true, "application/octet-stream", LOSSLESS, false),
            offer(true, "application/octet-stream", EXPLICIT, true),
            offer(false, "image/jpeg", LOSSLESS, true),
            offer(false, "application/octet-stream", EXPLICIT, true),
        ]
    }

    #[test]
    fn the_forms_that_viewers_send_for_frames_are_understood() {
        for (header, expected) in [
            (r#"multipart/related; type="application/octet-stream"; transfer-syntax="*""#, Some(1)),
            (r#"multipart/related; type="application/octet-stream"; transfer-syntax=*"#, Some(1)),
            ("multipart/related; type=application/octet-stream; transfer-syntax=*", Some(1)),
            ("multipart/related;type=application/octet-stream;transfer-syntax=*;", Some(1)),
            (r#"multipart/related; type="application/octet-stream; transfer-syntax=*""#, Some(1)),
            ("multipart/related; type=application/octet-stream", Some(2)),
            (
                "multipart/related; type=application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1",
                Some(2),
            ),
            (
                r#"multipart/related; type="image/jpeg"; transfer-syntax="1.2.840.10008.1.2.4.70"; transfer-syntax="*""#,
                Some(0),
            ),
            ("multipart/related; type=\"image/jpeg\"; transfer-syntax=1.2.840.10008.1.2.4.50", None),
            (
                "multipart/related; type=\"image/*\"; boundary=**, multipart/related; type=\"video/*\"",
                Some(0),
            ),
            ("multipart/related; type=image/dicom+jpeg", Some(0)),
            ("Multipart/Related; Type=\"Image/JPEG\"", Some(0)),
            ("image/jpeg", Some(3)),
            ("image/jls", None),
            ("image/jls, */*;q=0.1", Some(0)),
            ("application/octet-stream", Some(4)),
            ("application/octet-stream;q=0.5, image/jpeg;q=0.9", Some(3)),
            ("multipart/related", Some(0)),
            ("multipart/related; type=image/jpeg;q=0, multipart/related", Some(2)),
            ("*/*", Some(0)),
            ("*", Some(0)),
            (";;,, ,", Some(0)),
            ("text/html", None),
        ] {
            let offers = frame_offers();
            let chosen = accept(header)
                .choose(&offers)
                .map(|chosen| offers.iter().position(|offer| offer == chosen).unwrap());
            assert_eq!(chosen, expected, "{header}");
        }
    }

    #[test]
    fn metadata_is_json_for_every_viewer() {
        let offers =
            [offer(false, "application/dicom+json", "", true), offer(false, "application/json", "", true)];
        for (header, expected) in [
            ("application/dicom+json", Some(0)),
            ("application/json", Some(1)),
            ("application/json, application/dicom+json", Some(1)),
            (
                r#"application/dicom+json, multipart/related; type="application/octet-stream"; transfer-syntax=*"#,
                Some(0),
            ),
            ("application/dicom+json; transfer-syntax=1.2.840.10008.1.2.1", Some(0)),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", Some(0)),
            ("application/*", Some(0)),
            ("application/dicom+xml", None),
            ("multipart/related; type=\"application/dicom+xml\"", None),
        ] {
            let chosen = accept(header).choose(&offers).map(|chosen| chosen.essence);
            assert_eq!(chosen, expected.map(|at: usize| offers[at].essence), "{header}");
        }
    }

    #[test]
    fn header_fields_add_up_and_the_query_overrides_them() {
        let offers = [offer(false, "application/dicom+json", "", true), offer(false, "image/jpeg", "", true)];
        let mut headers = HeaderMap::new();
        headers.append(ACCEPT, "text/html".parse().unwrap());
        headers.append(ACCEPT, "image/jpeg".parse().unwrap());
        let choose = |query| Accept::of(&headers, query).choose(&offers).map(|offer| offer.essence);
        assert_eq!(choose(None), Some("image/jpeg"));
        assert_eq!(choose(Some("limit=1&accept=application/dicom+json")), Some("application/dicom+json"));
        assert_eq!(choose(Some("accept=application%2Fdicom%2Bjson")), Some("application/dicom+json"));
        assert_eq!(choose(Some("accept=text/plain")), None);
        assert_eq!(Accept::of(&HeaderMap::new(), None).choose(&offers), Some(&offers[0]));
    }

    #[test]
    fn boundaries_are_read_in_every_form() {
        for (text, essence, boundary) in [
            (
                "multipart/related; type=\"application/dicom\"; boundary=\"a b:c\"",
                "application/dicom",
                Some("a b:c"),
            ),
            ("multipart/related;boundary=abc;type=application/dicom", "application/dicom", Some("abc")),
            ("multipart/related; boundary=abc", "*/*", Some("abc")),
            ("multipart/related; type=\"application/dicom\"", "application/dicom", None),
            (
                "multipart/related; boundary=\"a;b,c\"; TYPE=Application/DICOM",
                "application/dicom",
                Some("a;b,c"),
            ),
        ] {
            let media_type = MediaType::parse(text).unwrap();
            assert!(media_type.is_multipart);
            assert_eq!(
                (media_type.essence.as_str(), media_type.boundary.as_deref()),
                (essence, boundary),
                "{text}"
            );
        }
    }
}
