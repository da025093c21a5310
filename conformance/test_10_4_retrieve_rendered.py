"""Retrieve Transaction of rendered resources (PS3.18 §10.4.1.1.3): resources and media types."""

import numpy
import pytest

import multipart
from build import encode, instance, instance_path, series_path, study_path
from rendered_images import COLUMNS, ROWS, difference, gradient, grey, rendered_image, values, windowed

JPEG, PNG, GIF = "image/jpeg", "image/png", "image/gif"
WINDOW = "window=1500,3000,linear"


def parts_of(media_type: str) -> str:
    return f'multipart/related; type="{media_type}"'


@pytest.fixture(scope="module")
def slice_of_ct(origin):
    data_set = gradient()
    origin.store(encode(data_set))
    return data_set


@pytest.fixture(scope="module")
def movie(origin):
    data_set = gradient(frames=4)
    origin.store(encode(data_set))
    return data_set


@pytest.fixture(scope="module")
def study(origin):
    """Two series: two images and a report without pixels; a movie of two frames."""
    first = gradient()
    identity = {"StudyInstanceUID": first.StudyInstanceUID}
    same_series = {**identity, "SeriesInstanceUID": first.SeriesInstanceUID}
    second, without_pixels = gradient(**same_series), instance(**same_series)
    other = gradient(frames=2, **identity)
    origin.store(*map(encode, [first, second, without_pixels, other]))
    return first, second, other


@pytest.mark.parametrize("media_type, name", [(JPEG, "JPEG"), (PNG, "PNG"), (GIF, "GIF")])
def test_a_single_frame_comes_in_each_media_type(origin, slice_of_ct, media_type, name):
    answer = origin.get(f"{instance_path(slice_of_ct)}/rendered", media_type, Accept_Encoding="identity")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, media_type)
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    found = rendered_image(answer.content)
    assert (found.format, found.size) == (name, (COLUMNS, ROWS))


@pytest.mark.parametrize("accept", ["*/*", "image/*", "image/avif,image/webp,image/*,*/*;q=0.8", f"{PNG};q=0.1,{JPEG}"])
def test_jpeg_is_the_default(origin, slice_of_ct, accept):
    answer = origin.get(f"{instance_path(slice_of_ct)}/rendered", accept)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, JPEG)


def test_jpeg_is_baseline_of_8_bits(origin, slice_of_ct):
    body = origin.get(f"{instance_path(slice_of_ct)}/rendered", JPEG).content
    assert body[:2] == b"\xff\xd8"
    position, markers = 2, {}
    while body[position + 1] != 0xDA:
        length = int.from_bytes(body[position + 2 : position + 4], "big")
        markers[body[position + 1]] = body[position + 4 : position + 2 + length]
        position += 2 + length
    assert 0xC0 in markers, "a frame header of the baseline process"
    assert markers[0xC0][0] == 8


def test_the_query_names_the_media_type(origin, slice_of_ct):
    answer = origin.get(f"{instance_path(slice_of_ct)}/rendered?accept={PNG}", "*/*")
    assert answer.headers["Content-Type"] == PNG


@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_frame_comes_alone(origin, movie, number):
    answer = origin.get(f"{instance_path(movie)}/frames/{number}/rendered?{WINDOW}", PNG)
    assert answer.headers["Content-Type"] == PNG
    assert difference(answer.content, windowed(values(number), 1500, 3000)) <= 1


def test_frames_come_as_parts_in_the_order_asked_for(origin, movie):
    answer = origin.get(f"{instance_path(movie)}/frames/3,1/rendered?{WINDOW}", parts_of(PNG))
    assert answer.status_code == 200
    found = multipart.read(answer)
    assert [part.headers["content-type"] for part in found] == [PNG, PNG]
    for part, number in zip(found, [3, 1], strict=True):
        assert difference(part.body, windowed(values(number), 1500, 3000)) <= 1


def test_each_part_names_the_image_that_it_was_rendered_from(origin, movie):
    answer = origin.get(f"{instance_path(movie)}/frames/3,1/rendered", parts_of(PNG))
    locations = [part.headers["content-location"] for part in multipart.read(answer)]
    assert [location.rsplit("/studies/")[-1] for location in locations] == [
        f"{instance_path(movie)}/frames/{number}".removeprefix("/studies/") for number in (3, 1)
    ]


def test_all_frames_of_a_movie_come_as_parts(origin, movie):
    answer = origin.get(f"{instance_path(movie)}/rendered?{WINDOW}", parts_of(PNG))
    found = multipart.read(answer)
    for part, number in zip(found, [1, 2, 3, 4], strict=True):
        assert difference(part.body, windowed(values(number), 1500, 3000)) <= 1


