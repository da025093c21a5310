"""What a server stores although it is not as the standard has it (PS3.18 §10.5.3, Table I.2-1): each such instance is retrieved in
every form and found by every key, as any other, beside a faultless one of its study. A server may refuse it instead."""

import io
import json
import struct
import sys
import zipfile
from xml.etree import ElementTree

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

import multipart
from build import encode, image, instance_path, series_path, study_path
from conftest import FRAMES, JSON

REFERENCED = "00081199"
DICOM, RELATED = "application/dicom", 'multipart/related; type="application/dicom"'
XML = 'multipart/related; type="application/dicom+xml"'
DEPTH = 500
# The parser of Python recurses.
sys.setrecursionlimit(20_000)


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    """An element in Explicit VR Little Endian, its value as it is."""
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
        return head + vr + struct.pack("<HI", 0, len(value)) + value
    return head + vr + struct.pack("<H", len(value)) + value


def item(content: bytes) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content


def nested(depth: int) -> bytes:
    content = element(0x00400009, b"SH", b"inmost")
    for _ in range(depth):
        content = element(0x00400275, b"SQ", item(content))
    return content


def insert(file: bytes, added: bytes) -> bytes:
    """The file with more elements, after those of group 0032 at most and before those of group 0054 at least."""
    at = file.index(b"\xe0\x7f\x10\x00OW")
    return file[:at] + added + file[at:]


def replace(file: bytes, old: bytes, new: bytes) -> bytes:
    assert file.count(old) == 1
    return file.replace(old, new)


def without_header(file: bytes) -> bytes:
    return file[144 + struct.unpack("<I", file[140:144])[0] :]


def dated(value: bytes):
    return lambda file: insert(file, element(0x00400307, b"DS", value))


# What is done to the file of an image in Explicit VR Little Endian, by name.
FAULTS = {
    "no header": without_header,
    "no preamble": lambda file: file[128:],
    "no group length": lambda file: file[:132] + file[144:],
    "text outside its character set": lambda file: replace(file, b"Doe^Jane", b"Doe^J\xe4\xff\x80"),
    "a decimal beyond double": dated(b"1e400 "),
    "a decimal that is none": dated(b"about 7 "),
    "a decimal of 100 digits": dated(b"9" * 100),
    "a value of odd length": dated(b"1.5"),
    "an integer beyond 64 bits": lambda file: insert(file, element(0x300C0006, b"IS", b"9" * 30)),
    "an integer that is none": lambda file: insert(file, element(0x300C0006, b"IS", b"1.5 ")),
    "not a number": lambda file: insert(file, element(0x00700022, b"FL", b"\0\0\xc0\x7f\0\0\x80\xff")),
    "half a number": lambda file: insert(file, element(0x00540011, b"US", b"\1\0\2")),
    "half a tag": lambda file: insert(file, element(0x00720026, b"AT", b"\1\0\2\0\3\0")),
    "a VR that is none": lambda file: insert(file, element(0x00540011, b"??", b"\1\0")),
    "a VR of zeros": lambda file: insert(file, element(0x00540011, b"\0\0", b"\1\0")),
    "another VR": lambda file: insert(file, element(0x00540011, b"LO", b"one ")),
    "an attribute twice": lambda file: insert(file, element(0x00540011, b"US", b"\1\0") * 2),
    "attributes out of order": lambda file: insert(file, element(0x00540061, b"US", b"\1\0") + element(0x00540011, b"US", b"\1\0")),
    "a stray delimiter": lambda file: insert(file, struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)),
    "a stray item": lambda file: insert(file, element(0x00540012, b"SQ", b"") + item(b"")),
    "a sequence of no items": lambda file: insert(file, element(0x00540012, b"SQ", b"garbage!")),
    "sequences in each other": lambda file: insert(file, nested(DEPTH)),
    "bytes after the data set": lambda file: file + b"\0" * 100,
}


