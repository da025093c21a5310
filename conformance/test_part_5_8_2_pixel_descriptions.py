"""Pixel Data whose attributes, transfer syntax, offset table, length and codestream contradict each other (PS3.5 §8.2, §A.4).

The characteristics in a codestream are used to decode it (PS3.5 §8.2.1, §8.2.3, §8.2.4). What is retrieved shows the image, and describes
itself as it is; or the instance was refused.
"""

import struct
import subprocess
from io import BytesIO
from pathlib import Path

import numpy
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import pixel_array
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

import multipart
from build import encode, instance, instance_path
from rendered_images import rendered_image

BARS = numpy.zeros((16, 16, 3), "u1")
BARS[:8], BARS[8:] = (200, 30, 40), (20, 60, 220)
# The same in luminance and chrominance of full range (PS3.3 §C.7.6.3.1.2).
BARS_YBR = numpy.zeros((16, 16, 3), "u1")
BARS_YBR[:8], BARS_YBR[8:] = (82, 104, 212), (66, 215, 95)
CLAIMS = ["RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT"]
TESTDATA = Path(__file__).parent.parent / "testdata"


def described(values: numpy.ndarray, photometric: str | None = None, **attributes) -> Dataset:
    """A data set that describes an array of (frames x) rows x columns (x 3), without its Pixel Data."""
    data_set = instance()
    is_colour = values.ndim > 2 and values.shape[-1] == 3
    shape = values.shape[:-1] if is_colour else values.shape
    data_set.Rows, data_set.Columns = shape[-2:]
    if len(shape) == 3:
        data_set.NumberOfFrames = shape[0]
    data_set.SamplesPerPixel = 3 if is_colour else 1
    data_set.PhotometricInterpretation = photometric or ("RGB" if is_colour else "MONOCHROME2")
    if is_colour:
        data_set.PlanarConfiguration = 0
    bits = values.dtype.itemsize * 8
    data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit = bits, bits, bits - 1
    data_set.PixelRepresentation = int(values.dtype.kind == "i")
    for keyword, value in attributes.items():
        setattr(data_set, keyword, value)
    return data_set


def compressed(data_set: Dataset, *frames: bytes, has_table: bool = True) -> Dataset:
    data_set.PixelData = encapsulate(list(frames), has_bot=has_table)
    data_set["PixelData"].VR = "OB"
    data_set["PixelData"].is_undefined_length = True
    return data_set


def jpeg(values: numpy.ndarray, **options) -> bytes:
    file = BytesIO()
    Image.fromarray(values).save(file, "JPEG", **{"quality": 95, "subsampling": 0, **options})
    return file.getvalue()


def jpeg_2000(values: numpy.ndarray, **options) -> bytes:
    file = BytesIO()
    Image.fromarray(values).save(file, "JPEG2000", **{"no_jp2": True, "mct": 0, **options})
    return file.getvalue()


def without_jfif(frame: bytes) -> bytes:
    length = int.from_bytes(frame[4:6], "big")
    assert frame[2:4] == b"\xff\xe0"
    return frame[:2] + frame[4 + length :]


def stored(origin, file: bytes) -> bool:
    """Whether an instance that contradicts itself was stored; to refuse it is right, too."""
    answer = origin.post(multipart.write([file]), multipart.content_type())
    assert answer.status_code in (200, 202, 409), answer.text
    return answer.status_code != 409


def store(origin, data_set: Dataset, transfer_syntax: str) -> None:
    if not stored(origin, encode(data_set, transfer_syntax)):
        pytest.skip("the server refuses the instance")


def rendered(origin, data_set: Dataset, frame: int = 1) -> numpy.ndarray:
    answer = origin.get(f"{instance_path(data_set)}/frames/{frame}/rendered", "image/png")
    assert answer.status_code == 200, answer.text
    return numpy.asarray(rendered_image(answer.content).convert("RGB"))


def in_syntax(origin, data_set: Dataset, transfer_syntax: str) -> Dataset:
    """The whole instance in a transfer syntax."""
    answer = origin.get(instance_path(data_set), f'multipart/related; type="application/dicom"; transfer-syntax={transfer_syntax}')
    if answer.status_code in (400, 406):
        pytest.skip(f"{transfer_syntax} is not offered")
    assert answer.status_code == 200, answer.text
    (part,) = multipart.read(answer)
    return dcmread(BytesIO(part.body))


