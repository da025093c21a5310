#!/usr/bin/env python3
"""Writes the codestreams of this directory: one grey image, encoded by others' encoders. Usage: .venv/bin/python testdata/make.py"""

import io
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import generate_frames

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "conformance"))

from build import encode, instance  # noqa: E402

ROWS, COLUMNS = 16, 24


def gradient() -> numpy.ndarray:
    """The image: a sample of 8 bits is 10 times its row and 4 times its column, both from zero."""
    rows, columns = numpy.indices((ROWS, COLUMNS))
    return (10 * rows + 4 * columns).astype("u1")


def by_pillow(kind: str, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(gradient()).save(file, kind, **options)
    return file.getvalue()


def by_dcmtk(*command: str) -> bytes:
    """The frame of an instance that a tool of dcmtk has compressed."""
    data_set = instance(Rows=ROWS, Columns=COLUMNS, SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2")
    data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit, data_set.PixelRepresentation = 8, 8, 7, 0
    data_set.PixelData = gradient().tobytes()
    data_set["PixelData"].VR = "OB"
    with tempfile.TemporaryDirectory() as directory:
        native, compressed = Path(directory, "native"), Path(directory, "compressed")
        native.write_bytes(encode(data_set))
        subprocess.run([*command, native, compressed], check=True)
        (frame,) = generate_frames(dcmread(compressed).PixelData, number_of_frames=1)
    return frame


def main() -> None:
    files = {
        "gradient-baseline.jpg": by_pillow("JPEG", quality=95),
        "gradient-lossless.jpg": by_dcmtk("dcmcjpeg", "+e1"),
        "gradient.jls": by_dcmtk("dcmcjpls"),
        "gradient.j2k": by_pillow("JPEG2000", no_jp2=True),
        "gradient.jp2": by_pillow("JPEG2000"),
    }
    for name, content in files.items():
        (HERE / name).write_bytes(content)


if __name__ == "__main__":
    main()
