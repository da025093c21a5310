"""Writes what a clinic has besides DICOM: photos, images and a model.

Usage: make_pictures.py DIRECTORY. Pictures are 40 x 24 pixels: red, green, blue and white in their corners, from the top left on.
"""

import struct
import sys
from pathlib import Path

import numpy
from PIL import Image


def main() -> None:
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    pixels = numpy.zeros((24, 40, 3), "u1")
    pixels[:12, :20], pixels[:12, 20:], pixels[12:, :20], pixels[12:, 20:] = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
    picture = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x010F] = "Secret Camera"
    picture.save(directory / "plain.jpg", quality=95, exif=exif)
    exif[0x0112] = 6  # The top of the picture is at the right of what is stored.
    picture.transpose(Image.Transpose.ROTATE_90).save(directory / "turned.jpg", quality=95, exif=exif)
    picture.save(directory / "progressive.jpg", quality=95, progressive=True)
    picture.convert("L").save(directory / "grey.jpg", quality=95)
    picture.convert("CMYK").save(directory / "print.jpg", quality=95)
    picture.save(directory / "colours.png")
    picture.quantize(8).save(directory / "palette.png")
    picture.convert("L").save(directory / "grey.png")
    clear = picture.convert("RGBA")
    clear.paste((0, 0, 0, 0), (0, 0, 20, 12))
    clear.save(directory / "clear.png")
    Image.fromarray((numpy.arange(960).reshape(24, 40) * 60).astype("u2")).save(directory / "deep.png")
    triangle = struct.pack("<12fH", 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0)
    (directory / "tooth.stl").write_bytes(b"made by a scanner".ljust(80) + struct.pack("<I", 2) + 2 * triangle)
    (directory / "words.stl").write_text("solid tooth\nfacet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nvertex 0 1 0\nendloop\nendfacet\nendsolid tooth\n")
    pdf = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n" \
        b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF"
    (directory / "letter.pdf").write_bytes(pdf + b"\n" * (1 - len(pdf) % 2))


main()
