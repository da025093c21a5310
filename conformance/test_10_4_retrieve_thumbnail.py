"""Retrieve Transaction of thumbnails (PS3.18 §10.4.1.1.4, §8.3.5.2)."""

import pytest

from build import encode, instance, instance_path, series_path, study_path
from rendered_images import COLUMNS, ROWS, gradient, grey, rendered_image

JPEG, PNG, GIF = "image/jpeg", "image/png", "image/gif"


@pytest.fixture(scope="module")
def stored(origin):
    data_set = gradient(frames=3)
    origin.store(encode(data_set))
    return data_set


LEVELS = [study_path, series_path, instance_path, lambda data_set: f"{instance_path(data_set)}/frames/2"]


@pytest.mark.parametrize("level", LEVELS, ids=["study", "series", "instance", "frame"])
def test_each_level_has_a_thumbnail(origin, stored, level):
    answer = origin.get(f"{level(stored)}/thumbnail", "*/*", Accept_Encoding="identity")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, JPEG)
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    found = rendered_image(answer.content)
    assert found.format == "JPEG"
    assert abs(found.width / found.height - COLUMNS / ROWS) < 0.05, "not distorted"
    levels = grey(answer.content)
    assert levels.max() - levels.min() > 50, "not empty"


@pytest.mark.parametrize("media_type, name", [(JPEG, "JPEG"), (PNG, "PNG"), (GIF, "GIF")])
def test_a_thumbnail_comes_in_the_media_type_asked_for(origin, stored, media_type, name):
    for path, accept in [("thumbnail", media_type), (f"thumbnail?accept={media_type}", "*/*")]:
        answer = origin.get(f"{series_path(stored)}/{path}", accept)
        assert answer.headers["Content-Type"] == media_type
        assert rendered_image(answer.content).format == name


@pytest.mark.parametrize("value, size", [("32,32", (32, 24)), ("128%2C96", (128, 96)), ("256,256", (256, 192)), ("20,100", (20, 15))])
def test_a_thumbnail_is_as_large_as_fits(origin, stored, value, size):
    for level in LEVELS:
        answer = origin.get(f"{level(stored)}/thumbnail?viewport={value}", JPEG)
        assert answer.status_code == 200
        assert rendered_image(answer.content).size == size


@pytest.mark.parametrize("value", ["", "256", "256,", "0,256", "-1,256", "1.5,256", "256,256,0,0", "256,256,,,10,10", "a,b"])
def test_a_viewport_that_is_no_size_is_400(origin, stored, value):
    assert origin.get(f"{series_path(stored)}/thumbnail?viewport={value}", JPEG).status_code == 400


def test_what_is_not_there_is_404(origin, stored):
    unknown = gradient()
    for level in LEVELS:
        assert origin.get(f"{level(unknown)}/thumbnail", "*/*").status_code == 404
    assert origin.get(f"{instance_path(stored)}/frames/4/thumbnail", "*/*").status_code == 404


def test_the_thumbnail_of_an_instance_without_pixels_is_an_image_or_a_client_error(origin):
    data_set = instance()
    origin.store(encode(data_set))
    for level in [study_path, series_path, instance_path]:
        assert origin.get(f"{level(data_set)}/thumbnail", "*/*").status_code in (200, 404, 406)


def test_a_media_type_that_cannot_be_made_is_406(origin, stored):
    assert origin.get(f"{series_path(stored)}/thumbnail", "text/html").status_code == 406


def test_a_thumbnail_changes_with_what_it_shows(origin):
    """An entity tag confirms what a client has until the series changes."""
    first = gradient(InstanceNumber="1")
    origin.store(encode(first))
    path = f"{series_path(first)}/thumbnail"
    answer = origin.get(path, JPEG)
    tag = answer.headers["ETag"]
    assert origin.get(path, JPEG, If_None_Match=tag).status_code == 304
    assert origin.get(path, JPEG).content == answer.content
    same = {"StudyInstanceUID": first.StudyInstanceUID, "SeriesInstanceUID": first.SeriesInstanceUID}
    origin.store(encode(gradient(InstanceNumber="2", **same)))
    assert origin.get(path, JPEG, If_None_Match=tag).status_code == 200