def in_rgb(data_set: Dataset) -> numpy.ndarray:
    """The pixels in RGB by what the data set says of itself."""
    assert data_set.PhotometricInterpretation in ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
    return pixel_array(data_set)


def assert_bars(found: numpy.ndarray, expected: numpy.ndarray, tolerance: int) -> None:
    """The bars have their colours. Decoders mix the subsampled chrominance of rows beside the edge."""
    difference = numpy.abs(found.astype(int) - expected)
    assert numpy.concatenate([difference[:7], difference[9:]]).max() <= tolerance, found[[0, -1], 0]


def assert_shown(origin, data_set: Dataset, expected: numpy.ndarray, tolerance: int) -> None:
    """The image is right when it is rendered, decoded, and compressed without loss."""
    assert_bars(rendered(origin, data_set), expected, tolerance)
    for transfer_syntax in (ExplicitVRLittleEndian, JPEGLSLossless, RLELossless):
        assert_bars(in_rgb(in_syntax(origin, data_set, transfer_syntax)), expected, tolerance)


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("name", ["JFIF", "JFIF, 4:2:0", "4:2:0", "Adobe, RGB"])
def test_colours_of_jpeg_are_those_of_its_segments(origin, name, claim):
    frame = {
        "JFIF": lambda: jpeg(BARS),
        "JFIF, 4:2:0": lambda: jpeg(BARS, subsampling=2),
        "4:2:0": lambda: without_jfif(jpeg(BARS, subsampling=2)),
        "Adobe, RGB": lambda: jpeg(BARS, keep_rgb=True),
    }[name]()
    data_set = compressed(described(BARS, claim), frame)
    store(origin, data_set, JPEGBaseline8Bit)
    assert_shown(origin, data_set, BARS, 6)


@pytest.mark.parametrize("claim", ["RGB", "YBR_FULL", "YBR_FULL_422"])
def test_colours_of_jpeg_without_segments_are_as_claimed(origin, claim):
    frame = without_jfif(jpeg(BARS))
    data_set = compressed(described(BARS, claim), frame)
    store(origin, data_set, JPEGBaseline8Bit)
    found = rendered(origin, data_set).astype(int)
    expected = BARS_YBR if claim == "RGB" else BARS
    assert numpy.abs(found - expected).max() <= 6


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("is_irreversible", [False, True])
def test_a_component_transform_of_jpeg_2000_means_rgb(origin, claim, is_irreversible):
    frame = jpeg_2000(BARS, mct=1, irreversible=is_irreversible)
    data_set = compressed(described(BARS, claim), frame)
    store(origin, data_set, JPEG2000 if is_irreversible else JPEG2000Lossless)
    assert_shown(origin, data_set, BARS, 6 if is_irreversible else 0)


@pytest.mark.parametrize("claim, values", [("RGB", BARS), ("YBR_FULL", BARS_YBR), ("YBR_FULL_422", BARS_YBR), ("YBR_RCT", BARS)])
def test_colours_of_jpeg_2000_without_component_transform_are_as_claimed(origin, claim, values):
    data_set = compressed(described(values, claim), jpeg_2000(values))
    store(origin, data_set, JPEG2000Lossless)
    assert_shown(origin, data_set, BARS, 2)


@pytest.mark.parametrize("claim", ["RGB", "YBR_FULL_422"])
@pytest.mark.parametrize("name", ["bars-422.j2k", "bars-420.j2k"])
def test_subsampled_chrominance_of_jpeg_2000(origin, name, claim):
    data_set = compressed(described(BARS, claim), (TESTDATA / name).read_bytes())
    store(origin, data_set, JPEG2000Lossless)
    assert_shown(origin, data_set, BARS, 2)


@pytest.mark.parametrize("transfer_syntax", [RLELossless, JPEGLSLossless, JPEGLosslessSV1])
def test_subsampling_is_claimed_of_no_frame_that_has_none(origin, transfer_syntax):
    native = described(BARS_YBR, "YBR_FULL")
    native.PixelData = BARS_YBR.tobytes()
    native["PixelData"].VR = "OB"
    store(origin, native, ExplicitVRLittleEndian)
    data_set = in_syntax(origin, native, transfer_syntax)
    for keyword in ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]:
        setattr(data_set, keyword, getattr(instance(), keyword))
    data_set.PhotometricInterpretation = "YBR_FULL_422"
    store(origin, data_set, transfer_syntax)
    given = in_syntax(origin, data_set, ExplicitVRLittleEndian)
    assert given.PhotometricInterpretation == "YBR_FULL"
    assert len(given.PixelData) == BARS.size
    assert numpy.abs(rendered(origin, data_set).astype(int) - BARS).max() <= 2


