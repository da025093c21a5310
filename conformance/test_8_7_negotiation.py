"""Media types and how one is chosen (PS3.18 §8.7), and content codings (RFC 9110 §12.5.3)."""

import gzip
import json
from urllib.parse import quote

import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit

import multipart
from build import encode, frame_bytes, image, instance_path, series_path
from conftest import INSTANCES, JSON

DICOM = "application/dicom"
OCTETS = "application/octet-stream"
SINGLE_DICOM = f"{DICOM}; transfer-syntax=*"
SINGLE_FRAME = f"{OCTETS}; transfer-syntax=*"
SLIM = [
    ("image/jls", "1.2.840.10008.1.2.4.80"),
    ("image/jls", "1.2.840.10008.1.2.4.81"),
    ("image/jp2", "1.2.840.10008.1.2.4.90"),
    ("image/jp2", "1.2.840.10008.1.2.4.91"),
    (OCTETS, "*"),
    ("image/jpeg", "1.2.840.10008.1.2.4.50"),
]


@pytest.fixture(scope="module")
def stored(origin):
    data_set = image(frames=2)
    origin.store(encode(data_set))
    return data_set


def media_type(answer) -> str:
    return multipart.parameters(answer.headers["Content-Type"])[0]


@pytest.mark.parametrize(
    "accept, expected",
    [
        (f"{DICOM};q=0.1, multipart/related; type={DICOM};q=0.9", "multipart/related"),
        (f"{DICOM};q=0.9, multipart/related; type={DICOM};q=0.1", DICOM),
        (f"text/html, {DICOM};q=0.1", DICOM),
        (f"{DICOM}, multipart/related; type={DICOM};q=0", DICOM),
        ("APPLICATION/DICOM", DICOM),
        (f"{DICOM}  ;  transfer-syntax=*", DICOM),
        (f"{DICOM}; transfer-syntax=1.2.840.10008.1.2.4.90, {SINGLE_DICOM};q=0.5", DICOM),
    ],
)
def test_the_greatest_weight_that_can_be_met_wins(origin, stored, accept, expected):
    answer = origin.get(instance_path(stored), accept)
    assert answer.status_code == 200
    assert media_type(answer) == expected


@pytest.mark.parametrize("path", [series_path, instance_path])
@pytest.mark.parametrize("accept", [None, "*/*", "application/*", JSON, "application/json", f"text/html, {JSON};q=0.1"])
def test_metadata_is_dicom_json_for_every_accept_that_allows_it(origin, stored, path, accept):
    answer = origin.get(f"{path(stored)}/metadata", accept)
    assert answer.status_code == 200
    assert media_type(answer) in (JSON, "application/json")
    assert len(answer.json()) == 1


@pytest.mark.parametrize("accept", [None, "*/*", "application/*", JSON, "application/json"])
def test_search_results_are_dicom_json_for_every_accept_that_allows_it(origin, stored, accept):
    answer = origin.get(f"/studies?StudyInstanceUID={stored.StudyInstanceUID}", accept)
    assert answer.status_code == 200
    assert len(answer.json()) == 1


@pytest.mark.parametrize("accept", ["image/png", "text/html", "video/mp4"])
@pytest.mark.parametrize("suffix", ["", "/metadata", "/frames/1"])
def test_what_no_resource_of_an_instance_has_is_406(origin, stored, accept, suffix):
    answer = origin.get(f"{instance_path(stored)}{suffix}", accept)
    assert answer.status_code == 406


@pytest.mark.parametrize("accept, suffix", [(SINGLE_DICOM, ""), (JSON, "/metadata"), (SINGLE_FRAME, "/frames/1")])
def test_the_accept_query_parameter_is_read_on_each_resource(origin, stored, accept, suffix):
    answer = origin.get(f"{instance_path(stored)}{suffix}?accept={quote(accept)}", "*/*")
    assert answer.status_code == 200
    assert media_type(answer) == accept.split(";")[0]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, JPEGBaseline8Bit])
