#!/usr/bin/env python3
"""Compares frames that Cuspid decodes with pydicom's, over all files of pydicom and pydicom-data.

Needs `pip install pydicom pydicom-data numpy pillow pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg pylibjpeg-rle
pyjpegls`; run in the project's root. Prints each difference and, at the end, how many frames agree. Lossy JPEG may
differ by a few levels: decoders round differently.
"""
import base64
import json
import logging
import pathlib
import subprocess
import sys
import warnings

import numpy as np
import pydicom
from pydicom.data import get_testdata_files
from pydicom.pixels import convert_color_space, get_decoder

LOSSY_JPEG = {"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"}
MOST_LEVELS = 5


def ours(dataset, frame):
    """The frame as an array, in RGB if it is in luminance and chrominance."""
    raw = base64.b64decode(frame["bytes"])
    rows, columns, samples = dataset.Rows, dataset.Columns, dataset.get("SamplesPerPixel", 1)
    count = rows * columns * samples
    if dataset.BitsAllocated == 1:
        return np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")[:count].reshape(rows, columns)
    kind = "<i" if dataset.get("PixelRepresentation", 0) else "<u"
    if frame["photometric"] == "YBR_FULL_422":
        pairs = np.frombuffer(raw, np.uint8).reshape(-1, 4)
        full = np.stack([pairs[:, [0, 2, 3]], pairs[:, [1, 2, 3]]], axis=1)
        return convert_color_space(full.reshape(rows, columns, 3), "YBR_FULL", "RGB")
    pixels = np.frombuffer(raw, np.dtype(f"{kind}{dataset.BitsAllocated // 8}"))[:count]
    # Native frames are returned as stored, with the bits beside Bits Stored.
    if frame["photometric"] == dataset.PhotometricInterpretation and dataset.BitsStored < dataset.BitsAllocated:
        pixels = (pixels << (dataset.BitsAllocated - 1 - dataset.HighBit)) >> (dataset.BitsAllocated - dataset.BitsStored)
    if samples == 1:
        return pixels.reshape(rows, columns)
    planar = frame["is_planar"]
    pixels = pixels.reshape(samples, rows, columns).transpose(1, 2, 0) if planar else pixels.reshape(rows, columns, samples)
    return convert_color_space(pixels, "YBR_FULL", "RGB") if frame["photometric"] == "YBR_FULL" else pixels


def compare(dataset, frames):
    """Yields for each frame what is different, or None."""
    syntax = dataset.file_meta.TransferSyntaxUID
    decoder = get_decoder(syntax)
    for index, frame in enumerate(frames):
        try:
            expected, _ = decoder.as_array(dataset, index=index)
        except Exception as error:
            yield None if "failed" in frame else f"pydicom: {str(error)[:80]}"
            continue
        if "failed" in frame:
            yield frame["failed"]
            continue
        found = ours(dataset, frame)
        off = int(np.abs(found.astype(np.int64) - expected.astype(np.int64)).max())
        most = MOST_LEVELS if syntax in LOSSY_JPEG else 0
        yield f"off by up to {off} levels" if off > most else None


def main():
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    names, datasets = [], []
    for path in sorted(p for p in get_testdata_files() if pathlib.Path(p).is_file()):
        try:
            dataset = pydicom.dcmread(path)
            usable = "PixelData" in dataset and "Rows" in dataset and dataset.file_meta.TransferSyntaxUID
        except Exception:
            continue
        if usable:
            names.append(path)
            datasets.append(dataset)
    run = subprocess.run(["cargo", "run", "-q", "--example", "frames"], input="\n".join(names),
                         capture_output=True, text=True, check=True)
    same = differing = 0
    for name, dataset, line in zip(names, datasets, run.stdout.splitlines(), strict=True):
        answer, short = json.loads(line), pathlib.Path(name).name
        if "refused" in answer:
            print(f"{short}: refused: {answer['refused']}")
            continue
        try:
            for number, difference in enumerate(compare(dataset, answer["frames"]), 1):
                same, differing = (same, differing + 1) if difference else (same + 1, differing)
                if difference:
                    print(f"{short}: frame {number}: {difference}")
        except Exception as error:
            print(f"{short}: pydicom: {type(error).__name__}: {error}")
    print(f"{same} frames agree, {differing} differ")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
