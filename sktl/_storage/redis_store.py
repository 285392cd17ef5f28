"""A store of values on a Redis server, which processes on several machines share. The server bounds its size.

    sktl:v1:entry:<space>:<key>   a checksum of 16 bytes, then the value
    sktl:v1:claim:<space>:<key>   the owner; expires by the server's clock unless it is renewed
    sktl:v1:counts                a hash with the numbers of hits and misses

In a fit, no method raises errors of the server or the network. A server that fails, or costs more time than it saves,
is reported once and left alone for a minute; see `Availability`. `contents` and `clear`, which users call, raise
`CacheError`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, NoReturn, TypeVar

from sktl._short_text import one_line
from sktl._utils.optional import require
from sktl._utils.process_errors import is_from_signal_handler
from sktl.exceptions import InvalidParameterError

from .availability import Availability
from .value_store import LARGEST_VALUE, LEASE, Contents, checksum, is_dead

Result = TypeVar("Result")

_SCHEMES = ("redis://", "rediss://", "unix://")
_PREFIX = b"sktl:v1:"
_ENTRY, _CLAIM = _PREFIX + b"entry:%s:%s", _PREFIX + b"claim:%s:%s"
_COUNTS = _PREFIX + b"counts"
_CHECKSUM_BYTES = 16
# A server computes one request at a time, and others wait for it.
_BYTES_PER_REQUEST = 1 << 20
_KEYS_PER_REQUEST = 1024
_FIRST_KEYS = 32  # their values show how many more fit into one request
_CONNECT_SECONDS = 2.0
_REPLY_SECONDS = 5.0
_QUICK = 0.25  # seconds that a request may take, beside the time of its bytes in the slowest network worth using
_BYTES_PER_SECOND = 2e6
_PATIENCE = 5.0  # seconds that slow requests may take beyond that, in sum, before the server is left alone

_CLAIM_KEYS = """
local lease, owner, dead = ARGV[1], ARGV[2], {}
for i = 3, #ARGV do
    dead[ARGV[i]] = true
end
local holders = {}
for i, key in ipairs(KEYS) do
    local holder = redis.call('GET', key)
    if not holder or holder == owner or dead[holder] then
        redis.call('SET', key, owner, 'PX', lease)
        holder = owner
    end
    holders[i] = holder
end
return holders
"""
# Claims expire after this time: renewed, or released at once with 0. Claims that others have taken over stay.
_EXPIRE_CLAIMS = """
local lease, owner = ARGV[1], ARGV[2]
for _, key in ipairs(KEYS) do
    if redis.call('GET', key) == owner then
        redis.call('PEXPIRE', key, lease)
    end
