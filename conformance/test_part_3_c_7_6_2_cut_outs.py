"""Cut-outs of a volume (docs/mini.md) as images: their pixels against NumPy, their place in the patient by the Image Plane Module
(PS3.3 §C.7.6.2), derivation and sources by the General Image Module (§C.7.6.1) and the macro of references (§10.3), read by pydicom and
checked by dciodvfy. Cut-outs are not of the standard: a server without them skips these tests."""

import subprocess
import zipfile
from copy import deepcopy
from io import BytesIO

import multipart
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels import compress
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian, RLELossless, generate_uid

from build import encode, image, instance_path, series_path, study_path

ZIP = "application/zip"
PARTS = 'multipart/related; type="application/dicom"'
ROWS, COLUMNS, SLICES = 21, 30, 11
SPACING, DISTANCE, THICKNESS = np.array([0.5, 0.75]), 1.25, 2.0
ORIGIN = np.array([-31.5, 12.25, 100.125])


def turned() -> np.ndarray:
    """Directions along a row and along a column of an oblique plane, as they fit in 16 characters."""
    x, z = np.radians(23), np.radians(37)
    about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    about_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    return np.round((about_z @ about_x)[:, :2].T, 12)


STRAIGHT = np.array([[1.0, 0, 0], [0, 1, 0]])
KINDS = {
    # Name: sample type, Bits Stored, orientation, frames in an instance, transfer syntax, order of Instance Numbers.
    "signed": ("<i2", 12, STRAIGHT, 1, ExplicitVRLittleEndian, "ascending"),
    "oblique": ("<u2", 16, turned(), 1, ExplicitVRLittleEndian, "descending"),
    "compressed": ("<u2", 12, STRAIGHT, 1, RLELossless, "descending"),
    "bytes": ("u1", 8, STRAIGHT, 1, ExplicitVRLittleEndian, "ascending"),
    "multi-frame": ("<i2", 16, turned(), SLICES, ExplicitVRLittleEndian, "descending"),
}


def voxels(kind: str) -> np.ndarray:
    """The samples of a volume, by position along the normal."""
    sample_type, bits = KINDS[kind][:2]
    dtype = np.dtype(sample_type)
    lowest, highest = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dtype.kind == "i" else (0, 2**bits - 1)
    return np.random.default_rng(7).integers(lowest, highest, (SLICES, ROWS, COLUMNS), endpoint=True).astype(dtype)


def place(orientation: np.ndarray, column: float, row: float, depth: float) -> np.ndarray:
    """The centre of a voxel in the patient (PS3.3 equation C.7.6.2.1-1), and beyond by the normal."""
    along_row, along_column = orientation
    return ORIGIN + along_row * SPACING[1] * column + along_column * SPACING[0] * row + np.cross(along_row, along_column) * DISTANCE * depth


def numbers(values) -> list:
    return [float(f"{value:.12g}") for value in values]


def common(kind: str) -> Dataset:
    """An image with what a CT image must have, without pixels and place."""
    sample_type, bits, orientation = KINDS[kind][:3]
    allocated = np.dtype(sample_type).itemsize * 8
    made = image(rows=ROWS, columns=COLUMNS)
    made.ImageType, made.Manufacturer, made.SeriesNumber, made.SeriesDescription = ["ORIGINAL", "PRIMARY", "AXIAL"], "Tester", 3, "Head"
    made.Laterality = made.PatientBirthDate = made.PatientSex = made.StudyID = made.ReferringPhysicianName = made.KVP = made.PositionReferenceIndicator = ""
    made.SpecificCharacterSet, made.PatientName, made.PatientPosition = "ISO_IR 100", "Müller^Jörg", "HFS"
    made.FrameOfReferenceUID, made.AcquisitionNumber, made.ContentDate, made.ContentTime = generate_uid(), 1, "20240115", "101501"
    made.BitsAllocated, made.BitsStored, made.HighBit = allocated, bits, bits - 1
    made.PixelRepresentation = int(np.dtype(sample_type).kind == "i")
    made.SmallestImagePixelValue = made.LargestImagePixelValue = 0
    made.RescaleSlope, made.RescaleIntercept, made.RescaleType, made.WindowCenter, made.WindowWidth = 2, -1024, "HU", 40, 400
    made.ImageOrientationPatient, made.PixelSpacing = numbers(orientation.ravel()), list(SPACING)
    made.SliceThickness, made.SliceLocation = THICKNESS, 0
    block = made.private_block(0x0009, "TESTER", create=True)
    block.add_new(1, "LO", "private")
    return made


