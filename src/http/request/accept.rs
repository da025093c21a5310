//! Media types that a client accepts, and the choice of the representation that suits the client best (PS3.18
//! §8.7).
//!
//! Viewers send merged, repeated, quoted, half quoted and misspelled media types; every one that can be
//! understood counts.

use std::cmp::Reverse;

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

/// A media type of Content-Type or Accept; names are in lower case, `multipart/related` is parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaType {
    /// Whether it is `multipart/related`.
    pub is_multipart: bool,
    /// The type; of a multipart type, that of its parts; `*/*` if none is named.
    pub essence: String,
    /// The `transfer-syntax` parameters: UIDs or `*`. More than one is against §8.7.3.5.2 but occurs.
    pub transfer_syntaxes: Vec<String>,
    /// The `boundary` parameter, without double quotation marks; apostrophes are characters of it.
    pub boundary: Option<String>,
    /// The weight `q` in thousandths.
    pub weight: u16,
}

/// The media types that a client accepts: those of the query, and the ranges of the header fields, each in
/// the client's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accept {
    query: Vec<MediaType>,
    header: Vec<MediaType>,
}

/// A representation that the server can give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Whether as `multipart/related`.
    pub is_multipart: bool,
    /// The media type (of the parts).
    pub essence: &'static str,
    /// The transfer syntax UID; `None` where there is none to choose.
    pub transfer_syntax: Option<String>,
    /// Whether this is the representation for a client that names no transfer syntax (PS3.18 Table 8.7.3-1,
    /// "default").
    pub is_default: bool,
}

/// The representations that the server can give, by what they cost.
#[derive(Debug, Clone, Default)]
pub struct Offers {
    /// The stored bytes as they are: they cost a read.
    pub stored: Vec<Offer>,
    /// Decoded or rewritten bytes.
    pub converted: Vec<Offer>,
    /// Bytes that must be encoded.
    pub encoded: Vec<Offer>,
}

impl Offers {
    /// All representations, the cheapest first.
    pub fn all(&self) -> impl Iterator<Item = &Offer> {
        self.stored.iter().chain(&self.converted).chain(&self.encoded)
    }
}

impl Accept {
    /// The media types that a request accepts: its query parameters `accept` (percent-encoded, as in the
    /// URL), and where none of those can be given, its Accept header fields (PS3.18 §8.7.8.1). Without a
    /// valid header field, any type is accepted.
    pub fn of(headers: &HeaderMap, query: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&');
        let decoded = pairs.filter_map(|pair| pair.strip_prefix("accept=")).flat_map(|value| {
            let value = percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned();
            parse_list(&value)
        });
        let fields = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let mut header: Vec<MediaType> = fields.flat_map(parse_list).collect();
        if header.is_empty() {
            header.push(MediaType::anything());
        }
        Self { query: decoded.collect(), header }
    }

    /// The offer that suits best: by the weight of the most specific range that covers it, then by the
    /// client's order, then by the order of the offers.
    pub fn choose<'a>(&self, offers: &'a [Offer]) -> Option<&'a Offer> {
        let candidates: Vec<Candidate<'_>> = offers.iter().map(Candidate::of).collect();
        self.best(&candidates).map(|at| &offers[at])
    }

    /// Like [`Self::choose`], of representations with different costs. Among those of equal weight, the
    /// stored one is chosen, whatever the client's order: of a tie the server decides (§8.7.8.1), and clients
    /// list with equal weights whatever they can decode. An encoded one is chosen only if the client names
    /// its transfer syntax or if no other is accepted: a client that accepts anything need not wait for an
    /// encoder.
    pub fn choose_by_cost<'a>(&self, offers: &'a Offers) -> Option<&'a Offer> {
        let mut candidates: Vec<Candidate<'_>> = offers.all().map(Candidate::of).collect();
        candidates.iter_mut().take(offers.stored.len()).for_each(|candidate| candidate.is_stored = true);
        let (ranges, at) = [&self.query, &self.header]
            .into_iter()
            .find_map(|ranges| Some((ranges, best(ranges, &candidates)?)))?;
        let is_named = ranges.iter().any(|range| range.names(&candidates[at]));
        let not_encoded = offers.stored.len() + offers.converted.len();
        let instead = best(ranges, &candidates[..not_encoded]).filter(|_| !is_named);
        offers.all().nth(instead.unwrap_or(at))
    }

    /// The media type that suits best, as one body or as the part of a multipart body: its index, and whether
    /// multipart.
    pub fn choose_type(&self, essences: &[&str]) -> Option<(usize, bool)> {
        let mut candidates = Vec::with_capacity(2 * essences.len());
        for is_multipart in [false, true] {
            let form = |&essence| Candidate { essence, ..Candidate::of_packing(is_multipart) };
            candidates.extend(essences.iter().map(form));
        }
        self.best(&candidates).map(|at| (at % essences.len(), at >= essences.len()))
    }

    /// Whether one of the media types names a transfer syntax; `*` names none.
    pub fn names_transfer_syntax(&self) -> bool {
        self.first().iter().flat_map(|range| &range.transfer_syntaxes).any(|uid| uid != "*")
    }

    /// Whether the client prefers one body or several parts, of whatever type; `None` if it accepts nothing.
    pub fn prefers_multipart(&self) -> Option<bool> {
        let best =
            self.first().iter().filter(|range| range.weight > 0).rev().max_by_key(|range| range.weight);
        best.map(|range| range.is_multipart)
    }

    /// The media types of the query, or else those of the header.
    fn first(&self) -> &[MediaType] {
        if self.query.is_empty() { &self.header } else { &self.query }
    }

    fn best(&self, candidates: &[Candidate<'_>]) -> Option<usize> {
        best(&self.query, candidates).or_else(|| best(&self.header, candidates))
    }
}

