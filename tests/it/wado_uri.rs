//! WADO-URI (PS3.18 §9).

use reqwest::Response;

use crate::build::DataSet;
use crate::harness::{EXPLICIT, JPEG_LS, Server, data_set, encapsulated};
use crate::pictures::{
    AS_IT_IS, blamed, field, frame, gif_frames, jpeg_size, movie, png, presentation_state,
};

const OBJECT: &str = "requestType=WADO&studyUID=1.1&seriesUID=1.2&objectUID";
/// Basic Text SR Storage.
const BASIC_TEXT_SR: &str = "1.2.840.10008.5.1.4.1.1.88.11";
const WINDOW: &str = "windowCenter=128&windowWidth=256";

/// Series 1.2: an image, a movie of three frames, an instance that cannot be decoded and one without pixels;
/// a presentation state.
async fn server() -> Server {
    let server = Server::start().await;
    let instances = [
        movie("1.2", "1.3", 1),
        movie("1.2", "1.4", 3),
        encapsulated("1.1", "1.2", "1.5"),
        data_set("1.1", "1.2", "1.6").file(EXPLICIT),
        presentation_state("1.10", &[("1.4", "2")]),
        presentation_state("1.11", &[("1.3", "")]),
    ];
    assert_eq!(server.store(&instances).await.status(), 200);
    server
}

async fn get(server: &Server, query: &str) -> Response {
    server.get(&format!("/wado?{query}")).header("Accept", "*/*").send().await.unwrap()
}

#[tokio::test]
async fn an_image_is_a_picture_unless_asked_for_otherwise() {
    let server = server().await;
    for (content_type, expected) in [
        ("", "image/jpeg"),
        ("&contentType=", "image/jpeg"),
        ("&contentType=image/jpeg", "image/jpeg"),
        ("&contentType=image%2Fpng", "image/png"),
        ("&contentType=image/jp2,image/gif,image/jpeg", "image/gif"),
        ("&contentType=image/jp2", "image/jpeg"),
        ("&contentType=image/jpeg;q=0.1,image/png", "image/png"),
        ("&contentType=application/dicom", "application/dicom"),
        ("&contentType=&contentType=application%2Fdicom", "application/dicom"),
    ] {
        let response = get(&server, &format!("{OBJECT}=1.3{content_type}")).await;
        assert_eq!(
            (response.status().as_u16(), field(&response, "content-type")),
            (200, expected),
            "{content_type}"
        );
        assert_eq!(
            field(&response, "content-location"),
            server.url("/studies/1.1/series/1.2/instances/1.3"),
            "{content_type}"
        );
        let length: usize = field(&response, "content-length").parse().unwrap();
        assert_eq!(response.bytes().await.unwrap().len(), length);
    }
}

#[tokio::test]
async fn the_header_decides_where_the_query_names_nothing() {
    let server = server().await;
    for (accept, expected) in [
        ("application/dicom", "application/dicom"),
        ("image/png", "image/png"),
        ("image/avif,image/webp,image/*,*/*;q=0.8", "image/jpeg"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "image/jpeg"),
    ] {
        let response =
            server.get(&format!("/wado?{OBJECT}=1.3")).header("Accept", accept).send().await.unwrap();
        assert!(field(&response, "content-type").starts_with(expected), "{accept}");
    }
    let refused =
        server.get(&format!("/wado?{OBJECT}=1.3&contentType=image/jp2")).header("Accept", "image/jp2");
    assert_eq!(refused.send().await.unwrap().status(), 406);
}

#[tokio::test]
async fn an_instance_comes_as_it_was_sent_or_in_a_transfer_syntax_that_can_be_made() {
    let server = server().await;
    let dicom =
        async |more: &str| get(&server, &format!("{OBJECT}={more}&contentType=application/dicom")).await;
    let whole = dicom("1.4").await;
    assert_eq!(whole.bytes().await.unwrap(), movie("1.2", "1.4", 3));
    let stored = dicom(&format!("1.5&transferSyntax={JPEG_LS}")).await;
    assert_eq!(stored.bytes().await.unwrap(), encapsulated("1.1", "1.2", "1.5"));
    let without_pixels = get(&server, &format!("{OBJECT}=1.6")).await;
    assert!(field(&without_pixels, "content-type").starts_with("application/dicom"));
    for (uid, status) in [(EXPLICIT, 200), ("1.2.840.10008.1.2.4.999", 406), ("x", 400), ("*", 200)] {
        let response = dicom(&format!("1.4&transferSyntax={uid}")).await;
        assert_eq!(response.status(), status, "{uid}");
    }
    let windowed = dicom(&format!("1.4&{WINDOW}")).await;
    assert_eq!(windowed.status(), 400);
}

