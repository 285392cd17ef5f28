"""Model files whose documents were changed."""

from __future__ import annotations

from sktl._storage.model_file import open_model, write_model


def forged(path, change):
    """Change the document and the tensors of a model file, and give it the right checksum again."""
    with open_model(path) as file:
        document = file.document
        tensors = {name: file._file.get_tensor(name) for name in file._names}
    change(document, tensors)
    write_model(path, document, tensors)


def setting(*keys, value):
    """Return a change that sets an item of the document."""

    def change(document, tensors):
        inner = document
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value

    return change