def test_native_chrominance_is_subsampled_if_its_length_says_so(origin):
    levels = numpy.full((2, 8, 8, 3), 128, "u1")
    levels[0, ..., 0], levels[1, ..., 0] = 50, 200
    data_set = described(levels, "YBR_FULL_422")
    data_set.PixelData = levels.tobytes()
    store(origin, data_set, ImplicitVRLittleEndian)
    for frame, level in [(1, 50), (2, 200)]:
        assert numpy.abs(rendered(origin, data_set, frame).astype(int) - level).max() <= 1
    assert in_syntax(origin, data_set, ExplicitVRLittleEndian).PhotometricInterpretation == "YBR_FULL"


def test_zero_bytes_before_the_end_of_jpeg_ls(origin):
    values = (numpy.arange(-32, 32, dtype="i2") * 50).reshape(8, 8)
    native = described(values, BitsStored=12, HighBit=11)
    native.PixelData = values.tobytes()
    store(origin, native, ExplicitVRLittleEndian)
    data_set = in_syntax(origin, native, JPEGLSLossless)
    (frame,) = multipart.read(origin.get(f"{instance_path(native)}/frames/1", f'multipart/related; type="image/jls"; transfer-syntax={JPEGLSLossless}'))
    end = frame.body.rindex(b"\xff\xd9")
    for zeros in (1, 2):
        data_set.SOPInstanceUID = instance().SOPInstanceUID
        store(origin, compressed(data_set, frame.body[:end] + bytes(zeros) + frame.body[end:]), JPEGLSLossless)
        assert in_syntax(origin, data_set, ExplicitVRLittleEndian).PixelData == values.tobytes()


def item(value: bytes) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(value)) + value


def even(frame: bytes) -> bytes:
    return frame + bytes(len(frame) % 2)


GREY = numpy.full((8, 8), 77, "u1")