#[tokio::test]
async fn a_picture_is_the_same_as_that_of_wado_rs() {
    let server = server().await;
    for (uri, rs) in [
        (WINDOW, AS_IT_IS.to_owned()),
        ("imageQuality=10&annotation=technique", "quality=10&annotation=technique".to_owned()),
        ("rows=8&columns=8", "viewport=8,8".to_owned()),
        ("region=0.5,0,1,1", "viewport=2,2,2,0,2,2".to_owned()),
        ("columns=40", "viewport=40,20".to_owned()),
    ] {
        let uri = get(&server, &format!("{OBJECT}=1.3&contentType=image/jpeg&{uri}")).await;
        let rs = server.get(&format!("/studies/1.1/series/1.2/instances/1.3/rendered?{rs}"));
        let rs = rs.header("Accept", "image/jpeg").send().await.unwrap();
        assert_eq!((uri.status(), rs.status()), (200.try_into().unwrap(), 200.try_into().unwrap()));
        assert_eq!(uri.bytes().await.unwrap(), rs.bytes().await.unwrap());
    }
}

#[tokio::test]
async fn a_frame_is_chosen_by_its_number() {
    let server = server().await;
    for (query, expected) in [("", 1), ("&frameNumber=3", 3), ("&frameNumber=", 1), ("&framenumber=2", 1)] {
        let response = get(&server, &format!("{OBJECT}=1.4&contentType=image/png&{WINDOW}{query}")).await;
        assert_eq!(png(&response.bytes().await.unwrap()).pixels, frame(expected), "{query}");
    }
    let response = get(&server, &format!("{OBJECT}=1.4&contentType=image/gif")).await;
    assert_eq!(gif_frames(&response.bytes().await.unwrap()), 3);
    let response = get(&server, &format!("{OBJECT}=1.4&contentType=image/gif&frameNumber=2")).await;
    assert_eq!(gif_frames(&response.bytes().await.unwrap()), 1);
}

#[tokio::test]
async fn a_region_keeps_its_pixels_or_is_scaled() {
    let server = server().await;
    for (query, size) in [
        ("region=0,0,0.5,1", (2, 2)),
        ("region=0,0,0.5,1&rows=10", (10, 10)),
        ("rows=10", (20, 10)),
        ("rows=10&columns=10", (10, 5)),
        ("columns=3000", (3000, 1500)),
    ] {
        let response = get(&server, &format!("{OBJECT}=1.3&{query}")).await;
        assert_eq!(jpeg_size(&response.bytes().await.unwrap()), size, "{query}");
    }
}

