"""Instances that come without a complete file header (PS3.10 §7.1): whatever form of `application/dicom` is given is a file."""

import io
import struct
import zipfile

import pytest
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

import multipart
from build import encode, image, instance_path, series_path, study_path

REFERENCED, WARNING_REASON = "00081199", "00081196"
DICOM = "application/dicom"
GROUP_LENGTH_END = 144


def split(file: bytes) -> tuple:
    """Group 0002 without its length, and the data set."""
    start = GROUP_LENGTH_END + struct.unpack("<I", file[GROUP_LENGTH_END - 4 : GROUP_LENGTH_END])[0]
    return file[GROUP_LENGTH_END:start], file[start:]


def group_length(length: int) -> bytes:
    return b"\x02\0\0\0UL\x04\0" + struct.pack("<I", length)


PREAMBLE = b"\x07" * 128 + b"DICM"
# What stands before the data set, made of group 0002 without its length.
HEADS = {
    "nothing": lambda group: b"",
    "a prefix": lambda group: b"DICM",
    "preamble and prefix": lambda group: PREAMBLE,
    "no preamble and no prefix": lambda group: group_length(len(group)) + group,
    "no preamble": lambda group: b"DICM" + group_length(len(group)) + group,
    "no group length": lambda group: PREAMBLE + group,
    "a wrong group length": lambda group: PREAMBLE + group_length(4) + group,
    "another transfer syntax": lambda group: PREAMBLE + group_length(len(group)) + group.replace(b".1.2.1\0", b".1.2.2\0"),
}
NATIVE = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]


def is_file(content: bytes, transfer_syntax: str | None = None) -> bool:
    """Whether these bytes are a file that every reader understands."""
    if content[128:132] != b"DICM" or content[132:140] != b"\x02\0\0\0UL\x04\0":
        return False
    group, _ = split(content)
    read = dcmread(io.BytesIO(content))
    return len(group) > 0 and transfer_syntax in (None, read.file_meta.TransferSyntaxUID)


def store(origin, content: bytes) -> dict:
    """The item of the response about the one instance that is stored."""
    answer = origin.post(multipart.write([content]), multipart.content_type())
    assert answer.status_code in (200, 202), answer.text
    return answer.json()[REFERENCED]["Value"][0]


def parts(answer) -> list:
    return [part.body for part in multipart.read(answer)]


def given(origin, data_set) -> dict:
    """The instance in every form of its media type, by the name of the form."""
    path, related = instance_path(data_set), f'multipart/related; type="{DICOM}"'
    found = {}
    for name, parameter in [("default", ""), ("any", "; transfer-syntax=*"), ("named", f"; transfer-syntax={ExplicitVRLittleEndian}")]:
        found[name] = origin.get(path, DICOM + parameter).content
        for level in (path, series_path(data_set), study_path(data_set)):
            found[f"{name} part of {level.count('/')}"] = parts(origin.get(level, related + parameter))[0]
    for parameter in ("", "?dicomdir=true"):
        answer = origin.get(study_path(data_set) + parameter, "application/zip")
        if answer.status_code == 200:
            archive = zipfile.ZipFile(io.BytesIO(answer.content))
            assert archive.testzip() is None
            found[f"zip {parameter}"] = next(archive.read(name) for name in archive.namelist() if name != "DICOMDIR")
    return found


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize("head", HEADS)
def test_every_form_is_a_file_whatever_came_before_the_data_set(origin, head, syntax):
    data_set = image(frames=2)
    group, content = split(encode(data_set, syntax))
    store(origin, HEADS[head](group) + content)
    for name, file in given(origin, data_set).items():
        assert is_file(file), name
        assert dcmread(io.BytesIO(file)).PixelData is not None, name
        # Web services give the other two as Explicit VR Little Endian (PS3.18 §8.7.3).
        if name.startswith("zip") or (name.startswith("any") and syntax == ExplicitVRLittleEndian):
            assert file.endswith(content) and is_file(file, syntax), name


@pytest.mark.parametrize("head", HEADS)
def test_a_header_that_is_given_in_place_of_another_is_reported(origin, head):
    group, content = split(encode(image()))
    assert store(origin, HEADS[head](group) + content)[WARNING_REASON]["Value"] == [0xB007]


def test_what_the_sender_says_of_itself_is_kept(origin):
    data_set = image()
    group, content = split(encode(data_set))
    own = b"\x02\0\x16\0AE\x06\0SENDER"
    store(origin, group + own + content)
    file = dcmread(io.BytesIO(origin.get(instance_path(data_set), f"{DICOM}; transfer-syntax=*").content))
    assert file.file_meta.SourceApplicationEntityTitle == "SENDER"


def test_ranges_of_such_a_file_add_up_to_it(origin):
    data_set = image(frames=2)
    _, content = split(encode(data_set))
    store(origin, content)
    path, accept = instance_path(data_set), f"{DICOM}; transfer-syntax=*"
    whole = origin.get(path, accept)
    assert int(whole.headers["Content-Length"]) == len(whole.content)
    header_bytes = len(whole.content) - len(content)
    cuts = [0, 100, header_bytes - 1, header_bytes, header_bytes + 1, len(whole.content)]
    pieces = []
    for start, end in zip(cuts, cuts[1:]):
        answer = origin.get(path, accept, Range=f"bytes={start}-{end - 1}")
        assert answer.status_code == 206
        pieces.append(answer.content)
    assert b"".join(pieces) == whole.content


@pytest.mark.parametrize("head", ["no preamble", "no preamble and no prefix", "no group length", "a wrong group length"])
def test_deflated_data_sets_are_read_behind_every_header(origin, head):
    data_set = image(frames=2)
    group, content = split(encode(data_set, DeflatedExplicitVRLittleEndian))
    store(origin, HEADS[head](group) + content)
    assert dcmread(io.BytesIO(origin.get(instance_path(data_set), DICOM).content)).PixelData == data_set.PixelData
    frame = origin.get(f"{instance_path(data_set)}/frames/2", "application/octet-stream")
    assert frame.content == data_set.PixelData[len(data_set.PixelData) // 2 :]


def test_what_is_given_is_what_is_stored_already(origin):
    """A client that retrieves an instance and sends it again changes nothing."""
    data_set = image()
    _, content = split(encode(data_set))
    store(origin, content)
    file = origin.get(instance_path(data_set), f"{DICOM}; transfer-syntax=*").content
    store(origin, file)
    assert origin.get(instance_path(data_set), f"{DICOM}; transfer-syntax=*").content == file
