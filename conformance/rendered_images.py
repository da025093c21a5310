"""Images to render, their expected grey levels, and rendered images read back."""

from io import BytesIO

import numpy
from PIL import Image
from pydicom.dataset import Dataset

from build import instance

ROWS, COLUMNS = 48, 64


def values(frame: int = 1) -> numpy.ndarray:
    """The samples of frame `frame` (from 1) of `gradient`: they rise to the right and, faster with each frame, downwards."""
    row, column = numpy.mgrid[0:ROWS, 0:COLUMNS]
    return (40 * column + 8 * frame * row).astype("<u2")


def gradient(frames: int = 1, **attributes) -> Dataset:
    """An image of 12 bits in 48 rows and 64 columns."""
    data_set = instance(**attributes)
    data_set.SamplesPerPixel, data_set.PhotometricInterpretation = 1, "MONOCHROME2"
    data_set.Rows, data_set.Columns = ROWS, COLUMNS
    data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit, data_set.PixelRepresentation = 16, 12, 11, 0
    if frames > 1:
        data_set.NumberOfFrames = frames
    data_set.PixelData = b"".join(values(frame).tobytes() for frame in range(1, frames + 1))
    return data_set


def windowed(samples: numpy.ndarray, center: float, width: float, function: str = "linear") -> numpy.ndarray:
    """Grey levels by PS3.3 §C.11.2.1.2 and §C.11.2.1.3."""
    x = samples.astype(float)
    if function == "linear":
        y = (x - (center - 0.5)) / (width - 1) + 0.5
    elif function == "linear-exact":
        y = (x - center) / width + 0.5
    else:
        y = 1 / (1 + numpy.exp(-4 * (x - center) / width))
    return 255 * y.clip(0, 1)


def rendered_image(body: bytes) -> Image.Image:
    opened = Image.open(BytesIO(body))
    opened.load()
    return opened


def grey(body: bytes) -> numpy.ndarray:
    """The grey levels of a rendered image."""
    return numpy.asarray(rendered_image(body).convert("L")).astype(float)


def difference(body: bytes, expected: numpy.ndarray) -> float:
    """The largest difference between a rendered image and the expected levels."""
    found = grey(body)
    assert found.shape == expected.shape
    return numpy.abs(found - expected).max()
