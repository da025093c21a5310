"""Instances and frames in other compressions than the stored one (PS3.18 §8.7.3, PS3.5 §8.2 and Annex A.4).

All of them are optional: a test skips a transfer syntax that the server does not offer (406, or 400 on some servers). An answer is
decoded by pydicom with its codecs and by dcmtk, and compared with the stored pixels.
"""

import subprocess
from io import BytesIO

import numpy
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import pixel_array
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    generate_uid,
)

import multipart
from build import encode, image, instance, instance_path, series_path, study_path

DICOM = "application/dicom"
LOSSLESS = [JPEGLSLossless, JPEGLosslessSV1, JPEG2000Lossless, RLELossless, HTJ2KLossless]
LOSSY = [JPEGBaseline8Bit, JPEGLSNearLossless, JPEG2000]
MEDIA_TYPES = {
    JPEGLSLossless: "image/jls",
    JPEGLSNearLossless: "image/jls",
    JPEGLosslessSV1: "image/jpeg",
    JPEGBaseline8Bit: "image/jpeg",
    JPEG2000Lossless: "image/jp2",
    JPEG2000: "image/jp2",
    RLELossless: "image/dicom-rle",
    HTJ2KLossless: "image/jphc",
}
DCMTK = {
    JPEGBaseline8Bit: ["dcmdjpeg", "--conv-never"],
    JPEGLosslessSV1: ["dcmdjpeg", "--conv-never"],
    JPEGLSLossless: ["dcmdjpls"],
    JPEGLSNearLossless: ["dcmdjpls"],
    RLELossless: ["dcmdrle"],
}
METHODS = {JPEGBaseline8Bit: "ISO_10918_1", JPEGLSNearLossless: "ISO_14495_1", JPEG2000: "ISO_15444_1"}

# Photometric Interpretation, Bits Allocated, Bits Stored, signed, frames.
SAMPLE_IMAGES = {
    "8 bits": ("MONOCHROME2", 8, 8, 0, 1),
    "6 bits": ("MONOCHROME1", 8, 6, 0, 1),
    "12 bits": ("MONOCHROME2", 16, 12, 0, 1),
    "12 bits signed": ("MONOCHROME2", 16, 12, 1, 1),
    "16 bits": ("MONOCHROME2", 16, 16, 0, 1),
    "16 bits signed": ("MONOCHROME2", 16, 16, 1, 1),
    "RGB": ("RGB", 8, 8, 0, 1),
    "YBR_FULL": ("YBR_FULL", 8, 8, 0, 1),
    "palette": ("PALETTE COLOR", 8, 8, 0, 1),
    "five frames": ("MONOCHROME2", 16, 12, 1, 5),
    "frames in colour": ("RGB", 8, 8, 0, 3),
}


def samples(name):
    """An array of frames x rows x columns (x 3): waves, an edge and a little noise over most of the range."""
    photometric, allocated, stored, signed, frames = SAMPLE_IMAGES[name]
    colours = 3 if photometric in ("RGB", "YBR_FULL") else 1
    frame, y, x, colour = numpy.indices((frames, 41, 37, colours))
    level = 0.4 + 0.2 * numpy.sin(x / 5 + frame) + 0.2 * numpy.cos(y / 7 + colour) + 0.1 * (x > 20)
    level += numpy.random.default_rng(7).random(level.shape) / 50
    values = (level * 2**stored - (2 ** (stored - 1) if signed else 0)).astype(int)
    values = values.astype(f"{'int' if signed else 'uint'}{allocated}")
    return values if colours == 3 else values[..., 0]


