"""Frames compressed by the encoders of others (PS3.5 §8.2): given as they are stored, decoded, transcoded and rendered.

JPEG of 12 bits and lossless JPEG with every predictor (§8.2.1) by dcmtk, single bits in RLE (§8.2.2, Annex G), deflated
frames (§8.2.16, §A.4.13), and uncompressed frames in fragments.
"""

import subprocess
import zlib
from io import BytesIO

import numpy
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, RLELossless, generate_uid

import multipart
import reference
from build import encode, instance, instance_path
from test_10_4_rendered_pixels import assert_alike, seen

DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"
ENCAPSULATED_FRAMES = "1.2.840.10008.1.2.1.98"
DICOM = "application/dicom"
OCTETS = 'multipart/related; type="application/octet-stream"'
ROWS, COLUMNS = 41, 37


def samples(bits: int, colours: int = 1, frames: int = 1) -> numpy.ndarray:
    """Frames x rows x columns x colours: slopes with a little noise over the whole range."""
    frame, y, x, colour = numpy.indices((frames, ROWS, COLUMNS, colours))
    level = (x + 2 * y + 9 * colour + 5 * frame) / (COLUMNS + 2 * ROWS + 30)
    level += numpy.random.default_rng(3).random(level.shape) / 50
    if bits == 1:
        return (numpy.sin(x / 3 + frame) + numpy.cos(y / 4) > 0).astype("u1")
    return (level * (2**bits - 1)).astype("u1" if bits <= 8 else "<u2")


def native(values: numpy.ndarray) -> bytes:
    """The frames as native Pixel Data, single bits without gaps between the frames (PS3.5 §8.1.1)."""
    data = values.tobytes()
    return data + bytes(len(data) % 2)


def packed(bits: numpy.ndarray) -> bytes:
    data = numpy.packbits(bits.reshape(-1), bitorder="little").tobytes()
    return data + bytes(len(data) % 2)


def image(values: numpy.ndarray, bits: int, photometric: str = "MONOCHROME2"):
    frames, rows, columns, colours = values.shape
    data_set = instance(Rows=rows, Columns=columns, SamplesPerPixel=colours, PhotometricInterpretation=photometric)
    data_set.BitsAllocated = 1 if bits == 1 else 8 if bits <= 8 else 16
    data_set.BitsStored, data_set.HighBit, data_set.PixelRepresentation = bits, bits - 1, 0
    if colours == 3:
        data_set.PlanarConfiguration = 0
    if frames > 1:
        data_set.NumberOfFrames = frames
    data_set.PixelData = packed(values) if bits == 1 else native(values)
    data_set["PixelData"].VR = "OB" if bits <= 8 else "OW"
    return data_set


def by_dcmtk(command: list, data_set, directory):
    """The data set after a tool of dcmtk."""
    before, after = directory / "before", directory / "after"
    meta = getattr(data_set, "file_meta", None)
    before.write_bytes(encode(data_set, meta.TransferSyntaxUID if meta else ExplicitVRLittleEndian))
    subprocess.run([*command, before, after], check=True)
    return dcmread(after)


def compressed_by_dcmtk(options: list, data_set, directory):
    return by_dcmtk(["dcmcjpeg", "--uid-never", *options], data_set, directory)


def decompressed_by_dcmtk(data_set, directory) -> numpy.ndarray:
    """Frames x rows x columns x colours."""
    decoded = by_dcmtk(["dcmdjpeg", "--color-by-pixel"], data_set, directory)
    shape = (int(decoded.get("NumberOfFrames", 1)), decoded.Rows, decoded.Columns, decoded.SamplesPerPixel)
    words = numpy.frombuffer(decoded.PixelData, "u1" if decoded.BitsAllocated == 8 else "<u2")
    return words[: numpy.prod(shape)].reshape(shape)


def frames(origin, data_set, accept: str) -> list:
    count = int(data_set.get("NumberOfFrames", 1))
    numbers = ",".join(str(number) for number in range(1, count + 1))
    answer = origin.get(f"{instance_path(data_set)}/frames/{numbers}", accept)
    assert answer.status_code == 200, answer.text
    return [part.body for part in multipart.read(answer)]


