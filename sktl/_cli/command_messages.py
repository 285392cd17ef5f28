"""Messages of the library, reworded for the command line: options for parameters, file names for positions in `X`."""

from __future__ import annotations

import ast
import re
import shlex
import unicodedata
from collections.abc import Collection, Iterable, Mapping

from sktl._images.command_reasons import for_command_line
from sktl._short_text import cut_middle
from sktl.exceptions import ImageFailure, InvalidImageError

# Characters that move the cursor, change the order of letters, end a line, or are not text.
_UNSHOWN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_LISTED_FAILURES = 20
# Advice of the library for Python, and the corresponding advice for the command line. Each key must occur in a message.
PHRASES = {
    "All are in the attribute `ignored`.": "",
    "To predict images that have no class, use list_images.": (
        "Images without classes are for `sktl predict`, `sktl audit --unlabeled` and `sktl embed --unlabeled`."
    ),
    "Variables are not replaced: use os.path.expandvars.": "Variables are not replaced within quotes.",
    "; the attribute invalid_images_ lists them": "; `sktl check FOLDER` lists them",
    "Pass overwrite=True to replace it, or another path.": "Pass --force to replace it, or another path.",
    "; `invalid_images` of the result lists them": "; `sktl check FOLDER` lists them",
    "images of X cannot be used": "images cannot be used",
    "Pass y=None to audit the images alone.": "Pass --unlabeled to audit the images alone.",
    "y has only one class": "There is only one class",
    'kind="numbers"': "--numbers",
    'kind="classes"': "--classes",
    "as `folder`": "as FOLDER",
    "use load_label_table.": "pass it by --labels.",
    ", or a file that is open for binary reading": "",
    ", or a file that is open for binary writing": "",
    "a file that `save` wrote": "a file that `sktl fit` wrote",
    "; `export` writes": "; `sktl export` writes",
    "Pass a callable that returns the network with its own preprocessing.": "Choose another network.",
    "cannot hold out validation_fraction=": "cannot hold out ",
    'calibration is for precision="float16" and "int8". With "float32", pass images as `verify`.': (
        "--calibration is for --precision float16 and int8. With float32, pass images by --verify."
    ),
    "calibration has ": "--calibration has ",
    "pass calibration, at least": "pass --calibration, at least",
    " load_image_parts reads all.": "",
    " load_image_parts reads the parts.": "",
    " If each subfolder of each class is a class of its own, pass nested='join'.": "",
    "Fit another estimator with trainable_stages=0 on": "Fit another model without --trainable-stages on",
    ", or save it with include_references=True": "",
    "If you trust it, pass its path as `weights`, or save the model with include_backbone=True.": (
        "Save the model again in Python, with include_backbone=True."
    ),
    ", or pass further labels as classes": (", or first add an image of the new class to the folder or table"),
    "but there are no labels. Pass y.": "but these images have no labels. Remove the row.",
    "If it stands for a missing label, drop these images.": "If it stands for a missing label, remove these images.",
    ", or False for none": ", or none",
    'pass "default", None, or': "pass default, none, or",
}
# Advice that commands without --numbers and --classes leave out.
OF_KINDS = {', or pass kind="classes"': "", '; to learn numbers, pass kind="numbers"': ""}
_QUOTED = r"""'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*\""""
_VALUE = rf"{_QUOTED}|<[^<>]*>|-?\w+(?:\.\w+)*(?:[+-]\d+)?"
_IN_X = re.compile(r"\bX(?:_val)?\[\d+\] \((.*?)\): ")
# What the library says of `y` and `y_test`, and the corresponding words for folders and tables.
_SENTENCES = {
    r"\by has (\d+ different numbers)\b": r"There are \1",
    r"\by has the label\b": "There is the label",
    r"\by_test has the columns (.*?), but y has (.*?)\. Pass the same columns": (
        r"The test images have the columns \1, but the others have \2. Pass tables with the same columns"
    ),
    r"\by_test has shape \S+ \S+; pass (\d+) rows, .*? and (\d+) columns, one for each (label|number) of y": (
        r"The test images need \2 columns, one for each \3 of the others"
    ),
    r"\blabels of y\. If y holds one-hot classes, pass .*\. If (.*), y is right": (
        r"labels. If they are classes, write the class of each image in one column. If \1, the table is right"
    ),
    r"\bpass y = pandas\.Series\(table\.target\).*? to fit, with table = load_label_table\(.*?\)": (
        "give each label a column of 0 and 1"
    ),
    r"\bpass y = \[Path\(path\).*? for path in data\]": (
        "move the images into one folder for each of them, or list the images in a table"
    ),
    r"\bPass X_val and y_val, (?:validation_fraction=\S+ )?or early_stopping=False\.": (
        "Add images, or leave out --early-stopping."
    ),
    r"\bwhere=\{(['\"])(.+?)\1: (['\"])(.+?)\3\}": r"where=\1\2=\4\1",
}
# Python's notation for values and system errors.
_PYTHON = {r"\bnp\.\w+\(([^()]*)\)": r"\1", r"\[Errno \d+\] ": "", r"\bit is None\b": "it is none"}
_INVALID = re.compile(r"The '(\w+)' parameter of \w+ must be (.*?)\. Got (.*) instead\.", re.DOTALL)
# Scikit-learn's notation for valid values, with Python's names of types.
_CONSTRAINTS = {
    r"a str among \{([^{}]*)\}": r"\1",
    r",? an instance of 'numpy.random.mtrand.RandomState'": "",
    r"an instance of '([^']*)'": r"\1",
    r"\ba float\b": "a number",
    r"\ban int\b": "a whole number",
    r"in the range \((\S+?)(?:\.0)?, inf\)": r"above \1",
    r"in the range \[(\S+?)(?:\.0)?, inf\)": r"of at least \1",
    r"'": "",
    r"\bNone\b": "none",
}