def sample_image(name):
    photometric, allocated, stored, signed, frames = SAMPLE_IMAGES[name]
    values = samples(name)
    data_set = image(rows=41, columns=37, ImageType=["ORIGINAL", "PRIMARY", "AXIAL"])
    data_set.PhotometricInterpretation = photometric
    data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit, data_set.PixelRepresentation = allocated, stored, stored - 1, signed
    if values.ndim == 4:
        data_set.SamplesPerPixel, data_set.PlanarConfiguration = 3, 0
    if photometric == "PALETTE COLOR":
        for colour in ("Red", "Green", "Blue"):
            setattr(data_set, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
            setattr(data_set, f"{colour}PaletteColorLookupTableData", bytes(512))
    if frames > 1:
        data_set.NumberOfFrames = frames
    # An even length whatever the number of samples.
    data_set.PixelData = values.tobytes() + bytes(values.nbytes % 2)
    data_set["PixelData"].VR = "OW" if allocated == 16 else "OB"
    return data_set


def ask(origin, path, syntax):
    """Asks for an instance as the only part: a single part is optional."""
    return origin.get(path, f'multipart/related; type="{DICOM}"; transfer-syntax={syntax}')


def transcoded(origin, path, syntax):
    """The instance in this transfer syntax. Skips the test if the server does not offer it."""
    answer = ask(origin, path, syntax)
    if answer.status_code in (400, 406):
        pytest.skip(f"no {syntax.name} is offered")
    assert answer.status_code == 200, answer.text[:300]
    (part,) = multipart.read(answer)
    essence, parameters = multipart.parameters(part.headers["content-type"])
    assert (essence, parameters.get("transfer-syntax", syntax)) == (DICOM, syntax)
    return part.body


def decoded(data_set):
    """The frames as they are encoded, without a conversion of colours: frames x rows x columns (x 3)."""
    values = pixel_array(data_set, raw=True)
    return values if int(data_set.get("NumberOfFrames", 1)) > 1 else values[numpy.newaxis]


def by_dcmtk(file, directory):
    """The file, decompressed by dcmtk."""
    (directory / "in.dcm").write_bytes(file)
    tool = DCMTK[dcmread(BytesIO(file)).file_meta.TransferSyntaxUID]
    subprocess.run([*tool, directory / "in.dcm", directory / "out.dcm"], check=True, capture_output=True, timeout=60)
    return dcmread(directory / "out.dcm")


LOSSY_IMAGES = ["8 bits", "RGB", "YBR_FULL", "frames in colour", "12 bits"]
every_sample_image = pytest.mark.parametrize("name", SAMPLE_IMAGES)


def names(syntaxes):
    return [syntax.name.split(" (")[0] for syntax in syntaxes]


@every_sample_image
@pytest.mark.parametrize("syntax", LOSSLESS, ids=names(LOSSLESS))
def test_lossless_instances_have_the_same_samples(origin, tmp_path, syntax, name):
    data_set = sample_image(name)
    origin.store(encode(data_set))
    file = transcoded(origin, instance_path(data_set), syntax)
    given = dcmread(BytesIO(file))
    assert given.file_meta.TransferSyntaxUID == syntax
    assert given.SOPInstanceUID == given.file_meta.MediaStorageSOPInstanceUID == data_set.SOPInstanceUID
    assert (decoded(given) == samples(name)).all()
    changed = {"PhotometricInterpretation", "PixelData", "PlanarConfiguration"}
    for element in data_set:
        assert element.keyword in changed or given[element.tag].value == element.value, element.keyword
    # Below 8 bits, dcmtk 3.6.7 has thresholds of its own for JPEG-LS, which neither libjpeg nor CharLS 2 can read.
    if syntax in DCMTK and (syntax, name) != (JPEGLSLossless, "6 bits"):
        assert (decoded(by_dcmtk(file, tmp_path)) == samples(name)).all()


@pytest.mark.parametrize(
    "syntax, name",
    # JPEG Baseline has 8 bits.
    [(syntax, name) for syntax in LOSSY for name in LOSSY_IMAGES if (syntax, name) != (JPEGBaseline8Bit, "12 bits")],
    ids=lambda value: value if value in LOSSY_IMAGES else names([value])[0],
)
def test_lossy_instances_are_derived_and_nearly_the_same(origin, tmp_path, syntax, name):
    data_set = sample_image(name)
    origin.store(encode(data_set))
    file = transcoded(origin, instance_path(data_set), syntax)
    given = dcmread(BytesIO(file))
    assert given.file_meta.TransferSyntaxUID == syntax
    # PS3.3 §C.7.6.1.1.5: with a DICOM image as its predecessor, it shall have a UID of its own.
    assert given.SOPInstanceUID == given.file_meta.MediaStorageSOPInstanceUID != data_set.SOPInstanceUID
    assert list(given.ImageType) == ["DERIVED", "PRIMARY", "AXIAL"]
    assert given.LossyImageCompression == "01" and given.LossyImageCompressionMethod == METHODS[syntax]
    compressed = sum(len(frame) for frame in generate_frames(given.PixelData, number_of_frames=int(given.get("NumberOfFrames", 1))))
    assert float(given.LossyImageCompressionRatio) == pytest.approx(samples(name).nbytes / compressed, abs=0.02)
    assert given.SourceImageSequence[0].ReferencedSOPInstanceUID == data_set.SOPInstanceUID
    for found in [given] + ([by_dcmtk(file, tmp_path)] if syntax in DCMTK else []):
        difference = in_rgb(found, decoded(found)) - in_rgb(data_set, samples(name))
        assert numpy.abs(difference).mean() < 2 ** SAMPLE_IMAGES[name][2] / 30


def in_rgb(data_set, values):
    """The samples as floating point numbers, luminance and chrominance as red, green and blue (PS3.3 §C.7.6.3.1.2)."""
    values = values.astype(float)
    if not data_set.PhotometricInterpretation.startswith("YBR_FULL"):
        # The colour transform of JPEG 2000 is undone by its decoder.
        return values
    y, b, r = values[..., 0], values[..., 1] - 128, values[..., 2] - 128
    rgb = numpy.stack([y + 1.402 * r, y - 0.344136 * b - 0.714136 * r, y + 1.772 * b], axis=-1)
    return numpy.clip(rgb, 0, 255)


def test_a_lossy_instance_is_the_same_each_time(origin):
    data_set = sample_image("8 bits")
    origin.store(encode(data_set))
    first, second = (transcoded(origin, instance_path(data_set), JPEGBaseline8Bit) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("syntax", [*LOSSLESS, *LOSSY], ids=names([*LOSSLESS, *LOSSY]))
def test_frames_have_the_media_type_of_their_transfer_syntax(origin, syntax):
    data_set = sample_image("frames in colour")
    origin.store(encode(data_set))
    path = f"{instance_path(data_set)}/frames/3,1"
    answer = origin.get(path, f'multipart/related; type="{MEDIA_TYPES[syntax]}"; transfer-syntax={syntax}')
    if answer.status_code in (400, 406):
        pytest.skip(f"no {syntax.name} is offered")
    parts = multipart.read(answer)
    given = dcmread(BytesIO(transcoded(origin, instance_path(data_set), syntax)))
    frames = list(generate_frames(given.PixelData, number_of_frames=3))
    assert [part.body.rstrip(b"\0") for part in parts] == [frames[number].rstrip(b"\0") for number in (2, 0)]
    for part in parts:
        assert multipart.parameters(part.headers["content-type"]) == (MEDIA_TYPES[syntax].lower(), {"transfer-syntax": str(syntax)})
    single = origin.get(f"{instance_path(data_set)}/frames/3", f"{MEDIA_TYPES[syntax]}; transfer-syntax={syntax}")
    if single.status_code == 200:
        assert single.content == parts[0].body


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, RLELossless], ids=lambda syntax: MEDIA_TYPES[syntax])
def test_a_media_type_without_a_transfer_syntax_means_its_lossless_one(origin, syntax):
    """PS3.18 Table 8.7.3-5."""
    data_set = sample_image("12 bits")
    origin.store(encode(data_set))
    answer = origin.get(f"{instance_path(data_set)}/frames/1", f'multipart/related; type="{MEDIA_TYPES[syntax]}"')
    if answer.status_code in (400, 406):
        pytest.skip(f"no {syntax.name} is offered")
    (part,) = multipart.read(answer)
    given = multipart.parameters(part.headers["content-type"])[1].get("transfer-syntax", syntax)
    assert given == syntax


