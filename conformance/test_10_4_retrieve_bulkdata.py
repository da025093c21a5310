"""Bulk data resources (PS3.18 §10.4.1.1.5, §8.7.3.3, §F.2.2) that metadata refer to."""

import base64

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

import multipart
from build import encode, image, instance, instance_path

OCTETS = "application/octet-stream"
SYNTAXES = {
    "implicit": ImplicitVRLittleEndian,
    "explicit": ExplicitVRLittleEndian,
    "big endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
}
every_syntax = pytest.mark.parametrize("syntax", SYNTAXES.values(), ids=SYNTAXES)
LONG = bytes(range(256)) * 1024


def swapped(value: bytes, size: int) -> bytes:
    return b"".join(value[at : at + size][::-1] for at in range(0, len(value), size))


def value_of(origin, attribute: dict) -> bytes:
    """The bytes of a binary attribute of metadata, wherever they are."""
    if "InlineBinary" in attribute:
        return base64.b64decode(attribute["InlineBinary"])
    answer = origin.session.get(attribute["BulkDataURI"], headers={"Accept": OCTETS})
    assert answer.status_code == 200, answer.text[:300]
    return answer.content


@pytest.mark.parametrize("size", [2, 100, 1000, 5000, len(LONG)])
@every_syntax
@pytest.mark.parametrize("keyword, vr, word", [("SelectorOBValue", "OB", 1), ("SelectorOWValue", "OW", 2), ("SelectorODValue", "OD", 8)])
def test_binary_values_of_any_size_can_be_read_in_little_endian(origin, size, syntax, keyword, vr, word):
    size = max(size // word, 1) * word
    value = LONG[:size]
    data_set = instance()
    setattr(data_set, keyword, swapped(value, word) if syntax == ExplicitVRBigEndian else value)
    data_set[keyword].VR = vr
    origin.store(encode(data_set, syntax))
    (found,) = origin.json(f"{instance_path(data_set)}/metadata")
    attribute = found[f"{data_set[keyword].tag:08X}"]
    assert attribute["vr"] == vr
    assert value_of(origin, attribute) == value


@pytest.mark.parametrize("start, stop", [(0, 5000), (1, 2), (3, 4001), (262_001, 262_143)])
@pytest.mark.parametrize("keyword, vr, word", [("SelectorOWValue", "OW", 2), ("SelectorODValue", "OD", 8)])
def test_ranges_of_big_endian_values_are_parts_of_them_in_little_endian(origin, keyword, vr, word, start, stop):
    data_set = instance()
    setattr(data_set, keyword, swapped(LONG, word))
    data_set[keyword].VR = vr
    origin.store(encode(data_set, ExplicitVRBigEndian))
    (found,) = origin.json(f"{instance_path(data_set)}/metadata")
    path = found[f"{data_set[keyword].tag:08X}"]["BulkDataURI"].removeprefix(origin.url)
    answer = origin.get(path, OCTETS, Range=f"bytes={start}-{stop - 1}")
    assert (answer.status_code, answer.content) == (206, LONG[start:stop])


@every_syntax
def test_values_in_items_of_items_can_be_read(origin, syntax):
    inner, outer = Dataset(), Dataset()
    inner.EncapsulatedDocument = LONG
    outer.ConceptCodeSequence = [Dataset(), inner]
    data_set = instance(ProcedureCodeSequence=[Dataset(), Dataset(), outer])
    origin.store(encode(data_set, syntax))
    (found,) = origin.json(f"{instance_path(data_set)}/metadata")
    attribute = found["00081032"]["Value"][2]["0040A168"]["Value"][1]["00420011"]
    assert "BulkDataURI" in attribute
    assert value_of(origin, attribute) == LONG


@every_syntax
def test_large_private_values_can_be_read(origin, syntax):
    data_set = instance()
    data_set.private_block(0x0011, "CONFORMANCE", create=True).add_new(1, "OB", LONG)
    origin.store(encode(data_set, syntax))
    (found,) = origin.json(f"{instance_path(data_set)}/metadata")
    assert value_of(origin, found["00111001"]) == LONG


def test_long_text_is_inline_or_bulk_data_in_full(origin):
    text = "long text " * 100_000
    data_set = instance(TextValue=text)
    origin.store(encode(data_set))
    (found,) = origin.json(f"{instance_path(data_set)}/metadata")
    attribute = found["0040A160"]
    if "Value" in attribute:
        assert attribute["Value"][0].strip() == text.strip()
    else:
        assert value_of(origin, attribute).decode().strip() == text.strip()


@pytest.fixture(scope="module")
def document(origin):
    """An instance with a document of 256 KB, and the path of its bulk data."""
    data_set = instance(MIMETypeOfEncapsulatedDocument="application/pdf", EncapsulatedDocument=LONG)
    origin.store(encode(data_set))
    (found,) = origin.json(f"{instance_path(data_set)}/metadata")
    return found["00420011"]["BulkDataURI"].removeprefix(origin.url)


@pytest.mark.parametrize(
    "accept",
    [None, "*/*", OCTETS, "application/*", f"{OCTETS}; transfer-syntax=*", f"{OCTETS}; transfer-syntax=1.2.840.10008.1.2.1", f"image/jpeg, {OCTETS};q=0.5"],
)
def test_every_accept_that_allows_bytes_gets_them(origin, document, accept):
    answer = origin.get(document, accept)
    assert answer.status_code == 200
    if multipart.parameters(answer.headers["Content-Type"])[0] == "multipart/related":
        assert [part.body for part in multipart.read(answer)] == [LONG]
    else:
        assert answer.content == LONG


@pytest.mark.parametrize(
    "asked, expected",
    [("0-0", slice(0, 1)), ("1000-1999", slice(1000, 2000)), ("262000-", slice(262_000, None)), ("-1", slice(-1, None)), ("262143-999999999", slice(-1, None))],
)
def test_ranges_are_parts_of_the_value(origin, document, asked, expected):
    answer = origin.get(document, OCTETS, Range=f"bytes={asked}")
    assert (answer.status_code, answer.content) == (206, LONG[expected])
    start, stop, _ = expected.indices(len(LONG))
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(LONG)}"