end
"""


def is_redis_url(cache: object) -> bool:
    """Return True if a `cache` parameter is the URL of a Redis server."""
    return isinstance(cache, str) and cache.startswith(_SCHEMES)


class RedisStore:
    """A map from (space, key) to bytes on a Redis server.

    Parameters
    ----------
    url : str
        `redis://`, `rediss://` or `unix://`, as redis-py takes them. Environment variables such as `$REDIS_PASSWORD`
        are replaced here, so that the parameter of an estimator need not contain a password.
    lease : float, default=60.0
        Seconds after which a claim expires unless it is renewed.

    Raises
    ------
    InvalidParameterError
        If the URL is not valid.
    MissingPackageError
        If redis-py is not installed.
    """

    def __init__(self, url: str, lease: float = LEASE):
        self.place = repr(without_password(url))
        self._redis = require("redis", f"cache={self.place}", "sktl[redis]")
        self._url = os.path.expandvars(url)
        self._any_unset, self._place_unset = _names_unset_variable(url), _names_unset_variable(without_password(url))
        self._lease = round(1000 * lease)
        # Replies of unexpected kinds cause any of those after the first two.
        self._errors = (self._redis.RedisError, OSError, AttributeError, TypeError, ValueError, MemoryError)
        self._refusal = self._redis.ResponseError
        self._available = Availability(self.place)
        self._late = 0.0  # seconds that recent requests took too long
        self._open()

    @property
    def address(self) -> tuple[str, ...]:
        return (self.place,)

    def _open(self) -> None:
        """Make a client for this process. It connects when it is first used."""
        redis = self._redis
        # A connection that the server has closed since it was last used is opened again. A server that does not answer
        # in time is not asked again.
        retry = redis.retry.Retry(redis.backoff.NoBackoff(), 1, (redis.ConnectionError,))
        try:
            pool = redis.ConnectionPool.from_url(
                self._url, socket_connect_timeout=_CONNECT_SECONDS, socket_timeout=_REPLY_SECONDS, retry=retry,
                protocol=2,
            )  # fmt: skip
        except ValueError:  # its message may contain a part of the password
            raise InvalidParameterError(
                f"cache={self.place} is not a valid URL. Pass redis://user:password@host:port/database, with special "
                "characters of the password percent-encoded."
            ) from None
        self._server = redis.Redis(connection_pool=pool)
        self._claim_keys = self._server.register_script(_CLAIM_KEYS)
        self._expire_claims = self._server.register_script(_EXPIRE_CLAIMS)
        self._claims: dict[str, set[bytes]] = {}  # those that this process may hold, by their owners
        self._process = os.getpid()

    def read(self, space: str, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the intact values by key. Missing and damaged values are left out."""
        found: dict[bytes, bytes] = {}
        start, n_keys = 0, _FIRST_KEYS
        while start < len(keys):
            some, start = keys[start : start + n_keys], start + n_keys
            stored = self._attempt(partial(self._get, [_ENTRY % (space.encode(), key) for key in some]), None)
            if stored is None:
                break
            for key, record in zip(some, stored, strict=True):
                digest, value = (b"", b"") if record is None else (record[:_CHECKSUM_BYTES], record[_CHECKSUM_BYTES:])
                if digest == checksum(space, key, value):
                    found[key] = value
            longest = max((len(record) for record in stored if record is not None), default=1)
            n_keys = max(1, min(_KEYS_PER_REQUEST, _BYTES_PER_REQUEST // max(1, longest)))
        return found

    def write(self, space: str, items: Sequence[tuple[bytes, bytes]], owner: str = "") -> None:
        """Store values, release the owner's claims on their keys, and renew its other claims."""
        for records in _requests(space, items):
            self._attempt(partial(self._set, records, owner), None, writes=True)
        if owner:
            done = {_CLAIM % (space.encode(), key) for key, _ in items}
            self._attempt(lambda server: self._renew(owner, done), None, writes=True)

    def claim(self, space: str, keys: Sequence[bytes], owner: str) -> list[bytes]:
        """Claim keys. Return those that the owner must compute now; other owners are computing the rest."""

        def claim(server: Any) -> list[bytes]:
            names = [_CLAIM % (space.encode(), key) for key in keys]
            held = self._claims.setdefault(owner, set())
            held.update(names)  # before the reply, which may be lost
            holders = self._claim_keys(names, [self._lease, owner])
            if dead := {holder for holder in holders if is_dead(holder.decode(errors="replace"))}:
                holders = self._claim_keys(names, [self._lease, owner, *dead])
            mine = [holder == owner.encode() for holder in holders]
            held.difference_update(name for name, is_mine in zip(names, mine, strict=True) if not is_mine)
            return [key for key, is_mine in zip(keys, mine, strict=True) if is_mine]

        return self._attempt(claim, list(keys), writes=True) if keys else []

    def release(self, owner: str) -> None:
        """Release all claims of an owner that this process has made."""
        self._attempt(lambda server: self._expire(owner, 0), None, writes=True)
        self._claims.pop(owner, None)

    def count(self, hits: int, misses: int) -> bool:
        """Add hits and misses to the statistics. Return True if they are the first since the store was emptied."""

        def count(server: Any) -> bool:
            totals = server.hincrby(_COUNTS, "hits", hits), server.hincrby(_COUNTS, "misses", misses)
            return totals == (hits, misses)

        return self._attempt(count, False, writes=True)

    def contents(self, spaces_apart: str) -> Contents:
        """Return statistics. Entries of spaces with the given prefix are counted in bytes only.

        The server may have evicted entries without notice, so all of its keys are listed.
        """
        entries = n_bytes = 0
        apart = _ENTRY[: -len(b"%s:%s")] + spaces_apart.encode()
        for names in self._pages(_ENTRY % (b"*", b"*"), "read"):
            lengths = self._execute(partial(_lengths, names), "read")
            known = [(name, n) for name, n in zip(names, lengths, strict=True) if isinstance(n, int)]
            entries += sum(not name.startswith(apart) for name, _ in known)
            n_bytes += sum(max(0, n - _CHECKSUM_BYTES) for _, n in known)
        hits, misses = self._execute(_counts, "read")
        return Contents(hits, misses, entries, n_bytes, self._execute(self._limit, "read"))

    def set_limit(self, max_bytes: int | None) -> NoReturn:
        """Raise `InvalidParameterError`, because the server bounds its own size."""
        raise InvalidParameterError(
            f"The size of the cache at {self.place} is limited by the server, for all of its data. Set maxmemory and "
            "maxmemory-policy in the server's configuration."
        )

    def clear(self) -> None:
        """Remove all entries, claims and statistics. Other data on the server stays."""
        for names in self._pages(_PREFIX + b"*", "cleared"):
            if names:
                self._execute(partial(_unlink, names), "cleared", writes=True)
        self._claims.clear()

    def close(self) -> None:
        """Close the connections of this process. The next use opens them again."""
        self._server.connection_pool.disconnect()

    def _attempt(self, function: Callable[[Any], Result], otherwise: Result, writes: bool = False) -> Result:
        """Return the result of a function of the server, or `otherwise` if the server cannot be used."""
        if not self._available.now(writes):
            return otherwise
        started = time.monotonic()
        try:
            result = self._call(function)
        except self._errors as error:
            if is_from_signal_handler(error):
                raise
            # The server answers, but is full, a replica, or does not let this user write. It can still be read.
            refused = writes and isinstance(error, self._refusal)
            self._available.leave_alone(self._reason(error), refused)
            return otherwise
        self._late = max(0.0, self._late + time.monotonic() - started - _QUICK)
        if self._late > _PATIENCE:
            self._late = 0.0
            for owner in list(self._claims):  # nobody should wait for what is not stored for now
                self.release(owner)
            self._available.leave_alone("the server answers too slowly", writes_only=False)
        return result

    def _execute(self, function: Callable[[Any], Result], task: str, writes: bool = False) -> Result:
        """Return the result of a function that a user asked for, even if the server could not be used just before."""
        try:
            result = self._call(function)
        except self._errors as error:
            raise self._available.error(task, self._reason(error)) from error
        self._available.resume(writes)
        return result

    def _call(self, function: Callable[[Any], Result]) -> Result:
        if self._process != os.getpid():
            # In a forked process, a lock of the parent's client may be held by a thread that does not exist.
            self._open()
        return function(self._server)

    def _reason(self, error: Exception) -> str:
        # A password may contain a dollar sign: it is suspected only if it was refused, and its variable is not named.
        unset = self._place_unset or (self._any_unset and isinstance(error, self._redis.AuthenticationError))
        return one_line(error).rstrip(".") + ("; an environment variable in the URL is not set" if unset else "")

    def _limit(self, server: Any) -> int:
        try:
            return int(server.info("memory").get("maxmemory", 0))
        except self._refusal:  # some servers do not tell all users
            return 0

    def _get(self, names: list[bytes], server: Any) -> list[bytes | None]:
        records: list[bytes | None] = [record for _, record in zip(names, server.mget(names), strict=True)]
        self._late -= sum(len(record) for record in records if record is not None) / _BYTES_PER_SECOND
        return records

    def _set(self, records: dict[bytes, bytes], owner: str, server: Any) -> None:
        self._late -= sum(map(len, records.values())) / _BYTES_PER_SECOND
        try:
            server.mset(records)
        except self._refusal:
            # Nothing is written for the next minute, so nobody should wait for this owner.
            self._expire(owner, 0)
            raise

    def _renew(self, owner: str, done: set[bytes]) -> None:
        """Release the claims of an owner on some keys, and renew the others."""
        held = self._claims.get(owner, set())
        if finished := held & done:
            self._expire_claims(list(finished), [0, owner])
            held -= finished
        self._expire(owner, self._lease)

    def _expire(self, owner: str, milliseconds: int) -> None:
        if held := self._claims.get(owner):
            self._expire_claims(list(held), [milliseconds, owner])

    def _pages(self, pattern: bytes, task: str) -> Iterator[list[bytes]]:
        """Yield the names of the server's keys that match a pattern, some at a time."""
        page = _Page(None, [])
        while page.following != 0:
            page = self._execute(partial(_scan, page.following or 0, pattern), task)
            yield page.names


def _requests(space: str, items: Sequence[tuple[bytes, bytes]]) -> Iterator[dict[bytes, bytes]]:
    """Yield records by name, in requests of bounded size."""
    records: dict[bytes, bytes] = {}
    n_bytes = 0
    for key, value in items:
        if len(value) > LARGEST_VALUE:
            continue
        if records and n_bytes + len(value) > _BYTES_PER_REQUEST:
            yield records
            records, n_bytes = {}, 0
        records[_ENTRY % (space.encode(), key)] = checksum(space, key, value) + value
        n_bytes += len(value)
    if records:
        yield records


def _names_unset_variable(text: str) -> bool:
    return any(name not in os.environ for name in re.findall(r"\$\{?(\w+)", text, re.ASCII))


class _Page(NamedTuple):
    following: int | None  # where the next page begins; 0 after the last one
    names: list[bytes]


def _scan(cursor: int, pattern: bytes, server: Any) -> _Page:
    following, names = server.scan(cursor, pattern, _KEYS_PER_REQUEST)
    return _Page(int(following), [bytes(name) for name in names])


def _lengths(names: list[bytes], server: Any) -> list[Any]:
    """Return the lengths of values by their names; errors for values of other types."""
    pipeline = server.pipeline(transaction=False)
    for name in names:
        pipeline.strlen(name)
    return list(pipeline.execute(raise_on_error=False))


def _counts(server: Any) -> tuple[int, int]:
    hits, misses = (int(number or 0) for number in server.hmget(_COUNTS, ["hits", "misses"]))
    return hits, misses


def _unlink(names: list[bytes], server: Any) -> None:
    server.unlink(*names)


def without_password(url: str) -> str:
    """Return a URL for messages, without user, password and options."""
    return re.sub("//.*@", "//", url, flags=re.DOTALL).partition("?")[0]