/// An offer that is compared with ranges of media types.
struct Candidate<'a> {
    is_multipart: bool,
    essence: &'a str,
    transfer_syntax: Option<&'a str>,
    is_default: bool,
    is_stored: bool,
}

impl<'a> Candidate<'a> {
    fn of(offer: &'a Offer) -> Self {
        Self {
            essence: offer.essence,
            transfer_syntax: offer.transfer_syntax.as_deref(),
            is_default: offer.is_default,
            ..Self::of_packing(offer.is_multipart)
        }
    }

    fn of_packing(is_multipart: bool) -> Self {
        Self { is_multipart, essence: "*/*", transfer_syntax: None, is_default: true, is_stored: false }
    }
}

/// The index of the candidate that suits best (RFC 9110 §12.5.1): by weight, cost and order.
fn best(ranges: &[MediaType], candidates: &[Candidate<'_>]) -> Option<usize> {
    let rank = |form: &Candidate<'_>| {
        let covering = ranges.iter().enumerate().filter(|(_, range)| range.takes(form));
        let (order, range) =
            covering.rev().max_by_key(|(_, range)| (range.specificity(form), range.weight))?;
        (range.weight > 0).then_some((range.weight, form.is_stored, Reverse(order)))
    };
    let ranked = candidates.iter().enumerate().filter_map(|(at, form)| Some((rank(form)?, Reverse(at))));
    ranked.max().map(|(_, Reverse(at))| at)
}

impl MediaType {
    /// Parses one media type with its parameters; `None` if the text holds none.
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
        let Some((name, written)) = parameter.split_once('=') else { return };
        let value = unquote(written);
        match name.trim().to_ascii_lowercase().as_str() {
            // Some clients write further parameters of the part's type inside the quotation marks.
            "type" if self.is_multipart => {
                let mut inner = value.split(';');
                let essence = canonical(inner.next().unwrap_or_default());
                if essence.contains('/') {
                    self.essence = essence;
                }
                inner.for_each(|parameter| self.set(parameter));
            }
            "transfer-syntax" if !value.is_empty() => self.transfer_syntaxes.push(value.to_owned()),
            // An apostrophe is a character of tokens (RFC 9110 §5.6.2) and of boundaries (RFC 2046 §5.1.1).
            "boundary" => {
                let value = written.trim().trim_matches('"').trim();
                self.boundary = (!value.is_empty()).then(|| value.to_owned());
            }
            "q" => self.weight = weight(value),
            _ => {}
        }
    }

    /// Whether a range of media types covers a candidate.
    fn takes(&self, form: &Candidate<'_>) -> bool {
        let is_any = self.essence == "*/*" && !self.is_multipart;
        (is_any || self.is_multipart == form.is_multipart)
            && self.covers_type(form)
            && self.covers_syntax(form)
    }

    fn covers_type(&self, form: &Candidate<'_>) -> bool {
        match self.essence.strip_suffix('*') {
            Some("*/") => true,
            Some(prefix) => form.essence.starts_with(prefix),
            None => self.essence == form.essence,
        }
    }

    fn names(&self, form: &Candidate<'_>) -> bool {
        self.transfer_syntaxes.iter().any(|uid| Some(uid.as_str()) == form.transfer_syntax)
    }

    fn covers_syntax(&self, form: &Candidate<'_>) -> bool {
        let Some(offered) = form.transfer_syntax else { return true };
        let named = &self.transfer_syntaxes;
        if named.is_empty() { form.is_default } else { named.iter().any(|uid| uid == "*" || uid == offered) }
    }

    /// The specificity of a range that covers a candidate: first by the type, then by the transfer syntax.
    fn specificity(&self, form: &Candidate<'_>) -> (usize, bool, usize) {
        let of_type = match self.essence.as_str() {
            "*/*" => 0,
            range if range.ends_with('*') => 1,
            _ => 2,
        };
        let is_named = |uid: &String| Some(uid.as_str()) == form.transfer_syntax;
        let of_syntax = match self.transfer_syntaxes.as_slice() {
            [] => 0,
            named if named.iter().any(is_named) => 2,
            _ => 1,
        };
        (of_type, self.is_multipart, of_syntax)
    }
}

