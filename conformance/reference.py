"""The expected rendered image of a frame, computed with NumPy from the formulas of the standard alone."""

import warnings

import numpy
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array


def rendered(data_set: Dataset, frame: int = 1, window: tuple | None = None) -> numpy.ndarray:
    """The frame (from 1) with its own modality LUT, and its own first VOI LUT or window or else the one given; grey or
    RGB, of 8 bits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stored = pixel_array(data_set, index=frame - 1)  # RGB, where it was luminance and chrominance
    if data_set.HighBit != data_set.BitsStored - 1:  # pydicom takes the low bits
        stored = numpy.frombuffer(data_set.PixelData, f"<u{data_set.BitsAllocated // 8}").reshape(stored.shape)
        stored = stored >> (data_set.HighBit + 1 - data_set.BitsStored)
    if data_set.PhotometricInterpretation == "PALETTE COLOR":
        return palette(data_set, stored)
    if data_set.SamplesPerPixel == 3:
        highest = 2**data_set.BitsStored - 1
        return numpy.rint(stored * 255.0 / highest).astype(numpy.uint8)
    values = modality(data_set, stored.astype(float))
    level = interest(data_set, values, window)
    is_inverse = data_set.get("PresentationLUTShape") == "INVERSE"
    if data_set.PhotometricInterpretation == "MONOCHROME1" or is_inverse:
        level = 1 - level
    return numpy.rint(255 * level).astype(numpy.uint8)


def modality(data_set: Dataset, values: numpy.ndarray) -> numpy.ndarray:
    """The values after the modality LUT or rescaling (PS3.3 §C.11.1)."""
    if "ModalityLUTSequence" in data_set:
        return look_up(data_set.ModalityLUTSequence[0], values)
    return values * float(data_set.get("RescaleSlope", 1)) + float(data_set.get("RescaleIntercept", 0))


def interest(data_set: Dataset, values: numpy.ndarray, window: tuple | None) -> numpy.ndarray:
    """The levels from 0 to 1 after the VOI LUT or window (PS3.3 §C.11.2)."""
    if window is None and "VOILUTSequence" in data_set:
        item = data_set.VOILUTSequence[0]
        return look_up(item, values) / (2 ** item.LUTDescriptor[2] - 1)
    if window is None and "WindowCenter" in data_set:
        center, width = (numpy.atleast_1d(data_set[name].value)[0] for name in ("WindowCenter", "WindowWidth"))
        window = float(center), float(width), data_set.get("VOILUTFunction", "LINEAR")
    if window is None:
        return full_range(data_set, values)
    center, width, function = window
    if function == "LINEAR":
        level = (values - (center - 0.5)) / max(width - 1, 1e-12) + 0.5
        return numpy.clip(level, 0, 1)
    if function == "LINEAR_EXACT":
        return numpy.clip((values - center) / width + 0.5, 0, 1)
    assert function == "SIGMOID"
    return 1 / (1 + numpy.exp(numpy.clip(-4 * (values - center) / width, -99, 99)))


def full_range(data_set: Dataset, values: numpy.ndarray) -> numpy.ndarray:
    """The levels from 0 to 1 without a window, which the standard leaves open: over all possible values up to 8 bits, over
    the values of the frame beyond."""
    lowest, highest = values.min(), values.max()
    if data_set.BitsStored <= 8:
        ends = numpy.array([0, 2**data_set.BitsStored - 1.0])
        if data_set.PixelRepresentation:
            ends -= 2 ** (data_set.BitsStored - 1)
        ends = modality(data_set, ends)
        lowest, highest = ends.min(), ends.max()
    return (values - lowest) / max(highest - lowest, 1e-12)


def look_up(item: Dataset, values: numpy.ndarray) -> numpy.ndarray:
    """The entries of a LUT (PS3.3 §C.11.1.1, §C.11.2.1.1) of words."""
    count, first, _ = item.LUTDescriptor
    data = item.LUTData
    entries = numpy.frombuffer(data, "<u2") if isinstance(data, bytes) else numpy.array(data)
    assert len(entries) == (count or 65536)
    return entries[numpy.clip(numpy.rint(values).astype(int) - first, 0, len(entries) - 1)]


def palette(data_set: Dataset, stored: numpy.ndarray) -> numpy.ndarray:
    """The colours of a palette (PS3.3 §C.7.6.3.1.5, §C.7.9.2)."""
    channels = []
    order = ">" if data_set.original_encoding[1] is False else "<"
    for colour in ("Red", "Green", "Blue"):
        count, first, bits = data_set[f"{colour}PaletteColorLookupTableDescriptor"].value
        type_of_entry = "u1" if bits == 8 else f"{order}u2"
        if f"{colour}PaletteColorLookupTableData" in data_set:
            entries = numpy.frombuffer(data_set[f"{colour}PaletteColorLookupTableData"].value, type_of_entry)
        else:
            data = data_set[f"Segmented{colour}PaletteColorLookupTableData"].value
            entries = expanded(numpy.frombuffer(data, type_of_entry).tolist(), bits)
        entries = numpy.asarray(entries)[: count or 65536]
        place = numpy.clip(stored.astype(int) - first, 0, len(entries) - 1)
        channels.append(numpy.rint(entries[place] * 255.0 / (2**bits - 1)).astype(numpy.uint8))
    return numpy.stack(channels, -1)


def expanded(data: list, bits: int, at: int = 0, count: int | None = None, before: tuple = ()) -> list:
    """The entries of segments from place `at` on: values, lines from the entry before, references by offsets in bytes
    whose low part comes first."""
    entries = []
    while at + 1 < len(data) and count != 0:
        opcode, length = data[at], data[at + 1]
        at += 2
        if opcode == 0:
            entries += data[at : at + length]
            at += length
        elif opcode == 1:
            start = (list(before) + entries)[-1]
            entries += [round(start + (data[at] - start) * step / length) for step in range(1, length + 1)]
            at += 1
        else:
            words = 4 if bits == 8 else 2
            offset = sum(part << (bits * place) for place, part in enumerate(data[at : at + words]))
            entries += expanded(data, bits, offset * 8 // bits, length, tuple(list(before) + entries))
            at += words
        count = None if count is None else count - 1
    return entries