SOURCES = {
    "big endian": ExplicitVRBigEndian,
    "implicit": ImplicitVRLittleEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "JPEG lossless": "JPEG-LL.dcm",
    "JPEG baseline": "SC_rgb_jpeg_dcmtk.dcm",
    "JPEG-LS": "MR_small_jpeg_ls_lossless.dcm",
    "JPEG 2000": "MR_small_jp2klossless.dcm",
    "JPEG 2000 colour": "examples_jpeg2k.dcm",
    "RLE": "SC_rgb_rle_2frame.dcm",
    "RLE of 32 bits": "SC_rgb_rle_32bit.dcm",
}


def is_another(source, syntax) -> bool:
    """Whether a source is stored in another transfer syntax than this one, which can carry its samples."""
    if not SOURCES[source].endswith(".dcm"):
        return True
    data_set = dcmread(get_testdata_file(SOURCES[source]), stop_before_pixels=True)
    # JPEG and JPEG-LS end at 16 bits.
    is_carried = data_set.BitsAllocated <= 16 or syntax not in (JPEGLSLossless, JPEGLosslessSV1)
    return is_carried and data_set.file_meta.TransferSyntaxUID != syntax


@pytest.mark.parametrize(
    "source, syntax",
    [(source, syntax) for source in SOURCES for syntax in LOSSLESS if is_another(source, syntax)],
    ids=lambda value: value if value in SOURCES else names([value])[0],
)
def test_every_stored_transfer_syntax_can_be_the_source(origin, source, syntax):
    if SOURCES[source].endswith(".dcm"):
        data_set = dcmread(get_testdata_file(SOURCES[source]))
        data_set.StudyInstanceUID, data_set.SeriesInstanceUID, data_set.SOPInstanceUID = (generate_uid() for _ in range(3))
        file = encode(data_set, data_set.file_meta.TransferSyntaxUID)
    else:
        data_set = sample_image("five frames")
        pixels = data_set.PixelData
        if SOURCES[source] == ExplicitVRBigEndian:
            data_set.PixelData = numpy.frombuffer(pixels, "<i2").astype(">i2").tobytes()
        file = encode(data_set, SOURCES[source])
        data_set.PixelData = pixels
        data_set.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    origin.store(file)
    given = dcmread(BytesIO(transcoded(origin, instance_path(data_set), syntax)))
    # Luminance and chrominance of lossy JPEG become red, green and blue.
    raw = data_set.PhotometricInterpretation not in ("YBR_FULL_422", "YBR_FULL") or syntax != JPEG2000Lossless
    expected = pixel_array(data_set, raw=raw and data_set.file_meta.TransferSyntaxUID != JPEGBaseline8Bit)
    difference = numpy.abs(pixel_array(given, raw=True).astype(int) - expected.astype(int))
    # Two decoders of lossy JPEG may differ by their rounding.
    assert difference.max() <= (3 if data_set.file_meta.TransferSyntaxUID == JPEGBaseline8Bit else 0)


