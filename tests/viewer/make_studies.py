"""Writes the studies that the viewer is tested with, and describes them in JSON on standard output.

Usage: make_studies.py DIRECTORY. `DIRECTORY/stored` is to be stored before the test, `DIRECTORY/uploaded` by the viewer.
"""

import io
import json
import plistlib
import sys
import tarfile
from pathlib import Path

import numpy
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG4HP41,
    CTImageStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    VideoPhotographicImageStorage,
    generate_uid,
)

# A head, 108 slices of 256 x 256 in Hounsfield units, from Debian's package invesalius-examples.
CRANIUM = "/usr/share/doc/invesalius-examples/examples/Cranium.inv3"
WINDOW_CENTER, WINDOW_WIDTH = 40, 400
VIDEO = Path(__file__).parent.parent.parent / "testdata" / "bars.mp4"
VIDEO_ROWS, VIDEO_COLUMNS, VIDEO_FRAMES, VIDEO_FRAMES_PER_SECOND = 240, 320, 20, 10


def main() -> None:
    directory = Path(sys.argv[1])
    stored, uploaded = directory / "stored", directory / "uploaded"
    stored.mkdir(parents=True)
    uploaded.mkdir()
    volume, spacing = read_cranium()
    studies = {
        "ct": write_ct(stored, volume, spacing, "Head^Real"),
        "ultrasound": write(stored, ultrasound := example("examples_jpeg2k.dcm"), "Sound^Colour"),
        "cine": write(stored, cine := example("examples_ybr_color.dcm"), "Sound^Moving"),
        "pdf": write(stored, pdf(), "Letter^Read"),
        "video": write(stored, video(), "Video^Moving"),
        "upload": write_ct(uploaded, volume[50:53], spacing, "Head^Uploaded"),
    }
    for number, slice_hu in enumerate(volume, 1):
        windowed(slice_hu).save(directory / f"slice-{number}.png")
    Image.fromarray(ultrasound.pixel_array).save(directory / "ultrasound.png")
    for number, frame in enumerate(cine.pixel_array, 1):
        Image.fromarray(frame).save(directory / f"cine-{number}.png")
    print(json.dumps(studies))


def read_cranium() -> tuple[numpy.ndarray, list[float]]:
    """The volume, slice by slice from the feet up, rows from the front, and its spacing along x, y and z in millimetres."""
    with tarfile.open(CRANIUM) as archive:
        members = {Path(member.name).name: member for member in archive.getmembers()}
        properties = plistlib.loads(archive.extractfile(members["main.plist"]).read())
        samples = archive.extractfile(members["matrix.dat"]).read()
    volume = numpy.frombuffer(samples, "<i2").reshape(properties["matrix"]["shape"])
    # Rows are stored from the back.
    return volume[:, ::-1], properties["spacing"]


def windowed(slice_hu: numpy.ndarray) -> Image.Image:
    """A slice as a grey image (PS3.3 §C.11.2.1.2.1)."""
    relative = (slice_hu - (WINDOW_CENTER - 0.5)) / (WINDOW_WIDTH - 1) + 0.5
    return Image.fromarray((255 * relative.clip(0, 1)).round().astype("u1"))


def write_ct(directory: Path, volume: numpy.ndarray, spacing: list[float], patient_name: str) -> dict:
    series = instance(CTImageStorage, "CT", SeriesDescription="Head 1.5 mm")
    series.FrameOfReferenceUID = generate_uid()
    series.ImageOrientationPatient, series.PixelSpacing = [1, 0, 0, 0, 1, 0], [spacing[1], spacing[0]]
    series.SliceThickness, series.KVP = spacing[2], 120
    series.SamplesPerPixel, series.PhotometricInterpretation = 1, "MONOCHROME2"
    series.BitsAllocated, series.BitsStored, series.HighBit, series.PixelRepresentation = 16, 16, 15, 1
    series.RescaleIntercept, series.RescaleSlope, series.RescaleType = 0, 1, "HU"
    series.WindowCenter, series.WindowWidth = WINDOW_CENTER, WINDOW_WIDTH
    series.Rows, series.Columns = volume.shape[1:]
    for number, slice_hu in enumerate(volume, 1):
        series.SOPInstanceUID, series.InstanceNumber = generate_uid(), number
        series.ImagePositionPatient = [-122.5, -122.5, number * spacing[2]]
        series.PixelData = slice_hu.tobytes()
        described = write(directory, series, patient_name)
    return described


