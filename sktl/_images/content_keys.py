"""Content keys: what identifies the pixels of a sample, whether it is a file or an array."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np

from .format_readers import READERS, reader_name

_DIGEST_SIZE = 32


class ContentName(NamedTuple):
    """What the bytes of a sample alone tell about it: their digest, and the name of the reader to which they belong."""

    digest: bytes
    reader: str = ""

    @property
    def key(self) -> bytes:
        """The content key: 32 bytes that identify the pixels of the sample in this process."""
        return _key_of(*self)

    def encode(self) -> bytes:
        """Return the name as bytes that another process can decode."""
        return self.digest + self.reader.encode()

    @classmethod
    def decode(cls, encoded: bytes) -> ContentName:
        """Return the name that `encode` wrote."""
        return cls(encoded[:_DIGEST_SIZE], encoded[_DIGEST_SIZE:].decode())


def content_name(content: bytes | np.ndarray) -> ContentName:
    """Return the name of the content of a sample: the bytes of its file, or its shape and RGB pixels."""
    if isinstance(content, bytes):
        digest = hashlib.sha256(b"file")
        digest.update(content)
        return ContentName(digest.digest(), reader_name(content))
    # With the shape, because the same bytes in another shape are another image.
    digest = hashlib.sha256(b"pixels %d %d" % content.shape[:2])
    digest.update(np.ascontiguousarray(content).data)
    return ContentName(digest.digest())


def content_key(content: bytes | np.ndarray) -> bytes:
    """Return 32 bytes that identify the content of a sample, and the reader of its file if that is not Pillow."""
    return content_name(content).key


def _key_of(digest: bytes, name: str) -> bytes:
    """Return the content key of a file, given the digest of its bytes and the name of its reader."""
    reader = READERS.get(name)
    if reader is None or not reader.is_active:
        return digest
    return hashlib.sha256(repr(reader.identity()).encode() + digest).digest()
