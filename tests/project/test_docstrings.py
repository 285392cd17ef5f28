"""Every public docstring has the form of numpydoc, and says what each parameter and each return value is."""

from __future__ import annotations

import inspect
from operator import attrgetter

import pytest

import sktl

validate = pytest.importorskip("numpydoc.validate", reason="the extra `test` installs numpydoc").validate
# All checks but these.
LEFT_OUT = {
    "ES01": "one sentence is often all that there is to say",
    "SA01": "most names have no neighbour that is easily mistaken for them",
    "EX01": "examples stand where they explain; methods are in those of their classes",
    "RT02": "numpydoc allows names of return values, which tell more than types",
}
OBJECTS = {
    f"sktl.{name}": getattr(sktl, name)
    for name in sktl.__all__
    if callable(getattr(sktl, name))
} | {
    f"sktl.{module}.{name}": getattr(getattr(sktl, module), name)
    for module in ("datasets", "exceptions", "runtime")
    for name in getattr(sktl, module).__all__
}  # fmt: skip
METHODS = [
    f"{name}.{method}"
    for name, cls in OBJECTS.items()
    if inspect.isclass(cls)
    for method, function in inspect.getmembers(cls, inspect.isroutine)
    if not method.startswith("_") and (getattr(function, "__module__", None) or "").startswith("sktl")
]


# Only functions of sktl make them, so that their fields are documented as attributes.
RESULTS = {"sktl.BackboneInfo", "sktl.RankedBackbone", "sktl.CacheInfo", "sktl.exceptions.ImageFailure"}


def errors_of(name):
    """Return what is wrong with a docstring."""
    left_out = {*LEFT_OUT, "PR01"} if name in RESULTS else LEFT_OUT
    return [f"{code}: {message}" for code, message in validate(name)["errors"] if code not in left_out]


@pytest.mark.parametrize("name", [*OBJECTS, *METHODS])
def test_a_docstring_has_the_form_of_numpydoc(name):
    assert not errors_of(name)


def test_methods_are_among_what_is_checked():
    assert {"sktl.PretrainedImageClassifier.fit", "sktl.PretrainedImageEncoder.save"} <= set(METHODS)


def test_type_checkers_know_what_is_returned():
    returned = {
        name: inspect.signature(attrgetter(name.removeprefix("sktl."))(sktl)).return_annotation
        for name in (*OBJECTS, *METHODS)
        if not inspect.isclass(OBJECTS.get(name))
    }
    untyped = {name for name, type_ in returned.items() if type_ in ("Any", inspect.Signature.empty)}
    assert untyped == {"sktl.BackboneRanking.to_frame", "sktl.ImageAudit.to_frame"}  # pandas has no types
