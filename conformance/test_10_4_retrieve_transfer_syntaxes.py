"""Instances in another transfer syntax than the stored one (PS3.18 §8.7.3.4, PS3.5 §7 and Annex A)."""

from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
)

import multipart
from build import encode, image, instance, instance_path, series_path, study_path
from conftest import FRAMES, INSTANCES

DICOM = "application/dicom"
NATIVE = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
NAMES = {
    ImplicitVRLittleEndian: "implicit",
    ExplicitVRLittleEndian: "explicit",
    ExplicitVRBigEndian: "big endian",
    DeflatedExplicitVRLittleEndian: "deflated",
}
native = pytest.mark.parametrize("syntax", NATIVE, ids=NAMES.get)
# "shall not be used with Web Services" (§8.7.3).
NOT_OF_WEB_SERVICES = [ImplicitVRLittleEndian, ExplicitVRBigEndian]

# Keyword, VR, bytes of one word, words in little endian.
WORDS = [
    ("SelectorOWValue", "OW", 2, b"\x01\x02\x03\x04"),
    ("SelectorOLValue", "OL", 4, bytes(range(8))),
    ("SelectorOFValue", "OF", 4, b"\0\0\x80\x3f\0\0\0\x40"),
    ("SelectorODValue", "OD", 8, bytes(range(16))),
    ("SelectorOVValue", "OV", 8, bytes(range(8, 24))),
    ("SelectorOBValue", "OB", 1, b"\x01\x02\x03\x04"),
]


def everything(syntax=ExplicitVRLittleEndian) -> Dataset:
    """An image with values of every kind of VR; pydicom leaves the order of the bytes of binary ones to its caller."""
    data_set = image(frames=2)
    data_set.SelectorFLValue, data_set.SelectorFDValue = [1.5, -0.25], [1e300, -2.5]
    data_set.SelectorUSValue, data_set.SelectorSSValue = [1, 65535], [-1, 32767]
    data_set.SelectorULValue, data_set.SelectorSLValue = [1, 2**32 - 1], [-1, 2**31 - 1]
    data_set.SelectorUVValue, data_set.SelectorSVValue = [2**64 - 1], [-(2**63)]
    data_set.SelectorATValue = [0x00100010, 0x7FE00010]
    data_set.SelectorLOValue, data_set.SelectorDSValue = ["one", "", "three"], ["1.5", "-2"]
    data_set.SelectorUTValue, data_set.SelectorUCValue = "text", ["long", "characters"]
    data_set.PatientComments = "x" * 70_000 if syntax != ExplicitVRBigEndian else "x" * 60_000
    inner = Dataset()
    inner.CodeMeaning, inner.SelectorUSValue = "inner", 258
    outer = Dataset()
    outer.CodeValue, outer.ConceptCodeSequence = "outer", [inner, Dataset()]
    data_set.ProcedureCodeSequence = [outer]
    data_set.ConceptNameCodeSequence = []
    block = data_set.private_block(0x0011, "CONFORMANCE", create=True)
    block.add_new(1, "LO", "private")
    for keyword, vr, size, value in WORDS:
        setattr(data_set, keyword, swapped(value, size) if syntax == ExplicitVRBigEndian else value)
        data_set[keyword].VR = vr
    if syntax == ExplicitVRBigEndian:
        data_set.PixelData = swapped(data_set.PixelData, 2)
    data_set["PixelData"].VR = "OW"
    return data_set


def swapped(value: bytes, size: int) -> bytes:
    return b"".join(value[at : at + size][::-1] for at in range(0, len(value), size))


def assert_is_everything(file: bytes, stored: Dataset):
    given = dcmread(BytesIO(file))
    assert given.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert given.file_meta.MediaStorageSOPInstanceUID == stored.SOPInstanceUID
    assert given.preamble is not None
    for keyword, _, _, value in WORDS:
        assert given[keyword].value == value, keyword
    assert given.PixelData == image(frames=2).PixelData
    for element in stored:
        if element.VR not in ("OW", "OL", "OF", "OD", "OV", "OB"):
            other = given[element.tag]
            # Without a dictionary the VR of a private attribute in Implicit VR is not known.
            value = other.value.decode().strip() if other.VR == "UN" else other.value
            assert value == element.value, element.tag


