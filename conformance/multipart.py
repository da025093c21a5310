"""Writing and reading multipart/related bodies (PS3.18 §8.6.1.2, RFC 2046 §5.1)."""

from email.message import Message
from typing import NamedTuple

BOUNDARY = "a-boundary-of-the-tests"
DICOM = "application/dicom"


class Part(NamedTuple):
    headers: dict
    body: bytes


def write(bodies: list, media_type: str = DICOM, boundary: str = BOUNDARY) -> bytes:
    """A body of parts of one media type."""
    pieces = []
    for body in bodies:
        pieces += [f"--{boundary}\r\nContent-Type: {media_type}\r\n\r\n".encode(), body, b"\r\n"]
    return b"".join([*pieces, f"--{boundary}--\r\n".encode()])


def content_type(media_type: str = DICOM, boundary: str = BOUNDARY) -> str:
    return f'multipart/related; type="{media_type}"; boundary={boundary}'


def parameters(value: str) -> tuple:
    """A media type in lower case, and its parameters."""
    message = Message()
    message["Content-Type"] = value
    return message.get_content_type(), dict(message.get_params()[1:])


def read(response) -> list:
    """The parts of a response of `requests`, with the names of their headers in lower case."""
    media_type, given = parameters(response.headers["Content-Type"])
    assert media_type == "multipart/related", media_type
    delimiter = b"\r\n--" + given["boundary"].encode()
    sections = (b"\r\n" + response.content).split(delimiter)
    assert sections[-1].startswith(b"--"), "the closing delimiter is missing"
    found = []
    for section in sections[1:-1]:
        head, body = section.removeprefix(b"\r\n").split(b"\r\n\r\n", 1)
        lines = (line.split(":", 1) for line in head.decode().split("\r\n"))
        found.append(Part({name.lower(): value.strip() for name, value in lines}, body))
    return found
