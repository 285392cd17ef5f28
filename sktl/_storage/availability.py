"""Leave a store alone for a while after a failure, and report each kind of failure once."""

from __future__ import annotations

import time

from sktl._short_text import one_line
from sktl._utils.warnings import warn
from sktl.exceptions import CacheError, CacheWarning

PAUSE = 60.0  # seconds for which a store is not used after a failure


class Availability:
    """Whether a store can be used now, as far as this process knows.

    Parameters
    ----------
    place : str
        The store, as messages name it.

    Attributes
    ----------
    unusable_until, unwritable_until : float
        The ends of the pauses after the last failures, in seconds of the monotonic clock.
    """

    def __init__(self, place: str):
        self.place = place
        self.unusable_until = self.unwritable_until = 0.0
        self._reported: set[str] = set()

    def now(self, writes: bool) -> bool:
        """Return True if no failure is so recent that the store is left alone."""
        now = time.monotonic()
        return now >= self.unusable_until and not (writes and now < self.unwritable_until)

    def leave_alone(self, reason: str, writes_only: bool) -> None:
        """Do not use the store for a while, or do not write to it, and report why."""
        until = time.monotonic() + PAUSE
        if writes_only:
            self.unwritable_until = until
        else:
            self.unusable_until = until
        problem = f"cannot be {'written' if writes_only else 'used'}"
        self.report(problem, f" ({reason}), so features are recomputed for now")

    def resume(self, writes: bool) -> None:
        """End the pause, because the store has just been read, or written."""
        self.unusable_until = 0.0
        if writes:
            self.unwritable_until = 0.0

    def error(self, task: str, reason: object) -> CacheError:
        """Return the error for what a user asked of the store, such as "cleared", and what failed."""
        return CacheError(
            f"The cache in {self.place} cannot be {task}: {one_line(reason).rstrip('.')}. Remove the cause, and call "
            "the function again."
        )

    def report(self, problem: str, more: str) -> None:
        """Warn about a problem the first time that it occurs."""
        if problem not in self._reported:
            self._reported.add(problem)
            warn(f"The cache in {self.place} {problem}{more}.", CacheWarning)