@native
@pytest.mark.parametrize("accept", [DICOM, f"{DICOM}; transfer-syntax=1.2.840.10008.1.2.1"], ids=["by default", "on request"])
def test_native_instances_are_given_in_explicit_vr_little_endian(origin, syntax, accept):
    data_set = everything(syntax)
    origin.store(encode(data_set, syntax))
    answer = origin.get(instance_path(data_set), accept)
    assert answer.status_code == 200
    assert_is_everything(answer.content, data_set)


@pytest.mark.parametrize("level", [study_path, series_path, instance_path])
@pytest.mark.parametrize("transfer_syntax", ["", "; transfer-syntax=1.2.840.10008.1.2.1"], ids=["by default", "on request"])
def test_each_level_is_given_in_explicit_vr_little_endian(origin, level, transfer_syntax):
    first = everything()
    data_sets = {}
    for syntax in NATIVE:
        data_set = everything(syntax)
        data_set.StudyInstanceUID, data_set.SeriesInstanceUID = first.StudyInstanceUID, first.SeriesInstanceUID
        data_sets[data_set.SOPInstanceUID] = data_set
        origin.store(encode(data_set, syntax))
    answer = origin.get(level(data_set), f'multipart/related; type="{DICOM}"{transfer_syntax}')
    parts = multipart.read(answer)
    assert len(parts) == (1 if level is instance_path else len(NATIVE))
    for part in parts:
        assert_is_everything(part.body, data_sets[dcmread(BytesIO(part.body)).SOPInstanceUID])


@native
def test_a_file_is_given_as_stored_for_the_star_unless_web_services_may_not_use_its_transfer_syntax(origin, syntax):
    data_set = everything(syntax)
    file = encode(data_set, syntax)
    origin.store(file)
    (part,) = multipart.read(origin.get(instance_path(data_set), INSTANCES))
    if syntax in NOT_OF_WEB_SERVICES:
        assert_is_everything(part.body, data_set)
    else:
        assert part.body == file


@pytest.mark.parametrize("level", [study_path, series_path, instance_path])
@pytest.mark.parametrize("syntax", NOT_OF_WEB_SERVICES, ids=NAMES.get)
def test_no_level_gives_a_transfer_syntax_that_web_services_may_not_use(origin, level, syntax):
    data_set = everything(syntax)
    origin.store(encode(data_set, syntax))
    (part,) = multipart.read(origin.get(level(data_set), INSTANCES))
    assert_is_everything(part.body, data_set)
    given = multipart.parameters(part.headers["content-type"])[1].get("transfer-syntax", ExplicitVRLittleEndian)
    assert given == ExplicitVRLittleEndian


@pytest.mark.parametrize("syntax", NOT_OF_WEB_SERVICES, ids=NAMES.get)
def test_a_transfer_syntax_that_web_services_may_not_use_is_not_acceptable(origin, syntax):
    data_set = everything(syntax)
    origin.store(encode(data_set, syntax))
    assert origin.get(instance_path(data_set), f"{DICOM}; transfer-syntax={syntax}").status_code == 406


@pytest.mark.parametrize("syntax", NOT_OF_WEB_SERVICES, ids=NAMES.get)
def test_the_available_transfer_syntax_is_one_that_is_given(origin, syntax):
    data_set = image()
    origin.store(encode(data_set, syntax))
    for path in [f"{instance_path(data_set)}/metadata", f"/instances?SOPInstanceUID={data_set.SOPInstanceUID}&includefield=00083002"]:
        (found,) = origin.json(path)
        assert found.get("00083002", {}).get("Value") in (None, [ExplicitVRLittleEndian])


def test_small_deflated_data_sets_are_stored_whatever_their_bytes_look_like(origin):
    files = []
    for _ in range(200):
        data_set = instance(SelectorOWValue=b"\0\1")
        data_set["SelectorOWValue"].VR = "OW"
        files.append(encode(data_set, DeflatedExplicitVRLittleEndian))
    origin.store(*files)