#[tokio::test]
async fn a_mistake_is_named() {
    let server = server().await;
    for (query, name) in [
        ("studyUID=1.1&seriesUID=1.2&objectUID=1.3", "requestType"),
        ("requestType=WADO-RS&studyUID=1.1&seriesUID=1.2&objectUID=1.3", "requestType"),
        ("requesttype=WADO&studyUID=1.1&seriesUID=1.2&objectUID=1.3", "requestType"),
        ("requestType=WADO&seriesUID=1.2&objectUID=1.3", "studyUID"),
        ("requestType=WADO&studyUID=1.1&seriesUID=&objectUID=1.3", "seriesUID"),
        ("requestType=WADO&studyUID=1.1&seriesUID=1.2", "objectUID"),
        ("requestType=WADO&studyUID=1.1&seriesUID=1.2&objectUID=../x", "objectUID"),
    ] {
        let response = get(&server, query).await;
        assert_eq!(response.status(), 400, "{query}");
        assert_eq!(blamed(response).await, name, "{query}");
    }
    for (query, name) in [
        ("contentType=application/dicom,image/jpeg", "contentType"),
        ("contentType=application/dicom;transfer-syntax=1.2.840.10008.1.2.1", "contentType"),
        ("anonymize=yes", "anonymize"),
        ("anonymize=no&contentType=application/dicom", "anonymize"),
        ("anonymise=yes&contentType=application/dicom", "anonymise"),
        ("anonymize=yes&contentType=application/dicom&anonymize-options=x", "anonymize-options"),
        ("frameNumber=0", "frameNumber"),
        ("frameNumber=4", "frameNumber"),
        ("frameNumber=x", "frameNumber"),
        ("rows=0", "rows"),
        ("rows=16384&columns=16384", "rows"),
        ("columns=1.5", "columns"),
        ("region=0,0,1", "region"),
        ("windowCenter=40", "windowWidth"),
        ("imageQuality=0", "imageQuality"),
        ("presentationUID=1.10", "presentationSeriesUID"),
        ("presentationSeriesUID=1.9&presentationUID=1.99", "presentationUID"),
        ("presentationSeriesUID=1.2&presentationUID=1.3", "presentationUID"),
        ("presentationSeriesUID=1.9&presentationUID=1.11", "presentationUID"),
        ("presentationSeriesUID=1.9&presentationUID=1.10&windowCenter=1&windowWidth=2", "windowCenter"),
        ("presentationSeriesUID=1.9&presentationUID=1.10&frameNumber=1", "frameNumber"),
    ] {
        let response = get(&server, &format!("{OBJECT}=1.4&{query}")).await;
        assert_eq!(response.status(), 400, "{query}");
        assert_eq!(blamed(response).await, name, "{query}");
    }
}

#[tokio::test]
async fn a_report_is_a_document_unless_asked_for_as_dicom() {
    let server = server().await;
    let report = DataSet::explicit()
        .text(0x0008_0016, "UI", BASIC_TEXT_SR)
        .text(0x0008_0018, "UI", "1.7")
        .text(0x0020_000D, "UI", "1.1")
        .text(0x0020_000E, "UI", "1.2")
        .text(0x0040_A040, "CS", "CONTAINER");
    assert_eq!(server.store(&[report.file(EXPLICIT)]).await.status(), 200);
    for (content_type, expected) in [
        ("", "text/html"),
        ("text/plain", "text/plain"),
        ("application/dicom", "application/dicom"),
        ("image/jpeg", "text/html"),
    ] {
        let response = get(&server, &format!("{OBJECT}=1.7&contentType={content_type}")).await;
        assert_eq!(response.status(), 200, "{content_type}");
        assert!(field(&response, "content-type").starts_with(expected), "{content_type}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found_and_what_cannot_be_drawn_not_acceptable() {
    let server = server().await;
    assert_eq!(get(&server, &format!("{OBJECT}=9")).await.status(), 404);
    assert_eq!(get(&server, &format!("{OBJECT}=1.5")).await.status(), 406);
    let waveform =
        server.get(&format!("/wado?{OBJECT}=1.6&contentType=image/jpeg")).header("Accept", "image/jpeg");
    assert_eq!(waveform.send().await.unwrap().status(), 406);
}

#[tokio::test]
async fn a_presentation_state_is_applied_or_shown() {
    let server = server().await;
    let applied = format!("{OBJECT}=1.4&presentationSeriesUID=1.9&presentationUID=1.10");
    let response = get(&server, &applied).await;
    assert_eq!(response.status(), 200);
    let location = server.url("/studies/1.1/series/1.2/instances/1.4/frames/2");
    assert_eq!(field(&response, "content-location"), location);
    let shown = "requestType=WADO&studyUID=1.1&seriesUID=1.9&objectUID=1.10";
    let response = get(&server, shown).await;
    assert_eq!((response.status().as_u16(), field(&response, "content-location")), (200, location.as_str()));
    for name in ["windowCenter", "frameNumber"] {
        let response = get(&server, &format!("{shown}&windowWidth=2&{name}=1")).await;
        assert_eq!(response.status(), 400);
    }
}

#[tokio::test]
async fn the_service_answers_at_the_root_too_and_known_pictures_are_not_sent_again() {
    let server = server().await;
    let url = format!("http://{}/wado?{OBJECT}=1.3", server.address);
    let first = server.request("GET", url.clone()).send().await.unwrap();
    assert_eq!(first.status(), 200);
    let again = server.request("GET", url).header("If-None-Match", field(&first, "etag"));
    assert_eq!(again.send().await.unwrap().status(), 304);
}
