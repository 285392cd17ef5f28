"""What the stores of shared values have in common: their methods, checksums, and owners of claims.

An entry is identified by its space (the function that computed it) and its key (the input). Each value has a checksum
over space, key and value, which is verified at each read. Writers claim keys before they compute the values, so that no
two processes do the same work. A claim expires with its owner.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import uuid
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from sktl._utils.processes import is_running

BULKY = "bulky "  # prefix of spaces whose entries only evict entries of such spaces
LEASE = 60.0  # seconds after which a claim expires unless it is renewed
LARGEST_VALUE = 1 << 28  # in bytes; longer values are not stored


class Contents(NamedTuple):
    """Contents and usage of a store."""

    hits: int
    misses: int
    entries: int
    bytes: int
    max_bytes: int


class ValueStore(Protocol):
    """A bounded map from (space, key) to bytes, which several processes share.

    In a fit, problems with the file or the server are reported once and never raised: nothing is found then, nothing is
    stored, and every claim succeeds, so the process computes for itself. `contents`, `set_limit` and `clear`, which
    users call, raise `CacheError` instead.
    """

    @property
    def address(self) -> tuple[str, ...]:
        """Identifier of this store among the stores of all processes and machines."""

    def read(self, space: str, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the intact values by key. Missing and damaged values are left out."""

    def write(self, space: str, items: Sequence[tuple[bytes, bytes]], owner: str = "") -> None:
        """Store values as far as there is room, release the owner's claims on their keys, and renew its other claims.

        Without items, it is a sign of life of the owner.
        """

    def claim(self, space: str, keys: Sequence[bytes], owner: str) -> list[bytes]:
        """Claim keys. Return those that the owner must compute now; other owners are computing the rest."""

    def release(self, owner: str) -> None:
        """Release all claims of an owner."""

    def count(self, hits: int, misses: int) -> bool:
        """Add hits and misses to the statistics. Return True if they are the first since the store was emptied."""

    def contents(self, spaces_apart: str) -> Contents:
        """Return statistics. Entries of spaces with the given prefix are counted in bytes only."""

    def set_limit(self, max_bytes: int | None) -> None:
        """Set the size limit of this store, or None for the default, and remove what exceeds it."""

    def clear(self) -> None:
        """Remove all entries and reset the statistics to zero."""

    def close(self) -> None:
        """Close the connections of this process. The next use opens them again."""


def checksum(space: str, key: bytes, value: bytes) -> bytes:
    """Return 16 bytes that change if a value is damaged or was stored for another space or key."""
    # The checksum covers space and key, because a damaged index can lead to the intact value of another key. CRC-32 and
    # Adler-32 come first, because a cryptographic digest of large values takes longer than reading them.
    sums = (len(value), zlib.crc32(value), zlib.adler32(value), len(key))
    return hashlib.blake2b(b"%d %d %d %d %s %s" % (*sums, key, space.encode()), digest_size=16).digest()


def machine() -> str:
    """Return a name within which process ids are unique: for this host, or for a container on it."""
    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return platform.node()
    return f"{platform.node()}-{namespace}"


def new_owner() -> str:
    """Return a new name for an owner of claims, from which others can see whether its process is running."""
    return f"{_this_machine()} {os.getpid()} {uuid.uuid4().hex}"


def is_dead(owner: str) -> bool:
    """Return True if the process of an owner is known to have ended."""
    there, _, pid = owner.rpartition(" ")[0].rpartition(" ")
    return there == _this_machine() and pid.isdigit() and not is_running(int(pid))


def _this_machine() -> str:
    # Machines with the same host name may share a server. Without the identifier, each would take the processes of the
    # other for dead.
    return f"{machine()} {_boot()}"


@functools.cache
def _boot() -> str:
    """Return an identifier of this start of the machine; empty if the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
