"""Every file of pydicom's test set: retrieved byte for byte, with metadata and frames equal to pydicom's.

Many of the files share a SOP Instance UID, so each gets a server of its own. `REFUSED` lists the files that must be
refused, with reasons: a file that is refused without being listed, or stored although listed, fails.
"""

import base64
import json
import math
import struct
import warnings
import zipfile
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy
import pydicom
import pytest
from pydicom.data import get_charset_files, get_testdata_files
from pydicom.encaps import generate_frames
from pydicom.pixels import pixel_array
from pydicom.pixels.utils import get_expected_length
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
)

import multipart
import native_model
from conftest import FRAMES, launched
from test_10_5_store import FAILED, FAILED_OTHER

XML = 'multipart/related; type="application/dicom+xml"'
EXPLICIT = 'multipart/related; type="application/octet-stream"; transfer-syntax=1.2.840.10008.1.2.1'

# Files that must be refused, with reasons.
NO_STUDY = "it has no Study Instance UID"
NO_INSTANCE = "it is the directory of a medium (PS3.10 §8), no instance"
REFUSED = {
    "DICOMDIR": NO_INSTANCE,
    "DICOMDIR-bigEnd": NO_INSTANCE,
    "DICOMDIR-empty.dcm": NO_INSTANCE,
    "DICOMDIR-implicit": NO_INSTANCE,
    "DICOMDIR-nooffset": NO_INSTANCE,
    "DICOMDIR-nopatient": NO_INSTANCE,
    "DICOMDIR-reordered": NO_INSTANCE,
    "JPEGLSNearLossless_08.dcm": NO_STUDY,
    "JPEGLSNearLossless_16.dcm": NO_STUDY,
    "MR_truncated.dcm": "it ends within its pixel data",
    "SC_rgb_jls_lossy_line.dcm": NO_STUDY,
    "SC_rgb_jls_lossy_sample.dcm": NO_STUDY,
    "UN_sequence.dcm": NO_STUDY,
    "bad_sequence.dcm": NO_STUDY,
    "chrSQEncoding.dcm": NO_STUDY,
    "chrSQEncoding1.dcm": NO_STUDY,
    "empty_charset_LEI.dcm": NO_STUDY,
    "meta_missing_tsyntax.dcm": NO_STUDY,
    "nested_priv_SQ.dcm": NO_STUDY,
    "no_meta.dcm": "a stray byte comes before a headless data set",
    "no_meta_group_length.dcm": NO_STUDY,
    "priv_SQ.dcm": NO_STUDY,
    "rtplan_truncated.dcm": "it ends within an element",
}

# Bare data sets, which are given as files, with their transfer syntax.
OTHER_HEADER = {
    "ExplVR_BigEndNoMeta.dcm": ExplicitVRBigEndian,
    "ExplVR_LitEndNoMeta.dcm": ExplicitVRLittleEndian,
    "OT-PAL-8-face.dcm": ImplicitVRLittleEndian,
    "rtstruct.dcm": ImplicitVRLittleEndian,
}

# Files whose frames cannot be compared, with reasons.
FRAMES_NOT_COMPARED = {"badVR.dcm": "its Number of Frames is no number"}

# Files whose metadata cannot be compared, with reasons.
METADATA_NOT_COMPARED = {
    "badVR.dcm": "pydicom leaves out what it cannot convert",
    "emri_small_jpeg_2k_lossless_too_short.dcm": "pydicom stops at a fragment that is too short",
}

# Files whose metadata in XML cannot be compared with dcm2xml's, with reasons.
DCMTK_REPEATS = "dcmtk repeats the ideographic group of its name as phonetic"
DCMTK_CANNOT = "dcm2xml cannot convert it"
XML_NOT_COMPARED = {
    "J2K_pixelrep_mismatch.dcm": DCMTK_CANNOT,
    "SC_rgb_jpeg.dcm": DCMTK_CANNOT,
    "chrH31.dcm": DCMTK_CANNOT,
    "chrH32.dcm": DCMTK_CANNOT,
    "chrJapMulti.dcm": DCMTK_CANNOT,
    "chrJapMultiExplicitIR6.dcm": DCMTK_CANNOT,
    "chrX1.dcm": DCMTK_REPEATS,
    "chrX2.dcm": DCMTK_REPEATS,
    "emri_small_jpeg_2k_lossless_too_short.dcm": DCMTK_CANNOT,
    "explicit_VR-UN.dcm": DCMTK_CANNOT,
}

# Attributes that a server writes on its own: character set, timezone, available transfer syntax.
ADDED = {"00080005", "00083002"}

# Pixel Data, Float and Double Float Pixel Data.
PIXELS = [0x7FE00010, 0x7FE00008, 0x7FE00009]


def files() -> dict:
    found = {}
    for path in sorted({*get_testdata_files(), *get_charset_files()}):
        path = Path(path)
        # The packages have other files, too; some names are in both packages.
        if path.is_file() and path.suffix in (".dcm", "") and path.name != "README":
            found.setdefault(path.name, path)
    return found


FILES = files()


def read(path: Path) -> pydicom.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(path, force=True)