def single_frames(kind: str) -> list:
    _, _, orientation, _, transfer_syntax, order = KINDS[kind]
    first, files = common(kind), []
    for number, samples in enumerate(voxels(kind)):
        member = deepcopy(first)
        member.SOPInstanceUID = generate_uid()
        member.InstanceNumber = number + 1 if order == "ascending" else SLICES - number
        member.ImagePositionPatient = numbers(place(orientation, 0, 0, number))
        member.PixelData = samples.tobytes()
        if transfer_syntax != ExplicitVRLittleEndian:
            encode(member)
            compress(member, transfer_syntax, generate_instance_uid=False)
        files.append((member, encode(member, transfer_syntax)))
    return files


def item(**attributes) -> Dataset:
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def multi_frame(kind: str) -> list:
    """An Enhanced CT image whose frames go against the normal. What a copy of a frame needs is in its functional groups."""
    orientation = KINDS[kind][2]
    whole = common(kind)
    whole.SOPClassUID, whole.InstanceNumber, whole.NumberOfFrames = EnhancedCTImageStorage, 1, SLICES
    whole.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    for keyword in ["RescaleSlope", "RescaleIntercept", "RescaleType", "WindowCenter", "WindowWidth", "ImageOrientationPatient"]:
        delattr(whole, keyword)
    for keyword in ["PixelSpacing", "SliceThickness", "SliceLocation", "KVP", "AcquisitionNumber"]:
        delattr(whole, keyword)
    measures = item(PixelSpacing=list(SPACING), SliceThickness=THICKNESS)
    scale = item(RescaleSlope=2, RescaleIntercept=-1024, RescaleType="HU")
    shared = item(
        PixelMeasuresSequence=[measures],
        PlaneOrientationSequence=[item(ImageOrientationPatient=numbers(orientation.ravel()))],
        PixelValueTransformationSequence=[scale],
        FrameVOILUTSequence=[item(WindowCenter=40, WindowWidth=400)],
    )
    whole.SharedFunctionalGroupsSequence = [shared]
    positions = [numbers(place(orientation, 0, 0, SLICES - 1 - frame)) for frame in range(SLICES)]
    groups = [item(PlanePositionSequence=[item(ImagePositionPatient=position)]) for position in positions]
    whole.PerFrameFunctionalGroupsSequence = groups
    whole.PixelData = voxels(kind)[::-1].tobytes()
    return [(whole, encode(whole))]


@pytest.fixture(scope="module", params=KINDS)
def stored(origin, request):
    """A kind of volume, the path of its cut-outs, and its data sets."""
    kind = request.param
    files = multi_frame(kind) if KINDS[kind][3] > 1 else single_frames(kind)
    origin.store(*(file for _, file in files[::-1]))
    path = f"{series_path(files[0][0])}/mini"
    if origin.get(f"{path}?slices=0-0", ZIP).status_code in (404, 405):
        pytest.skip("there are no cut-outs")
    return kind, path, [data_set for data_set, _ in files]


def opened(answer) -> list:
    """The instances of a zip file, in order."""
    assert answer.status_code == 200, answer.text[:500]
    assert answer.headers["Content-Type"] == ZIP
    archive = zipfile.ZipFile(BytesIO(answer.content))
    assert archive.testzip() is None
    found = [dcmread(BytesIO(archive.read(name))) for name in archive.namelist()]
    for name, data_set in zip(archive.namelist(), found, strict=True):
        assert name == f"{data_set.StudyInstanceUID}/{data_set.SeriesInstanceUID}/{data_set.SOPInstanceUID}.dcm"
    return found