def test_a_movie_comes_animated(origin, movie):
    answer = origin.get(f"{instance_path(movie)}/rendered", GIF)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, GIF)
    assert rendered_image(answer.content).n_frames == 4


@pytest.mark.parametrize("level", [study_path, series_path])
def test_a_study_and_a_series_come_with_a_part_for_each_frame(origin, study, level):
    first, second, other = study
    answer = origin.get(f"{level(first)}/rendered", parts_of(JPEG))
    assert answer.status_code in (200, 206)
    found = multipart.read(answer)
    assert {part.headers["content-type"] for part in found} == {JPEG}
    assert len(found) == (4 if level == study_path else 2)
    expected = [instance_path(first), instance_path(second)]
    if level == study_path:
        expected += [f"{instance_path(other)}/frames/{number}" for number in (1, 2)]
    locations = ["/studies/" + part.headers["content-location"].rsplit("/studies/")[-1] for part in found]
    assert sorted(locations) == sorted(expected)


@pytest.mark.parametrize("accept", ["*/*", "multipart/related"])
def test_a_study_is_multipart_by_default(origin, study, accept):
    answer = origin.get(f"{study_path(study[0])}/rendered", accept)
    assert answer.headers["Content-Type"].startswith("multipart/related")


def test_single_part_is_for_a_single_item(origin, study, movie):
    """Note 3 to Table 10.4.4-1: it is ignored for others, even if there is but one image."""
    for path in [study_path(study[0]), series_path(study[0]), f"{instance_path(movie)}/frames/1,2"]:
        assert origin.get(f"{path}/rendered", JPEG).status_code == 406, path


@pytest.mark.parametrize("accept", ["image/x-unknown", "application/dicom", parts_of("image/x-unknown")])
def test_what_cannot_be_made_is_406(origin, slice_of_ct, accept):
    assert origin.get(f"{instance_path(slice_of_ct)}/rendered", accept).status_code == 406


def test_what_is_not_there_is_404(origin, movie):
    unknown = gradient()
    for path in [study_path(unknown), series_path(unknown), instance_path(unknown)]:
        assert origin.get(f"{path}/rendered", "*/*").status_code == 404, path
    for numbers in ["5", "1,5"]:
        assert origin.get(f"{instance_path(movie)}/frames/{numbers}/rendered", "*/*").status_code == 404


@pytest.mark.parametrize("numbers", ["0", "-1", "x"])
def test_frame_numbers_that_are_none_are_a_client_error(origin, movie, numbers):
    assert origin.get(f"{instance_path(movie)}/frames/{numbers}/rendered", "*/*").status_code in (400, 404)


def test_an_image_without_pixels_cannot_be_rendered(origin):
    data_set = instance()
    origin.store(encode(data_set))
    assert origin.get(f"{instance_path(data_set)}/rendered", "*/*").status_code in (404, 406)


def test_rendered_images_have_an_entity_tag_that_depends_on_their_parameters(origin, slice_of_ct):
    path = f"{instance_path(slice_of_ct)}/rendered"
    first = origin.get(path, PNG)
    assert origin.get(path, PNG, If_None_Match=first.headers["ETag"]).status_code == 304
    for other in [origin.get(path, JPEG), origin.get(f"{path}?{WINDOW}", PNG)]:
        assert other.headers["ETag"] != first.headers["ETag"]


def test_head_tells_what_get_would(origin, slice_of_ct):
    path = f"{instance_path(slice_of_ct)}/rendered"
    got = origin.get(path, PNG)
    head = origin.request("HEAD", path, headers={"Accept": PNG})
    assert (head.status_code, head.content) == (200, b"")
    for name in ["Content-Type", "Content-Length", "ETag"]:
        assert head.headers[name] == got.headers[name]


def test_the_image_s_own_window_is_used(origin):
    data_set = gradient(WindowCenter="800", WindowWidth="400")
    origin.store(encode(data_set))
    body = origin.get(f"{instance_path(data_set)}/rendered", PNG).content
    assert difference(body, windowed(values(), 800, 400)) <= 1


def test_without_a_window_the_image_is_not_black(origin, slice_of_ct):
    found = grey(origin.get(f"{instance_path(slice_of_ct)}/rendered", PNG).content)
    assert found.max() - found.min() > 100
    assert (numpy.diff(found, axis=1) >= 0).all(), "brighter to the right"
