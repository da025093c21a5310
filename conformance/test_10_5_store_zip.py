"""Store Transaction of a zip archive, which PS3.18 §10.5.4 leaves to the server: it stores the instances, or answers 415."""

import io
import struct
import unicodedata
import zipfile

import pytest

import multipart
from build import encode, image, instance_path, study_path

ZIP = "application/zip"
REFERENCED, FAILED_OTHER = "00081199", "0008119A"


class Unseekable(io.RawIOBase):
    """An output that cannot seek, so that zipfile writes data descriptors, as a streaming writer does."""

    def __init__(self):
        self.bytes = bytearray()

    def writable(self):
        return True

    def write(self, data):
        self.bytes += data
        return len(data)


def archive(entries: dict, method: int = zipfile.ZIP_DEFLATED, streamed: bool = False, zip64: bool = False) -> bytes:
    target = Unseekable() if streamed else io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as writer:
        for name, content in entries.items():
            with writer.open(zipfile.ZipInfo(name), "w", force_zip64=zip64) as entry:
                entry.write(content)
    return bytes(target.bytes) if streamed else target.getvalue()


@pytest.fixture
def post(origin):
    def send(body: bytes, path: str = "/studies"):
        answer = origin.post(body, ZIP, path)
        if answer.status_code == 415:
            pytest.skip("the server takes no zip archives")
        return answer

    return send


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("zip64", [False, True])
def test_every_entry_is_stored(origin, post, method, streamed, zip64):
    data_sets = [image(rows=100, columns=100) for _ in range(3)]
    entries = {f"folder/{n}": encode(data_set) for n, data_set in enumerate(data_sets)}
    answer = post(archive(entries, method, streamed, zip64))
    assert answer.status_code == 200, answer.text
    assert len(answer.json()[REFERENCED]["Value"]) == 3
    for data_set in data_sets:
        found = origin.get(instance_path(data_set), "application/dicom; transfer-syntax=*")
        assert found.content == encode(data_set)


def test_the_study_of_the_url_holds_for_every_entry(origin, post):
    data_sets = [image(), image()]
    body = archive({str(n): encode(data_set) for n, data_set in enumerate(data_sets)})
    answer = post(body, study_path(data_sets[0]))
    assert answer.status_code == 202
    assert len(answer.json()[REFERENCED]["Value"]) == 1


@pytest.mark.parametrize("name", ["../../etc/x", "/etc/x", "a\\..\\x", "C:\\x", "\u00e4\u6f22/x", "x" * 5000, "a\nb"])
def test_the_name_of_an_entry_leads_nowhere(origin, post, name):
    data_set = image()
    assert post(archive({name: encode(data_set)})).status_code == 200
    assert origin.get(instance_path(data_set), "application/dicom; transfer-syntax=*").content == encode(data_set)


def test_entries_that_are_no_instances_are_passed_over_and_reported(post):
    entries = {"DICOM/1": encode(image()), "README": b"hello", "viewer/run.exe": b"MZ" + bytes(1000), "empty": b""}
    answer = post(archive(entries))
    assert answer.status_code == 200
    assert "README" in answer.headers["Warning"]


def apple_double(data: bytes = bytes(82)) -> bytes:
    """A file with the attributes of another one, as macOS adds to archives (RFC 1740)."""
    entries = struct.pack(">III", 9, 50, 32) + struct.pack(">III", 2, 82, len(data))
    return struct.pack(">II16sH", 0x00051607, 0x00020000, b"Mac OS X        ", 2) + entries + bytes(32) + data


@pytest.mark.parametrize("streamed", [False, True])
def test_archives_of_a_mac_are_stored_without_failures(origin, post, streamed):
    """Beside each file is one of its attributes, each folder has a .DS_Store, and names are in NFD."""
    data_sets = [image() for _ in range(3)]
    entries = {"Aufnahmen/.DS_Store": b"\0\0\0\1Bud1" + bytes(6140), "__MACOSX/Aufnahmen/._.DS_Store": apple_double(bytes(20))}
    for number, data_set in enumerate(data_sets):
        name = unicodedata.normalize("NFD", f"Aufnahmen/Schädel {number}.dcm")
        entries[name] = encode(data_set)
        folder, file = name.split("/")
        entries[f"__MACOSX/{folder}/._{file}"] = apple_double(bytes(range(256)) * number)
    entries["__MACOSX/._Aufnahmen"] = apple_double(b"com.apple.quarantine" * 20)
    answer = post(archive(entries, streamed=streamed))
    assert answer.status_code == 200, answer.text
    assert len(answer.json()[REFERENCED]["Value"]) == 3
    assert FAILED_OTHER not in answer.json()
    for data_set in data_sets:
        found = origin.get(instance_path(data_set), "application/dicom; transfer-syntax=*")
        assert found.content == encode(data_set)


def test_a_damaged_entry_costs_no_other(post):
    entries = {str(n): encode(image()) for n in range(3)}
    body = bytearray(archive(entries, zipfile.ZIP_STORED))
    body[300] ^= 0xFF
    answer = post(bytes(body))
    assert answer.status_code == 202
    assert len(answer.json()[REFERENCED]["Value"]) == 2
    assert answer.json()[FAILED_OTHER]["Value"]


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.99])
def test_an_archive_that_ends_too_early_is_refused(post, cut):
    body = archive({str(n): encode(image()) for n in range(3)})
    assert post(body[: int(len(body) * cut)]).status_code in (400, 409)


def test_a_zip_bomb_is_refused(post):
    """One entry that many directory entries point to: a few kilobytes that unpack to gigabytes."""
    packed = archive({"a": bytes(10_000_000)})
    directory_offset = struct.unpack("<I", packed[-6:-2])[0]
    local, entry = packed[:directory_offset], packed[directory_offset:-22]
    count = 5000
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, len(entry) * count, directory_offset, 0)
    assert post(local + entry * count + end).status_code in (400, 409, 413)


def test_an_archive_that_lies_about_its_directory_is_refused(post):
    packed = archive({"a": b"text"})
    for count, size, offset in [(65535, 46, 0), (1, 2**32 - 1, 0), (1, 50, 2**32 - 1), (65535, 2**32 - 1, 2**32 - 1)]:
        end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, size, offset, 0)
        assert post(packed[:-22] + end).status_code in (400, 409)


def test_archives_may_come_in_parts(origin):
    data_sets = [image(), image()]
    body = multipart.write([archive({"1": encode(data_set)}) for data_set in data_sets], ZIP)
    answer = origin.post(body, f'multipart/related; type="{ZIP}"; boundary={multipart.BOUNDARY}')
    if answer.status_code == 415:
        pytest.skip("the server takes no zip archives")
    assert answer.status_code == 200
    assert len(answer.json()[REFERENCED]["Value"]) == 2
