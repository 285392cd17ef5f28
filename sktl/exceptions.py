"""The named errors and warnings of sktl.

Every error is an :class:`SktlError` and also an instance of the built-in type that a scikit-learn user would catch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ._short_text import LONGEST_REASON, NO_BARE_FILE, one_line, shown_name

__all__ = [
    "BackboneError",
    "BackboneWarning",
    "CacheError",
    "CacheWarning",
    "CheckpointError",
    "CheckpointWarning",
    "ClusterWarning",
    "DatasetWarning",
    "DeviceError",
    "DeviceMemoryError",
    "DeviceWarning",
    "EngineError",
    "EngineNotInstalledError",
    "ExportError",
    "HubRequestError",
    "ImageFailure",
    "ImageFolderWarning",
    "InputWarning",
    "InvalidImageError",
    "InvalidImageWarning",
    "InvalidInputError",
    "InvalidParameterError",
    "MissingPackageError",
    "ModelFileError",
    "ModelFileNotFoundError",
    "SktlError",
    "TrainingError",
    "TypicalityError",
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
    """A parameter has an invalid value, alone or in combination with other parameters."""


class InvalidInputError(SktlError, ValueError):
    """`X`, `y` or `sample_weight` as a whole is not in a supported format."""


class ImageFailure(NamedTuple):
    """One image that could not be used.

    Attributes
    ----------
    position : int
        Position of the sample in `X`, from 0.
    name : str
        The full path of the image, or the kind of object at this position. The text of a failure and error messages
        shorten a long name and escape control characters.
    reason : str
        What is wrong with the image, and what to do.
    """

    position: int
    name: str
    reason: str

    def __str__(self) -> str:
        return self.describe("X")

    def describe(self, argument: str) -> str:
        """Return the failure as text.

        Parameters
        ----------
        argument : str
            Name of the argument that contains the image, such as "X".

        Returns
        -------
        description : str
            Position in the argument, name and reason.
        """
        reason = one_line(self.reason, LONGEST_REASON)
        return f"{argument}[{self.position}] ({shown_name(self.name)}): {reason}"


class InvalidImageError(InvalidInputError):
    """Some samples of `X` or `X_val` cannot be used as images.

    Parameters
    ----------
    failures : sequence of ImageFailure
        The images that could not be used, in any order.
    argument : str, default="X"
        Name of the argument that contains the images.
    lead : str, default=""
        Beginning of the message.
    remedy : str, default=""
        What else the user can do, apart from replacing and removing images.

    Attributes
    ----------
    failures : tuple of ImageFailure
        All failures, in the order of `X`. The message lists the first 20.
    """

    def __init__(self, failures: Sequence[ImageFailure], argument: str = "X", lead: str = "", remedy: str = ""):
        self.failures = tuple(sorted(failures))
        self.argument = argument
        self.lead = lead
        self.remedy = remedy
        listed = [failure.describe(argument) for failure in self.failures[:_LISTED_FAILURES]]
        if len(self.failures) == 1:
            message = f"An image of {argument} cannot be used. {listed[0]}"
        else:
            rest = len(self.failures) - len(listed)
            more = [f"and {rest} more, all in the `failures` attribute of this error"] if rest else []
            message = "\n  ".join([f"{len(self.failures)} images of {argument} cannot be used:", *listed, *more])
        super().__init__(f"{lead} {message}\n{self._advice()}".lstrip())

    def _advice(self) -> str:
        full_paths = "Pass full paths, as sktl.datasets.list_images(folder) returns them. "
        them, also = "it" if len(self.failures) == 1 else "them", f", or {self.remedy}" if self.remedy else ""
        check = f"sktl.check_images({self.argument}) lists all such images before a fit or a search."
        are_bare = all(failure.reason == NO_BARE_FILE for failure in self.failures)
        return f"{full_paths if are_bare else ''}Replace or remove {them}{also}. {check}"

    def __reduce__(self) -> tuple[type[InvalidImageError], tuple[tuple[ImageFailure, ...], str, str, str]]:
        return type(self), (self.failures, self.argument, self.lead, self.remedy)


class BackboneError(SktlError, ValueError):
    """A backbone cannot be used as requested, for instance with the given image size."""


class UnknownBackboneError(BackboneError):
    """No backbone has this name, or the backbone has no weights of this name."""


class WeightsError(SktlError, RuntimeError):
    """Pretrained weights cannot be used."""


class WeightsNotFoundError(WeightsError, FileNotFoundError):
    """The weights file does not exist."""


class WeightsCorruptError(WeightsError):
    """A weights file differs from the published file, is damaged, or is unsafe to load."""


class WeightsMismatchError(WeightsError, ValueError):
    """The weights belong to another architecture."""


class WeightsUnavailableError(WeightsError, OSError):
    """The weights are not on this machine and could not be downloaded."""


class DeviceError(SktlError, RuntimeError):
    """The requested device is unavailable on this machine, or does not natively support the requested precision."""


class DeviceMemoryError(DeviceError, MemoryError):
    """There is not enough memory, on the device or for the process, even for a single image or for the network."""


class EngineError(SktlError, RuntimeError):
    """The requested engine cannot run the network or does not support the device, or the network needs float32."""


class EngineNotInstalledError(EngineError, ImportError):
    """The package of the requested engine is not installed."""


class MissingPackageError(SktlError, ModuleNotFoundError):
    """The call needs an optional package that is not installed."""


class ModelFileError(SktlError, RuntimeError):
    """A saved or exported model cannot be loaded: damaged file, unknown format, or unavailable network."""


class ModelFileNotFoundError(ModelFileError, FileNotFoundError):
    """The file of a saved model or its folder does not exist, or the path is not a file."""


class ExportError(SktlError, RuntimeError):
    """A model cannot be exported, or the exported file computes different outputs; nothing was written."""


class HubRequestError(SktlError, RuntimeError, OSError):
    """The hub cannot be reached, refuses a request, or has no such repository, revision or file."""


class CacheError(SktlError, RuntimeError, OSError):
    """A cache cannot be read, cleared or limited as requested, for instance because another process has locked it."""


class CheckpointError(SktlError, RuntimeError):
    """A checkpoint cannot be used: it is damaged, or belongs to another fit."""


class TrainingError(SktlError, RuntimeError):
    """Training failed, for instance because the loss is no longer finite."""


class TypicalityError(SktlError, RuntimeError):
    """The typicality of images is unavailable for this estimator."""


class BackboneWarning(UserWarning):
    """A setting of the backbone is valid, but probably not intended."""


class DeviceWarning(UserWarning):
    """The memory of the device is too small for a full batch; results may differ in their last bits."""


class ImageFolderWarning(UserWarning):
    """Files in an image folder were left out, or subfolders or labels in a table may not be classes."""


class InputWarning(UserWarning):
    """`X` or `y` is valid, but probably not what was intended."""


class DatasetWarning(UserWarning):
    """Images of a dataset change each time they are read, or were all decoded to read their targets."""


class InvalidImageWarning(UserWarning):
    """Images that cannot be used were left out or have rows of NaN because of `invalid_images`.

    Also warned if an invalid `SKTL_MAX_PIXELS` is ignored.
    """


class CheckpointWarning(UserWarning):
    """The state of the training could not be saved; training continues."""


class CacheWarning(UserWarning):
    """The cache of features is damaged, full, slow or unavailable; results do not change, but take longer."""


class ClusterWarning(UserWarning):
    """Workers of a cluster failed or could not use some images; the main process computed these images instead."""