/// The media types of a comma-separated list.
fn parse_list(text: &str) -> Vec<MediaType> {
    split_outside_quotes(text, ',').into_iter().filter_map(MediaType::parse).collect()
}

/// Splits at a separator outside of quotation marks, and leaves out empty pieces.
fn split_outside_quotes(text: &str, separator: char) -> Vec<&str> {
    let mut is_quoted = false;
    let pieces = text.split(move |c: char| {
        is_quoted ^= c == '"';
        c == separator && !is_quoted
    });
    pieces.map(str::trim).filter(|piece| !piece.is_empty()).collect()
}

/// The text within quotation marks; some clients write single ones.
fn unquote(text: &str) -> &str {
    text.trim().trim_matches(['"', '\'']).trim()
}

/// `q` in thousandths; an invalid number counts as 1.
pub(super) fn weight(text: &str) -> u16 {
    let weight: f32 = text.parse().unwrap_or(1.0);
    if weight.is_nan() { 1000 } else { (weight.clamp(0.0, 1.0) * 1000.0) as u16 }
}

/// The standard's spelling of a media type.
fn canonical(essence: &str) -> String {
    let essence = essence.trim().to_ascii_lowercase();
    let standard = match essence.as_str() {
        // A plus sign that went through a decoder for HTML forms.
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
    use crate::dicom::transfer_syntax;

    fn accept(header: &str) -> Accept {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, header.parse().unwrap());
        Accept::of(&headers, None)
    }

    fn offer(is_multipart: bool, essence: &'static str, transfer_syntax: &str, is_default: bool) -> Offer {
        let transfer_syntax = (!transfer_syntax.is_empty()).then(|| transfer_syntax.to_owned());
        Offer { is_multipart, essence, transfer_syntax, is_default }
    }

    /// The representations of a frame that is stored as JPEG lossless.
    fn frame_offers() -> Vec<Offer> {
        vec![
            offer(true, "image/jpeg", transfer_syntax::JPEG_LOSSLESS_SV1, true),
            offer(true, "application/octet-stream", transfer_syntax::JPEG_LOSSLESS_SV1, false),
            offer(true, "application/octet-stream", transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN, true),
            offer(false, "image/jpeg", transfer_syntax::JPEG_LOSSLESS_SV1, true),
            offer(false, "application/octet-stream", transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN, true),
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
    fn header_fields_add_up_and_the_query_goes_first() {
        let offers = [offer(false, "application/dicom+json", "", true), offer(false, "image/jpeg", "", true)];
        let mut headers = HeaderMap::new();
        headers.append(ACCEPT, "text/html".parse().unwrap());
        headers.append(ACCEPT, "image/jpeg".parse().unwrap());
        let choose = |query| Accept::of(&headers, query).choose(&offers).map(|offer| offer.essence);
        assert_eq!(choose(None), Some("image/jpeg"));
        assert_eq!(choose(Some("limit=1&accept=application/dicom+json")), Some("application/dicom+json"));
        assert_eq!(choose(Some("accept=application%2Fdicom%2Bjson")), Some("application/dicom+json"));
        // If the media types of the query cannot be given, the header fields decide.
        assert_eq!(choose(Some("accept=text/plain")), Some("image/jpeg"));
        assert_eq!(
            choose(Some("accept=text/plain,application/dicom%2Bjson;q=0.1")),
            Some("application/dicom+json")
        );
        assert_eq!(choose(Some("Accept=application/dicom+json")), Some("image/jpeg"));
        assert_eq!(Accept::of(&HeaderMap::new(), None).choose(&offers), Some(&offers[0]));
    }

    #[test]
    fn the_most_specific_range_decides_of_a_weight() {
        let offers = ["text/html", "text/plain", "image/png"].map(|essence| offer(false, essence, "", true));
        for (header, expected) in [
            ("text/*;q=0.5, text/html;q=0.4, */*;q=0.1", Some("text/plain")),
            ("text/*, text/html;q=0", Some("text/plain")),
            ("*/*, text/*;q=0, image/*;q=0.2", Some("image/png")),
            ("image/png;q=0, text/*;q=0", None),
            ("image/png;q=0.001", Some("image/png")),
            ("image/png;q=0.5, text/plain;q=0.5", Some("image/png")),
            ("image/png;q=high, text/plain;q=0.5", Some("image/png")),
            ("text/html;level=1;q=0.3, text/plain;q=0.2", Some("text/html")),
        ] {
            assert_eq!(accept(header).choose(&offers).map(|offer| offer.essence), expected, "{header}");
        }
    }

    #[test]
    fn a_type_is_given_alone_or_as_a_part() {
        for (header, expected) in [
            ("*/*", Some((0, false))),
            ("text/plain", Some((1, false))),
            ("multipart/related; type=\"text/plain\"", Some((1, true))),
            ("multipart/related", Some((0, true))),
            ("multipart/related; type=\"text/html\";q=0.4, text/*;q=0.5", Some((0, false))),
            ("application/pdf", None),
        ] {
            assert_eq!(accept(header).choose_type(&["text/html", "text/plain"]), expected, "{header}");
        }
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
            ("multipart/related; boundary='X'", "*/*", Some("'X'")),
            ("multipart/related; boundary=\"'X'\"", "*/*", Some("'X'")),
            ("multipart/related; boundary=a'()+_,-./:=?b", "*/*", Some("a'()+_,-./:=?b")),
            ("multipart/related; boundary=\"\"", "*/*", None),
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

    #[test]
    fn frames_are_encoded_for_those_who_name_it_and_those_who_take_nothing_else() {
        let native =
            vec![offer(false, "application/octet-stream", transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN, true)];
        let encoded = vec![
            offer(false, "image/jls", "1.2.840.10008.1.2.4.80", true),
            offer(false, "image/jls", "1.2.840.10008.1.2.4.81", false),
        ];
        let offers = Offers { converted: native, encoded, ..Offers::default() };
        for (header, expected) in [
            ("image/jls; transfer-syntax=*, application/octet-stream; transfer-syntax=*", Some("1")),
            ("image/jls, application/octet-stream;q=0.5", Some("1")),
            ("*/*", Some("1")),
            ("image/jls", Some("4.80")),
            ("image/jls; transfer-syntax=*", Some("4.80")),
            ("image/jls; transfer-syntax=1.2.840.10008.1.2.4.81, application/octet-stream", Some("4.81")),
            ("image/jls; transfer-syntax=1.2.840.10008.1.2.4.81;q=0.5, application/octet-stream", Some("1")),
            ("image/jp2", None),
        ] {
            let chosen = accept(header).choose_by_cost(&offers).cloned();
            let chosen = chosen.and_then(|offer| offer.transfer_syntax);
            assert_eq!(chosen, expected.map(|leaf| format!("1.2.840.10008.1.2.{leaf}")), "{header}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, "*/*".parse().unwrap());
        let chosen = Accept::of(&headers, Some("accept=image/jls"));
        assert_eq!(chosen.choose_by_cost(&offers), Some(&offers.encoded[0]));
    }

    #[test]
    fn among_equal_weights_the_stored_representation_is_chosen_whatever_the_order() {
        const STORED: &str = "4.50";
        let uid = |leaf: &str| format!("1.2.840.10008.1.2.{leaf}");
        let offers = Offers {
            stored: vec![
                offer(true, "image/jpeg", &uid(STORED), true),
                offer(true, "application/octet-stream", &uid(STORED), false),
            ],
            converted: vec![offer(true, "application/octet-stream", &uid("1"), true)],
            encoded: vec![
                offer(true, "image/jls", &uid("4.80"), true),
                offer(true, "image/jp2", &uid("4.90"), true),
            ],
        };
        let of = |essence: &str, syntax: &str, weight: &str| {
            format!("multipart/related; type=\"{essence}\"; transfer-syntax={syntax}{weight}")
        };
        let slim = |weight: &str| {
            [
                of("image/jls", &uid("4.80"), ""),
                of("image/jp2", &uid("4.90"), ""),
                of("application/octet-stream", "*", weight),
                of("image/jpeg", &uid(STORED), weight),
            ]
            .join(", ")
        };
        for (header, expected) in [
            (slim(""), STORED),
            // Weights are the client's own order, which counts before the cost.
            (slim("; q=0.9"), "4.80"),
            (
                format!("{}, {}", of("application/octet-stream", &uid("1"), ""), of("image/*", "*", "")),
                STORED,
            ),
            (of("application/octet-stream", &uid("1"), ""), "1"),
            (format!("{}, {}", of("image/jp2", &uid("4.90"), ""), of("image/jls", &uid("4.80"), "")), "4.90"),
        ] {
            let chosen = accept(&header).choose_by_cost(&offers).unwrap();
            assert_eq!(chosen.transfer_syntax, Some(uid(expected)), "{header}");
        }
    }
}
