//! Rendered resources and thumbnails (PS3.18 §10.4.1.1.3, §10.4.1.1.4).

use reqwest::Response;

use crate::harness::{Server, data_set, encapsulated, parts};
use crate::pictures::{
    AS_IT_IS, Picture, blamed, field, frame, gif_frames, jpeg_size, movie, png, presentation_state,
};

const SERIES: &str = "/studies/1.1/series/1.2";
const IMAGE: &str = "/studies/1.1/series/1.2/instances/1.3";
const MOVIE: &str = "/studies/1.1/series/1.2/instances/1.4";
const PNGS: &str = r#"multipart/related; type="image/png""#;

/// Series 1.2: an image and a movie of three frames.
async fn server() -> Server {
    let server = Server::start().await;
    assert_eq!(server.store(&[movie("1.2", "1.3", 1), movie("1.2", "1.4", 3)]).await.status(), 200);
    server
}

async fn get(server: &Server, path: &str, accept: &str) -> Response {
    server.get(path).header("Accept", accept).send().await.unwrap()
}

fn shown(number: u8) -> Picture {
    Picture { width: 4, height: 2, pixels: frame(number) }
}

/// The Content-Location of each part of an answer, and its rendered image.
async fn located(server: &Server, response: Response) -> Vec<(String, Picture)> {
    assert_eq!(response.status(), 200);
    let base = server.url("/studies/1.1/series/");
    let found = parts(response).await.into_iter().map(|(head, bytes)| {
        let lines: Vec<&str> = head.split("\r\n").collect();
        assert_eq!(lines[0], "Content-Type: image/png");
        assert_eq!(lines[1], format!("Content-Length: {}", bytes.len()));
        let location = lines[2].strip_prefix("Content-Location: ").unwrap();
        (location.strip_prefix(&base).unwrap().to_owned(), png(&bytes))
    });
    found.collect()
}

#[tokio::test]
async fn frames_that_are_said_to_be_there_and_are_not_do_no_harm() {
    let server = Server::start().await;
    let mut cut = movie("1.2", "1.3", 3);
    let claimed = cut.windows(2).rposition(|bytes| bytes == b"3 ").unwrap();
    cut[claimed..claimed + 2].copy_from_slice(b"9 ");
    assert!(server.store(&[cut]).await.status().is_success());
    for path in [SERIES, IMAGE] {
        let all = located(&server, get(&server, &format!("{path}/rendered"), PNGS).await).await;
        assert_eq!(all.into_iter().map(|(_, picture)| picture).collect::<Vec<_>>(), [1, 2, 3].map(shown));
    }
    assert_eq!(get(&server, &format!("{IMAGE}/thumbnail"), "image/png").await.status(), 200);
    assert_eq!(get(&server, &format!("{IMAGE}/frames/4/rendered"), "image/png").await.status(), 404);
}

#[tokio::test]
async fn one_picture_comes_in_the_format_asked_for() {
    let server = server().await;
    for (accept, expected) in [
        ("*/*", "image/jpeg"),
        ("image/*", "image/jpeg"),
        ("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", "image/jpeg"),
        ("image/jpeg", "image/jpeg"),
        ("image/png", "image/png"),
        ("image/gif", "image/gif"),
        ("image/jpeg;q=0.5, image/png", "image/png"),
    ] {
        for path in [format!("{IMAGE}/rendered"), format!("{MOVIE}/frames/2/rendered")] {
            let response = get(&server, &path, accept).await;
            assert_eq!(
                (response.status().as_u16(), field(&response, "content-type")),
                (200, expected),
                "{accept}"
            );
            let length: usize = field(&response, "content-length").parse().unwrap();
            let location = server.url(path.strip_suffix("/rendered").unwrap());
            assert_eq!(field(&response, "content-location"), location);
            let body = response.bytes().await.unwrap();
            assert_eq!(body.len(), length);
            match expected {
                "image/jpeg" => assert_eq!(jpeg_size(&body), (4, 2)),
                "image/png" => assert_eq!((png(&body).width, png(&body).height), (4, 2)),
                _ => assert_eq!(gif_frames(&body), 1),
            }
        }
    }
}

#[tokio::test]
async fn the_query_may_name_the_format() {
    let server = server().await;
    let response = get(&server, &format!("{IMAGE}/rendered?accept=image/png"), "*/*").await;
    assert_eq!(field(&response, "content-type"), "image/png");
}