def test_deflated_instances_hold_the_same_data_set(origin):
    data_set = sample_image("five frames")
    origin.store(encode(data_set))
    file = transcoded(origin, instance_path(data_set), DeflatedExplicitVRLittleEndian)
    given = dcmread(BytesIO(file))
    assert given.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian
    assert given == data_set
    assert len(file) % 2 == 0


def test_the_offset_table_points_at_each_frame(origin):
    data_set = sample_image("five frames")
    origin.store(encode(data_set))
    given = dcmread(BytesIO(transcoded(origin, instance_path(data_set), RLELossless)))
    value = given.PixelData
    table_length = int.from_bytes(value[4:8], "little")
    if table_length == 0:
        pytest.skip("the table is empty, as it may be")
    offsets = numpy.frombuffer(value[8 : 8 + table_length], "<u4")
    items = value[8 + table_length :]
    assert len(offsets) == 5 and offsets[0] == 0
    for offset, frame in zip(offsets, generate_frames(value, number_of_frames=5)):
        assert items[offset : offset + 4] == b"\xfe\xff\x00\xe0"
        length = int.from_bytes(items[offset + 4 : offset + 8], "little")
        assert length % 2 == 0 and items[offset + 8 : offset + 8 + length] == frame


def memory(process, name) -> int:
    """A value of the status of a process, in bytes."""
    lines = (line.split() for line in open(f"/proc/{process.process.pid}/status"))
    return next(1024 * int(words[1]) for words in lines if words[0] == f"{name}:")


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless], ids=["RLE", "JPEG 2000"])
def test_memory_does_not_grow_with_the_number_of_frames(server, syntax):
    """32 MiB of frames are transcoded in a part of that memory, as a whole instance and as a list of frames."""
    process, origin = server
    if process is None:
        pytest.skip("the process of the server is not known")
    frames, side = 256, 256
    data_set = instance(SOPClassUID="1.2.840.10008.5.1.4.1.1.7.3", NumberOfFrames=frames)
    data_set.SamplesPerPixel, data_set.PhotometricInterpretation = 1, "MONOCHROME2"
    data_set.Rows = data_set.Columns = side
    data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit, data_set.PixelRepresentation = 16, 16, 15, 0
    data_set.PixelData = numpy.random.default_rng(1).integers(0, 1 << 16, frames * side * side, "u2").tobytes()
    origin.store(encode(data_set))
    path = instance_path(data_set)
    numbers = ",".join(map(str, range(1, frames + 1)))
    frame_type = f'multipart/related; type="{MEDIA_TYPES[syntax]}"; transfer-syntax={syntax}'
    whole_type = f"{DICOM}; transfer-syntax={syntax}"
    # A first frame loads what every frame needs.
    origin.get(f"{path}/frames/1", frame_type)
    for what, accept in [(f"{path}/frames/{numbers}", frame_type), (path, whole_type)]:
        # The server has other work besides, such as previews: the least of some attempts is what the answer needs.
        grown = []
        while len(grown) < 4 and min(grown, default=1 << 40) >= 16 << 20:
            with open(f"/proc/{process.process.pid}/clear_refs", "w") as peak:
                peak.write("5")
            before = memory(process, "VmHWM")
            answer = origin.get(what, accept)
            if answer.status_code in (400, 406):
                pytest.skip("the transfer syntax is not offered")
            assert answer.status_code == 200 and len(answer.content) > 16 << 20
            grown.append(memory(process, "VmHWM") - before)
        assert min(grown) < 16 << 20, f"{what[-40:]}: {[each >> 20 for each in grown]} MiB"