def means(samples: np.ndarray, side: int) -> np.ndarray:
    """The means of whole blocks, rounded to the nearest integer, a half upwards."""
    depth, rows, columns = (length // side for length in samples.shape)
    whole = samples[: depth * side, : rows * side, : columns * side].astype(np.int64)
    sums = whole.reshape(depth, side, rows, side, columns, side).sum(axis=(1, 3, 5))
    return (2 * sums + side**3) // (2 * side**3)


PARTS_OF_VOLUME = [
    (None, None, None),
    ((0, 0), (3, 2, 7, 5), 1),
    ((3, 9), (4, 6, 26, 15), 1),
    ((10, 10), None, 1),
    ((2, 8), (5, 3, 13, 11), 2),
    ((1, 10), (1, 2, 29, 19), 4),
]


@pytest.mark.parametrize(("slices", "box", "side"), PARTS_OF_VOLUME)
def test_pixels_and_places_are_those_of_the_volume(origin, stored, slices, box, side):
    kind, path, sources = stored
    query = [f"slices={slices[0]}-{slices[1]}"] if slices else []
    query += [f"box={','.join(map(str, box))}"] if box else []
    query += [f"binning={side}"] if side else []
    found = opened(origin.get(f"{path}?{'&'.join(query)}", ZIP))
    side, (first, last), (x, y, width, height) = side or 1, slices or (0, SLICES - 1), box or (0, 0, COLUMNS, ROWS)
    expected = means(voxels(kind)[first : last + 1, y : y + height, x : x + width], side)
    assert len(found) == len(expected)
    orientation, half = KINDS[kind][2], (side - 1) / 2
    for number, (data_set, samples) in enumerate(zip(found, expected, strict=True)):
        assert data_set.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert np.array_equal(data_set.pixel_array, samples), number
        assert (data_set.Rows, data_set.Columns) == samples.shape
        assert data_set.InstanceNumber == number + 1
        assert "NumberOfFrames" not in data_set and "PerFrameFunctionalGroupsSequence" not in data_set
        position = place(orientation, x + half, y + half, first + number * side + half)
        assert np.allclose(data_set.ImagePositionPatient, position, rtol=0, atol=1e-9)
        assert np.allclose(data_set.ImageOrientationPatient, orientation.ravel(), rtol=0, atol=1e-12)
        assert np.allclose(data_set.PixelSpacing, SPACING * side, rtol=0, atol=1e-12)
        assert data_set.SliceThickness == pytest.approx(THICKNESS + (side - 1) * DISTANCE)
        if last > first:
            assert data_set.SpacingBetweenSlices == pytest.approx(DISTANCE * side)
        else:
            assert "SpacingBetweenSlices" not in data_set
        names = [source.ReferencedSOPInstanceUID for source in data_set.SourceImageSequence]
        depths = range(first + number * side, first + (number + 1) * side)
        assert names == [sources[0 if len(sources) == 1 else depth].SOPInstanceUID for depth in depths]
        assert {source.ReferencedSOPClassUID for source in data_set.SourceImageSequence} == {sources[0].SOPClassUID}
        if len(sources) == 1:
            assert [source.ReferencedFrameNumber for source in data_set.SourceImageSequence] == [SLICES - depth for depth in depths]


def test_what_the_cut_does_not_change_is_that_of_the_source(origin, stored):
    _, path, sources = stored
    found = opened(origin.get(f"{path}?slices=2-5&box=1,1,8,8&binning=2", ZIP))
    source, identities = sources[0], [(data_set.SeriesInstanceUID, data_set.SOPInstanceUID) for data_set in found]
    assert len({series for series, _ in identities}) == 1 and len({name for _, name in identities}) == len(found) == 2
    for data_set in found:
        assert data_set.SeriesInstanceUID != source.SeriesInstanceUID
        for keyword in ["StudyInstanceUID", "PatientName", "PatientID", "FrameOfReferenceUID", "Modality", "PatientPosition"]:
            assert data_set[keyword].value == source[keyword].value, keyword
        for keyword in ["BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PhotometricInterpretation"]:
            assert data_set[keyword].value == source[keyword].value, keyword
        scale = (data_set.RescaleSlope, data_set.RescaleIntercept, data_set.WindowCenter, data_set.WindowWidth)
        assert scale == (2, -1024, 40, 400)
        assert list(data_set.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
        assert data_set.SeriesDescription == "Head (cut-out)"
        assert source.SeriesInstanceUID in data_set.DerivationDescription and "2 x 2 x 2" in data_set.DerivationDescription
        assert [code.CodeValue for code in data_set.DerivationCodeSequence] == ["113091", "113085"]
        assert data_set.SourceImageSequence[0].PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        assert "SmallestImagePixelValue" not in data_set and "SliceLocation" not in data_set
        assert not [element for element in data_set if element.tag.is_private]


def test_the_same_request_gives_the_same_instances_and_another_one_others(origin, stored):
    _, path, _ = stored
    first, again, other, longer = (
        opened(origin.get(f"{path}?{query}", ZIP)) for query in ["slices=1-2", "slices=1-2", "slices=1-2&box=0,0,4,4", "slices=1-3"]
    )
    assert [data_set.SOPInstanceUID for data_set in first] == [data_set.SOPInstanceUID for data_set in again]
    assert len({cut[0].SOPInstanceUID for cut in (first, other, longer)}) == 3
    assert len({cut[0].SeriesInstanceUID for cut in (first, other, longer)}) == 3


def test_parts_are_the_files_of_the_zip(origin, stored):
    _, path, _ = stored
    answer = origin.get(f"{path}?slices=4-6&box=2,2,9,9", PARTS)
    assert answer.status_code == 200
    parts = multipart.read(answer)
    archive = zipfile.ZipFile(BytesIO(origin.get(f"{path}?slices=4-6&box=2,2,9,9&accept={ZIP}").content))
    assert [part.body for part in parts] == [archive.read(name) for name in archive.namelist()]
    assert {part.headers["content-type"] for part in parts} == {f"application/dicom; transfer-syntax={ExplicitVRLittleEndian}"}
    assert origin.get(f"{path}?slices=4-6").headers["Content-Type"].startswith("multipart/related")


def test_dciodvfy_finds_no_error(origin, stored, tmp_path):
    kind, path, _ = stored
    for query in ["slices=2-2", "slices=2-5&binning=2&box=0,0,16,16"]:
        for number, data_set in enumerate(opened(origin.get(f"{path}?{query}", ZIP))):
            file = tmp_path / f"{number}.dcm"
            data_set.save_as(file)
            done = subprocess.run(["dciodvfy", "-new", file], capture_output=True, text=True, errors="replace")
            errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
            # A CT image has 16 bits, or it is against the standard as its source is.
            errors = [line for line in errors if not (kind == "bytes" and "Bit" in line)]
            assert errors == [], kind


def test_a_client_that_has_a_cut_out_is_not_sent_it_again(origin, stored):
    _, path, _ = stored
    answer = origin.get(f"{path}?slices=0-1", ZIP)
    tag = answer.headers["ETag"]
    assert answer.headers["Cache-Control"] == "private, no-cache" and "Accept" in answer.headers["Vary"]
    assert origin.get(f"{path}?slices=0-1", ZIP, If_None_Match=tag).status_code == 304
    assert origin.get(f"{path}?slices=0-2", ZIP, If_None_Match=tag).status_code == 200
    assert origin.get(f"{path}?slices=0-1", PARTS, If_None_Match=tag).status_code == 200


WRONG = [
    ("slices=0-11", "slices"),
    ("slices=11-11", "slices"),
    ("slices=3-2", "slices"),
    ("slices=a-b", "slices"),
    ("slices=0-4294967295", "slices"),
    ("box=0,0,31,21", "box"),
    ("box=30,0,1,1", "box"),
    ("box=0,0,0,5", "box"),
    ("box=0,0,5", "box"),
    ("box=4294967295,0,4294967295,1", "box"),
    ("box=-1,0,5,5", "box"),
    ("binning=3", "binning"),
    ("binning=0", "binning"),
    ("slices=0-2&binning=4", "binning"),
    ("box=0,0,3,9&binning=4", "binning"),
    ("store=true", "store"),
    ("anonymize=yes", "anonymize"),
]


@pytest.mark.parametrize(("query", "parameter"), WRONG)
def test_a_wrong_parameter_is_named(origin, stored, query, parameter):
    _, path, _ = stored
    answer = origin.get(f"{path}?{query}", ZIP)
    assert answer.status_code == 400
    assert answer.json()["parameter"] == parameter


def test_an_unknown_parameter_is_refused(origin, stored):
    _, path, _ = stored
    answer = origin.get(f"{path}?slice=0-0", ZIP)
    assert answer.status_code == 400 and "slice" in answer.json()["detail"]


def test_other_media_types_and_series_are_refused(origin, stored):
    _, path, _ = stored
    answer = origin.get(path, "image/png")
    assert answer.status_code == 406 and ZIP in answer.json()["detail"]
    missing = f"{path.split('/series/')[0]}/series/{generate_uid()}/mini"
    assert origin.get(missing, ZIP).status_code == 404


def member(first: Dataset, number: int, **attributes) -> Dataset:
    """A slice of the series of another image."""
    made = deepcopy(first)
    made.SOPInstanceUID, made.InstanceNumber = generate_uid(), number
    made.ImagePositionPatient = [0, 0, number]
    made.PixelData = bytes(2 * ROWS * COLUMNS)
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def test_a_series_that_is_no_volume_is_a_conflict(origin):
    colour = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0, "BitsAllocated": 8, "BitsStored": 8}
    colour |= {"HighBit": 7, "PixelData": bytes(3 * ROWS * COLUMNS)}
    half = {"Rows": ROWS - 1, "PixelData": bytes(2 * (ROWS - 1) * COLUMNS)}
    for second, reason in [
        (colour, "grey"),
        (half, "size"),
        ({"ImagePositionPatient": [0, 0, 1]}, "one position"),
        ({"PixelSpacing": [1, 1]}, "spacing"),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, 1]}, "parallel"),
    ]:
        first = common("oblique")
        first.ImageOrientationPatient = list(STRAIGHT.ravel())
        origin.store(encode(member(first, 1)), encode(member(first, 2, **second)))
        path = f"{series_path(first)}/mini"
        answer = origin.get(path, ZIP)
        if answer.status_code == 404 and "parameter" not in answer.text and "no resource" in answer.text:
            pytest.skip("there are no cut-outs")
        assert answer.status_code == 409, reason
        assert reason in answer.json()["detail"]
        posted = origin.request("POST", f"{path}?store=true")
        assert posted.status_code == 409
    uneven = common("oblique")
    uneven.ImageOrientationPatient = list(STRAIGHT.ravel())
    origin.store(*(encode(member(uneven, number)) for number in (1, 2, 4, 5)))
    path = f"{series_path(uneven)}/mini"
    assert origin.get(f"{path}?binning=2", ZIP).status_code == 409
    found = opened(origin.get(path, ZIP))
    assert [data_set.ImagePositionPatient[2] for data_set in found] == [1, 2, 4, 5]
    assert not any("SpacingBetweenSlices" in data_set for data_set in found)
    assert len(opened(origin.get(f"{path}?slices=0-1&binning=2", ZIP))) == 1


