"""The named errors and warnings of sktl.

Every error is a :class:`SktlError` and, beside it, the built-in type that a scikit-learn user would catch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ._words import LONGEST_REASON, one_line, shown_name

__all__ = [
    "BackboneError",
    "BackboneWarning",
    "CacheWarning",
    "CheckpointError",
    "CheckpointWarning",
    "DeviceError",
    "DeviceMemoryError",
    "DeviceWarning",
    "EngineError",
    "EngineNotInstalledError",
    "HubRequestError",
    "ImageFailure",
    "ImageFolderWarning",
    "InvalidImageError",
    "InvalidImageWarning",
    "InvalidInputError",
    "InvalidParameterError",
    "MissingPackageError",
    "ModelFileError",
    "ModelFileNotFoundError",
    "SktlError",
    "TrainingError",
    "UnknownBackboneError",
    "WeightsCorruptError",
    "WeightsError",
    "WeightsMismatchError",
    "WeightsNotFoundError",
    "WeightsUnavailableError",
]

_LISTED_FAILURES = 20


class SktlError(Exception):
    """Base class of all errors that sktl raises on purpose."""


class InvalidParameterError(SktlError, ValueError, TypeError):
    """A constructor parameter has a value that it cannot have, alone or beside the others."""


class InvalidInputError(SktlError, ValueError):
    """`X`, `y` or `sample_weight` as a whole has no legal form."""


class ImageFailure(NamedTuple):
    """One image that could not be used.

    Attributes
    ----------
    position : int
        Position of the sample in `X`, from 0.
    name : str
        The path, or the kind of object, that was found there, in full. The text of a failure, and so the message of an
        error, shortens a long name and escapes control characters.
    reason : str
        What is wrong with it and what to do.
    """

    position: int
    name: str
    reason: str

    def __str__(self) -> str:
        return self.describe("X")

    def describe(self, argument: str) -> str:
        """Return the failure in words.

        Parameters
        ----------
        argument : str
            What holds the image, such as "X".

        Returns
        -------
        description : str
            With the place in the argument.
        """
        reason = one_line(self.reason, LONGEST_REASON)
        return f"{argument}[{self.position}] ({shown_name(self.name)}): {reason}"


class InvalidImageError(InvalidInputError):
    """Some samples of `X`, or of `X_val`, are not images that can be used.

    Parameters
    ----------
    failures : sequence of ImageFailure
        Those that could not be used, in any order.
    argument : str, default="X"
        What holds them.
    lead : str, default=""
        What comes first in the message.

    Attributes
    ----------
    failures : tuple of ImageFailure
        All of them, in the order of `X`; the message lists the first 20.
    """

    def __init__(self, failures: Sequence[ImageFailure], argument: str = "X", lead: str = ""):
        self.failures = tuple(sorted(failures))
        self.argument = argument
        self.lead = lead
        listed = [failure.describe(argument) for failure in self.failures[:_LISTED_FAILURES]]
        if len(self.failures) == 1:
            message = f"An image of {argument} cannot be used. {listed[0]}"
        else:
            rest = len(self.failures) - len(listed)
            more = [f"and {rest} more, all in the `failures` attribute of this error"] if rest else []
            advice = f"sktl.check_images({argument}) returns this list before a fit or a search."
            message = "\n  ".join([f"{len(self.failures)} images of {argument} cannot be used:", *listed, *more])
            message = f"{message}\n{advice}"
        super().__init__(f"{lead} {message}" if lead else message)

    def __reduce__(self) -> tuple[type[InvalidImageError], tuple[tuple[ImageFailure, ...], str, str]]:
        return type(self), (self.failures, self.argument, self.lead)


class BackboneError(SktlError, ValueError):
    """A backbone cannot be used as asked, for instance at the wanted image size."""


class UnknownBackboneError(BackboneError):
    """No backbone, or no weights of it, has this name."""


class WeightsError(SktlError, RuntimeError):
    """Pretrained weights cannot be used."""


class WeightsNotFoundError(WeightsError, FileNotFoundError):
    """The file of weights is not there."""


class WeightsCorruptError(WeightsError):
    """The bytes of a weights file are not what was published, damaged, or unsafe to load."""


class WeightsMismatchError(WeightsError, ValueError):
    """The weights are those of another architecture."""


class WeightsUnavailableError(WeightsError, OSError):
    """The weights are not on this machine and could not be downloaded."""


class DeviceError(SktlError, RuntimeError):
    """The device asked for is not on this machine."""


class DeviceMemoryError(DeviceError, MemoryError):
    """Not even one image at a time fits into the memory of the device."""


class EngineError(SktlError, RuntimeError):
    """The engine asked for cannot run the network, or not on this device."""


class EngineNotInstalledError(EngineError, ImportError):
    """The package of the engine asked for is not installed."""


class MissingPackageError(SktlError, ImportError):
    """An optional package is not installed that the call needs."""


class ModelFileError(SktlError, RuntimeError):
    """A saved model cannot be loaded: damaged, of another format, or of a network that this machine has not."""


class ModelFileNotFoundError(ModelFileError, FileNotFoundError):
    """The file of a saved model, or the folder for it, is not there, or is something else than a file."""


class HubRequestError(SktlError, RuntimeError, OSError):
    """The hub cannot be reached, refuses, or has no such repository, revision or file."""


class CheckpointError(SktlError, RuntimeError):
    """A checkpoint cannot be used: damaged, or that of another fit."""


class TrainingError(SktlError, RuntimeError):
    """Training broke down, for instance because the loss is no longer finite."""


class BackboneWarning(UserWarning):
    """Something about the backbone that is legal but probably not wanted."""


class DeviceWarning(UserWarning):
    """The memory of the device is too small for what runs there at once; results may differ in their last bits."""


class ImageFolderWarning(UserWarning):
    """Files in an image folder were left out."""


class InvalidImageWarning(UserWarning):
    """Images were left out of a fit, as `invalid_images="skip"` wants it, or a limit for them is ignored."""


class CheckpointWarning(UserWarning):
    """The state of a training could not be kept; the training goes on."""


class CacheWarning(UserWarning):
    """The cache of features is damaged, full or out of reach; results do not change, and take longer."""