def file(origin, data_set, syntax: str):
    answer = origin.get(instance_path(data_set), f"{DICOM}; transfer-syntax={syntax}")
    assert answer.status_code == 200, answer.text
    found = dcmread(BytesIO(answer.content))
    assert found.file_meta.TransferSyntaxUID == syntax
    return found


def assert_decoded(origin, data_set, expected: numpy.ndarray, tolerance: int = 0) -> None:
    """Frames and instances in Explicit VR Little Endian hold these samples."""
    for body, array in zip(frames(origin, data_set, f"{OCTETS}; transfer-syntax={ExplicitVRLittleEndian}"), expected, strict=True):
        found = numpy.frombuffer(body[: array.nbytes], array.dtype).reshape(array.shape)
        assert numpy.abs(found.astype(int) - array.astype(int)).max() <= tolerance
    found = numpy.frombuffer(file(origin, data_set, ExplicitVRLittleEndian).PixelData[: expected.nbytes], expected.dtype)
    assert numpy.abs(found.astype(int) - expected.reshape(-1).astype(int)).max() <= tolerance


EXTENDED = {
    "grey of 12 bits": (12, 1, "MONOCHROME2", ["+ee"]),
    "grey of 10 bits": (10, 1, "MONOCHROME1", ["+ee"]),
    "colour of 12 bits": (12, 3, "RGB", ["+ee", "+cy", "+s4"]),
    "colour of 12 bits, subsampled": (12, 3, "RGB", ["+ee", "+cy", "+s2"]),
    "red, green and blue of 12 bits": (12, 3, "RGB", ["+ee", "+cr"]),
    "spectral selection of 12 bits": (12, 1, "MONOCHROME2", ["+es"]),
    "full progression of 12 bits": (12, 1, "MONOCHROME2", ["+ep"]),
}


@pytest.mark.parametrize("name", EXTENDED)
def test_lossy_jpeg_of_more_than_8_bits(origin, tmp_path, name):
    bits, colours, photometric, options = EXTENDED[name]
    original = samples(bits, colours)
    data_set = compressed_by_dcmtk(options, image(original, bits, photometric), tmp_path)
    origin.store(encode(data_set, data_set.file_meta.TransferSyntaxUID))
    expected = decompressed_by_dcmtk(data_set, tmp_path)
    # The codec keeps what is seen: the test would be worth nothing with a decoder that is wrong as dcmtk is.
    scale = 2 ** (data_set.BitsStored - bits)  # dcmtk makes 12 bits of fewer
    assert numpy.abs(expected.astype(int) - scale * original.astype(int)).mean() < scale * 2**bits / 60
    assert_decoded(origin, data_set, expected, tolerance=2)
    lossless = file(origin, data_set, JPEGLSLossless)
    found = by_dcmtk(["dcmdjpls"], lossless, tmp_path)
    words = numpy.frombuffer(found.PixelData, "<u2")[: expected.size]
    assert numpy.abs(words.astype(int) - expected.reshape(-1).astype(int)).max() <= 2
    for resource in ["rendered", "thumbnail"]:
        assert origin.get(f"{instance_path(data_set)}/{resource}", "image/png").status_code == 200
    native_image = image(expected, data_set.BitsStored, photometric)
    assert_alike(seen(origin, data_set), reference.rendered(with_meta(native_image)))


def test_scan_parameters_that_sequential_jpeg_does_not_need_may_be_wrong(origin):
    """`JPEG-lossy.dcm` differs from `JPGExtended.dcm` in the end of spectral selection, which is zero."""
    found = []
    for name in ["JPEG-lossy.dcm", "JPGExtended.dcm"]:
        data_set = dcmread(get_testdata_file(name))
        for keyword in ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]:
            setattr(data_set, keyword, generate_uid())
        origin.store(encode(data_set, data_set.file_meta.TransferSyntaxUID))
        found += frames(origin, data_set, f"{OCTETS}; transfer-syntax={ExplicitVRLittleEndian}")
    assert len(found) == 2 and found[0] == found[1]