@pytest.fixture(scope="module", params=FAULTS)
def lenient(request, origin):
    """A series of a faultless instance and one with a fault that was stored."""
    whole = image(SeriesNumber=1, InstanceNumber=1)
    faulty = image(StudyInstanceUID=whole.StudyInstanceUID, SeriesInstanceUID=whole.SeriesInstanceUID, SeriesNumber=1, InstanceNumber=2)
    faulty.PatientID = faulty.AccessionNumber = "FAULTY"
    whole.PatientID = whole.AccessionNumber = "FAULTY"
    origin.store(encode(whole))
    answer = origin.post(multipart.write([FAULTS[request.param](encode(faulty))]), multipart.content_type())
    if answer.status_code not in (200, 202):
        pytest.skip("the server refuses it")
    (stored,) = answer.json()[REFERENCED]["Value"]
    assert stored["00081155"]["Value"] == [faulty.SOPInstanceUID]
    return whole, faulty


def is_whole(content: bytes, data_set) -> bool:
    """Whether this is a file with the instance; a toolkit may be less lenient than the server."""
    return content[128:132] == b"DICM" and data_set.SOPInstanceUID.encode() in content and data_set.PixelData in content


def is_readable(content: bytes, data_set) -> bool:
    """Whether a toolkit reads the instance, its faults mended."""
    read = dcmread(io.BytesIO(content))
    return is_whole(content, data_set) and read.SOPInstanceUID == data_set.SOPInstanceUID and read.PixelData == data_set.PixelData


@pytest.mark.parametrize("parameter", ["", "; transfer-syntax=*", f"; transfer-syntax={ExplicitVRLittleEndian}"])
def test_it_is_given_as_a_file_alone_and_beside_others(origin, lenient, parameter):
    whole, faulty = lenient
    assert is_readable(origin.get(instance_path(faulty), DICOM + parameter).content, faulty)
    for level in (series_path, study_path):
        parts = [part.body for part in multipart.read(origin.get(level(faulty), RELATED + parameter))]
        assert len(parts) == 2
        assert all(any(is_readable(part, data_set) for part in parts) for data_set in lenient)


@pytest.mark.parametrize("query", ["", "?dicomdir=true"])
def test_it_is_in_a_zip_archive(origin, lenient, query):
    answer = origin.get(study_path(lenient[0]) + query, "application/zip")
    if answer.status_code == 406:
        pytest.skip("the server makes no zip archives")
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    files = [archive.read(name) for name in archive.namelist() if name != "DICOMDIR"]
    assert all(any(is_whole(file, data_set) for file in files) for data_set in lenient)


def test_its_metadata_are_json_and_spoil_no_others(origin, lenient):
    def refuse(text):
        raise AssertionError(f"{text} is no JSON")

    def finite(text):
        assert abs(float(text)) < float("inf")
        return float(text)

    for level, count in ((instance_path, 1), (series_path, 2), (study_path, 2)):
        text = origin.get(f"{level(lenient[1])}/metadata", JSON).text
        found = json.loads(text, parse_constant=refuse, parse_float=finite, parse_int=finite)
        assert len(found) == count
        assert found[-1]["7FE00010"]["BulkDataURI"]


def test_its_metadata_are_xml_and_spoil_no_others(origin, lenient):
    for level, count in ((instance_path, 1), (series_path, 2), (study_path, 2)):
        parts = multipart.read(origin.get(f"{level(lenient[1])}/metadata", XML))
        assert len(parts) == count
        for part in parts:
            tags = [element.get("tag") for _, element in ElementTree.iterparse(io.BytesIO(part.body)) if element.get("tag")]
            assert "7FE00010" in tags and "00080018" in tags


def test_its_frames_are_given(origin, lenient):
    _, faulty = lenient
    (part,) = multipart.read(origin.get(f"{instance_path(faulty)}/frames/1", FRAMES))
    assert part.body == faulty.PixelData


