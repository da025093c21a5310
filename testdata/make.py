#!/usr/bin/env python3
"""Writes the codestreams of this directory: a grey image and coloured bars, encoded by others' encoders. Usage: .venv/bin/python testdata/make.py"""

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


def by_dcmtk(*command: str, bits: int = 8) -> bytes:
    """The frame of an instance that a tool of dcmtk has compressed, its samples shifted to this number of bits."""
    data_set = instance(Rows=ROWS, Columns=COLUMNS, SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2")
    allocated = 8 if bits == 8 else 16
    data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit, data_set.PixelRepresentation = allocated, bits, bits - 1, 0
    data_set.PixelData = (gradient().astype(f"<u{allocated // 8}") << (bits - 8)).tobytes()
    data_set["PixelData"].VR = "OB" if bits == 8 else "OW"
    with tempfile.TemporaryDirectory() as directory:
        native, compressed = Path(directory, "native"), Path(directory, "compressed")
        native.write_bytes(encode(data_set))
        subprocess.run([*command, native, compressed], check=True)
        (frame,) = generate_frames(dcmread(compressed).PixelData, number_of_frames=1)
    return frame


def bars() -> list:
    """The planes of luminance and chrominance of a red bar over a blue one."""
    planes = [(82, 66), (104, 215), (212, 95)]
    return [numpy.repeat(numpy.array(plane, "u1"), 8)[:, None].repeat(16, 1) for plane in planes]


def by_openjpeg(across: int, down: int) -> bytes:
    """The bars with chrominance of a part of the width and height."""
    y, b, r = bars()
    with tempfile.TemporaryDirectory() as directory:
        raw, codestream = Path(directory, "bars.raw"), Path(directory, "bars.j2k")
        raw.write_bytes(y.tobytes() + b[::down, ::across].tobytes() + r[::down, ::across].tobytes())
        sampling = f"1x1:{across}x{down}:{across}x{down}"
        command = ["opj_compress", "-i", raw, "-o", codestream, "-F", f"16,16,3,8,u@{sampling}", "-mct", "0", "-n", "2"]
        subprocess.run(command, check=True)
        return codestream.read_bytes()


def main() -> None:
    files = {
        "bars-420.j2k": by_openjpeg(2, 2),
        "bars-422.j2k": by_openjpeg(2, 1),
        "gradient-baseline.jpg": by_pillow("JPEG", quality=95),
        "gradient-extended-12.jpg": by_dcmtk("dcmcjpeg", "+ee", bits=12),
        "gradient-lossless.jpg": by_dcmtk("dcmcjpeg", "+e1"),
        "gradient-lossless-16.jpg": by_dcmtk("dcmcjpeg", "+el", "+sv", "7", "+pt", "4", bits=16),
        "gradient.jls": by_dcmtk("dcmcjpls"),
        "gradient.j2k": by_pillow("JPEG2000", no_jp2=True),
        "gradient.jp2": by_pillow("JPEG2000"),
    }
    for name, content in files.items():
        (HERE / name).write_bytes(content)


if __name__ == "__main__":
    main()
