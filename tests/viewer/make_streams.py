"""Writes fast streams that the Cuspid viewer is tested with, by a writer that is not the server's, and what is to be seen of them.

Usage: make_streams.py STORED SERIES DIRECTORY. `STORED` has the files of make_studies.py, `SERIES` is the UID of the CT in it.
"""

import json
import sys
from pathlib import Path

import numpy
from PIL import Image
from pydicom import dcmread

sys.path.insert(0, str(Path(__file__).parents[2] / "clients/js/tests"))
from make_stream import stream  # noqa: E402

BONE = (500, 2500)


def main() -> None:
    stored, series, directory = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    directory.mkdir(parents=True, exist_ok=True)
    found = [dcmread(path) for path in stored.glob("*.dcm")]
    slices = sorted((one for one in found if one.SeriesInstanceUID == series), key=lambda one: one.ImagePositionPatient[2])
    volume = numpy.array([one.pixel_array for one in slices]).astype("i2")
    first = slices[0]
    rows, columns = (float(value) for value in first.PixelSpacing)
    apart = float(slices[1].ImagePositionPatient[2] - first.ImagePositionPatient[2])
    described = {
        "precision": 16, "orientation": [1, 0, 0, 0, 1, 0], "spacing": [rows, columns], "apart": apart, "window": [40, 400],
        "position": [float(value) for value in first.ImagePositionPatient], "step": [0, 0, apart],
    }
    uids = [one.SOPInstanceUID for one in slices]
    whole = stream(list(volume), instances=uids, **described)
    (directory / "ct").write_bytes(whole)
    # The slice after the one in the middle.
    (directory / "damaged").write_bytes(damaged(whole, len(uids) // 2 + 1))
    # The first half, while the rest is being encoded.
    half = len(uids) // 2
    partial = stream(list(volume[:half]), instances=uids[:half], state="partial", known=len(uids), **described)
    (directory / "partial").write_bytes(partial)

    head = phantom()
    uids = [f"1.2.3.{number}" for number in range(len(head))]
    body = stream(list(head), precision=12, instances=uids, position=[0, 0, 0], step=[0, 0, 0.5], orientation=[1, 0, 0, 0, 1, 0],
                  spacing=[0.5, 0.5], apart=0.5, rescale=[1, -1000], window=[300, 2500])
    (directory / "phantom").write_bytes(body)

    colours = numpy.zeros((300, 400, 3), "u1")
    colours[:, :200], colours[:150, 200:], colours[150:, 200:] = (200, 40, 40), (40, 200, 40), (40, 40, 200)
    (directory / "colours").write_bytes(stream([colours], precision=8, instances=["1.2.4"], photometric="RGB"))

    # Planes through the middle as they are to be seen: square pixels of the size of those of a slice.
    middle = [size // 2 for size in volume.shape]
    planes = {
        "axial": volume[middle[0]],
        "coronal": volume[::-1, middle[1], :],
        "sagittal": volume[::-1, :, middle[2]],
    }
    for name, plane in planes.items():
        image = windowed(plane)
        if name != "axial":
            image = image.resize((image.width, round(image.height * apart / rows)), Image.Resampling.BILINEAR)
        image.save(directory / f"{name}.png")
    # What bone hides, seen from the front.
    bone = (volume > 700).any(axis=1)[::-1]
    shadow = Image.fromarray((255 * bone).astype("u1"))
    shadow.resize((shadow.width, round(shadow.height * apart / rows))).save(directory / "shadow.png")


def damaged(body: bytes, place: int) -> bytes:
    """A stream with zeros in the last segment of a slice."""
    length = int.from_bytes(body[12:16], "little")
    index = json.loads(body[16 : 16 + length])
    levels = index["images"][0]["levels"]
    have, at, found = {}, 16 + length, None
    lengths = iter(index["lengths"])
    for stage in index["stages"]:
        for slice in range(0, index["count"], stage["stride"]):
            target = min(stage["level"], levels - 1)
            if have.get(slice, levels) <= target:
                continue
            have[slice] = target
            size = next(lengths)
            if slice == place:
                found = (at, size)
            at += size
    start, size = found
    return body[:start] + bytes(size) + body[start + size :]


def phantom() -> numpy.ndarray:
    """A head of balls, 96 slices of 128 x 128: skin, a skull with two orbits and a jaw with teeth, and a brain. HU + 1000."""
    z, y, x = numpy.mgrid[0:96, 0:128, 0:128].astype("f4")

    def ball(cz, cy, cx, rz, ry, rx):
        return ((z - cz) / rz) ** 2 + ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1

    volume = numpy.zeros(z.shape, "f4")
    volume[ball(46, 64, 64, 46, 58, 50)] = 1050
    volume[ball(52, 66, 64, 40, 52, 44)] = 2000
    volume[ball(52, 66, 64, 35, 47, 39)] = 1035
    for side in (-1, 1):
        volume[ball(46, 20, 64 + 17 * side, 8, 14, 9)] = 1010
    for at in range(-4, 5):
        volume[ball(18, 24 + at**2, 64 + 7 * at, 8, 3, 3)] = 3200
    return volume.astype("u2")


def windowed(values: numpy.ndarray) -> Image.Image:
    centre, width = BONE
    relative = (values - (centre - 0.5)) / (width - 1) + 0.5
    return Image.fromarray((255 * relative.clip(0, 1)).round().astype("u1"))


main()
