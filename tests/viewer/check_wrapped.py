"""Says what programs of others make of DICOM files that the console made: pydicom, dcm2pdf and dciodvfy. JSON on standard output.

Usage: check_wrapped.py FILE...
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from pydicom import dcmread


def main() -> None:
    print(json.dumps([described(Path(name)) for name in sys.argv[1:]]))


def described(path: Path) -> dict:
    found = dcmread(path)
    said = {
        "errors": errors(path),
        "sop_class": found.SOPClassUID.name,
        "syntax": found.file_meta.TransferSyntaxUID.name,
        "implementation": found.file_meta.ImplementationClassUID,
        "patient": [str(found.PatientName), found.PatientID, found.get("PatientBirthDate"), found.get("PatientSex")],
        "study": [found.StudyInstanceUID, found.StudyDate],
        "series": [found.Modality, found.get("SeriesNumber"), found.get("InstanceNumber"), found.get("SeriesDescription")],
        "title": found.get("ImageComments") or found.get("DocumentTitle"),
        "date": found.get("ContentDate"),
    }
    if "EncapsulatedDocument" in found:
        said["document"] = [found.MIMETypeOfEncapsulatedDocument, found.DocumentTitle, found.EncapsulatedDocument.hex()]
    if found.SOPClassUID.name == "Encapsulated PDF Storage":
        with tempfile.NamedTemporaryFile() as pdf:
            subprocess.run(["dcm2pdf", path, pdf.name], check=True, capture_output=True)
            said["pdf"] = Path(pdf.name).read_bytes().hex()
    if "PixelData" in found:
        pixels = found.pixel_array
        rows, columns = pixels.shape[:2]
        said["shape"] = list(pixels.shape)
        said["photometric"] = found.PhotometricInterpretation
        said["lossy"] = found.get("LossyImageCompression")
        said["corners"] = [pixels[y, x].tolist() for y in (2, rows - 3) for x in (2, columns - 3)]
        said["bytes"] = found.PixelData.hex() if found.file_meta.TransferSyntaxUID.is_compressed else ""
    return said


def errors(path: Path) -> list[str]:
    run = subprocess.run(["dciodvfy", path], capture_output=True, text=True)
    return [line for line in (run.stdout + run.stderr).splitlines() if line.startswith("Error")]


main()