def with_meta(data_set):
    """The data set as it is read from a file: pydicom needs the transfer syntax to read pixels."""
    return dcmread(BytesIO(encode(data_set)))


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("predictor", range(1, 8))
def test_lossless_jpeg_with_each_predictor(origin, tmp_path, predictor, bits):
    original = samples(bits)
    data_set = compressed_by_dcmtk(["+el", "+sv", str(predictor)], image(original, bits), tmp_path)
    origin.store(encode(data_set, data_set.file_meta.TransferSyntaxUID))
    assert_decoded(origin, data_set, original)


@pytest.mark.parametrize("bits", [8, 16])
def test_lossless_jpeg_of_colours(origin, tmp_path, bits):
    original = samples(bits, 3)
    data_set = compressed_by_dcmtk(["+el", "+sv", "6"], image(original, bits, "RGB"), tmp_path)
    origin.store(encode(data_set, data_set.file_meta.TransferSyntaxUID))
    assert_decoded(origin, data_set, original)


@pytest.mark.parametrize("bits, shift", [(8, 1), (12, 2), (16, 5)])
def test_lossless_jpeg_with_a_point_transform(origin, tmp_path, bits, shift):
    original = samples(bits)
    data_set = compressed_by_dcmtk(["+el", "+sv", "4", "+pt", str(shift)], image(original, bits), tmp_path)
    origin.store(encode(data_set, data_set.file_meta.TransferSyntaxUID))
    assert_decoded(origin, data_set, original >> shift << shift)


def even(frame: bytes) -> bytes:
    return frame + bytes(len(frame) % 2)


def deflated(frame: bytes, header: int = -15) -> bytes:
    """RFC 1951, padded to an even length (PS3.5 §A.4.13)."""
    state = zlib.compressobj(wbits=header)
    stream = state.compress(frame) + state.flush()
    return stream + bytes(len(stream) % 2)


DEFLATED = {
    "8 bits": (8, 1, 1),
    "12 bits": (12, 1, 1),
    "16 bits, three frames": (16, 1, 3),
    "colour, two frames": (8, 3, 2),
    "single bits": (1, 1, 1),
    "single bits, five frames": (1, 1, 5),
}


def encode_as(data_set, syntax: str) -> bytes:
    """The data set as a file with encapsulated frames, under a UID that pydicom 3.0 does not have yet."""
    stored = encode(data_set, JPEGLSLossless)
    return stored.replace(JPEGLSLossless.encode(), syntax.encode().ljust(len(JPEGLSLossless), b"\0"), 1)


