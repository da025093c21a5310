"""Native Pixel Data as words in big endian, and with chrominance that pixels share (PS3.5 §8.1.1 and §7.3, PS3.3 §C.7.6.3.1.2)."""

from io import BytesIO

import numpy
import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

import multipart
from build import encode, instance, instance_path
from rendered_images import rendered_image


def native(pixels: bytes, vr: str, transfer_syntax: str, word: int, **attributes) -> tuple:
    """A data set and its file, whose Pixel Data are `pixels`; in big endian, in words of so many bytes."""
    data_set = instance(**{"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "PixelRepresentation": 0, **attributes})
    pixels += bytes(len(pixels) % 2)
    if transfer_syntax == ExplicitVRBigEndian and vr == "OW":
        pixels = b"".join(pixels[at : at + word][::-1] for at in range(0, len(pixels), word))
    data_set.PixelData = pixels
    data_set["PixelData"].VR = vr
    return data_set, encode(data_set, transfer_syntax)


def described(rows, columns, frames, bits, photometric) -> dict:
    attributes = {"Rows": rows, "Columns": columns, "NumberOfFrames": frames, "BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1}
    if photometric != "MONOCHROME2":
        attributes |= {"SamplesPerPixel": 3, "PhotometricInterpretation": photometric, "PlanarConfiguration": 0}
    return attributes


def forms(origin, data_set, frames: int) -> list:
    """Each form of each frame, and of the instance, in little endian."""
    found = []
    for frame in range(1, frames + 1):
        path = f"{instance_path(data_set)}/frames/{frame}"
        answer = origin.get(path, f'multipart/related; type="application/octet-stream"; transfer-syntax={ExplicitVRLittleEndian}')
        assert answer.status_code == 200, answer.text
        found.append(multipart.read(answer)[0].body)
        answer = origin.get(f"{path}/rendered", "image/png")
        assert answer.status_code == 200, answer.text
        found.append(numpy.asarray(rendered_image(answer.content).convert("RGB")).tobytes())
    answer = origin.get(instance_path(data_set), f'multipart/related; type="application/dicom"; transfer-syntax={ExplicitVRLittleEndian}')
    assert answer.status_code == 200, answer.text
    given = dcmread(BytesIO(multipart.read(answer)[0].body))
    return [*found, given.PhotometricInterpretation, given.PixelData]


PIXELS = [("MONOCHROME2", 1), ("MONOCHROME2", 8), ("MONOCHROME2", 16), ("MONOCHROME2", 32), ("RGB", 8), ("RGB", 16), ("RGB", 32)]
SIZES = [(3, 3, 3), (4, 4, 1), (3, 6, 2), (1, 1, 2), (5, 2, 3)]
CASES = [(*pixels, *size) for pixels in [*PIXELS, ("YBR_FULL", 8)] for size in SIZES]
CASES += [(name, 8, *size) for name in ("YBR_FULL_422", "YBR_PARTIAL_422") for size in SIZES if size[1] % 2 == 0]


@pytest.mark.parametrize("photometric, bits, rows, columns, frames", CASES)
def test_pixels_in_big_endian_are_those_in_little_endian(origin, photometric, bits, rows, columns, frames):
    is_shared = photometric.endswith("422")
    samples = {"MONOCHROME2": 1}.get(photometric, 2 if is_shared else 3)
    length = -(-rows * columns * frames * samples * bits // 8)
    pixels = numpy.random.default_rng(length).integers(0, 256, length, "u1").tobytes()
    attributes = described(rows, columns, frames, bits, photometric)
    little, file = native(pixels, "OW", ExplicitVRLittleEndian, 1, **attributes)
    origin.store(file)
    expected = forms(origin, little, frames)
    if bits > 1:
        frame_bytes = len(pixels) // frames
        assert expected[0] == pixels[:frame_bytes]
    for vr in ("OW", "OB") if bits <= 8 else ("OW",):
        big, file = native(pixels, vr, ExplicitVRBigEndian, max(2, bits // 8), **attributes)
        origin.store(file)
        assert forms(origin, big, frames) == expected, vr


@pytest.mark.parametrize("photometric, colour, expected", [("YBR_FULL_422", (82, 104, 212), (200, 30, 40)), ("YBR_PARTIAL_422", (81, 90, 240), (254, 0, 0))])
def test_chrominance_that_two_pixels_share_belongs_to_both(origin, photometric, colour, expected):
    y, b, r = colour
    data_set, file = native(bytes([y, y, b, r] * 8), "OB", ExplicitVRLittleEndian, 1, **described(4, 4, 1, 8, photometric))
    origin.store(file)
    answer = origin.get(f"{instance_path(data_set)}/rendered", "image/png")
    assert answer.status_code == 200, answer.text
    image = numpy.asarray(rendered_image(answer.content).convert("RGB")).astype(int)
    assert image.shape == (4, 4, 3) and numpy.abs(image - expected).max() <= 2


def test_pixels_whose_order_is_not_defined_are_no_frames(origin):
    data_set, file = native(bytes(24), "OB", ExplicitVRLittleEndian, 1, **described(4, 4, 1, 8, "YBR_PARTIAL_420"))
    answer = origin.post(multipart.write([file]), multipart.content_type())
    assert answer.status_code in (202, 409), answer.text
    assert origin.get(f"{instance_path(data_set)}/frames/1/rendered", "image/png").status_code == 404