def is_encapsulated(data_set: pydicom.Dataset) -> bool:
    return data_set.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian).is_encapsulated


def with_pixels() -> dict:
    """The files that can be stored and have pixels, by name, and whether the pixels are encapsulated."""
    data_sets = {name: read(path) for name, path in FILES.items() if name not in REFUSED}
    return {name: is_encapsulated(data_set) for name, data_set in data_sets.items() if "PixelData" in data_set and "Rows" in data_set}


WITH_PIXELS = with_pixels()
STORED = pytest.mark.only("sent", FILES.keys() - REFUSED.keys())


@pytest.fixture(scope="module", params=FILES)
def sent(request, tmp_path_factory):
    """A server, the file that was sent to it, and its answer."""
    server, origin = launched(tmp_path_factory.mktemp("pydicom"), "log.filter=warn")
    try:
        answer = origin.post(multipart.write([FILES[request.param].read_bytes()]), multipart.content_type())
        yield SimpleNamespace(origin=origin, name=request.param, answer=answer)
        assert "panicked" not in server.log()
    finally:
        server.kill()


@pytest.fixture
def stored(sent):
    """A file that was stored: its server, name, and the path of its instance."""
    url = sent.answer.json()["00081199"]["Value"][0]["00081190"]["Value"][0]
    return SimpleNamespace(origin=sent.origin, name=sent.name, path=url.removeprefix(sent.origin.url))


@pytest.fixture
def image(stored):
    """A stored file that has pixels."""
    return stored, read(FILES[stored.name])


def test_the_whole_set_is_there():
    assert len(FILES) >= 230


def test_a_file_is_stored_or_its_refusal_is_listed(sent):
    if sent.name in REFUSED:
        assert sent.answer.status_code == 409, sent.answer.text
        failures = [*sent.answer.json().get(FAILED, {}).get("Value", []), *sent.answer.json().get(FAILED_OTHER, {}).get("Value", [])]
        assert [failure["00081197"]["Value"][0] for failure in failures] == [0xC000]
    else:
        assert sent.answer.status_code in (200, 202), sent.answer.text


def read_zip(content: bytes) -> list:
    archive = zipfile.ZipFile(BytesIO(content))
    return [archive.read(name) for name in archive.namelist()]


@STORED
def test_a_file_comes_back_byte_for_byte(stored):
    file = FILES[stored.name].read_bytes()
    answer = stored.origin.get(stored.path, "application/dicom; transfer-syntax=*")
    assert answer.status_code == 200
    (entry,) = read_zip(stored.origin.get(stored.path, "application/zip").content)
    if stored.name in OTHER_HEADER:
        # PS3.10 §7.1: preamble, prefix, and the length of group 0002 first.
        length = int.from_bytes(entry[140:144], "little")
        assert entry[128:140] == b"DICM\x02\0\0\0UL\x04\0"
        assert entry != file and file.endswith(entry[144 + length :])
        assert pydicom.dcmread(BytesIO(entry)).file_meta.TransferSyntaxUID == OTHER_HEADER[stored.name]
    else:
        assert entry == file
    if answer.content != entry:
        # Web services give two transfer syntaxes as Explicit VR Little Endian (PS3.18 §8.7.3); zip files give what is stored.
        given, sent = (pydicom.dcmread(BytesIO(content), force=True) for content in (answer.content, file))
        assert given.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert sent.original_encoding in ((True, True), (False, False))


@STORED
def test_metadata_equals_pydicoms(stored):
    if stored.name in METADATA_NOT_COMPARED:
        pytest.skip(METADATA_NOT_COMPARED[stored.name])
    (found,) = stored.origin.json(f"{stored.path}/metadata")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = pydicoms_metadata(read(FILES[stored.name]))
    assert list(differences(found, expected)) == []


@STORED
def test_metadata_in_xml_equal_dcmtks(stored):
    if stored.name in XML_NOT_COMPARED:
        pytest.skip(XML_NOT_COMPARED[stored.name])
    (part,) = multipart.read(stored.origin.get(f"{stored.path}/metadata", XML))
    found, expected = native_model.read(part.body), native_model.of_dcmtk(FILES[stored.name])
    assert list(native_model.differences(found, expected)) == []


def pydicoms_metadata(data_set: pydicom.Dataset) -> dict:
    """pydicom's DICOM JSON without pixels and group lengths, which metadata leave out; words in little endian (PS3.18 §F.2.7)."""
    for tag in PIXELS:
        if tag in data_set:
            del data_set[tag]
    try:
        found = data_set.to_json_dict()
    except Exception:  # A value that pydicom cannot convert; then it leaves out what is around it.
        found = data_set.to_json_dict(suppress_invalid_tags=True)
    if not data_set.original_encoding[1]:
        for attribute in found.values():
            if attribute["vr"] == "OW" and "InlineBinary" in attribute:
                words = numpy.frombuffer(base64.b64decode(attribute["InlineBinary"]), ">u2").astype("<u2")
                attribute["InlineBinary"] = base64.b64encode(words.tobytes()).decode()
    return {tag: attribute for tag, attribute in found.items() if not tag.endswith("0000")}