def printable(name: str) -> str:
    """Return a name that is safe to print: file names and models from strangers may contain control characters."""
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in _UNSHOWN else c for c in name)


def printable_lines(text: str) -> str:
    """Return a text that is safe to print, with its line breaks."""
    return "\n".join(map(printable, text.split("\n")))


class Wording:
    """Messages in terms of one command.

    Parameters
    ----------
    options : mapping of str to str
        Option of each parameter that has one, such as "--n-jobs" for "n_jobs".
    flags : collection of str
        Parameters whose option takes no value.
    parameters : collection of str
        All parameters of the estimators. Parameters without an option become plain words.
    asks_kind : bool, default=True
        Whether the command has --numbers and --classes. Other commands give no advice to pass them.
    """

    def __init__(
        self, options: Mapping[str, str], flags: Collection[str], parameters: Collection[str], asks_kind: bool = True
    ):
        self._options = dict(options)
        self._flags = frozenset(flags)
        self._phrases = PHRASES if asks_kind else OF_KINDS | PHRASES
        names = "|".join(sorted({*options, *parameters, "folder"}, key=len, reverse=True))
        alone = "|".join(name for name in {*options, *parameters} if "_" in name or name == "lr")
        # Not within paths, because a folder may be named "lr=0.1", and not within other names, which are in quotes.
        start = r"(?<![\w./\\'\"-])"
        assigned = rf"(?P<leave>[Ll]eave )?{start}(?P<parameter>{names})=(?P<value>{_VALUE})"
        named = rf"`(?P<marked>{names})`|{start}(?P<alone>{alone})(?![\w/\\'\"(\[-]|\.\w)"
        self._parameters = re.compile(rf"(?<![\w=])(?P<quoted>{_QUOTED})|{assigned}|{named}")

    def say(self, message: str) -> str:
        """Return a message of the library as a command prints it, with the same line breaks."""
        for phrase, words in self._phrases.items():
            message = message.replace(phrase, words)
        message = for_command_line(message)
        message = _INVALID.sub(self._invalid, _IN_X.sub(r"\1: ", message))
        for pattern, words in (_SENTENCES | _PYTHON).items():
            message = re.sub(pattern, words, message)
        message = self._parameters.sub(self._reworded, message)
        return "\n".join(printable(line).rstrip() for line in message.split("\n"))

    def list_failures(self, error: InvalidImageError) -> str:
        """Return the message of an error about images, with their names."""
        lead = self.say(error.lead) if error.lead else "These images cannot be used:"
        lines = self.failures(error.failures[:_LISTED_FAILURES])
        if more := len(error.failures) - len(lines):
            lines.append(f"and {more} more; `sktl check` lists all.")
        skip = self._options.get("invalid_images")
        if skip and "invalid_images='skip'" not in error.lead:  # otherwise, they were to be left out
            lines.append(f"Replace or remove them, or leave them out by {skip} skip.")
        return "\n".join([lead, *lines])

    def failures(self, failures: Iterable[ImageFailure]) -> list[str]:
        """Return a line for each image that cannot be used."""
        return [f"{printable(cut_middle(failure.name))}: {self.say(failure.reason)}" for failure in failures]

    def _name(self, parameter: str) -> str:
        return self._options.get(parameter, parameter.replace("_", " "))

    def _reworded(self, match: re.Match[str]) -> str:
        if match["parameter"]:
            return self._assignment(match["leave"], match["parameter"], _literal(match["value"]))
        return match["quoted"] or self._name(match["marked"] or match["alone"])

    def _assignment(self, leave: str | None, parameter: str, value: object) -> str:
        name = self._name(parameter)
        if parameter == "folder":
            return str(value)
        if leave and parameter in self._options:
            return f"{leave}out {name}"
        if parameter in self._flags:
            return name if value is True else f"no {name}"
        return f"{leave or ''}{name} {_as_word(value)}"

    def _invalid(self, match: re.Match[str]) -> str:
        """Return scikit-learn's message for an invalid value, without Python's names of types."""
        legal = match[2]
        for pattern, words in _CONSTRAINTS.items():
            legal = re.sub(pattern, words, legal)
        return f"{self._name(match[1])} {_as_word(_literal(match[3]))} is not possible; it must be {legal}."


def _literal(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _as_word(value: object) -> str:
    """Return a value as it is typed after an option."""
    if value is None or value is False:
        return "none"
    return str(value) if not isinstance(value, str) or value.startswith("<") else shlex.quote(value)
