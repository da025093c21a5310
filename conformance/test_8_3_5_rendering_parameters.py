"""Query parameters of rendered resources (PS3.18 §8.3.5.1)."""

from urllib.parse import quote

import numpy
import pytest

from build import encode, instance_path
from rendered_images import COLUMNS, ROWS, difference, gradient, grey, rendered_image, values, windowed

JPEG, PNG, GIF = "image/jpeg", "image/png", "image/gif"
WINDOW = "window=1500,3000,linear"


@pytest.fixture(scope="module")
def stored(origin):
    data_set = gradient(WindowCenter="800", WindowWidth="400")
    origin.store(encode(data_set))
    return data_set


@pytest.fixture(scope="module")
def rendered(origin, stored):
    def get(query: str, accept: str = PNG):
        return origin.get(f"{instance_path(stored)}/rendered?{query}", accept)

    return get


@pytest.mark.parametrize("function", ["linear", "linear-exact", "sigmoid"])
@pytest.mark.parametrize("center, width", [(1500, 3000), (800, 100), (-20.5, 1e3), (500, 1)])
def test_a_window_is_applied_instead_of_the_image_s(rendered, function, center, width):
    answer = rendered(f"window={center},{width},{function}")
    assert answer.status_code == 200
    with numpy.errstate(all="ignore"):
        expected = windowed(values(), center, width, function)
    if width == 1 and function == "linear":
        # The formula has no ramp: at or below the center less one half it is black.
        expected = numpy.where(values() <= center - 0.5, 0, 255)
    assert difference(answer.content, expected) <= 1


@pytest.mark.parametrize(
    "value",
    ["", "40", "40,400", "40,400,", "40,,linear", ",400,linear", "a,400,linear", "40,b,linear", "40,400,round", "40,0,linear", "40,-5,linear-exact"],
)
def test_a_window_that_is_none_is_400(rendered, value):
    assert rendered(f"window={value}").status_code == 400


@pytest.mark.parametrize(
    "value, size",
    [
        ("128,96", (128, 96)),
        ("32,32", (32, 24)),
        ("512,100", (133, 100)),
        ("10,1000", (10, 8)),
        ("64,48", (64, 48)),
        (quote("32,32"), (32, 24)),
        ("100,100,0,0,32,32", (100, 100)),
        ("100,100,,,32,16", (100, 50)),
        ("16,16,48,32,16,16", (16, 16)),
        ("100,100,32", (67, 100)),
    ],
)
def test_a_rendered_image_is_as_large_as_fits_into_the_viewport(rendered, value, size):
    answer = rendered(f"viewport={value}")
    assert answer.status_code == 200
    width, height = rendered_image(answer.content).size
    assert abs(width - size[0]) <= 1 and abs(height - size[1]) <= 1


def test_a_region_is_cut_out_exactly(rendered):
    body = rendered(f"{WINDOW}&viewport=16,8,20,30,16,8").content
    assert difference(body, windowed(values()[30:38, 20:36], 1500, 3000)) <= 1


@pytest.mark.parametrize("sign", [(-1, 1), (1, -1), (-1, -1)])
def test_negative_sizes_flip(rendered, sign):
    body = rendered(f"{WINDOW}&viewport=16,8,20,30,{16 * sign[0]},{8 * sign[1]}").content
    expected = windowed(values()[30:38, 20:36], 1500, 3000)[:: sign[1], :: sign[0]]
    assert difference(body, expected) <= 1


def test_a_rendered_image_that_is_scaled_down_still_shows_the_image(rendered):
    body = rendered(f"{WINDOW}&viewport={COLUMNS // 2},{ROWS // 2}").content
    expected = windowed(values(), 1500, 3000).reshape(ROWS // 2, 2, COLUMNS // 2, 2).mean(axis=(1, 3))
    assert difference(body, expected) <= 6


@pytest.mark.parametrize(
    "value", ["", "512", "512,", ",512", "0,512", "512,0", "-512,512", "1.5,512", "a,512", "1,1,x", "1,1,,,0,5", "1,1,1,1,1,1,1", "9999999999,1"]
)
def test_a_viewport_that_is_none_is_400(rendered, value):
    assert rendered(f"viewport={value}").status_code == 400


def test_a_viewport_without_any_of_the_image_is_400(rendered):
    assert rendered(f"viewport=10,10,{COLUMNS},0").status_code == 400
    assert rendered(f"viewport=10,10,0,{ROWS + 5}").status_code == 400


def test_quality_makes_a_difference(rendered):
    sizes = [len(rendered(f"{WINDOW}&quality={quality}", JPEG).content) for quality in (1, 50, 100)]
    assert sizes == sorted(set(sizes))
    body = rendered(f"{WINDOW}&quality=100", JPEG).content
    assert difference(body, windowed(values(), 1500, 3000)) <= 3


@pytest.mark.parametrize("value", ["", "0", "101", "-1", "50.5", "high"])
def test_a_quality_that_is_none_is_400(rendered, value):
    assert rendered(f"quality={value}", JPEG).status_code == 400


@pytest.mark.parametrize("value", ["patient", "technique", "patient,technique", quote("technique,patient")])
def test_annotations_are_burned_in(rendered, value):
    # Small images may have no room for text.
    plain, annotated = (rendered(f"viewport=640,480{more}") for more in ("", f"&annotation={value}"))
    assert annotated.status_code == 200
    assert "Warning" not in annotated.headers
    assert (grey(plain.content) != grey(annotated.content)).any()


def test_annotations_that_are_not_supported_cost_a_warning(rendered):
    answer = rendered("annotation=patient,surely-unknown")
    assert answer.status_code == 200
    assert answer.headers["Warning"].startswith("299 ")
    assert "The following annotation values are not supported: surely-unknown" in answer.headers["Warning"]


@pytest.mark.parametrize("value", ["", ","])
def test_no_annotation_at_all_is_400(rendered, value):
    assert rendered(f"annotation={value}").status_code == 400


@pytest.mark.parametrize("media_type", [JPEG, PNG])
@pytest.mark.parametrize("value, is_present", [("no", False), ("yes", True), ("srgb", True), ("adobergb", True), ("rommrgb", True)])
def test_a_colour_profile_is_there_if_it_is_asked_for(rendered, media_type, value, is_present):
    answer = rendered(f"iccprofile={value}", media_type)
    assert answer.status_code == 200
    assert ("icc_profile" in rendered_image(answer.content).info) == is_present


def test_a_colour_profile_that_the_media_type_cannot_hold_is_400(rendered):
    assert rendered("iccprofile=yes", GIF).status_code == 400
    assert rendered("iccprofile=no", GIF).status_code == 200


@pytest.mark.parametrize("value", ["", "cmyk"])
def test_a_colour_profile_that_is_none_is_400(rendered, value):
    assert rendered(f"iccprofile={value}").status_code == 400


def test_parameters_that_are_not_known_are_ignored(rendered):
    plain = rendered(WINDOW)
    assert rendered(f"{WINDOW}&charset=utf-8&foo=bar&Viewport=1,1").content == plain.content


def test_parameters_are_applied_together(rendered):
    answer = rendered("window=1500,3000,linear&viewport=16,8,20,30,-16,8&quality=100", JPEG)
    found = rendered_image(answer.content)
    assert (found.format, found.size) == ("JPEG", (16, 8))
    expected = windowed(values()[30:38, 20:36], 1500, 3000)[:, ::-1]
    assert difference(answer.content, expected) <= 4