def test_a_value_has_a_length_and_an_entity_tag(origin, document):
    answer = origin.get(document, OCTETS)
    assert int(answer.headers["Content-Length"]) == len(LONG)
    assert origin.get(document, OCTETS, If_None_Match=answer.headers["ETag"]).status_code == 304
    head = origin.request("HEAD", document, headers={"Accept": OCTETS})
    assert (head.status_code, head.content, head.headers["Content-Length"]) == (200, b"", str(len(LONG)))


def test_the_value_of_an_image_is_its_frames_one_after_the_other(origin):
    data_set = image(frames=3)
    origin.store(encode(data_set))
    (found,) = origin.json(f"{instance_path(data_set)}/metadata")
    frames = [origin.get(f"{instance_path(data_set)}/frames/{number}", f"{OCTETS}; transfer-syntax=*").content for number in (1, 2, 3)]
    assert value_of(origin, found["7FE00010"]) == b"".join(frames)


@pytest.mark.parametrize(
    "suffix",
    ["/bulkdata", "/bulkdata/", "/bulkdata/x", "/bulkdata/..", "/bulkdata/%2e%2e/%2e%2e/metadata", "/bulkdata/0-18446744073709551615", "/bulkdata/00100010/99", "/bulkdata/" + "7FE00010/" * 500],
)
def test_what_is_no_bulk_data_of_the_instance_is_a_client_error(origin, suffix):
    data_set = instance()
    origin.store(encode(data_set))
    assert 400 <= origin.get(f"{instance_path(data_set)}{suffix}", OCTETS).status_code < 500


def test_bulk_data_of_an_instance_that_is_not_stored_is_404(origin, document):
    other = instance_path(instance())
    tail = document.split("/instances/", 1)[1].split("/", 1)[1]
    assert origin.get(f"{other}/{tail}", OCTETS).status_code == 404
