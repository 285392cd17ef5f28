"""`export`: convert a fitted estimator to a file that runs without sktl, and verify the file in its own runtime."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sktl._utils.settings_isolation import isolated
from sktl._utils.standard_streams import open_streams
from sktl.exceptions import ExportError
from sktl.runtime.document import ModelDocument

from .export_arguments import (
    Images,
    check_estimator,
    check_packages,
    check_precision,
    check_references,
    most_drop,
    notes,
)
from .export_documents import check_describable, document_of, kind_of
from .export_paths import Target
from .export_report import ExportReport
from .exported_network import PixelGraph, traced
from .model_format import Run
from .onnx_file import check_size, to_onnx, with_half_weights
from .quantization import Quantized, harm, quantize, with_corrected_bias
from .reference_images import reference_pixels
from .verification import (
    Answers,
    Comparison,
    GivenImage,
    PixelBatches,
    answers_of_estimator,
    answers_of_run,
    check_document,
    check_drop,
    check_rounding,
    check_variance,
    drop_of,
)

# Enough to order layers by the harm that they do.
_MOST_FOR_ORDER = 48


@isolated()
def export(
    estimator: Any,
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    precision: str = "float32",
    calibration: Any = None,
    max_drop: float | None = None,
    verify: Any = None,
    include_references: bool = False,
) -> ExportReport:
    """Export a fitted estimator to a file that runs without sktl, in ONNX Runtime, OpenVINO or PyTorch.

    The file maps uint8 pixels of shape (n, H, W, 3), at the size of the network's input and for any n, to
    probabilities, numbers or features. It contains normalization, the network, the output layer, and softmax or
    sigmoid. It does not contain decoding, resizing or cropping; :doc:`/guide/export` shows how to do them elsewhere.
    The metadata contain the labels, the preprocessing, facts about the training, and three reference images with their
    outputs.

    The file is written under a temporary name, loaded in its own runtime and compared with the estimator. It is renamed
    to `path` only if the outputs agree.

    Parameters
    ----------
    estimator : PretrainedImageClassifier, PretrainedImageRegressor or PretrainedImageEncoder
        A fitted estimator, with any backbone that torch can export, fine-tuned or not.
    path : str or os.PathLike
        The suffix selects the format: ``.onnx`` for ONNX, ``.xml`` for OpenVINO IR with its weights next to it in a
        ``.bin`` file, ``.pt2`` for a program of torch.export. For an existing folder, or a path that ends in a slash,
        OpenVINO IR is written to ``model.xml`` in this folder. Existing files are replaced.
    format : {"onnx", "openvino", "program"}, default=None
        The format; None infers it from the suffix.
    precision : {"float32", "float16", "int8"}, default="float32"
        `"float16"` stores weights in half the bytes; runtimes compute in float32. `"int8"` stores weights in a quarter
        of the bytes and computes in 8 bits, which is faster on many processors. The output layer stays in float32. A
        program supports only `"float32"`.
    calibration : array-like of shape (n_samples, ...), default=None
        Images like the images to predict, without labels; for `"int8"`, at least 40, and preferably a few hundred. Half
        of them, at most 256, determine the ranges of 8-bit numbers; the cost of the lower precision is measured on the
        others. With `"float16"`, it is measured on all of them. Accepted formats are the same as for `X` of `fit`.
    max_drop : float, default=None
        How much `"float16"` or `"int8"` may cost; None is 0.005. For classes and labels, the expected loss of accuracy
        if the probabilities of the estimator are right: each changed label costs the difference between the
        probabilities of both labels. For numbers and features, the share of their variance that is lost. The p-values
        of `typicality` do not count; the report contains their largest difference.
    verify : array-like of shape (n_samples, ...), default=None
        Images on which the file is compared with the estimator, in addition to three drawings and noise.
    include_references : bool, default=False
        Whether the file has the p-values of `typicality` as a second output. It then contains features of up to 1,024
        training images.

    Returns
    -------
    report : ExportReport
        What was written and how it was verified; `print` shows a summary.

    Raises
    ------
    InvalidParameterError
        If an argument is invalid; if the class of `estimator` is a subclass with its own `predict`, `predict_proba`,
        `decision_function` or `typicality` (for an encoder, `transform`), which a file would not contain; if
        `calibration` is missing or has too few images; or if the metadata cannot hold the labels: there are more than
        262,144 of them, or one is neither a string nor a number or boolean.
    ModelFileNotFoundError
        If the folder does not exist.
    OSError
        If the file cannot be written. Nothing is left behind, and an existing file is unchanged.
    MissingPackageError
        If a package is missing: ``pip install 'sktl[export]'``.
    InvalidImageError
        If images of `calibration` or `verify` cannot be used.
    TypicalityError
        If `include_references=True` and the estimator has no `typicality`.
    ExportError
        If torch or the format cannot represent the network; if the outputs of the file differ from the estimator's by
        more than rounding (1e-4 for probabilities, and a hundredth of their largest deviation from their mean for
        numbers), or in any label; or if the lower precision costs more than `max_drop`. No file is then written, and an
        existing file is unchanged.

    Notes
    -----
    The last digits of an estimator's predictions depend on its engine, so exports of a model that was fitted with
    OpenVINO and of the same model fitted with torch differ by rounding. An estimator with ``precision="bfloat16"`` is
    compared with its predictions from float32 features, because files compute in float32. Labels whose probabilities
    differ by less than 1e-4 count as equal.

    Examples
    --------
    >>> import os, tempfile
    >>> import sktl
    >>> from sktl.datasets import make_cats
    >>> cats = make_cats(24, random_state=0)
    >>> clf = sktl.PretrainedImageClassifier(random_state=0).fit(cats.data, cats.target)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = sktl.export(clf, os.path.join(folder, "cats.onnx"))
    >>> report.n_changed
    0
    """
    check_estimator(estimator)
    target = Target.of(path, format)
    check_precision(precision, calibration, target)
    most = most_drop(max_drop, precision)
    check_references(estimator, include_references)
    check_packages(target, precision)
    check_describable(estimator, precision, target.format.packages)
    images = Images.of(estimator, precision, calibration, verify)
    job = _Export(estimator, kind_of(estimator), target, precision, most, images, bool(include_references))
    with open_streams():
        return job.run()


@dataclass(frozen=True)
class _Export:
    """One export, step by step."""

    estimator: Any
    kind: str
    target: Target
    precision: str
    max_drop: float
    images: Images
    include_references: bool

    def run(self) -> ExportReport:
        """Convert, write, verify, and report."""
        answers = answers_of_estimator(self.estimator, self.images.given, self.include_references)
        expected = answers[self.images.compared]
        check_variance(self.kind, self.precision, self._images(self.images.compared), expected.outputs)
        converted, float_layers = self._converted(expected, answers.outputs[self.images.for_ranges])
        document = self._document(self.target.format.run(converted))
        with self.target.draft() as path:
            self.target.write(converted, document.to_json(), path)
            comparison = self._verified(path, document, expected)
        files = tuple(map(str, reversed(self.target.files)))
        return ExportReport(
            files,
            self.target.format.name,
            self.target.format.runtime,
            self.kind,
            self.precision,
            sum(map(os.path.getsize, files)),
            comparison.n_images,
            comparison.difference,
            comparison.n_changed,
            comparison.drop,
            len(self.images.for_ranges),
            float_layers,
            notes(self.estimator),
            comparison.typicality_difference,
        )

    def _converted(self, expected: Answers, for_ranges: np.ndarray) -> tuple[Any, tuple[str, ...]]:
        """Return the model in its format and precision, and the layers that stay in float32."""
        graph = PixelGraph.of(self.estimator, self.kind, self.include_references)
        name = self.estimator.backbone_.name
        program = traced(graph, name)
        if not self.target.format.from_onnx:
            return self.target.format.convert(program), ()
        model = to_onnx(program, graph.output_names, name)
        if self.precision == "int8":
            check_size(model)  # the quantizer writes it before weights become smaller
            quantized = self._quantized(model, expected.outputs, for_ranges)
            return self.target.format.convert(quantized.model), quantized.float_layers
        return self.target.format.convert(with_half_weights(model) if self.precision == "float16" else model), ()

    def _quantized(self, model: Any, expected: np.ndarray, for_ranges: np.ndarray) -> Quantized:
        """Return the model in int8. `expected` and `for_ranges` are outputs of the estimator in float32."""
        few = expected[:_MOST_FOR_ORDER]
        pixels = self._pixels(self.images.for_ranges)

        def outputs_of(quantized: Any, n_images: int) -> np.ndarray:
            run = self.target.format.run(self.target.format.convert(quantized))
            return answers_of_run(run, self._pixels(self.images.compared[:n_images])).outputs

        return quantize(
            model,
            pixels,
            lambda quantized: with_corrected_bias(quantized, self.kind, pixels, for_ranges),
            lambda quantized: drop_of(self.kind, outputs_of(quantized, len(expected)), expected),
            lambda quantized: harm(self.kind, outputs_of(quantized, len(few)), few),
            self.max_drop,
        )

    def _document(self, run: Run) -> ModelDocument:
        pixels = reference_pixels(self.estimator.backbone_.preprocessing)
        outputs = run(pixels)[0]
        if not np.isfinite(outputs).all():
            raise ExportError(
                f"The outputs of the exported model in {self.precision} are not finite. No file was written."
            )
        packages = self.target.format.packages
        return document_of(self.estimator, self.precision, packages, pixels, outputs)

    def _verified(self, path: Path, document: ModelDocument, expected: Answers) -> Comparison:
        """Load the written files, and compare them with the document and with the estimator."""
        read, run = self.target.format.read(path)
        check_document(document, read, run)
        found = answers_of_run(run, self._pixels(self.images.compared))
        comparison = Comparison.of(self.kind, found, expected)
        if self.precision == "float32":
            n_references = self.estimator._typicality.n_references if self.include_references else 0
            check_rounding(self.kind, comparison, expected, n_references, self.target.format.runtime)
        else:
            check_drop(self.precision, comparison, self.max_drop)
        return comparison

    def _pixels(self, positions: np.ndarray) -> PixelBatches:
        return PixelBatches(self._images(positions), self.estimator.backbone_.preprocessing)

    def _images(self, positions: np.ndarray) -> list[GivenImage]:
        return [self.images.given[i] for i in positions]