def differences(ours: dict, theirs: dict, path: str = ""):
    """Yields the attributes of text and numbers in which two data sets in DICOM JSON differ."""
    for tag in sorted((set(ours) & set(theirs)) - ADDED):
        mine, other = ours[tag], theirs[tag]
        if mine["vr"] != other["vr"]:
            # pydicom has a dictionary of private attributes for those sent as UN.
            if "UN" not in (mine["vr"], other["vr"]):
                yield path + tag, mine["vr"], other["vr"]
        elif mine["vr"] == "SQ":
            mine, other = mine.get("Value", []), other.get("Value", [])
            if len(mine) != len(other):
                yield path + tag, len(mine), len(other)
            for number, (left, right) in enumerate(zip(mine, other)):
                yield from differences(left, right, f"{path}{tag}[{number}].")
        elif "Value" in mine or "Value" in other:
            left, right = ([level(mine["vr"], value) for value in one.get("Value", [])] for one in (mine, other))
            if strip(left) != strip(right) and "BulkDataURI" not in mine:
                yield path + tag, left, right
        elif "InlineBinary" in mine and base64.b64decode(mine["InlineBinary"]) != base64.b64decode(other.get("InlineBinary", "")):
            yield path + tag, "binary", "binary"
    for tag in sorted((set(ours) ^ set(theirs)) - ADDED):
        if int(tag, 16) not in PIXELS:
            yield path + tag, ours.get(tag), theirs.get(tag)


def level(vr: str, value):
    """A value in a normal form, so that two spellings of one value are equal."""
    if isinstance(value, dict):
        return {group: text.strip() for group, text in value.items() if text.strip()} or None
    if vr in ("DS", "IS", "FL", "FD") and value not in (None, ""):
        number = float(value)
        if math.isnan(number):
            return "NaN"
        return struct.pack("f", number) if vr == "FL" else number
    return (value.strip(" \0") or None) if isinstance(value, str) else value


def strip(values: list) -> list:
    """The values without empty ones at the end."""
    while values and values[-1] is None:
        values = values[:-1]
    return values


def stored_frames(data_set: pydicom.Dataset) -> list:
    """The frames as they are stored, native ones in little endian."""
    count = int(data_set.get("NumberOfFrames") or 1)
    pixels = data_set.PixelData
    if is_encapsulated(data_set):
        return list(generate_frames(pixels, number_of_frames=count))
    if not data_set.original_encoding[1] and data_set["PixelData"].VR == "OW":
        size = max(data_set.BitsAllocated // 8, 2)
        pixels = numpy.frombuffer(pixels[: len(pixels) // size * size], f">u{size}").byteswap().tobytes()
    size = get_expected_length(data_set) // count
    return [pixels[size * number : size * (number + 1)] for number in range(count)]


def get_frames(stored, count: int, accept: str):
    return stored.origin.get(f"{stored.path}/frames/{','.join(map(str, range(1, count + 1)))}", accept)


@pytest.mark.only("sent", WITH_PIXELS.keys())
def test_stored_frames_equal_pydicoms(image):
    stored, data_set = image
    if stored.name in FRAMES_NOT_COMPARED:
        pytest.skip(FRAMES_NOT_COMPARED[stored.name])
    expected = stored_frames(data_set)
    answer = get_frames(stored, len(expected), FRAMES)
    assert answer.status_code == 200, answer.text[:300]
    for part, frame in zip(multipart.read(answer), expected, strict=True):
        assert part.body.rstrip(b"\0") == frame.rstrip(b"\0")


@pytest.mark.only("sent", {name for name, encapsulated in WITH_PIXELS.items() if encapsulated})
def test_decoded_frames_equal_pydicoms(image):
    stored, data_set = image
    try:
        # In the stored colours and in RGB: a decoder of JPEG may give either.
        expected = [pixel_array(data_set, raw=is_raw) for is_raw in (True, False)]
    except Exception as error:
        pytest.skip(f"pydicom cannot decode it: {error}")
    count = int(data_set.get("NumberOfFrames") or 1)
    answer = get_frames(stored, count, EXPLICIT)
    assert answer.status_code == 200, answer.text[:300]
    given = [part.body for part in multipart.read(answer)]
    assert min(largest_difference(given, arrays if count > 1 else [arrays]) for arrays in expected) <= tolerance(data_set)


def largest_difference(given: list, arrays) -> int:
    """The largest difference in levels, over all samples of all frames."""
    largest = 0
    for body, array in zip(given, arrays, strict=True):
        samples = numpy.frombuffer(body[: array.nbytes], array.dtype.newbyteorder("<")).reshape(array.shape)
        largest = max(largest, int(numpy.abs(samples.astype("i8") - array.astype("i8")).max()))
    return largest


def tolerance(data_set: pydicom.Dataset) -> int:
    """The difference in levels that is allowed: decoders of lossy JPEG round differently."""
    return 5 if data_set.file_meta.TransferSyntaxUID in (JPEGBaseline8Bit, JPEGExtended12Bit) else 0