#[tokio::test]
async fn each_frame_is_drawn_as_it_is_asked_for() {
    let server = server().await;
    for number in 1..=3 {
        let path = format!("{MOVIE}/frames/{number}/rendered?{AS_IT_IS}");
        let body = get(&server, &path, "image/png").await.bytes().await.unwrap();
        assert_eq!(png(&body), shown(number));
    }
    let dark = format!("{IMAGE}/rendered?window=200,50,linear");
    let body = get(&server, &dark, "image/png").await.bytes().await.unwrap();
    assert_eq!(png(&body).pixels, [0; 8]);
    let part = format!("{IMAGE}/rendered?{AS_IT_IS}&viewport=2,1,1,1,-2,1");
    let body = get(&server, &part, "image/png").await.bytes().await.unwrap();
    assert_eq!(png(&body), Picture { width: 2, height: 1, pixels: vec![70, 65] });
}

#[tokio::test]
async fn several_pictures_come_as_parts_that_say_what_they_show() {
    let server = server().await;
    let path = format!("{MOVIE}/frames/3,1/rendered?{AS_IT_IS}");
    let expected = |number: u8| (format!("1.2/instances/1.4/frames/{number}"), shown(number));
    for accept in
        [PNGS, "multipart/related; type=image/png", "image/jpeg, multipart/related; type=\"image/png\""]
    {
        let response = get(&server, &path, accept).await;
        assert!(field(&response, "content-type").starts_with(PNGS), "{accept}");
        assert_eq!(located(&server, response).await, [expected(3), expected(1)], "{accept}");
    }
    let response = get(&server, &format!("{MOVIE}/rendered?{AS_IT_IS}"), PNGS).await;
    assert_eq!(located(&server, response).await, [1, 2, 3].map(expected));
    let response = get(&server, &format!("{IMAGE}/rendered?{AS_IT_IS}"), PNGS).await;
    assert_eq!(located(&server, response).await, [("1.2/instances/1.3".to_owned(), shown(1))]);
}

#[tokio::test]
async fn parts_are_the_same_bytes_each_time() {
    let server = server().await;
    let path = format!("{MOVIE}/frames/1,2/rendered");
    let first = get(&server, &path, PNGS).await.bytes().await.unwrap();
    assert_eq!(get(&server, &path, PNGS).await.bytes().await.unwrap(), first);
}

#[tokio::test]
async fn a_movie_in_one_body_is_its_first_frame_or_animated() {
    let server = server().await;
    let response = get(&server, &format!("{MOVIE}/rendered?{AS_IT_IS}"), "image/png").await;
    assert_eq!(png(&response.bytes().await.unwrap()), shown(1));
    let response = get(&server, &format!("{MOVIE}/rendered"), "image/gif").await;
    assert_eq!(field(&response, "content-type"), "image/gif");
    assert_eq!(gif_frames(&response.bytes().await.unwrap()), 3);
}

#[tokio::test]
async fn one_body_cannot_hold_several_frames_a_series_or_a_study() {
    let server = server().await;
    for path in [format!("{MOVIE}/frames/1,2"), SERIES.to_owned(), "/studies/1.1".to_owned()] {
        let refused = get(&server, &format!("{path}/rendered"), "image/jpeg").await;
        assert_eq!(refused.status(), 406, "{path}");
        assert!(refused.text().await.unwrap().contains("multipart/related"));
        let response = get(&server, &format!("{path}/rendered"), "*/*").await;
        assert_eq!(response.status(), 200, "{path}");
        assert!(field(&response, "content-type").starts_with("multipart/related; type=\"image/jpeg\""));
    }
}

#[tokio::test]
async fn a_series_and_a_study_come_without_what_has_no_picture() {
    let server = server().await;
    let others = [
        data_set("1.1", "1.2", "1.5").file(crate::harness::EXPLICIT),
        encapsulated("1.1", "1.2", "1.6"),
        movie("1.7", "1.8", 1),
    ];
    assert_eq!(server.store(&others).await.status(), 200);
    let locations = async |path: &str| {
        let response = get(&server, &format!("{path}/rendered"), PNGS).await;
        let found = located(&server, response).await;
        found.into_iter().map(|(location, _)| location).collect::<Vec<_>>()
    };
    let movie = [1, 2, 3].map(|number| format!("1.2/instances/1.4/frames/{number}"));
    let series = [vec!["1.2/instances/1.3".to_owned()], movie.to_vec()].concat();
    assert_eq!(locations(SERIES).await, series);
    assert_eq!(locations("/studies/1.1").await, [series, vec!["1.7/instances/1.8".to_owned()]].concat());
}

