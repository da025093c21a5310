"""The fast stream as a resource: ranges (RFC 9110 §14), conditions (§13), Content-Location (§8.7) and caching (RFC 9111 §5.2.2, RFC 8246);
and what it says of itself, read by docs/fast-stream.md and decoded by Pillow."""

import base64
import json
import struct
import time
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import generate_uid

from build import encode, image, series_path
from conftest import launched

DEADLINE_SECONDS = 60
ROWS, COLUMNS, SLICES = 130, 260, 11


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server for which a series is quiet at once, and its origin."""
    server, origin = launched(tmp_path_factory.mktemp("server"), "log.filter=warn", "preview.quiet_seconds=0")
    try:
        yield server, origin
        origin.session.close()
        assert server.stop() == 0
        assert "panicked" not in server.log()
    finally:
        server.kill()


def pixels(number: int) -> np.ndarray:
    """A noisy disk of 12 bits, whose size tells the slice."""
    noise = np.random.default_rng(number).normal(0, 18, (ROWS, COLUMNS))
    y, x = np.mgrid[0:ROWS, 0:COLUMNS]
    disk = np.hypot(y - ROWS / 2, (x - COLUMNS / 2) / 2) < 15 + 4 * number
    return np.clip(600 + 1500 * disk + 3 * x + noise, 0, 4095).round().astype("<u2")


@pytest.fixture(scope="module")
def stored(origin):
    """The path of the stream of a series whose slices were sent against their order in space."""
    first, files = image(), []
    for number in reversed(range(SLICES)):
        member = image(StudyInstanceUID=first.StudyInstanceUID, SeriesInstanceUID=first.SeriesInstanceUID)
        member.SOPInstanceUID, member.InstanceNumber = generate_uid(), SLICES - number
        member.Rows, member.Columns, member.BitsStored, member.HighBit = ROWS, COLUMNS, 12, 11
        member.PixelData = pixels(number).tobytes()
        member.ImagePositionPatient, member.PixelSpacing = [1.5, -2, 0.5 * number], [0.5, 0.5]
        member.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        member.RescaleSlope, member.RescaleIntercept = 1, -1024
        files.append(encode(member))
    origin.store(*files)
    path = "/stream" + series_path(first)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (state := get(origin, f"{path}/state").json())["state"] != "ready":
        assert state["state"] in ("pending", "partial") and state["encoded"] <= state["slices"] <= SLICES, state
        assert time.monotonic() < deadline, state
        time.sleep(0.05)
    assert (state["encoded"], state["slices"]) == (SLICES, SLICES)
    return path


def get(origin, path: str, method: str = "GET", **headers):
    """The answer of a resource beside the base URL of DICOMweb."""
    root = origin.url.removesuffix("/dicom-web")
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return origin.session.request(method, root + path, headers=headers, timeout=60)


def column(values: dict, place: int):
    if "all" in values:
        return values["all"]
    if "each" in values:
        return values["each"][place]
    first, step = values["first"], values["step"]
    return [a + place * b for a, b in zip(first, step)] if isinstance(first, list) else first + place * step


class Stream:
    """A stream or the beginning of one, read as docs/fast-stream.md says."""

    def __init__(self, data: bytes):
        assert data[:8] == b"CUSPIDST"
        version, length = struct.unpack("<II", data[8:16])
        assert version == 2
        self.index_end = at = 16 + length
        self.index = index = json.loads(data[16:at])
        self.levels, self.parts, self.ends = {}, {}, []
        lengths = iter(index["lengths"])
        for stage in index["stages"]:
            for place in range(index["count"]):
                description = column(index["image"], place)
                if (index["first_slice"] + place) % stage["stride"] or description is None:
                    continue
                target = min(stage["level"], index["images"][description]["levels"] - 1)
                if self.levels.get(place, 99) > target:
                    end = at + next(lengths)
                    if end > len(data):
                        return
                    self.levels[place] = target
                    self.parts[place] = self.parts.get(place, b"") + data[at:end]
                    at = end
            assert at == self.index_end + stage["end"]
            self.ends.append(at)
        assert at == len(data) and next(lengths, None) is None

    def description(self, place: int) -> dict:
        return self.index["images"][column(self.index["image"], place)]

    def decode(self, place: int, level: int | None = None) -> np.ndarray:
        """A slice in the level that is there, or in a coarser one."""
        head = base64.b64decode(self.description(place)["head"])
        picture = Image.open(BytesIO(head + self.parts[place] + b"\xff\xd9"))
        picture.reduce = self.levels[place] if level is None else level
        return np.asarray(picture).copy()


def test_slices_come_in_space_near_to_the_truth(origin, stored):
    answer = get(origin, stored)
    assert answer.headers["Content-Type"] == "application/vnd.cuspid.stream"
    assert int(answer.headers["Content-Length"]) == len(answer.content) < ROWS * COLUMNS * SLICES * 2 / 9
    stream = Stream(answer.content)
    assert (stream.index["state"], stream.index["order"], stream.index["slice_spacing"]) == ("complete", "space", 0.5)
    for place in range(SLICES):
        assert np.allclose(column(stream.index["position"], place), [1.5, -2, 0.5 * place], atol=1e-3)
        assert column(stream.index["rescale"], place) == [1, -1024]
        description = stream.description(place)
        # Pillow widens samples to 16 bits.
        bits = description["precision"] - description["drop"]
        values = (stream.decode(place).astype(int) >> (16 - bits)) << description["drop"]
        error = values - pixels(place).astype(int)
        assert np.sqrt(np.mean(error**2)) < 18, "the error is less than the noise"
    assert stream.index["psnr"]["peak"] == 4095 and stream.index["psnr"]["db"] > 45


def test_every_stage_is_a_range_and_decodes_as_the_whole(origin, stored):
    whole = get(origin, stored).content
    stream = Stream(whole)
    assert [(stage["level"], stage["stride"]) for stage in stream.index["stages"]] == [(2, 4), (1, 4), (1, 2), (0, 2), (0, 1)]
    for number, end in enumerate(stream.ends):
        ranged = get(origin, stored, Range=f"bytes=0-{end - 1}")
        assert (ranged.status_code, ranged.headers["Content-Range"]) == (206, f"bytes 0-{end - 1}/{len(whole)}")
        assert ranged.content == get(origin, f"{stored}?stage={number}").content == whole[:end]
        beginning = Stream(ranged.content)
        for place in beginning.levels:
            assert (beginning.decode(place) == stream.decode(place, beginning.levels[place])).all()


def test_a_part_is_a_stream_of_its_own(origin, stored):
    whole = Stream(get(origin, stored).content)
    part = Stream(get(origin, f"{stored}?slices=3-7").content)
    assert (part.index["first_slice"], part.index["count"], part.index["number_of_slices"]) == (3, 5, SLICES)
    for place in range(5):
        assert part.parts[place] == whole.parts[place + 3]
    for wrong, status in [("slices=3-11", 404), ("slices=7-3", 400), ("slices=x", 400), ("stage=-1", 400), ("slice=1-2", 400), ("version=1-1", 404)]:
        assert get(origin, f"{stored}?{wrong}").status_code == status, wrong


def test_a_version_never_changes_and_the_rest_is_asked_for_again(origin, stored):
    answer = get(origin, stored)
    assert answer.headers["Cache-Control"] == "private, no-cache"
    for query in ["", "slices=1-2", "stage=1", "slices=1-2&stage=1"]:
        present = get(origin, f"{stored}?{query}")
        named = get(origin, present.headers["Content-Location"])
        assert "immutable" in named.headers["Cache-Control"] and "Content-Location" not in named.headers
        assert (named.content, named.headers["ETag"]) == (present.content, present.headers["ETag"])
        etag = present.headers["ETag"]
        assert get(origin, f"{stored}?{query}", If_None_Match=etag).status_code == 304
        rest = get(origin, f"{stored}?{query}", Range="bytes=100-", If_Range=etag)
        assert (rest.status_code, rest.content) == (206, present.content[100:])
        assert get(origin, f"{stored}?{query}", Range="bytes=100-", If_Range='"other"').status_code == 200
        head = get(origin, f"{stored}?{query}", "HEAD")
        assert (head.headers["Content-Length"], head.headers["ETag"]) == (present.headers["Content-Length"], etag)