def frames_of(values: numpy.ndarray, bits: int) -> list:
    return [packed(frame)[: -(-frame.size // 8)] if bits == 1 else frame.tobytes() for frame in values]


def assert_single_bits(origin, data_set, expected: numpy.ndarray) -> None:
    """As `assert_decoded`; each frame starts with a byte, and those of an instance follow each other."""
    bodies = frames(origin, data_set, f"{OCTETS}; transfer-syntax={ExplicitVRLittleEndian}")
    for body, frame in zip(bodies, frames_of(expected, 1), strict=True):
        assert body[: len(frame)] == frame
    assert file(origin, data_set, ExplicitVRLittleEndian).PixelData == packed(expected)


@pytest.mark.parametrize("syntax", [DEFLATED_FRAMES, ENCAPSULATED_FRAMES], ids=["deflated", "uncompressed"])
@pytest.mark.parametrize("name", DEFLATED)
def test_frames_in_fragments_of_their_own(origin, name, syntax):
    bits, colours, count = DEFLATED[name]
    original = samples(bits, colours, count)
    photometric = "RGB" if colours == 3 else "MONOCHROME2"
    data_set = image(original, bits, photometric)
    write = deflated if syntax == DEFLATED_FRAMES else even
    streams = [write(frame) for frame in frames_of(original, bits)]
    data_set.PixelData = encapsulate(streams)
    stored = encode_as(data_set, syntax)
    origin.store(stored)
    # As they are.
    assert origin.get(instance_path(data_set), f"{DICOM}; transfer-syntax={syntax}").content == stored
    assert frames(origin, data_set, f"{OCTETS}; transfer-syntax={syntax}") == streams
    # §8.7.3.4: by default in Explicit VR Little Endian.
    plain = dcmread(BytesIO(origin.get(instance_path(data_set), DICOM).content))
    assert plain.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    # Decoded.
    if bits == 1:
        assert_single_bits(origin, data_set, original)
    else:
        assert_decoded(origin, data_set, original)
    # Transcoded.
    found = file(origin, data_set, RLELossless)
    for index, fragment in enumerate(generate_frames(found.PixelData, number_of_frames=count)):
        assert rle(fragment, original[index]) == [
            byte for colour in range(colours) for byte in segments(original[index, ..., colour])
        ]
    # Rendered.
    for index in range(count):
        alone = with_meta(image(original[index : index + 1], bits, photometric))
        assert_alike(seen(origin, data_set, frame=index + 1), reference.rendered(alone))


def segments(plane: numpy.ndarray) -> list:
    """The byte segments of a plane, the most significant bytes first (PS3.5 §G.2)."""
    if plane.dtype == "u1":
        return [plane.tobytes()]
    return [(plane >> 8).astype("u1").tobytes(), plane.astype("u1").tobytes()]


def rle(fragment: bytes, frame: numpy.ndarray) -> list:
    """The unpacked segments of a frame (PS3.5 Annex G)."""
    count = int.from_bytes(fragment[:4], "little")
    starts = [int.from_bytes(fragment[4 + 4 * n : 8 + 4 * n], "little") for n in range(count)] + [len(fragment)]
    length = frame.shape[0] * frame.shape[1]
    unpacked = []
    for start, end in zip(starts, starts[1:]):
        at, bytes_ = start, bytearray()
        while at < end and len(bytes_) < length:
            control = fragment[at]
            if control < 128:
                bytes_ += fragment[at + 1 : at + 2 + control]
                at += 2 + control
            elif control > 128:
                bytes_ += fragment[at + 1 : at + 2] * (257 - control)
                at += 2
            else:
                at += 1
        unpacked.append(bytes(bytes_))
    return unpacked


def rle_of_literals(plane: bytes) -> bytes:
    """A frame of one segment, of runs of at most 128 bytes as they are."""
    runs = b"".join(bytes([len(plane[at : at + 128]) - 1]) + plane[at : at + 128] for at in range(0, len(plane), 128))
    return (1).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(56) + runs + bytes(len(runs) % 2)


@pytest.mark.parametrize("count", [1, 5])
def test_single_bits_in_rle_have_a_byte_each(origin, count):
    original = samples(1, 1, count)
    data_set = image(original, 1)
    data_set.PixelData = encapsulate([rle_of_literals(frame.tobytes()) for frame in original])
    origin.store(encode(data_set, RLELossless))
    assert_single_bits(origin, data_set, original)
    for index in range(count):
        alone = with_meta(image(original[index : index + 1], 1))
        assert_alike(seen(origin, data_set, frame=index + 1), reference.rendered(alone))


@pytest.mark.parametrize(
    "stream",
    [deflated(b"short"), b"\xff" * 100, deflated(samples(16).tobytes())[:100], b"\x03\x00"],
    ids=["short", "no deflate", "cut", "empty"],
)
def test_a_damaged_deflated_frame_is_refused(origin, stream):
    data_set = image(samples(16), 16)
    data_set.PixelData = encapsulate([stream + bytes(len(stream) % 2)])
    origin.store(encode_as(data_set, DEFLATED_FRAMES))
    assert origin.get(f"{instance_path(data_set)}/rendered", "image/png").status_code == 406
    accept = f"{OCTETS}; transfer-syntax={ExplicitVRLittleEndian}"
    assert origin.get(f"{instance_path(data_set)}/frames/1", accept).status_code == 406


def test_a_deflated_frame_may_have_the_header_of_zlib(origin):
    original = samples(8)
    data_set = image(original, 8)
    data_set.PixelData = encapsulate([deflated(original.tobytes(), header=15)])
    origin.store(encode_as(data_set, DEFLATED_FRAMES))
    assert_decoded(origin, data_set, original)