#[tokio::test]
async fn what_has_no_picture_is_not_acceptable_and_what_is_not_there_not_found() {
    let server = server().await;
    let others =
        [data_set("1.1", "1.7", "1.5").file(crate::harness::EXPLICIT), encapsulated("1.1", "1.8", "1.6")];
    assert_eq!(server.store(&others).await.status(), 200);
    for (path, status) in [
        ("/studies/1.1/series/1.7/instances/1.5/rendered", 406),
        ("/studies/1.1/series/1.7/rendered", 406),
        ("/studies/1.1/series/1.8/instances/1.6/rendered", 406),
        ("/studies/1.1/series/1.8/rendered", 406),
        ("/studies/1.1/series/1.7/instances/1.5/frames/1/rendered", 404),
        ("/studies/1.1/series/1.2/instances/1.4/frames/4/rendered", 404),
        ("/studies/1.1/series/1.2/instances/1.4/frames/1,4/rendered", 404),
        ("/studies/1.1/series/1.2/instances/9/rendered", 404),
        ("/studies/1.1/series/9/rendered", 404),
        ("/studies/9/rendered", 404),
    ] {
        assert_eq!(get(&server, path, "*/*").await.status(), status, "{path}");
    }
    let refused = get(&server, &format!("{IMAGE}/rendered"), "image/jp2").await;
    assert_eq!(refused.status(), 406);
    assert!(refused.text().await.unwrap().contains("image/jpeg, image/png, image/gif"));
}

#[tokio::test]
async fn a_parameter_that_cannot_be_used_is_named() {
    let server = server().await;
    for (query, name) in [
        ("window=40,400", "window"),
        ("viewport=0,512", "viewport"),
        ("viewport=16384,16384", "viewport"),
        ("viewport=10,10,4,0", "viewport"),
        ("quality=101", "quality"),
        ("annotation=", "annotation"),
        ("iccprofile=cmyk", "iccprofile"),
        ("iccprofile=yes&accept=image/gif", "iccprofile"),
    ] {
        for path in [IMAGE.to_owned(), format!("{MOVIE}/frames/1")] {
            let response = get(&server, &format!("{path}/rendered?{query}"), "*/*").await;
            assert_eq!(response.status(), 400, "{query}");
            assert_eq!(blamed(response).await, name, "{query}");
        }
    }
    let ignored = get(&server, &format!("{IMAGE}/rendered?charset=utf-8&foo=bar&Window=x"), "*/*").await;
    assert_eq!(ignored.status(), 200);
}

#[tokio::test]
async fn annotations_that_are_not_known_cost_a_warning() {
    let server = server().await;
    for path in [format!("{IMAGE}/rendered"), format!("{MOVIE}/frames/1,2/rendered")] {
        let response = get(&server, &format!("{path}?annotation=patient,logo"), "*/*").await;
        assert_eq!(response.status(), 200);
        let warning = field(&response, "warning");
        assert!(warning.starts_with("299 ") && warning.contains("not supported: logo"), "{warning}");
    }
}

#[tokio::test]
async fn known_pictures_are_neither_drawn_nor_sent_again() {
    let server = server().await;
    for (path, accept) in [
        (format!("{IMAGE}/rendered"), "image/jpeg"),
        (format!("{MOVIE}/rendered"), "image/gif"),
        (format!("{MOVIE}/frames/1,2/rendered"), PNGS),
        (format!("{SERIES}/rendered"), PNGS),
        (format!("{IMAGE}/thumbnail"), "image/jpeg"),
        (format!("{SERIES}/thumbnail"), "image/jpeg"),
    ] {
        let first = get(&server, &path, accept).await;
        let etag = field(&first, "etag").to_owned();
        assert!(etag.len() > 2, "{path}");
        assert_eq!(field(&first, "cache-control"), "private, no-cache");
        let again = server.get(&path).header("Accept", accept).header("If-None-Match", &etag);
        assert_eq!(again.send().await.unwrap().status(), 304, "{path}");
        let other = server.get(&format!("{path}?viewport=8,8")).header("Accept", accept);
        let other = other.header("If-None-Match", &etag).send().await.unwrap();
        assert_eq!(other.status(), 200, "{path}");
    }
    let tags = async |path: &str| field(&get(&server, path, "image/png").await, "etag").to_owned();
    assert_ne!(
        tags(&format!("{MOVIE}/frames/1/rendered")).await,
        tags(&format!("{MOVIE}/frames/2/rendered")).await
    );
}