@pytest.mark.parametrize("transfer_syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless, None])
def test_a_codestream_is_given_under_no_other_name(origin, transfer_syntax):
    data_set = compressed(described(GREY), jpeg(GREY))
    file = encode(data_set, JPEGBaseline8Bit)
    if transfer_syntax == ImplicitVRLittleEndian:
        native = described(GREY, SOPInstanceUID=data_set.SOPInstanceUID, StudyInstanceUID=data_set.StudyInstanceUID)
        native.SeriesInstanceUID, native.PixelData = data_set.SeriesInstanceUID, bytes(64)
        file = encode(native, ImplicitVRLittleEndian)
        delimiter = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
        file = file[: file.rindex(b"\xe0\x7f\x10\x00") + 4] + b"\xff\xff\xff\xff" + item(b"") + item(even(jpeg(GREY))) + delimiter
    elif transfer_syntax is None:
        meta_bytes = int.from_bytes(file[140:144], "little")
        file = file[144 + meta_bytes :]
    else:
        named = str(JPEGBaseline8Bit).encode()
        file = file.replace(named, transfer_syntax.encode().ljust(len(named), b"\0"))
    if not stored(origin, file):
        return
    answer = origin.get(f"{instance_path(data_set)}/frames/1", 'multipart/related; type="image/jpeg"; transfer-syntax=*')
    assert answer.status_code == 200, answer.text
    (part,) = multipart.read(answer)
    assert JPEGBaseline8Bit in part.headers["content-type"] and part.body.startswith(b"\xff\xd8\xff")
    (part,) = multipart.read(origin.get(f"{instance_path(data_set)}/frames/1", 'multipart/related; type="application/octet-stream"'))
    assert len(part.body) == GREY.size and abs(part.body[0] - 77) <= 1


@pytest.mark.parametrize("transfer_syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_codestream_without_items_is_given_under_no_native_name(origin, transfer_syntax):
    data_set = described(GREY)
    data_set.PixelData = even(jpeg(GREY))
    data_set["PixelData"].VR = "OB"
    if stored(origin, encode(data_set, transfer_syntax)):
        answer = origin.get(f"{instance_path(data_set)}/frames/1", 'multipart/related; type="application/octet-stream"')
        assert answer.status_code in (200, 404, 406), answer.text
        if answer.status_code == 200:
            (part,) = multipart.read(answer)
            assert len(part.body) == GREY.size and abs(part.body[0] - 77) <= 1


@pytest.mark.parametrize("claimed", [None, 1, 2, 5])
@pytest.mark.parametrize("has_table", [True, False])
def test_there_are_as_many_frames_as_codestreams(origin, claimed, has_table):
    levels = [50, 100, 150]
    data_set = compressed(described(GREY), *(jpeg(numpy.full((8, 8), level, "u1")) for level in levels), has_table=has_table)
    if claimed:
        data_set.NumberOfFrames = claimed
    store(origin, data_set, JPEGBaseline8Bit)
    for number, level in enumerate(levels, 1):
        assert abs(int(rendered(origin, data_set, number)[0, 0, 0]) - level) <= 2
    assert origin.get(f"{instance_path(data_set)}/frames/4/rendered", "image/png").status_code == 404
    given = in_syntax(origin, data_set, ExplicitVRLittleEndian)
    assert given.NumberOfFrames == 3 and len(given.PixelData) == 3 * GREY.size


@pytest.mark.parametrize("transfer_syntax, frame", [(JPEGBaseline8Bit, jpeg(GREY)), (JPEG2000Lossless, jpeg_2000(GREY))])
def test_a_first_item_that_is_a_frame_is_no_offset_table(origin, transfer_syntax, frame):
    data_set = compressed(described(GREY, NumberOfFrames=2), frame, frame, has_table=False)
    file = encode(data_set, transfer_syntax).replace(item(b""), b"", 1)
    if stored(origin, file):
        for number in (1, 2):
            assert numpy.abs(rendered(origin, data_set, number).astype(int) - 77).max() <= 1


def test_a_codestream_of_more_bits_than_are_allocated_is_not_cut(origin):
    values = numpy.linspace(0, 4095, 64).astype("u2").reshape(8, 8)
    data_set = compressed(described(values, BitsAllocated=8, BitsStored=8, HighBit=7), jpeg_2000(values))
    store(origin, data_set, JPEG2000Lossless)
    given = in_syntax(origin, data_set, ExplicitVRLittleEndian)
    assert (pixel_array(given) == values).all()


@pytest.mark.parametrize("transfer_syntax", [JPEGLSLossless, JPEGLosslessSV1, JPEG2000Lossless, RLELossless])
@pytest.mark.parametrize("allocated, stored_bits", [(8, 1), (8, 5), (8, 7), (16, 4), (16, 8), (16, 9), (16, 15)])
@pytest.mark.parametrize("is_signed", [False, True])
def test_fewer_bits_stored_than_allocated_are_read_by_others(origin, tmp_path, transfer_syntax, allocated, stored_bits, is_signed):
    lowest = -(2 ** (stored_bits - 1)) if is_signed else 0
    values = numpy.linspace(lowest, lowest + 2**stored_bits - 1, 24 * 20).round().astype(f"{'i' if is_signed else 'u'}{allocated // 8}")
    native = described(values.reshape(24, 20), BitsStored=stored_bits, HighBit=stored_bits - 1)
    native.PixelData = values.tobytes()
    native["PixelData"].VR = "OW" if allocated > 8 else "OB"
    store(origin, native, ExplicitVRLittleEndian)
    given = in_syntax(origin, native, transfer_syntax)
    assert (pixel_array(given).ravel() == values).all()
    tool = {JPEGLSLossless: "dcmdjpls", JPEGLosslessSV1: "dcmdjpeg", RLELossless: "dcmdrle"}.get(transfer_syntax)
    if tool:
        given.save_as(tmp_path / "in.dcm", enforce_file_format=True)
        subprocess.run([tool, tmp_path / "in.dcm", tmp_path / "out.dcm"], check=True, capture_output=True, timeout=60)
        assert (pixel_array(dcmread(tmp_path / "out.dcm")).ravel() == values).all()


LOSSLESS = [JPEGLSLossless, JPEGLosslessSV1, JPEG2000Lossless, RLELossless]
LOSSY = [JPEGBaseline8Bit, JPEGLSNearLossless, JPEG2000]


def ask(origin, path: str, media_type: str, transfer_syntax: str):
    return origin.get(path, f'multipart/related; type="{media_type}"; transfer-syntax={transfer_syntax}')


def extremes(bits_stored: int, is_signed: bool) -> numpy.ndarray:
    """Samples at both ends of the range, side by side: a lossy codec would shoot over the ends."""
    lowest = -(2 ** (bits_stored - 1)) if is_signed else 0
    chance = numpy.random.default_rng(bits_stored)
    steps = chance.integers(0, min(3, 2**bits_stored), (40, 40))
    return numpy.where(chance.random((40, 40)) < 0.5, lowest + steps, lowest + 2**bits_stored - 1 - steps)


@pytest.mark.parametrize("transfer_syntax", [*LOSSLESS, *LOSSY])
@pytest.mark.parametrize("is_signed", [False, True])
def test_every_sample_has_room_in_bits_stored_in_every_transfer_syntax(origin, transfer_syntax, is_signed):
    given_in = []
    for allocated, stored_bits in [*((8, bits) for bits in range(1, 9)), *((16, bits) for bits in range(1, 17))]:
        values = extremes(stored_bits, is_signed).astype(f"{'i' if is_signed else 'u'}{allocated // 8}")
        native = described(values, BitsStored=stored_bits, HighBit=stored_bits - 1)
        native.PixelData = values.tobytes()
        native["PixelData"].VR = "OW" if allocated > 8 else "OB"
        origin.store(encode(native, ExplicitVRLittleEndian))
        answer = ask(origin, instance_path(native), "application/dicom", transfer_syntax)
        assert answer.status_code == 200 or (answer.status_code == 406 and transfer_syntax in LOSSY), answer.text
        if answer.status_code == 406:
            continue
        (part,) = multipart.read(answer)
        given = dcmread(BytesIO(part.body))
        decoded = pixel_array(given).astype(int)
        lowest = -(2 ** (given.BitsStored - 1)) if is_signed else 0
        assert lowest <= decoded.min() and decoded.max() < lowest + 2**given.BitsStored, (allocated, stored_bits)
        assert given.HighBit == given.BitsStored - 1 and given.BitsStored <= given.BitsAllocated
        if transfer_syntax in LOSSLESS:
            assert (decoded == values).all(), (allocated, stored_bits)
        given_in.append((allocated, stored_bits))
    assert given_in or is_signed


@pytest.mark.parametrize("allocated, claimed", [(8, 8), (16, 8), (16, 12), (16, 16)])
@pytest.mark.parametrize("needed", [7, 8, 9, 12, 13, 16])
def test_bits_stored_are_those_that_the_samples_of_a_codestream_need(origin, allocated, claimed, needed):
    values = numpy.linspace(0, 2**needed - 1, 64).astype("u2").reshape(8, 8)
    data_set = compressed(described(values, BitsAllocated=allocated, BitsStored=claimed, HighBit=claimed - 1), jpeg_2000(values))
    store(origin, data_set, JPEG2000Lossless)
    given = in_syntax(origin, data_set, ExplicitVRLittleEndian)
    assert (pixel_array(given) == values).all()
    assert values.max() < 2**given.BitsStored and given.HighBit == given.BitsStored - 1
    if allocated == 16 and needed <= claimed:
        assert given.BitsStored == claimed


def test_a_frame_of_more_bits_than_the_first_is_not_cut(origin):
    small, large = numpy.full((8, 8), 200, "u1"), numpy.linspace(0, 4095, 64).astype("u2").reshape(8, 8)
    data_set = compressed(described(small, NumberOfFrames=2), jpeg_2000(small), jpeg_2000(large))
    store(origin, data_set, JPEG2000Lossless)
    for number, status in [(1, 200), (2, 406)]:
        answer = ask(origin, f"{instance_path(data_set)}/frames/{number}", "application/octet-stream", ExplicitVRLittleEndian)
        assert answer.status_code == status, answer.text
    assert rendered(origin, data_set, 2).max() == 255


def warned(answer) -> list:
    """The attributes that the response names of an instance that was stored."""
    (reference,) = answer.json()["00081199"]["Value"]
    items = reference.get("00741048", {}).get("Value", [])
    return [tag for item in items for tag in item.get("00741052", {}).get("Value", [])] or [str(item) for item in items]


def near_lossless(origin) -> bytes:
    native = described(GREY)
    native.PixelData = GREY.tobytes()
    origin.store(encode(native, ExplicitVRLittleEndian))
    (part,) = multipart.read(ask(origin, f"{instance_path(native)}/frames/1", "image/jls", JPEGLSNearLossless))
    return part.body


LOSSY_FRAMES = {
    "JPEG": (lambda _: jpeg(GREY), [JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLosslessSV1, JPEGLossless]),
    "JPEG-LS": (near_lossless, [JPEGLSNearLossless, JPEGLSLossless]),
    "JPEG 2000": (lambda _: jpeg_2000(GREY, irreversible=True), [JPEG2000, JPEG2000Lossless]),
}


@pytest.mark.parametrize("name, transfer_syntax", [(name, syntax) for name, (_, syntaxes) in LOSSY_FRAMES.items() for syntax in syntaxes])
@pytest.mark.parametrize("stated", [None, "00", "01"])
def test_a_loss_that_the_codestream_proves_is_stated_in_every_form(origin, name, transfer_syntax, stated):
    data_set = compressed(described(GREY), even(LOSSY_FRAMES[name][0](origin)))
    if stated:
        data_set.LossyImageCompression = stated
    answer = origin.post(multipart.write([encode(data_set, transfer_syntax)]), multipart.content_type())
    is_contradicted = stated == "00" or transfer_syntax in (JPEGLosslessSV1, JPEGLossless, JPEGLSLossless, JPEG2000Lossless)
    assert answer.status_code == (202 if is_contradicted else 200), answer.text
    assert bool(warned(answer)) == is_contradicted
    for syntax in (ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1):
        answer = ask(origin, instance_path(data_set), "application/dicom", syntax)
        assert answer.status_code == 200, answer.text
        (part,) = multipart.read(answer)
        given = dcmread(BytesIO(part.body))
        assert given.file_meta.TransferSyntaxUID == syntax
        assert given.LossyImageCompression == "01"
        assert numpy.abs(pixel_array(given).astype(int) - 77).max() <= 2
    # As it is stored, it has no name of lossless frames.
    (part,) = multipart.read(ask(origin, instance_path(data_set), "application/dicom", "*"))
    assert dcmread(BytesIO(part.body)).file_meta.TransferSyntaxUID not in (JPEGLosslessSV1, JPEGLossless, JPEGLSLossless, JPEG2000Lossless)


@pytest.mark.parametrize("is_progressive", [False, True])
def test_another_process_of_jpeg_than_the_declared_one_is_warned_of(origin, is_progressive):
    data_set = compressed(described(BARS, "YBR_FULL"), even(jpeg(BARS, progressive=is_progressive)))
    answer = origin.post(multipart.write([encode(data_set, JPEGBaseline8Bit)]), multipart.content_type())
    assert answer.status_code == (202 if is_progressive else 200), answer.text
    assert bool(warned(answer)) == is_progressive
    assert_bars(rendered(origin, data_set), BARS, 3)


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_noise_is_given_in_every_lossless_transfer_syntax(origin, bits):
    values = numpy.random.default_rng(bits).integers(0, 2**bits, (512, 512)).astype("u1" if bits == 8 else "u2")
    native = described(values, BitsStored=bits, HighBit=bits - 1)
    native.PixelData = values.tobytes()
    native["PixelData"].VR = "OW" if bits > 8 else "OB"
    origin.store(encode(native, ExplicitVRLittleEndian))
    for transfer_syntax in LOSSLESS:
        assert (pixel_array(in_syntax(origin, native, transfer_syntax)) == values).all(), transfer_syntax


@pytest.mark.parametrize("bits", [31, 37, 127])
def test_a_codestream_of_more_bits_than_can_be_is_described_by_its_attributes(origin, bits):
    frame = bytearray(jpeg_2000(GREY))
    frame[2 + 4 + 36] = bits
    data_set = compressed(described(GREY), bytes(frame))
    if stored(origin, encode(data_set, JPEG2000Lossless)):
        for path in ("/frames/1/rendered", "/rendered", "/metadata", "/frames/1"):
            assert origin.get(instance_path(data_set) + path, "*/*").status_code in (200, 404, 406), path


@pytest.mark.parametrize("transfer_syntax, frame", [(JPEGBaseline8Bit, jpeg(BARS)), (JPEG2000Lossless, jpeg_2000(BARS))])
@pytest.mark.parametrize("rows, columns", [(16, 16), (15, 16), (16, 17), (32, 8)])
def test_the_size_of_an_image_is_that_of_its_codestream(origin, transfer_syntax, frame, rows, columns):
    data_set = compressed(described(BARS, "YBR_FULL" if transfer_syntax == JPEGBaseline8Bit else "RGB", Rows=rows, Columns=columns), even(frame))
    store(origin, data_set, transfer_syntax)
    assert_bars(rendered(origin, data_set), BARS, 3)
    for syntax in (ExplicitVRLittleEndian, RLELossless):
        given = in_syntax(origin, data_set, syntax)
        assert (given.Rows, given.Columns) == (16, 16)
        assert_bars(in_rgb(given), BARS, 3)