def example(name: str) -> Dataset:
    """One of pydicom's files."""
    return dcmread(get_testdata_file(name))


def pdf() -> Dataset:
    """An instance with a PDF of one page and one line of text."""
    letter = io.BytesIO()
    Image.new("L", (420, 594), 255).save(letter, "PDF")
    data_set = instance(EncapsulatedPDFStorage, "DOC", SeriesDescription="Letter")
    data_set.EncapsulatedDocument = letter.getvalue() + b"\0" * (letter.tell() % 2)
    data_set.EncapsulatedDocumentLength = letter.tell()
    data_set.MIMETypeOfEncapsulatedDocument, data_set.DocumentTitle = "application/pdf", "Letter"
    data_set.BurnedInAnnotation, data_set.ConversionType, data_set.ConceptNameCodeSequence = "YES", "WSD", []
    return data_set


def video() -> Dataset:
    data_set = instance(VideoPhotographicImageStorage, "XC", MPEG4HP41, SeriesDescription="Colour bars")
    data_set.Rows, data_set.Columns, data_set.NumberOfFrames = VIDEO_ROWS, VIDEO_COLUMNS, VIDEO_FRAMES
    data_set.SamplesPerPixel, data_set.PhotometricInterpretation, data_set.PlanarConfiguration = 3, "YBR_PARTIAL_420", 0
    data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit, data_set.PixelRepresentation = 8, 8, 7, 0
    data_set.CineRate, data_set.FrameTime = VIDEO_FRAMES_PER_SECOND, 1000 / VIDEO_FRAMES_PER_SECOND
    data_set.LossyImageCompression = "01"
    data_set.PixelData = encapsulate([VIDEO.read_bytes()])
    data_set["PixelData"].VR = "OB"
    return data_set


def instance(sop_class: str, modality: str, transfer_syntax: str = ExplicitVRLittleEndian, **attributes) -> Dataset:
    """A data set of a study of its own, with the attributes besides pixels that viewers use."""
    data_set = Dataset()
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = transfer_syntax
    data_set.SOPClassUID, data_set.SOPInstanceUID = sop_class, generate_uid()
    data_set.StudyInstanceUID, data_set.SeriesInstanceUID = generate_uid(), generate_uid()
    data_set.StudyDate = data_set.SeriesDate = data_set.ContentDate = "20240115"
    data_set.StudyTime = data_set.SeriesTime = data_set.ContentTime = "101500"
    data_set.Modality, data_set.StudyDescription, data_set.Manufacturer = modality, f"{modality} study", "none"
    data_set.StudyID, data_set.SeriesNumber, data_set.InstanceNumber = "1", 1, 1
    data_set.AccessionNumber, data_set.ReferringPhysicianName = "A1", ""
    data_set.PatientBirthDate, data_set.PatientSex = "19700101", "O"
    for keyword, value in attributes.items():
        setattr(data_set, keyword, value)
    return data_set


def write(directory: Path, data_set: Dataset, patient_name: str) -> dict:
    """Writes an instance; returns its path in the DICOMweb service and the name of its patient."""
    data_set.SpecificCharacterSet = "ISO_IR 192"
    data_set.PatientName, data_set.PatientID = patient_name, patient_name.replace("^", "-")
    data_set.file_meta.MediaStorageSOPClassUID = data_set.SOPClassUID
    data_set.file_meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID
    data_set.save_as(directory / f"{data_set.SOPInstanceUID}.dcm", enforce_file_format=True)
    return {
        "study": data_set.StudyInstanceUID,
        "series": data_set.SeriesInstanceUID,
        "instance": data_set.SOPInstanceUID,
        "patient": patient_name,
    }


main()