#[tokio::test]
async fn a_head_request_tells_the_length() {
    let server = server().await;
    for path in [format!("{IMAGE}/rendered"), format!("{IMAGE}/thumbnail")] {
        let response = server.request("HEAD", server.url(&path)).header("Accept", "image/png");
        let response = response.send().await.unwrap();
        let whole = get(&server, &path, "image/png").await;
        assert_eq!(field(&response, "content-length"), field(&whole, "content-length"));
    }
}

#[tokio::test]
async fn a_presentation_state_shows_what_it_refers_to() {
    let server = server().await;
    let states = [
        presentation_state("1.10", &[("1.4", "3\\1"), ("1.99", ""), ("1.3", "")]),
        presentation_state("1.11", &[("1.99", "")]),
        presentation_state("1.12", &[]),
    ];
    assert_eq!(server.store(&states).await.status(), 200);
    let path = "/studies/1.1/series/1.9/instances/1.10/rendered";
    let found = located(&server, get(&server, path, PNGS).await).await;
    let locations: Vec<&str> = found.iter().map(|(location, _)| location.as_str()).collect();
    assert_eq!(locations, ["1.2/instances/1.4/frames/3", "1.2/instances/1.4/frames/1", "1.2/instances/1.3"]);
    let first = get(&server, path, "image/png").await;
    assert_eq!(field(&first, "content-location"), server.url(&format!("{MOVIE}/frames/3")));
    for (query, name) in [(AS_IT_IS, "window"), ("viewport=4,4,1,1", "viewport")] {
        let response = get(&server, &format!("{path}?{query}"), PNGS).await;
        assert_eq!(response.status(), 400, "{query}");
        assert_eq!(blamed(response).await, name);
    }
    for (instance, status) in [("1.11", 404), ("1.12", 406)] {
        let path = format!("/studies/1.1/series/1.9/instances/{instance}/rendered");
        assert_eq!(get(&server, &path, "*/*").await.status(), status, "{instance}");
    }
}

#[tokio::test]
async fn a_thumbnail_stands_for_a_resource_of_every_level() {
    let server = server().await;
    for path in
        ["/studies/1.1", SERIES, IMAGE, MOVIE, &format!("{MOVIE}/frames/2"), &format!("{MOVIE}/frames/2,1")]
    {
        let response = get(&server, &format!("{path}/thumbnail"), "*/*").await;
        assert_eq!(
            (response.status().as_u16(), field(&response, "content-type")),
            (200, "image/jpeg"),
            "{path}"
        );
        assert_eq!(jpeg_size(&response.bytes().await.unwrap()), (256, 128), "{path}");
    }
}

#[tokio::test]
async fn a_thumbnail_has_the_size_and_format_asked_for() {
    let server = server().await;
    let response =
        get(&server, &format!("{SERIES}/thumbnail?viewport=64%2C64&accept=image/png"), "*/*").await;
    assert_eq!(field(&response, "content-type"), "image/png");
    let picture = png(&response.bytes().await.unwrap());
    assert_eq!((picture.width, picture.height), (64, 32));
    for query in ["viewport=64", "viewport=64,64,0,0", "viewport=0,64", "viewport=64,64,,,,"] {
        let response = get(&server, &format!("{SERIES}/thumbnail?{query}"), "*/*").await;
        assert_eq!(response.status(), 400, "{query}");
        assert_eq!(blamed(response).await, "viewport");
    }
    let refused = get(&server, &format!("{SERIES}/thumbnail"), "text/html").await;
    assert_eq!(refused.status(), 406);
}

#[tokio::test]
async fn what_has_no_picture_has_a_sheet_for_a_thumbnail() {
    let server = server().await;
    let report = data_set("1.8", "1.7", "1.5").file(crate::harness::EXPLICIT);
    assert_eq!(server.store(&[report]).await.status(), 200);
    for path in ["/studies/1.8/series/1.7/instances/1.5", "/studies/1.8/series/1.7", "/studies/1.8"] {
        let response = get(&server, &format!("{path}/thumbnail?viewport=64,64"), "image/png").await;
        assert_eq!(response.status(), 200, "{path}");
        let picture = png(&response.bytes().await.unwrap());
        assert_eq!((picture.width, picture.height), (64, 64));
        assert!(picture.pixels.contains(&255), "its letters are white");
    }
}

#[tokio::test]
async fn what_is_not_there_has_no_thumbnail() {
    let server = server().await;
    for path in ["/studies/9", "/studies/1.1/series/1.2/instances/1.4/frames/4"] {
        let response = get(&server, &format!("{path}/thumbnail"), "*/*").await;
        assert_eq!(response.status(), 404, "{path}");
    }
}