def test_any_transfer_syntax_means_the_stored_one(origin, syntax):
    data_set = image()
    if syntax == JPEGBaseline8Bit:
        data_set.pop("PixelData")
    file = encode(data_set, syntax)
    origin.store(file)
    (part,) = multipart.read(origin.get(instance_path(data_set), INSTANCES))
    assert part.body == file
    given = multipart.parameters(part.headers["content-type"])[1].get("transfer-syntax", syntax)
    assert given == syntax


def test_of_equal_weights_the_stored_form_is_given(origin):
    """§8.7.8.1: of a tie the origin server decides. Slim lists what it can decode, all with the same weight."""
    data_set = image(rows=2, columns=4)
    data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit = 8, 8, 7
    jpeg = b"\xff\xd8 is not decoded \xff\xd9"
    data_set.PixelData = encapsulate([jpeg])
    data_set["PixelData"].VR = "OB"
    data_set["PixelData"].is_undefined_length = True
    origin.store(encode(data_set, JPEGBaseline8Bit))
    path = f"{instance_path(data_set)}/frames/1"
    for listed in [SLIM, [*reversed(SLIM)], SLIM[1:]]:
        accept = ", ".join(f'multipart/related; type="{essence}"; transfer-syntax={syntax}' for essence, syntax in listed)
        (part,) = multipart.read(origin.get(path, accept))
        assert part.body.rstrip(b"\0") == jpeg, accept


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_frames_of_every_native_transfer_syntax_are_little_endian(origin, syntax):
    data_set = image(frames=2)
    expected = [frame_bytes(1), frame_bytes(2)]
    origin.store(big_endian(data_set) if syntax == ExplicitVRBigEndian else encode(data_set, syntax))
    for number in (1, 2):
        assert origin.get(f"{instance_path(data_set)}/frames/{number}", SINGLE_FRAME).content == expected[number - 1]


def big_endian(data_set) -> bytes:
    """The data set in Explicit VR Big Endian; pydicom leaves the order of the bytes of pixels to its caller."""
    pixels = bytearray(data_set.PixelData)
    pixels[0::2], pixels[1::2] = pixels[1::2], pixels[0::2]
    data_set.PixelData = bytes(pixels)
    data_set["PixelData"].VR = "OW"
    return encode(data_set, ExplicitVRBigEndian)


@pytest.mark.parametrize("coding", ["gzip", "gzip, deflate, br", "gzip;q=1.0, identity;q=0.5"])
def test_metadata_is_compressed_for_clients_that_take_it(origin, coding):
    data_set = image(PatientComments="long " * 500)
    origin.store(encode(data_set))
    path = f"{instance_path(data_set)}/metadata"
    answer = origin.request("GET", path, headers={"Accept": JSON, "Accept-Encoding": coding}, stream=True)
    body = answer.raw.read(decode_content=False)
    assert answer.headers["Content-Encoding"] == "gzip"
    assert "accept-encoding" in answer.headers["Vary"].lower()
    assert json.loads(gzip.decompress(body)) == plain(origin, path).json()


def plain(origin, path):
    return origin.request("GET", path, headers={"Accept": JSON, "Accept-Encoding": "identity"})


@pytest.mark.parametrize("coding", ["identity", "gzip;q=0", "x-unknown"])
def test_metadata_is_not_compressed_for_clients_that_do_not_take_it(origin, stored, coding):
    path = f"{instance_path(stored)}/metadata"
    answer = origin.request("GET", path, headers={"Accept": JSON, "Accept-Encoding": coding})
    assert "Content-Encoding" not in answer.headers
    assert answer.json() == plain(origin, path).json()


