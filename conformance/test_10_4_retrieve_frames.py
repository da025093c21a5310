"""Retrieve Transaction of frames (PS3.18 §10.4.1.1.6) and bulk data (§10.4.1.1.5)."""

import pytest
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import JPEGBaseline8Bit, JPEGLSLossless, RLELossless

import multipart
from build import encode, frame_bytes, image, instance, instance_path
from conftest import FRAMES

OCTETS = "application/octet-stream"


@pytest.fixture(scope="module")
def movie(origin):
    data_set = image(frames=10)
    origin.store(encode(data_set))
    return data_set


def frames(origin, data_set, numbers, accept=FRAMES, **headers):
    return origin.get(f"{instance_path(data_set)}/frames/{numbers}", accept, **headers)


@pytest.mark.parametrize("numbers", [[1], [10], [3, 1, 2], [2, 2], list(range(1, 11))])
def test_frames_come_in_the_order_asked_for(origin, movie, numbers):
    answer = frames(origin, movie, ",".join(map(str, numbers)))
    assert answer.status_code == 200
    parts = multipart.read(answer)
    assert [part.body for part in parts] == [frame_bytes(number) for number in numbers]
    for part in parts:
        assert part.headers["content-type"].startswith(OCTETS)


def test_parts_start_with_their_content_type(origin, movie):
    body = frames(origin, movie, "1").content
    assert body.split(b"\r\n")[1].startswith(b"Content-Type: ")
    assert body.index(b"\r\n\r\n") < 1000


def test_one_frame_comes_without_multipart_where_asked(origin, movie):
    answer = frames(origin, movie, "4", f"{OCTETS}; transfer-syntax=*")
    assert answer.headers["Content-Type"].startswith(OCTETS)
    assert answer.content == frame_bytes(4)


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "*/*",
        "multipart/related",
        "multipart/related; type=application/octet-stream",
        "multipart/related; type=application/octet-stream; transfer-syntax=*",
        'multipart/related; type="application/octet-stream"; transfer-syntax=1.2.840.10008.1.2.1',
        'multipart/related; type="image/jls"; transfer-syntax=*, multipart/related; type="application/octet-stream"; transfer-syntax=*',
    ],
)
def test_every_legal_spelling_of_accept_is_understood(origin, movie, accept):
    answer = frames(origin, movie, "2", accept)
    assert answer.status_code == 200
    assert [part.body for part in multipart.read(answer)] == [frame_bytes(2)]


def test_no_such_frame_is_404(origin, movie):
    assert frames(origin, movie, "11").status_code == 404
    assert frames(origin, instance(), "1").status_code == 404


@pytest.mark.parametrize("numbers", ["0", "-1", "x", "1,x", "1.5"])
def test_frame_numbers_that_are_none_are_a_client_error(origin, movie, numbers):
    assert frames(origin, movie, numbers).status_code in (400, 404)


def test_an_instance_without_pixels_has_no_frames(origin):
    data_set = instance()
    origin.store(encode(data_set))
    assert frames(origin, data_set, "1").status_code == 404


STORED = [b"\xff\xd8first\xff\xd9", b"\xff\xd8the second\xff\xd9\x00", b"\xff\xd8\xff\xd9"]


def compressed(fragments_per_frame=1, has_bot=True, is_extended=False):
    """Three frames that only look like compressed ones: nothing may decode them on the way."""
    data_set = image(frames=3)
    stored = [frame + bytes(len(frame) % 2) for frame in STORED]
    if is_extended:
        data_set.PixelData, data_set.ExtendedOffsetTable, data_set.ExtendedOffsetTableLengths = encapsulate_extended(stored)
    else:
        data_set.PixelData = encapsulate(stored, fragments_per_frame, has_bot)
    data_set["PixelData"].VR = "OB"
    data_set["PixelData"].is_undefined_length = True
    return data_set, stored


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"has_bot": False},
        {"fragments_per_frame": 2},
        {"is_extended": True},
    ],
    ids=["offset table", "no offset table", "two fragments a frame", "extended offset table"],
)
@pytest.mark.parametrize(
    "transfer_syntax, media_type",
    [(JPEGBaseline8Bit, "image/jpeg"), (JPEGLSLossless, "image/jls"), (RLELossless, "image/dicom-rle")],
)
def test_compressed_frames_come_as_they_are_stored(origin, layout, transfer_syntax, media_type):
    data_set, stored = compressed(**layout)
    origin.store(encode(data_set, transfer_syntax))
    for accept in [FRAMES, f'multipart/related; type="{media_type}"; transfer-syntax=*']:
        answer = frames(origin, data_set, "3,1,2", accept)
        assert answer.status_code == 200, accept
        parts = multipart.read(answer)
        # Some servers drop the padding byte of a fragment.
        for part, number in zip(parts, [3, 1, 2], strict=True):
            assert part.body in (stored[number - 1], STORED[number - 1])
            assert transfer_syntax in part.headers["content-type"]


def test_what_cannot_be_made_is_406(origin, movie):
    for accept in ["video/mp4", 'multipart/related; type="video/mpeg"', "text/html"]:
        assert frames(origin, movie, "1", accept).status_code == 406, accept


def test_ranges_of_one_answer_add_up_to_it(origin, movie):
    whole = frames(origin, movie, "1,2")
    again = frames(origin, movie, "1,2")
    assert whole.content == again.content, "multipart bodies must be the same each time (§8.6.1.2)"
    first = frames(origin, movie, "1,2", Range="bytes=0-49")
    rest = frames(origin, movie, "1,2", Range="bytes=50-")
    assert (first.status_code, rest.status_code) == (206, 206)
    assert first.content + rest.content == whole.content
    assert first.headers["Content-Range"] == f"bytes 0-49/{len(whole.content)}"


def test_frames_have_an_entity_tag_and_a_length(origin, movie):
    answer = frames(origin, movie, "1")
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    assert frames(origin, movie, "1", If_None_Match=answer.headers["ETag"]).status_code == 304
    head = origin.request("HEAD", f"{instance_path(movie)}/frames/1", headers={"Accept": FRAMES})
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == answer.headers["Content-Length"]


def test_bulk_data_comes_single_part_multipart_and_in_ranges(origin):
    data_set = image(frames=2)
    origin.store(encode(data_set))
    (metadata,) = origin.json(f"{instance_path(data_set)}/metadata")
    path = metadata["7FE00010"]["BulkDataURI"].removeprefix(origin.url)
    assert origin.get(path, OCTETS).content == data_set.PixelData
    parts = multipart.read(origin.get(path, f'multipart/related; type="{OCTETS}"; transfer-syntax=*'))
    assert [part.body for part in parts] == [data_set.PixelData]
    part = origin.get(path, OCTETS, Range="bytes=10-19")
    assert (part.status_code, part.content) == (206, data_set.PixelData[10:20])
    assert origin.get(f"{path}x", OCTETS).status_code in (400, 404)
