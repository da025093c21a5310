"""Short builders of instances. Each instance has UIDs of its own unless attributes name others."""

from io import BytesIO

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def instance(**attributes) -> Dataset:
    """A data set without pixels that has what every instance must have; `attributes` by keyword."""
    data_set = Dataset()
    data_set.SOPClassUID = CTImageStorage
    data_set.PatientName, data_set.PatientID = "Doe^Jane", "1"
    data_set.StudyDate, data_set.StudyTime, data_set.AccessionNumber = "20240115", "101500", "A1"
    data_set.Modality = "CT"
    for keyword in ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]:
        setattr(data_set, keyword, generate_uid())
    for keyword, value in attributes.items():
        setattr(data_set, keyword, value)
    return data_set


def image(frames: int = 1, rows: int = 4, columns: int = 6, **attributes) -> Dataset:
    """An instance with native frames of 16 bits; sample i of frame f is 1000 f + i, modulo 65536."""
    data_set = instance(**attributes)
    data_set.SamplesPerPixel, data_set.PhotometricInterpretation = 1, "MONOCHROME2"
    data_set.Rows, data_set.Columns = rows, columns
    data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit, data_set.PixelRepresentation = 16, 16, 15, 0
    if frames > 1:
        data_set.NumberOfFrames = frames
    data_set.PixelData = b"".join(frame_bytes(number, rows * columns) for number in range(1, frames + 1))
    return data_set


def frame_bytes(number: int, samples: int = 24) -> bytes:
    """The samples of one frame of `image`."""
    return b"".join(((1000 * number + sample) % 65536).to_bytes(2, "little") for sample in range(samples))


def two_series() -> list:
    """Two series of one study: two images and one."""
    first = image()
    second = image(StudyInstanceUID=first.StudyInstanceUID, SeriesInstanceUID=first.SeriesInstanceUID)
    return [first, second, image(StudyInstanceUID=first.StudyInstanceUID)]


def encode(data_set: Dataset, transfer_syntax: str = ExplicitVRLittleEndian) -> bytes:
    """The data set as a file (PS3.10 §7)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = data_set.get("SOPClassUID", "")
    meta.MediaStorageSOPInstanceUID = data_set.get("SOPInstanceUID", "")
    meta.TransferSyntaxUID = transfer_syntax
    data_set.file_meta = meta
    buffer = BytesIO()
    data_set.save_as(buffer, enforce_file_format=bool(meta.MediaStorageSOPInstanceUID))
    return buffer.getvalue()


def study_path(data_set: Dataset) -> str:
    return f"/studies/{data_set.StudyInstanceUID}"


def series_path(data_set: Dataset) -> str:
    return f"{study_path(data_set)}/series/{data_set.SeriesInstanceUID}"


def instance_path(data_set: Dataset) -> str:
    return f"{series_path(data_set)}/instances/{data_set.SOPInstanceUID}"
