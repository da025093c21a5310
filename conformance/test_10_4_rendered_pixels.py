"""Rendered pixels (PS3.18 §10.4.1.1.3, PS3.4 §N.2): within one grey level of the formulas of the standard."""

import math
import struct
import warnings

import numpy
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.utils import pack_bits
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, generate_uid

import reference
from build import encode, instance, instance_path
from rendered_images import rendered_image

PNG = "image/png"
ROWS, COLUMNS = 32, 48


def seen(origin, data_set, query: str = "", frame: int | None = None) -> numpy.ndarray:
    path = instance_path(data_set) + (f"/frames/{frame}" if frame else "")
    answer = origin.get(f"{path}/rendered{query}", PNG)
    assert answer.status_code == 200, answer.text
    return numpy.asarray(rendered_image(answer.content))


def assert_alike(found: numpy.ndarray, expected: numpy.ndarray, tolerance: int = 1) -> None:
    if found.ndim == 3 and expected.ndim == 2:  # grey may come as colour
        expected = numpy.stack([expected] * 3, -1)
    assert found.shape == expected.shape
    difference = numpy.abs(found.astype(int) - expected.astype(int))
    assert difference.max() <= tolerance, f"{difference.max()} at {numpy.unravel_index(difference.argmax(), difference.shape)}"


