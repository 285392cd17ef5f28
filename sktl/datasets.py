"""Images on disk as arrays for scikit-learn, and synthetic images for examples and tests.

Synthetic images are no substitute for photos: accuracies on them say nothing about a real task. They reproduce the
pitfalls of real datasets: similar classes, several images of one patient or plant, and backgrounds that reveal the
class.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ._datasets.bunch import Bunch, bunch
from ._datasets.class_folders import check_layout, images_of_classes, instead_of_classes
from ._datasets.dataset_parts import parts_in, warn_of_inner_classes, warn_of_new_classes
from ._datasets.image_files import ImageFiles, besides, existing_folder, warn_of_ignored
from ._datasets.label_tables import LabelTable, chosen_columns, located, names_of, without_repeats
from ._datasets.library_datasets import from_dataset
from ._datasets.split_columns import about_splits
from ._datasets.synthetic_datasets import make_cats, make_leaves, make_radiographs, make_surface_defects
from ._datasets.table_values import KINDS, possible_splits, values_of
from ._datasets.write_features import load_features, write_features
from ._features.feature_files import ImageFeatures
from ._images.format_readers import missing_extras
from ._images.lazy_images import LazyImages
from ._short_text import shown_value, type_of
from ._utils.paths import checked_path, kept_path, shown
from ._utils.warnings import warn
from .exceptions import ImageFolderWarning, InvalidInputError, InvalidParameterError

__all__ = [
    "ImageFeatures", "LazyImages", "apply_decisions", "from_dataset", "list_images", "load_features",
    "load_image_folder", "load_image_parts", "load_label_table", "make_cats", "make_leaves", "make_radiographs",
    "make_surface_defects", "write_features",
]  # fmt: skip


def load_image_folder(folder: str | os.PathLike[str], *, nested: str = "merge") -> Bunch:
    """List the images in a folder with one subfolder per class: `FOLDER/<class>/*.jpg`.

    Images are not decoded. By default, images in folders below a class folder belong to that class. Files are
    recognized as images by their suffix, or by their first bytes. Other files are left out with a warning. Hidden
    files, and files and folders of the operating system or of a network drive (`Thumbs.db`, `@eaDir`), are left out
    without a warning.

    Links are followed if they add images. A link that leads back to the folder, to a folder above it, or to another
    class is left out with a warning, so that each image keeps the class of its own folder.

    Parameters
    ----------
    folder : str or path-like
        Path of the folder; `~` is the home directory.
    nested : {"merge", "join"}, default="merge"
        How folders below a class folder are treated. `"merge"`: as parts of the class. `"join"`: as separate classes,
        whose names are joined, such as "cat/Siamese".

    Returns
    -------
    bunch : sklearn.utils.Bunch
        Dictionary-like object with the attributes

        - `data`: ndarray of str of shape (n_samples,), the paths, sorted by class and path;
        - `target`: ndarray of str of shape (n_samples,), the class of each image;
        - `target_names`: list of str, the sorted class names;
        - `ignored`: list of str, the files and links that were left out.

    Raises
    ------
    InvalidInputError
        If the folder does not exist, cannot be read, or has no subfolders; if a subfolder has no images; if the
        subfolders are parts of a dataset ("train", "test") or belong to object detection ("images", "labels"); or if
        names of classes look the same; or, for `nested="join"`, if a folder and a folder below it have images.
    InvalidParameterError
        If `folder` is not a path, or `nested` is invalid.

    Warns
    -----
    ImageFolderWarning
        If files were left out, names of classes look nearly the same, or the subfolders may not be the classes: they
        are named like parts of a dataset, one of them is named like "unlabeled" or "trash" or, for `nested="merge"`,
        the folders below them may be the classes, as in 2024/cat and 2025/cat.

    See Also
    --------
    load_image_parts : The same for a folder with parts for training, validation and test.
    list_images : Paths of all images in a folder, without classes.
    load_label_table : Paths and classes, several labels or numbers from a CSV file.

    Notes
    -----
    The images are in the order of their classes. Folds without shuffling, such as ``KFold(3)``, would test on classes
    that are not in their training sets, and give an accuracy of 0. Use ``cv=3``, which is stratified for classifiers,
    or ``KFold(3, shuffle=True)``. If you merge classes in `y`, use ``StratifiedKFold(3, shuffle=True)``. Pass
    ``shuffle=True`` to scikit-learn's ``learning_curve``, too.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np, PIL.Image
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for name in ["cat", "dog"]:
    ...     (folder / name).mkdir()
    ...     PIL.Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / name / "1.png")
    >>> load_image_folder(folder).target
    array(['cat', 'dog'], dtype='<U3')
    """
    root = existing_folder(folder, "Pass a folder with one subfolder per class.")
    files = ImageFiles(root)
    classes = files.children()
    if not classes:
        raise InvalidInputError(
            f"folder={shown(str(root))} has no subfolders. It needs one per class, as in {root.name}/cat/1.jpg and "
            f"{root.name}/dog/1.jpg.{instead_of_classes(root)}"
        )
    check_layout(root, classes, nested)
    return images_of_classes(files, {path.name: path for path in classes}, nested)


def load_image_parts(folder: str | os.PathLike[str], *, nested: str = "merge") -> Bunch:
    """List the images in a folder with parts for training, validation and test: `FOLDER/train/<class>/*.jpg`.

    The folders of the parts are named train or training; val, valid, validation or dev; and test or testing, in upper
    or lower case. A word may follow, as in `train_images`. Class folders are in the parts, as in `train/cat/1.jpg`, or
    above them, as in `cat/train/1.jpg`. Other names raise an error.

    Parameters
    ----------
    folder : str or path-like
        Path of the folder; `~` is the home directory.
    nested : {"merge", "join"}, default="merge"
        How folders below a class folder are treated, as in :func:`load_image_folder`.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        Dictionary-like object with the attributes `train` and, if they exist, `val` and `test`. Each is a Bunch like
        the result of :func:`load_image_folder`.

    Raises
    ------
    InvalidInputError
        If the folder does not exist, has folders that are not parts, two folders for the same part or no part for
        training; or if a part is not a folder of classes.
    InvalidParameterError
        If `folder` is not a path, or `nested` is invalid.

    Warns
    -----
    ImageFolderWarning
        If a part has classes that do not occur in the part for training, files were left out, or the only class folder
        may contain the classes, as in `images/train/cat/1.jpg`.

    See Also
    --------
    load_image_folder : One folder with one subfolder per class.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np, PIL.Image
    >>> from sktl.datasets import load_image_parts
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for name in ["train/cat", "train/dog", "test/cat", "test/dog"]:
    ...     (folder / name).mkdir(parents=True)
    ...     PIL.Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / name / "1.png")
    >>> parts = load_image_parts(folder)
    >>> list(parts)
    ['train', 'test']
    >>> parts.train.target
    array(['cat', 'dog'], dtype='<U3')
    """
    root = existing_folder(folder, "Pass a folder with the parts train, val and test.")
    parts, found = bunch(), parts_in(root)
    if "" not in found["train"] and nested == "merge":
        warn_of_inner_classes(root, found["train"])
    for part, folders in found.items():
        is_above = "" in folders
        parts[part] = (
            load_image_folder(kept_path(folders[""]), nested=nested)
            if is_above
            else images_of_classes(ImageFiles(root), folders, nested)
        )
    warn_of_new_classes(root, {part: images.target_names for part, images in parts.items()})
    return parts


def load_label_table(
    path: str | os.PathLike[str],
    *,
    folder: str | os.PathLike[str] | None = None,
    path_column: str | None = None,
    suffix: str = "",
    columns: str | Sequence[str] | None = None,
    ignore: str | Sequence[str] = (),
    where: Mapping[str, Any] | None = None,
    kind: str = "auto",
) -> Bunch:
    r"""List images whose paths are in one column of a CSV file and whose labels or numbers are in other columns.

    The first row names the columns. Columns without a name, such as the index that pandas writes, are left out. The
    delimiter is the first of comma, semicolon and tab that occurs in the first row, unless a line such as ``sep=;``
    above this row names it. Images are not decoded.

    Parameters
    ----------
    path : str or path-like
        Path of the table, a CSV file in UTF-8; `~` is the home directory.
    folder : str or path-like, default=None
        Folder that paths in the table are relative to. None uses the folder of the table.
    path_column : str, default=None
        Column of paths or URLs. None uses the column named path, file, filename or image, in upper or lower case.
    suffix : str, default=""
        What all paths in the table lack at their ends, such as ".jpg" for a column of identifiers.
    columns : str or list of str, default=None
        Columns of labels or numbers. None uses all columns that no other parameter uses.
    ignore : str or list of str, default=()
        Columns to leave out, if `columns` is None.
    where : dict of str to str or list of str, default=None
        Values that rows must have in some columns, such as ``{"split": "train"}``, or lists of values, such as
        ``{"fold": [1, 2, 3]}``. Other rows are left out, and these columns are not used as labels.
    kind : {"auto", "classes", "labels", "numbers"}, default="auto"
        What the columns contain. `"classes"`: one column with the class of each image. `"labels"`: several columns of 0
        and 1, or of true and false, one for each label. `"numbers"`: one or more columns of numbers. `"auto"` treats
        several columns as labels. It treats one column as numbers if all cells are numbers and some have a fractional
        part, and otherwise as classes. It raises an error if the column has more than 20 different whole numbers,
        different texts that number more than 20 and more than half of the rows, both fractions and texts, or numbers
        with commas that are not labels joined by commas.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        Dictionary-like object with the attributes

        - `data`: ndarray of str of shape (n_samples,), the paths, in the order of the table. URLs are not opened here;
        - `target`: for classes, an ndarray of str or, if all are whole numbers without leading zeros, of int, of shape
          (n_samples,); for labels, an int64 ndarray of shape (n_samples, n_labels) with 0 and 1; for numbers, a float64
          ndarray of shape (n_samples,) or (n_samples, n_columns);
        - `target_names`: list, the sorted classes, or the names of the columns;
        - `kind`: "classes", "labels" or "numbers";
        - `unused`: list of str, the columns that no parameter used, such as one that names the parts of a split.

    Raises
    ------
    InvalidInputError
        If the table cannot be read; if a column is absent; if a file does not exist; if a cell is empty or is invalid
        for its kind; if `kind="auto"` is ambiguous; if one of several columns says to which part of a dataset each
        image belongs, such as "is_valid" or a column of "train" and "test", and `columns` is None; if rows of the same
        image differ; or if names of classes look the same. The message names the row, as in a spreadsheet, and the
        column.
    InvalidParameterError
        If a parameter is invalid, or does not match the number of columns.

    Warns
    -----
    ImageFolderWarning
        If rows that repeat an image were left out; if a class such as "cat;dog" consists of the names of others, or a
        few labels make many such classes; or if several columns have names of parts or splits that may also be names of
        labels, such as "train" and "fold".

    See Also
    --------
    load_image_folder : Paths and labels of a folder with one subfolder per class.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np, PIL.Image
    >>> from sktl.datasets import load_label_table
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for name in ["1.png", "2.png"]:
    ...     PIL.Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / name)
    >>> _ = (folder / "labels.csv").write_text("file,water,trees\n1.png,1,0\n2.png,1,1\n")
    >>> load_label_table(folder / "labels.csv").target
    array([[1, 0],
           [1, 1]])
    """
    name = checked_path(path, "path")
    root = os.path.dirname(name) if folder is None else existing_folder(folder, "Pass the folder of the images.")
    if not isinstance(where, Mapping | None):
        raise InvalidParameterError(f"where is {type_of(where)}. Pass a dict of columns and their values.")
    if not isinstance(suffix, str):
        raise InvalidParameterError(f"suffix={shown_value(suffix)} must be text, such as '.jpg'.")
    table = LabelTable.read(name).where(where or {})
    paths = table.path_column(path_column)
    wanted = None if columns is None else names_of(columns, "columns")
    unwanted = [] if ignore is None else names_of(ignore, "ignore")
    chosen = chosen_columns(table, paths, wanted, unwanted, [*(where or {})])
    splits = possible_splits(table, chosen, kind) if columns is None else []
    table.check_complete(paths, chosen)
    values = values_of(table, chosen, kind, splits)
    data = located(table, paths, kept_path(root), suffix)
    kept = without_repeats(table, data, values.target)
    if splits:
        warn(about_splits(splits, table.name), ImageFolderWarning)
    used = {paths, *chosen, *unwanted, *(where or {})}
    return bunch(
        data=np.array(data)[kept],
        target=values.target[kept],
        target_names=values.names,
        kind=values.kind,
        unused=[column for column in table.columns if column not in used],
    )


def list_images(folder: str | os.PathLike[str]) -> np.ndarray:
    """List all images in a folder and the folders below it, without classes.

    Use it to predict unsorted photos: ``clf.predict(list_images("new"))``. Files are recognized and links are followed
    as in :func:`load_image_folder`.

    Parameters
    ----------
    folder : str or path-like
        Path of the folder; `~` is the home directory.

    Returns
    -------
    paths : ndarray of str of shape (n_samples,)
        Paths of the images, sorted.

    Raises
    ------
    InvalidInputError
        If the folder does not exist, cannot be read, or has no images.
    InvalidParameterError
        If `folder` is not a path.

    See Also
    --------
    load_image_folder : Paths and labels, for a folder with one subfolder per class.

    Examples
    --------
    >>> import os, tempfile, numpy as np, PIL.Image
    >>> from sktl.datasets import list_images
    >>> folder = tempfile.mkdtemp()
    >>> for name in ["1.png", "2.png"]:
    ...     PIL.Image.fromarray(np.zeros((8, 8), np.uint8)).save(os.path.join(folder, name))
    >>> [os.path.basename(path) for path in list_images(folder)]
    ['1.png', '2.png']
    """
    root = existing_folder(folder, "Pass a folder of images.")
    files = ImageFiles(root)
    if not files.add(root):
        message = f"folder={shown(str(root))} has no images{besides(len(files.others))}."
        raise InvalidInputError(f"{message} {missing_extras(files.others)}".rstrip())
    warn_of_ignored(files, "images")
    return np.array(files.images)


def apply_decisions(
    decisions: Any, X: Any, y: Any = None, *arrays: Any, part: str = "train", classes: Any = None, kind: str = "auto"
) -> tuple[Any, ...]:
    """Leave out and relabel images as decided on the page of an audit.

    The page that :meth:`sktl.ImageAudit.to_html` writes lets you download the decisions as a CSV file with the columns
    `part`, `position`, `name`, `decision` (keep, drop or relabel), `label`, `n_images` and `content`; the last two may
    be left out. Image files are not changed. Images without a decision are kept.

    Parameters
    ----------
    decisions : str, path-like or data frame, or a list of these
        The CSV file, or its content as a pandas or polars data frame. Readers of CSV files may change labels: read the
        file with ``pd.read_csv(path, dtype=str, keep_default_na=False)``, or pass the path. A changed label that may
        mean several labels raises an error. A list contains the decisions of several people or audits, from the first
        audit to the last. They must not contradict each other, except that "keep" in a later table confirms what an
        earlier one has decided: the image stays relabeled or dropped.
    X : array-like of shape (n_samples, ...)
        The images that were audited: paths, arrays, or other formats that `fit` accepts. Arrays must be in the same
        order; files may have been added, sorted or removed.
    y : array-like of shape (n_samples,) or (n_samples, n_columns), default=None
        Labels of the images; for several labels, a table of zeros and ones; or numbers.
    *arrays : array-like of shape (n_samples, ...)
        Further values of each image, such as groups, from which the same rows are dropped.
    part : {"train", "test"}, default="train"
        Whether to apply the decisions about `X` or about `X_test` of the audit.
    classes : array-like of shape (n_classes,), default=None
        Labels that may be given in addition to the labels in `y`, such as ``audit.classes_``: test images may lack a
        class that the page offers. Not needed if `y` is a table of several labels.
    kind : {"auto", "classes", "labels", "numbers"}, default="auto"
        What `y` contains. Numbers may be changed to any number, and labels only to labels in `y` or `classes`. `"auto"`
        treats integers as classes, and floats as numbers unless `classes` are given or `y` has at most 20 different
        floats, all of them whole; it treats a table as labels if all cells are 0 or 1, and otherwise as numbers.

    Returns
    -------
    X, y, *arrays : tuple
        The images that are left, their labels, and further values, in containers of the same type, except that tuples
        become lists, and that sparse containers may change their format to CSR. `y` is None if it was not passed.

    Raises
    ------
    InvalidInputError
        If a table cannot be read or a row is invalid; if two rows decide differently about an image; if the image of a
        row is missing or has changed since the audit; if a new label is neither in `y` nor in `classes`; if a new
        number is not finite, or has a fractional part and `y` contains integers; if it is unclear from a data frame
        which label a row means; or if no image is left.
    InvalidParameterError
        If `decisions` is neither a path nor a data frame nor a list of these, or `part`, `classes` or `kind` is
        invalid.

    See Also
    --------
    sktl.audit_images : Find images and labels to decide about.

    Notes
    -----
    A row is about the image at its position if the names are equal; otherwise, if the row has a digest in the column
    `content`, about the only file of this name. If no file has this name, the row is about the image at its position if
    one of the names ends with the other, such as "train/cat/1.jpg" and "/data/train/cat/1.jpg". The content of a file
    must have the digest. Arrays have no names: their positions are compared, and their number with `n_images`.

    The page puts an apostrophe in front of a cell that a spreadsheet program would run as a formula. This function
    removes the apostrophe.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktl.datasets import apply_decisions
    >>> decisions = pd.DataFrame({
    ...     "part": ["train", "train"], "position": [0, 2], "name": ["a.jpg", "c.jpg"],
    ...     "decision": ["drop", "relabel"], "label": ["", "dog"],
    ... })
    >>> X, y = apply_decisions(decisions, ["a.jpg", "b.jpg", "c.jpg"], ["cat", "dog", "cat"])
    >>> X, y
    (['b.jpg', 'c.jpg'], ['dog', 'dog'])
    """
    # Imports PyTorch, for labels in any container; listing folders does not need it.
    from ._datasets.audit_decisions import PARTS, n_rows, of_images, read_decisions
    from ._datasets.relabeling import relabeled, rows_of

    for name, value, valid in (("part", part, PARTS), ("kind", kind, KINDS)):
        if value not in valid:
            raise InvalidParameterError(f"{name}={shown_value(value)} must be one of {', '.join(map(repr, valid))}.")
    of_part, n = of_images(read_decisions(decisions, part), X)
    for name, values in [("y", y), *((f"arrays[{k}]", values) for k, values in enumerate(arrays))]:
        if values is not None and (found := n_rows(values, name)) != n:
            raise InvalidInputError(f"{name} has {found} rows, but X has {n}. Pass one row for each image.")
    if y is None and (changes := [decision for decision in of_part if decision.decision == "relabel"]):
        raise InvalidInputError(f"{changes[0].place} relabels an image, but there are no labels. Pass y.")
    dropped = [decision.position for decision in of_part if decision.decision == "drop"]
    rows = np.delete(np.arange(n), dropped)
    if not len(rows):
        raise InvalidInputError("The decisions drop all images. Keep some.")
    changed = None if y is None else relabeled(y, of_part, classes, kind)
    return tuple(None if values is None else rows_of(values, rows) for values in (X, changed, *arrays))