def test_it_is_found_by_every_key(origin, lenient):
    _, faulty = lenient
    keys = {
        "/instances": ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "InstanceNumber", "Modality", "Rows"],
        "/series": ["StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "Modality"],
        "/studies": ["StudyInstanceUID", "PatientID", "AccessionNumber", "StudyDate", "StudyTime"],
    }
    for resource, keywords in keys.items():
        for keyword in keywords:
            query = {"StudyInstanceUID": faulty.StudyInstanceUID, keyword: str(getattr(faulty, keyword))}
            answer = origin.request("GET", resource, params=query, headers={"Accept": JSON})
            assert answer.status_code == 200
            found = answer.json()
            assert found, (resource, keyword)
            if resource == "/instances":
                assert faulty.SOPInstanceUID in {one["00080018"]["Value"][0] for one in found}, keyword


@pytest.mark.parametrize("accept", [JSON, XML])
def test_a_search_for_all_attributes_gives_it_and_others(origin, lenient, accept):
    query = {"StudyInstanceUID": lenient[0].StudyInstanceUID, "includefield": "all"}
    answer = origin.request("GET", "/instances", params=query, headers={"Accept": accept})
    assert answer.status_code == 200
    for data_set in lenient:
        assert data_set.SOPInstanceUID in answer.text


def test_an_instance_of_the_deepest_nesting_is_stored_from_its_metadata(origin):
    """PS3.5 §7.5 has no limit on the nesting of data sets."""
    data_set = image()
    del data_set.PixelData, data_set.Rows, data_set.Columns, data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit
    del data_set.SamplesPerPixel, data_set.PhotometricInterpretation, data_set.PixelRepresentation
    metadata = json.loads(data_set.to_json())
    deep = '{"00400275":{"vr":"SQ","Value":[' * DEPTH + '{"00400009":{"vr":"SH","Value":["inmost"]}}' + "]}}" * DEPTH
    text = json.dumps(metadata)[:-1] + "," + deep[1:]
    related = f'multipart/related; type="{JSON}"; boundary={multipart.BOUNDARY}'
    answer = origin.post(multipart.write([f"[{text}]".encode()], JSON), related)
    if answer.status_code == 415:
        pytest.skip("the server takes no metadata")
    assert answer.status_code == 200, answer.text
    found = origin.get(f"{instance_path(data_set)}/metadata", JSON).text
    assert found.count('"00400275"') == DEPTH and "inmost" in found
    (part,) = multipart.read(origin.get(f"{instance_path(data_set)}/metadata", XML))
    xml = f'multipart/related; type="application/dicom+xml"; boundary={multipart.BOUNDARY}'
    # The same document makes the same instance.
    answer = origin.post(multipart.write([part.body], "application/dicom+xml"), xml)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_sequences_in_each_other_are_in_the_metadata(origin, syntax):
    data_set = image()
    file = insert(encode(data_set), nested(DEPTH))
    if syntax == ImplicitVRLittleEndian:
        implicit = image(SOPInstanceUID=data_set.SOPInstanceUID)
        implicit.update({"StudyInstanceUID": data_set.StudyInstanceUID, "SeriesInstanceUID": data_set.SeriesInstanceUID})
        content = struct.pack("<HHI", 0x0040, 0x0009, 6) + b"inmost"
        for _ in range(DEPTH):
            content = struct.pack("<HHI", 0x0040, 0x0275, len(content) + 8) + item(content)
        file = encode(implicit, syntax)
        at = file.index(b"\xe0\x7f\x10\x00")
        file = file[:at] + content + file[at:]
    origin.store(file)
    text = origin.get(f"{instance_path(data_set)}/metadata", JSON).text
    assert text.count('"00400275"') == DEPTH and '"00400009":{"vr":"SH","Value":["inmost"]}' in text
    assert text.count("{") == text.count("}") and text.count("[") == text.count("]")
    (part,) = multipart.read(origin.get(f"{instance_path(data_set)}/metadata", XML))
    items = [element for _, element in ElementTree.iterparse(io.BytesIO(part.body)) if element.tag.endswith("}Item")]
    assert len(items) == DEPTH