def grey(bits=(16, 12, 11), is_signed=False, photometric="MONOCHROME2", **attributes) -> Dataset:
    """An image whose values rise over all that the bits can hold, with noise in the bits beside them."""
    data_set = instance(**attributes)
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    allocated, stored, high = bits
    data_set.SamplesPerPixel, data_set.PhotometricInterpretation = 1, photometric
    data_set.Rows, data_set.Columns = ROWS, COLUMNS
    data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit = bits
    data_set.PixelRepresentation = int(is_signed)
    lowest = -(2 ** (stored - 1)) if is_signed else 0
    values = numpy.linspace(lowest, lowest + 2**stored - 1, ROWS * COLUMNS).round().astype(numpy.int64)
    words = (values & (2**stored - 1)) << (high + 1 - stored)
    if allocated == 1:
        data_set.PixelData = pack_bits((numpy.arange(ROWS * COLUMNS) // 7 % 2).astype(numpy.uint8))
    else:
        data_set.PixelData = words.astype(f"<u{allocated // 8}").tobytes()
    return data_set


def colour(photometric="RGB", planar=0, bits=8) -> Dataset:
    """An image of smooth colours, every one with all levels."""
    data_set = grey((bits, bits, bits - 1), photometric=photometric)
    data_set.SamplesPerPixel, data_set.PlanarConfiguration = 3, planar
    y, x = numpy.mgrid[0:ROWS, 0:COLUMNS]
    highest = 2**bits - 1
    samples = numpy.stack([x * highest // (COLUMNS - 1), y * highest // (ROWS - 1), (x + 2 * y) * highest // 110], -1)
    if photometric.endswith("422"):
        pairs = samples.reshape(-1, 6)
        samples = pairs[:, [0, 3, 1, 2]]
    elif planar:
        samples = samples.transpose(2, 0, 1)
    data_set.PixelData = numpy.ascontiguousarray(samples).astype(f"<u{bits // 8}").tobytes()
    return data_set


def with_palette(data_set: Dataset, first: int, count: int, bits: int, segments: list | None = None) -> Dataset:
    ramp = numpy.arange(count) * (2**bits - 1) // (count - 1)
    tables = {"Red": ramp, "Green": ramp[::-1], "Blue": (ramp * 3) % 2**bits}
    for name, entries in tables.items():
        keyword = f"{name}PaletteColorLookupTable"
        setattr(data_set, f"{keyword}Descriptor", [count % 65536, first, bits])
        letter = "B" if bits == 8 else "H"
        if segments:
            setattr(data_set, f"Segmented{keyword}Data", struct.pack(f"<{len(segments)}{letter}", *segments))
        else:
            setattr(data_set, f"{keyword}Data", struct.pack(f"<{count}{letter}", *entries.tolist()))
    return data_set


def table(entries, first: int, bits: int) -> Sequence:
    item = Dataset()
    item.LUTDescriptor = [len(entries) % 65536, first, bits]
    item.LUTData = numpy.asarray(entries).astype("<u2").tobytes()
    return Sequence([item])


BITS = [
    ((8, 8, 7), False),
    ((8, 8, 7), True),
    ((8, 6, 5), False),
    ((16, 10, 9), False),
    ((16, 12, 11), False),
    ((16, 12, 11), True),
    ((16, 12, 15), False),
    ((16, 16, 15), False),
    ((16, 16, 15), True),
    ((32, 32, 31), False),
    ((32, 32, 31), True),
]


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("bits, is_signed", BITS)
def test_grey_of_every_size_and_sign(origin, bits, is_signed, photometric):
    data_set = grey(bits, is_signed, photometric)
    count = 2 ** bits[1]
    data_set.WindowCenter, data_set.WindowWidth = (0 if is_signed else count // 2), count // 2
    origin.store(encode(data_set))
    assert_alike(seen(origin, data_set), reference.rendered(data_set))


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_single_bits(origin, photometric):
    data_set = grey((1, 1, 0), photometric=photometric)
    origin.store(encode(data_set))
    assert_alike(seen(origin, data_set), reference.rendered(data_set))


@pytest.mark.parametrize("bits, is_signed", BITS)
def test_without_a_window_all_values_are_seen(origin, bits, is_signed):
    data_set = grey(bits, is_signed, RescaleSlope="-0.5", RescaleIntercept="100")
    origin.store(encode(data_set))
    assert_alike(seen(origin, data_set), reference.rendered(data_set))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_every_encoding_of_the_same_image_looks_the_same(origin, syntax):
    data_set = grey((16, 16, 15), True, RescaleSlope="1", RescaleIntercept="-1024")
    data_set.VOILUTSequence = table(numpy.arange(4096) * 16, -2000, 16)
    expected = reference.rendered(data_set)
    if syntax == ExplicitVRBigEndian:
        for item, keyword in [(data_set, "PixelData"), (data_set.VOILUTSequence[0], "LUTData")]:
            setattr(item, keyword, numpy.frombuffer(item[keyword].value, "<u2").astype(">u2").tobytes())
    data_set["PixelData"].VR = "OW"
    origin.store(encode(data_set, syntax))
    assert_alike(seen(origin, data_set), expected)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("center, width", [(40, 400), (-600.5, 1500.25), (0, 1), (1000, 2), (5000, 100)])
def test_windows_of_the_image_and_of_the_request(origin, function, center, width):
    data_set = grey((16, 12, 11), RescaleSlope="1.5", RescaleIntercept="-1024")
    data_set.WindowCenter, data_set.WindowWidth, data_set.VOILUTFunction = [center, 7], [width, 8], function
    origin.store(encode(data_set))
    expected = reference.rendered(data_set)
    assert_alike(seen(origin, data_set), expected)
    keyword = function.lower().replace("_", "-")
    del data_set.WindowCenter, data_set.WindowWidth
    data_set.SOPInstanceUID = generate_uid()
    origin.store(encode(data_set))
    assert_alike(seen(origin, data_set, f"?window={center},{width},{keyword}"), expected)


def test_a_window_asked_for_takes_the_place_of_the_images_own(origin):
    data_set = grey()
    data_set.WindowCenter, data_set.WindowWidth = 100, 50
    data_set.VOILUTSequence = table(range(256), 0, 8)
    origin.store(encode(data_set))
    expected = reference.rendered(data_set, window=(2000, 3000, "LINEAR"))
    assert_alike(seen(origin, data_set, "?window=2000,3000,linear"), expected)


def test_modality_lut(origin):
    data_set = grey((8, 8, 7))
    data_set.ModalityLUTSequence = table((numpy.arange(200) ** 2) // 10, 20, 16)
    data_set.ModalityLUTSequence[0].ModalityLUTType = "US"
    data_set.WindowCenter, data_set.WindowWidth = 2000, 3800
    origin.store(encode(data_set))
    assert_alike(seen(origin, data_set), reference.rendered(data_set))


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("first", [0, 300])
def test_voi_lut(origin, bits, first):
    data_set = grey()
    entries = numpy.sqrt(numpy.arange(2048) / 2047) * (2**bits - 1)
    data_set.VOILUTSequence = table(entries.round(), first, bits)
    origin.store(encode(data_set))
    assert_alike(seen(origin, data_set), reference.rendered(data_set))


def test_voi_lut_of_65536_entries(origin):
    data_set = grey((16, 16, 15))
    data_set.VOILUTSequence = table(65535 - numpy.arange(65536), 0, 16)
    origin.store(encode(data_set))
    assert_alike(seen(origin, data_set), reference.rendered(data_set))


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("bits", [8, 16])
def test_rgb(origin, planar, bits):
    data_set = colour("RGB", planar, bits)
    origin.store(encode(data_set))
    assert_alike(seen(origin, data_set), reference.rendered(data_set))


@pytest.mark.parametrize("photometric, planar", [("YBR_FULL", 0), ("YBR_FULL", 1), ("YBR_FULL_422", 0)])
def test_luminance_and_chrominance(origin, photometric, planar):
    data_set = colour(photometric, planar)
    origin.store(encode(data_set))
    assert_alike(seen(origin, data_set), reference.rendered(data_set))


def test_run_length_encoded_luminance_and_chrominance(origin):
    data_set = colour("YBR_FULL")
    expected = reference.rendered(data_set)
    data_set.compress(RLELossless, generate_instance_uid=False)
    origin.store(encode(data_set, RLELossless))
    assert_alike(seen(origin, data_set), expected)


@pytest.mark.parametrize("first, is_signed", [(0, False), (40, False), (-100, True)])
@pytest.mark.parametrize("bits", [8, 16])
def test_palette(origin, bits, first, is_signed):
    data_set = with_palette(grey((8, 8, 7), is_signed, "PALETTE COLOR"), first, 180, bits)
    origin.store(encode(data_set))
    assert_alike(seen(origin, data_set), reference.rendered(data_set))


def test_palette_of_65536_entries(origin):
    data_set = with_palette(grey((16, 16, 15), photometric="PALETTE COLOR"), 0, 65536, 16)
    origin.store(encode(data_set))
    assert_alike(seen(origin, data_set), reference.rendered(data_set))


# Values, a line, a line down, then both lines once more: in words from byte 8 on, in bytes from byte 4 on.
@pytest.mark.parametrize(
    "bits, segments",
    [
        (16, [0, 2, 0, 900, 1, 60, 65535, 1, 40, 100, 2, 2, 8, 0, 0, 1, 7]),
        (8, [0, 2, 0, 9, 1, 60, 255, 1, 40, 10, 2, 2, 4, 0, 0, 0, 0, 2, 7, 8]),
    ],
)
def test_palette_in_segments(origin, bits, segments):
    count = len(reference.expanded(segments, bits))
    data_set = with_palette(grey((8, 8, 7), photometric="PALETTE COLOR"), 0, count, bits, segments)
    origin.store(encode(data_set))
    assert_alike(seen(origin, data_set), reference.rendered(data_set))


def test_frames_of_an_enhanced_image_have_their_own_values(origin):
    data_set = grey((16, 12, 11))
    data_set.NumberOfFrames, data_set.PixelData = 3, data_set.PixelData * 3
    shared, frames = Dataset(), [Dataset() for _ in range(3)]
    rescale = Dataset()
    rescale.RescaleIntercept, rescale.RescaleSlope, rescale.RescaleType = "-1000", "2", "HU"
    shared.PixelValueTransformationSequence = Sequence([rescale])
    for number, item in enumerate(frames, 1):
        window = Dataset()
        window.WindowCenter, window.WindowWidth = 800 * number, 1500
        item.FrameVOILUTSequence = Sequence([window])
    data_set.SharedFunctionalGroupsSequence = Sequence([shared])
    data_set.PerFrameFunctionalGroupsSequence = Sequence(frames)
    origin.store(encode(data_set))
    alone = grey((16, 12, 11), RescaleIntercept="-1000", RescaleSlope="2")
    for number in (1, 2, 3):
        expected = reference.rendered(alone, window=(800 * number, 1500, "LINEAR"))
        assert_alike(seen(origin, data_set, frame=number), expected)


@pytest.mark.parametrize(
    "area, region, flips",
    [
        ((COLUMNS, ROWS), (0, 0, COLUMNS, ROWS), ""),
        ((24, 16), (8, 4, 24, 16), ""),
        ((24, 16), (8, 4, 24, 16), "x"),
        ((24, 16), (8, 4, 24, 16), "xy"),
        ((100, 100), (0, 0, COLUMNS, ROWS), ""),
        ((20, 20), (0, 0, COLUMNS, ROWS), "y"),
        ((64, 64), (10.5, 3.25, 20.5, 12.75), ""),
    ],
)
@pytest.mark.parametrize("make", [grey, colour])
def test_regions_are_cut_flipped_and_scaled(origin, make, area, region, flips):
    data_set = make()
    origin.store(encode(data_set))
    x, y, width, height = region
    scale = min(area[0] / width, area[1] / height)
    size = (round(width * scale), round(height * scale))
    whole = Image.fromarray(reference.rendered(data_set))
    # PS3.18 §8.3.5.1.3: cropped, then scaled.
    corner = (math.floor(x), math.floor(y))
    cropped = whole.crop((*corner, math.ceil(x + width), math.ceil(y + height)))
    box = (x - corner[0], y - corner[1], x + width - corner[0], y + height - corner[1])
    expected = cropped.resize(size, Image.Resampling.BILINEAR, box=box)
    if "x" in flips:
        expected, width = expected.transpose(Image.Transpose.FLIP_LEFT_RIGHT), -width
    if "y" in flips:
        expected, height = expected.transpose(Image.Transpose.FLIP_TOP_BOTTOM), -height
    found = seen(origin, data_set, f"?viewport={area[0]},{area[1]},{x},{y},{width},{height}")
    assert_alike(found, numpy.asarray(expected), tolerance=2)


FILES = [
    "CT_small.dcm",
    "MR_small.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_RLE.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_jp2klossless.dcm",
    "JPEG2000.dcm",
    "JPEG-LL.dcm",
    "JPGExtended.dcm",
    "rtdose_1frame.dcm",
    "rtdose_rle_1frame.dcm",
    "liver_1frame.dcm",
    "mlut_18.dcm",
    "vlut_04.dcm",
    "OBXXXX1A.dcm",
    "OBXXXX1A_rle.dcm",
    "SC_rgb.dcm",
    "SC_rgb_16bit.dcm",
    "SC_rgb_rle.dcm",
    "SC_rgb_jpeg_gdcm.dcm",
    "SC_ybr_full_uncompressed.dcm",
    "SC_ybr_full_422_uncompressed.dcm",
    "examples_palette.dcm",
    "examples_ybr_color.dcm",
    "examples_rgb_color.dcm",
    "gdcm-US-ALOKA-16.dcm",
    "gdcm-US-ALOKA-16_big.dcm",
]


@pytest.mark.parametrize("name", FILES)
def test_files_of_pydicom(origin, name):
    path = get_testdata_file(name)
    assert path is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data_set = pydicom.dcmread(path)
        syntax = data_set.file_meta.TransferSyntaxUID
        # UIDs of their own: many of these files share theirs.
        for keyword in ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]:
            setattr(data_set, keyword, generate_uid())
        origin.store(encode(data_set, syntax))
        expected = reference.rendered(data_set)
    # JPEG decoders differ by a level or two.
    assert_alike(seen(origin, data_set), expected, tolerance=3 if syntax == "1.2.840.10008.1.2.4.50" else 1)


@pytest.mark.parametrize("keyword, bits", [("FloatPixelData", 32), ("DoubleFloatPixelData", 64)])
def test_floating_point_pixels_are_not_shown_as_integers(origin, keyword, bits):
    ramp = numpy.tile(numpy.linspace(0, 1, 64), (64, 1))
    pixels = {keyword: ramp.astype(f"<f{bits // 8}").tobytes()}
    data_set = instance(Rows=64, Columns=64, SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2", BitsAllocated=bits, **pixels)
    origin.store(encode(data_set))
    answer = origin.get(f"{instance_path(data_set)}/rendered", "image/png")
    if answer.status_code != 406:
        assert_alike(numpy.asarray(rendered_image(answer.content)), (ramp * 255).round())