def test_ranges_of_a_transcoded_instance_are_parts_of_it(origin):
    data_set = sample_image("five frames")
    origin.store(encode(data_set))
    path, accept = instance_path(data_set), f"{DICOM}; transfer-syntax={JPEGLSLossless}"
    whole = origin.get(path, accept)
    if whole.headers.get("Accept-Ranges") != "bytes":
        pytest.skip("no ranges are offered")
    part = origin.get(path, accept, Range="bytes=100-299")
    assert (part.status_code, part.content) == (206, whole.content[100:300])
    assert part.headers["ETag"] == whole.headers["ETag"]
    assert int(whole.headers["Content-Length"]) == len(whole.content)


@pytest.mark.parametrize("level", [study_path, series_path], ids=["study", "series"])
def test_a_study_is_compressed_as_far_as_it_can_be(origin, level):
    """Every part names its transfer syntax; a report has nothing to compress."""
    compressible = [sample_image("12 bits"), sample_image("RGB")]
    report = instance()
    for data_set in [*compressible, report]:
        data_set.StudyInstanceUID, data_set.SeriesInstanceUID = compressible[0].StudyInstanceUID, compressible[0].SeriesInstanceUID
    origin.store(*map(encode, [*compressible, report]))
    answer = origin.get(level(report), f'multipart/related; type="{DICOM}"; transfer-syntax={JPEGLSLossless}')
    if answer.status_code == 406:
        pytest.skip("no JPEG-LS is offered, or not for a part of a study")
    syntaxes = {}
    for part in multipart.read(answer):
        given = dcmread(BytesIO(part.body))
        syntaxes[given.SOPInstanceUID] = given.file_meta.TransferSyntaxUID
        named = multipart.parameters(part.headers["content-type"])[1].get("transfer-syntax")
        assert named in (None, given.file_meta.TransferSyntaxUID)
    for data_set in compressible:
        assert syntaxes[data_set.SOPInstanceUID] == JPEGLSLossless


@pytest.mark.parametrize(
    "syntax, name",
    [(JPEGBaseline8Bit, "12 bits"), (JPEGBaseline8Bit, "palette"), (JPEGBaseline8Bit, "16 bits signed"), (JPEGLSNearLossless, "palette"), (JPEG2000, "palette")],
)
def test_what_a_codec_may_not_carry_is_refused(origin, syntax, name):
    """The photometric interpretations and bits that PS3.5 §8.2.1 to §8.2.4 allow."""
    data_set = sample_image(name)
    origin.store(encode(data_set))
    assert ask(origin, instance_path(data_set), syntax).status_code in (400, 406)


def test_frames_that_cannot_be_decoded_are_refused(origin):
    data_set = sample_image("12 bits")
    data_set.PixelData = encapsulate([b"\xff\xd8 no JPEG at all \xff\xd9"])
    data_set["PixelData"].VR = "OB"
    data_set["PixelData"].is_undefined_length = True
    origin.store(encode(data_set, JPEGLosslessSV1))
    answer = ask(origin, instance_path(data_set), RLELossless)
    assert 400 <= answer.status_code < 500