@pytest.mark.parametrize("suffix", ["", "/metadata", "/frames/1"])
def test_head_has_the_status_and_type_of_get_and_no_body(origin, stored, suffix):
    path = f"{instance_path(stored)}{suffix}"
    head, get = origin.request("HEAD", path), origin.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert media_type(head) == media_type(get)


@pytest.mark.parametrize("suffix, accept", [("", SINGLE_DICOM), ("/metadata", JSON), ("/frames/1", SINGLE_FRAME)])
def test_a_condition_is_met_by_the_tag_alone_in_a_list_and_by_the_star(origin, stored, suffix, accept):
    path = f"{instance_path(stored)}{suffix}"
    tag = origin.get(path, accept).headers["ETag"]
    for condition, status in [(tag, 304), (f'"x", {tag}', 304), ("*", 304), ('"x"', 200)]:
        assert origin.get(path, accept, If_None_Match=condition).status_code == status, condition


@pytest.mark.parametrize(
    "accept, query, expected",
    [
        ("*/*", "application/json", "application/json"),
        (JSON, "application/json", "application/json"),
        ("application/json", "image/jpeg", "application/json"),
        ("*/*", "application/json;q=0.1,application/dicom%2Bjson;q=0.5", JSON),
    ],
)
def test_the_query_is_met_first_and_then_the_header(origin, stored, accept, query, expected):
    answer = origin.get(f"{instance_path(stored)}/metadata?accept={query}", accept)
    assert answer.status_code == 200
    assert media_type(answer) == expected


def test_what_neither_query_nor_header_can_have_is_406(origin, stored):
    assert origin.get(f"{instance_path(stored)}/metadata?accept=image/jpeg", "image/png").status_code == 406


@pytest.mark.parametrize("suffix, accept", [("", SINGLE_DICOM), ("/metadata", JSON), ("/frames/1", SINGLE_FRAME)])
@pytest.mark.parametrize("charset", ["utf-8", "iso-8859-1, utf-8;q=0.5", "x-unknown", "*"])
def test_a_character_set_that_is_not_supported_is_ignored(origin, stored, suffix, accept, charset):
    answer = origin.get(f"{instance_path(stored)}{suffix}", accept, Accept_Charset=charset)
    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["/studies", "/instances"])
def test_the_charset_query_parameter_is_ignored_by_searches(origin, stored, path):
    assert origin.get(f"{path}?charset=iso-8859-1&limit=1", JSON).status_code == 200


@pytest.mark.parametrize("suffix", ["", "/metadata", "/frames/1"])
def test_a_refusal_lists_what_can_be_had(origin, stored, suffix):
    answer = origin.get(f"{instance_path(stored)}{suffix}", "x/y")
    assert answer.status_code == 406
    assert "application/" in answer.text


@pytest.mark.parametrize("suffix, accept", [("", SINGLE_DICOM), ("/metadata", JSON), ("/frames/1", SINGLE_FRAME)])
def test_a_representation_says_where_it_is_from(origin, stored, suffix, accept):
    path = f"{instance_path(stored)}{suffix}"
    assert origin.get(path, accept).headers["Content-Location"].endswith(path)


def test_each_part_says_which_resource_it_is(origin, stored):
    frames = multipart.read(origin.get(f"{instance_path(stored)}/frames/2,1", f"multipart/related; type={OCTETS}"))
    assert [part.headers["content-location"].rsplit("/", 2)[1:] for part in frames] == [["frames", "2"], ["frames", "1"]]
    (whole,) = multipart.read(origin.get(series_path(stored), INSTANCES))
    assert whole.headers["content-location"].endswith(instance_path(stored))


@pytest.mark.parametrize("coding", ["br", "x-unknown", "gzip, br"])
def test_a_body_in_an_unknown_content_coding_is_415(origin, coding):
    headers = {"Content-Type": multipart.content_type(), "Content-Encoding": coding}
    answer = origin.request("POST", "/studies", data=multipart.write([encode(image())]), headers=headers)
    assert answer.status_code == 415