@native
def test_metadata_do_not_depend_on_the_transfer_syntax(origin, syntax):
    data_set = everything(syntax)
    origin.store(encode(data_set, syntax))
    (found,) = origin.json(f"{instance_path(data_set)}/metadata")
    plain = everything()
    for uid in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(plain, uid, data_set[uid].value)
    plain.PatientComments = data_set.PatientComments
    expected = plain.to_json_dict()
    for keyword, vr, _, _ in WORDS:
        tag = f"{plain[keyword].tag:08X}"
        assert found[tag]["vr"] == vr
        assert found[tag]["InlineBinary"] == expected[tag]["InlineBinary"], keyword
    for keyword in ["SelectorFDValue", "SelectorUSValue", "SelectorSLValue", "SelectorATValue", "SelectorLOValue", "ProcedureCodeSequence"]:
        tag = f"{plain[keyword].tag:08X}"
        assert [value or None for value in found[tag]["Value"]] == [value or None for value in expected[tag]["Value"]], keyword


def two_rows_rle() -> bytes:
    """A frame of RLE Lossless (PS3.5 Annex G) of 2 rows and 4 columns of 8 bits: 7 7 7 7 and 1 2 3 4."""
    segment = bytes([0xFD, 7, 3, 1, 2, 3, 4, 0x80])
    return (1).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(56) + segment


def compressed(syntax, frames: list) -> Dataset:
    data_set = image(frames=len(frames), rows=2, columns=4)
    data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit = 8, 8, 7
    data_set.PixelData = encapsulate(frames)
    data_set["PixelData"].VR = "OB"
    data_set["PixelData"].is_undefined_length = True
    return data_set


def test_losslessly_compressed_instances_are_decoded_by_default(origin):
    data_set = compressed(RLELossless, [two_rows_rle(), two_rows_rle()])
    file = encode(data_set, RLELossless)
    origin.store(file)
    answer = origin.get(instance_path(data_set), DICOM)
    assert answer.status_code == 200
    given = dcmread(BytesIO(answer.content))
    assert given.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert given.PixelData == bytes([7, 7, 7, 7, 1, 2, 3, 4] * 2)
    assert origin.get(instance_path(data_set), f"{DICOM}; transfer-syntax=*").content == file
    assert origin.get(instance_path(data_set), f"{DICOM}; transfer-syntax={RLELossless}").content == file


def test_losslessly_compressed_frames_are_decoded_by_default(origin):
    data_set = compressed(RLELossless, [two_rows_rle()])
    origin.store(encode(data_set, RLELossless))
    answer = origin.get(f"{instance_path(data_set)}/frames/1", 'multipart/related; type="application/octet-stream"')
    assert [part.body for part in multipart.read(answer)] == [bytes([7, 7, 7, 7, 1, 2, 3, 4])]
    (stored,) = multipart.read(origin.get(f"{instance_path(data_set)}/frames/1", FRAMES))
    assert stored.body == two_rows_rle()


def test_lossy_instances_are_given_as_stored_by_default(origin):
    """§8.7.3.4: the origin server has only access to the pixel data in lossy compressed form."""
    data_set = compressed(JPEGBaseline8Bit, [b"\xff\xd8 never decoded \xff\xd9"])
    file = encode(data_set, JPEGBaseline8Bit)
    origin.store(file)
    answer = origin.get(instance_path(data_set), DICOM)
    assert (answer.status_code, answer.content) == (200, file)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.102", "1.2.3.4", "x"])
def test_a_transfer_syntax_that_cannot_be_made_is_406(origin, syntax):
    data_set = image()
    origin.store(encode(data_set))
    assert origin.get(instance_path(data_set), f"{DICOM}; transfer-syntax={syntax}").status_code in (400, 406)


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian], ids=NAMES.get)
def test_a_converted_instance_is_the_same_each_time_and_has_its_own_tag(origin, syntax):
    data_set = everything(syntax)
    origin.store(encode(data_set, syntax))
    path = instance_path(data_set)
    stored, first, second = (origin.get(path, accept) for accept in (f"{DICOM}; transfer-syntax=*", DICOM, DICOM))
    assert first.content == second.content != stored.content
    if "ETag" in first.headers:
        assert first.headers["ETag"] == second.headers["ETag"] != stored.headers["ETag"]
        assert origin.get(path, DICOM, If_None_Match=first.headers["ETag"]).status_code == 304
        assert origin.get(path, DICOM, If_None_Match=stored.headers["ETag"]).status_code == 200