def test_one_slice_is_a_volume(origin):
    alone = common("oblique")
    origin.store(encode(member(alone, 1)))
    found = opened(origin.get(f"{series_path(alone)}/mini?box=2,3,4,5", ZIP))
    assert [(data_set.Rows, data_set.Columns) for data_set in found] == [(5, 4)]


def test_padding_is_no_part_of_a_mean(origin):
    first = common("signed")
    first.PixelPaddingValue = -2000
    samples = np.full((ROWS, COLUMNS), 100, "<i2")
    samples[:, 1:] = -2000
    origin.store(*(encode(member(first, number, PixelData=samples.tobytes())) for number in (1, 2)))
    [found] = opened(origin.get(f"{series_path(first)}/mini?binning=2", ZIP))
    assert (found.pixel_array[:, 0] == 100).all() and (found.pixel_array[:, 1:] == -2000).all()


def test_a_cut_out_is_stored_as_a_series(origin, stored):
    _, path, sources = stored
    query = "slices=3-6&box=2,2,10,8&binning=2"
    expected = opened(origin.get(f"{path}?{query}", ZIP))
    first = origin.request("POST", f"{path}?store=true&{query}", headers={"Accept": "application/dicom+json"})
    assert first.status_code == 200, first.text
    names = [item["00081155"]["Value"][0] for item in first.json()["00081199"]["Value"]]
    assert names == [data_set.SOPInstanceUID for data_set in expected]
    again = origin.request("POST", f"{path}?store=true&{query}", headers={"Accept": "application/dicom+json"})
    assert again.status_code == 200, again.text
    for data_set in expected:
        answer = origin.get(instance_path(data_set), "application/dicom")
        assert answer.status_code == 200
        assert dcmread(BytesIO(answer.content)) == data_set
    found = origin.json(f"{study_path(sources[0])}/series?SeriesInstanceUID={expected[0].SeriesInstanceUID}")
    assert found[0]["00201209"]["Value"] == [2]
    # What was cut out can be cut again.
    assert len(opened(origin.get(f"{series_path(expected[0])}/mini?slices=1-1", ZIP))) == 1


def test_nothing_is_stored_unless_it_is_asked_for(origin, stored):
    _, path, _ = stored
    for query in ["", "?store=false", "?slices=0-0"]:
        answer = origin.request("POST", f"{path}{query}")
        assert answer.status_code == 400 and answer.json()["parameter"] == "store"
