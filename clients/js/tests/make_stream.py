"""Writes a fast stream, version 2 (docs/fast-stream.md), of a volume: an independent writer that readers are tested with.

Usage: make_stream.py OUT.bin, or as a module: `stream(volume, ...)`. Needs NumPy and OpenJPEG's `opj_compress`.
The volume is 24 slices of 137 x 115 pixels with balls and a tilted rod, 12 bits.
"""

import base64
import json
import struct
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy


def levels_of(columns: int, rows: int) -> int:
    count = 1
    while max(columns, rows) / 2**count >= 64:
        count += 1
    return count


def tile_parts(codestream: bytes) -> tuple[bytes, list[bytes]]:
    """The main header and the tile-parts."""
    at = codestream.index(b"\xff\x90")
    head, parts = codestream[:at], []
    while codestream[at : at + 2] == b"\xff\x90":
        length = struct.unpack(">I", codestream[at + 6 : at + 10])[0]
        parts.append(codestream[at : at + length])
        at += length
    assert codestream[at:] == b"\xff\xd9"
    return head, parts


def encode(pixels: numpy.ndarray, precision: int, drop: int, ratio: float) -> tuple[bytes, list[bytes]]:
    """A slice (rows, columns) or (rows, columns, 3) as the main header and a tile-part for each resolution."""
    rows, columns = pixels.shape[:2]
    samples = 1 if pixels.ndim == 2 else pixels.shape[2]
    signed = pixels.dtype.kind == "i"
    half = (1 << drop) >> 1
    top = (1 << (precision - signed)) - 1
    kept = numpy.minimum(pixels.astype("i4") + half, top) >> drop
    depth = precision - drop
    planes = numpy.moveaxis(kept, -1, 0) if samples == 3 else kept
    dtype = ("i" if signed else "u") + ("1" if depth <= 8 else "2")
    with tempfile.TemporaryDirectory() as place:
        source, target = Path(place, "a.rawl"), Path(place, "a.j2k")
        source.write_bytes(numpy.ascontiguousarray(planes).astype("<" + dtype).tobytes())
        raw = f"{columns},{rows},{samples},{depth},{'s' if signed else 'u'}"
        options = ["-F", raw, "-p", "RPCL", "-TP", "R", "-I", "-n", str(levels_of(columns, rows)), "-M", "1"]
        # OpenJPEG's ratio is of the bits of a sample; ours is of its bytes.
        rate = ratio * depth / (8 * (1 if precision <= 8 else 2))
        options += ["-r", f"{max(rate, 1):.3f}", "-i", source, "-o", target]
        subprocess.run(["opj_compress", *map(str, options)], check=True, capture_output=True)
        return tile_parts(target.read_bytes())


def stages_of(levels: int, pixel: float, apart: float | None, count: int) -> list[tuple[int, int]]:
    def stride(level: int) -> int:
        if apart is None:
            return 1
        exponent = round(numpy.log2(2**level * pixel / apart))
        return 2 ** max(0, int(exponent))

    top = levels - 1
    found = [(top, stride(top))]
    for level in range(top - 1, -1, -1):
        for wanted in (stride(level + 1), stride(level)):
            if (level, wanted) not in found:
                found.append((level, wanted))
    return [(level, wanted) for level, wanted in found if wanted < count or wanted == 1 or (level, wanted) == found[0]]


def stream(slices: list[numpy.ndarray], *, precision: int, drop: int = 0, ratio: float = 10, instances: list[str], frames=None,
           position=None, orientation=None, spacing=None, apart=None, rescale=(1, 0), window=None, photometric="MONOCHROME2",
           state="complete", step=None, known=None) -> bytes:
    """The bytes of a stream; slices have one size."""
    count = len(slices)
    rows, columns = slices[0].shape[:2]
    with ThreadPoolExecutor(2) as threads:
        encoded = list(threads.map(lambda pixels: encode(pixels, precision, drop, ratio), slices))
    levels = levels_of(columns, rows)
    heads = sorted({head for head, _ in encoded})
    stages, lengths, body, have = [], [], [], {}
    for level, stride in stages_of(levels, spacing[1] if spacing else 1, apart, count):
        before = len(lengths)
        for number in range(0, count, stride):
            done = have.get(number, levels)
            if done <= level:
                continue
            parts = encoded[number][1][levels - done : levels - level]
            have[number] = level
            body.append(b"".join(parts))
            lengths.append(len(body[-1]))
        if len(lengths) > before:
            stages.append({"level": level, "stride": stride, "end": sum(lengths)})
    prefix = instances[0]
    while not all(uid.startswith(prefix) for uid in instances):
        prefix = prefix[:-1]
    described = {"rows": rows, "columns": columns, "samples": 1 if slices[0].ndim == 2 else 3, "precision": precision, "drop": drop,
                 "signed": slices[0].dtype.kind == "i", "photometric": photometric, "binning": 1, "lossless": False, "levels": levels}
    places = {"all": None}
    if position is not None:
        places = {"first": list(position), "step": list(step)}
    index = {
        "state": state, "codec": "j2k", "number_of_slices": known or count, "first_slice": 0, "count": count,
        "order": "space" if apart else "number", "slice_spacing": apart, "psnr": {"db": 53.5, "slices": 4},
        "instances": {"prefix": prefix, "rest": [uid[len(prefix):] for uid in instances]},
        "images": [{**described, "head": base64.b64encode(head).decode()} for head in heads],
        "instance": {"first": 0, "step": 1} if len(instances) == count else {"all": 0},
        "frame": {"all": 1} if len(instances) == count else {"first": 1, "step": 1},
        "image": {"all": 0} if len(heads) == 1 else {"each": [heads.index(head) for head, _ in encoded]},
        "position": places, "orientation": {"all": orientation}, "spacing": {"all": spacing}, "rescale": {"all": rescale},
        "window": {"all": window}, "failures": [], "stages": stages, "lengths": lengths,
    }
    text = json.dumps(index, separators=(",", ":")).encode()
    return b"CUSPIDST" + struct.pack("<II", 2, len(text)) + text + b"".join(body)


def phantom(planes: int = 24, rows: int = 115, columns: int = 137) -> numpy.ndarray:
    """Balls of known grey, and a rod from one corner to another."""
    z, y, x = numpy.mgrid[0:planes, 0:rows, 0:columns].astype("f4")
    # The extent in z is that of 4 times as many planes: the phantom is as deep as it is wide.
    volume = numpy.full(z.shape, 100, "f4")
    for centre, radius, grey in [((12, 40, 48), 30, 1100), ((8, 30, 36), 9, 3000), ((16, 50, 62), 7, 2200)]:
        inside = (4 * (z - centre[0])) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < radius**2
        volume[inside] = grey
    rod = (y - 20 - z) ** 2 + (x - 10 - 3 * z) ** 2 < 9
    volume[rod] = 3600
    return volume.astype("u2")


if __name__ == "__main__":
    made = phantom()
    uids = [f"1.2.3.{number}" for number in range(len(made))]
    out = stream(list(made), precision=12, ratio=10, instances=uids, position=[-20, -16, 5], step=[0, 0, 0.4],
                 orientation=[1, 0, 0, 0, 1, 0], spacing=[0.4, 0.4], apart=0.4, rescale=[1, -1000], window=[300, 2500])
    Path(sys.argv[1]).write_bytes(out)
    print(len(out), "bytes")
