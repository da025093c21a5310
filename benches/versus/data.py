"""The data of the comparison, the same on every machine: a CT of 400 slices, one multi-frame, 10,000 small studies.

Run as a script, it fills the directory that it is given and leaves alone what is there.
"""

import sys
from pathlib import Path

import numpy
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

ROOT = "1.2.826.0.1.3680043.10.1.77"
STUDY, SERIES = f"{ROOT}.1", f"{ROOT}.1.1"
MULTI_FRAME = {"study": f"{ROOT}.2", "series": f"{ROOT}.2.1", "instance": f"{ROOT}.2.1.1"}
SLICES = 400
MULTI_FRAME_GRAYSCALE_WORD = "1.2.840.10008.5.1.4.1.1.7.3"


def instance_uid(slice_number: int) -> str:
    return f"{SERIES}.{slice_number}"


def head(sop_class: str, study: str, series: str, instance: str) -> Dataset:
    """A data set with the attributes that a CT usually has, without pixels."""
    data_set = Dataset()
    data_set.SpecificCharacterSet = "ISO_IR 100"
    data_set.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data_set.SOPClassUID, data_set.SOPInstanceUID = sop_class, instance
    data_set.StudyDate = data_set.SeriesDate = data_set.AcquisitionDate = "20240115"
    data_set.StudyTime = data_set.SeriesTime = "101500"
    data_set.AccessionNumber = "A0000001"
    data_set.Modality = "CT"
    data_set.Manufacturer = "Versus"
    data_set.ReferringPhysicianName = "Doe^Jane"
    data_set.StudyDescription, data_set.SeriesDescription = "Head", "Axial 0.5"
    data_set.PatientName, data_set.PatientID = "Versus^Large", "LARGE1"
    data_set.PatientBirthDate, data_set.PatientSex = "19700101", "O"
    data_set.SliceThickness, data_set.KVP = "0.5", "120"
    data_set.StudyInstanceUID, data_set.SeriesInstanceUID = study, series
    data_set.StudyID, data_set.SeriesNumber, data_set.InstanceNumber = "1", "1", "1"
    return data_set


def add_pixels(data_set: Dataset, frames: list) -> None:
    rows, columns = frames[0].shape
    data_set.SamplesPerPixel, data_set.PhotometricInterpretation = 1, "MONOCHROME2"
    data_set.Rows, data_set.Columns = rows, columns
    data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit, data_set.PixelRepresentation = 16, 16, 15, 1
    if len(frames) > 1:
        data_set.NumberOfFrames = len(frames)
    data_set.PixelData = b"".join(frame.tobytes() for frame in frames)


def encode(data_set: Dataset, path: Path) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = data_set.SOPClassUID
    meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset(None, data_set, file_meta=meta, preamble=bytes(128))
    file.save_as(path, enforce_file_format=True)


def slices():
    """A skull-like shell around noise, in Hounsfield units."""
    random = numpy.random.default_rng(7)
    y, x = numpy.mgrid[-1:1:512j, -1:1:512j]
    for z in numpy.linspace(-0.9, 0.9, SLICES):
        radius = x * x + y * y * 1.3 + z * z
        values = numpy.where(radius < 0.6, 40, numpy.where(radius < 0.7, 1200, -1000))
        yield (values + random.normal(0, 20, values.shape)).astype("<i2")


def make_ct(directory: Path) -> None:
    directory.mkdir(parents=True)
    for number, frame in enumerate(slices(), 1):
        data_set = head(CTImageStorage, STUDY, SERIES, instance_uid(number))
        data_set.InstanceNumber = number
        data_set.ImagePositionPatient = [-128, -128, number * 0.5]
        data_set.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        data_set.PixelSpacing = [0.5, 0.5]
        data_set.RescaleIntercept, data_set.RescaleSlope = 0, 1
        data_set.WindowCenter, data_set.WindowWidth = 40, 400
        add_pixels(data_set, [frame])
        encode(data_set, directory / f"{number:04}.dcm")


def make_multi_frame(directory: Path) -> None:
    directory.mkdir(parents=True)
    ids = MULTI_FRAME
    data_set = head(MULTI_FRAME_GRAYSCALE_WORD, ids["study"], ids["series"], ids["instance"])
    data_set.PatientName, data_set.PatientID, data_set.Modality = "Versus^Multi", "MULTI1", "OT"
    add_pixels(data_set, list(slices()))
    encode(data_set, directory / "multi.dcm")


def make_studies(directory: Path, count: int) -> None:
    """Studies of one small instance. One is encoded; in the others its values of fixed width are exchanged."""
    directory.mkdir(parents=True)
    template = head(CTImageStorage, f"{ROOT}.3.100000", f"{ROOT}.3.100000.1", f"{ROOT}.3.100000.1.1")
    template.PatientName, template.PatientID = "Name10000^Small", "S100000"
    template.AccessionNumber = "X100000"
    template.StudyDate = "20000101"
    encode(template, directory / "template")
    encoded = (directory / "template").read_bytes()
    (directory / "template").unlink()
    for number in range(count):
        day, family = number % 28 + 1, number % 90000 + 10000
        # 336 study dates, so that one day holds count / 336 of them.
        date = f"2000{number // 28 % 12 + 1:02}{day:02}"
        values = [
            (f"{ROOT}.3.100000", f"{ROOT}.3.{100000 + number}"),
            ("Name10000", f"Name{family}"),
            ("S100000", f"S{100000 + number}"),
            ("X100000", f"X{100000 + number}"),
            ("20000101", date),
        ]
        one = encoded
        for old, new in values:
            one = one.replace(old.encode(), new.encode())
        (directory / f"{number:06}.dcm").write_bytes(one)


def make_template(directory: Path) -> None:
    """One small instance, of which the load client makes others: of study 1000000, instance 10."""
    directory.mkdir(parents=True)
    study = f"{ROOT}.4.1000000"
    data_set = head(CTImageStorage, study, f"{study}.1", f"{study}.1.10")
    data_set.PatientName, data_set.PatientID, data_set.AccessionNumber = "Name1000000^Small", "S1000000", "X1000000"
    encode(data_set, directory / "template.dcm")


def make_renamed(directory: Path, source: Path, arc: str) -> None:
    """The same files under other UIDs, of the same length, so that each file stays valid."""
    directory.mkdir(parents=True)
    other = f"{arc[:-1]}{int(arc[-1]) + 5}"
    for path in source.iterdir():
        (directory / path.name).write_bytes(path.read_bytes().replace(arc.encode(), other.encode()))


def make(root: Path, studies: int) -> None:
    for name, fill in [
        ("ct", make_ct),
        ("multi", make_multi_frame),
        ("ct-warm", lambda directory: make_renamed(directory, root / "ct", STUDY)),
        ("multi-warm", lambda directory: make_renamed(directory, root / "multi", MULTI_FRAME["study"])),
        ("template", make_template),
        (f"studies-{studies}", lambda directory: make_studies(directory, studies)),
    ]:
        if not (root / name).exists():
            print(f"making {root / name}", file=sys.stderr, flush=True)
            # Filled under another name first: an interrupted run leaves nothing that looks complete.
            unfinished = root / f"{name}.unfinished-{id(fill)}"
            fill(unfinished)
            unfinished.rename(root / name)


if __name__ == "__main__":
    make(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10_000)
