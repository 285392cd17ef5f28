"""Configuration of the documentation: `sphinx-build -W docs build/docs` makes the site."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import sktl

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # the modules beside this file

import api_reference  # noqa: E402
import measured  # noqa: E402
import pictures  # noqa: E402

os.environ.setdefault("MPLBACKEND", "Agg")

project = "sktl"
author = "The sktl developers"
copyright = author
version = release = sktl.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
    "sphinx_copybutton",
]
exclude_patterns = ["_templates", "auto_examples/*.ipynb", "auto_examples/*.py*", "auto_examples/*.md5"]
templates_path = ["_templates"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
default_role = "code"

autosummary_generate = True
toc_object_entries_show_parents = "hide"
autodoc_typehints = "none"  # numpydoc's sections name the types
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

html_theme = "pydata_sphinx_theme"
html_title = "sktl"
html_static_path = ["_static"]
html_css_files = ["sktl.css"]
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "header_links_before_dropdown": 6,
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-light",
    "pygments_dark_style": "a11y-dark",
}
html_sidebars = {"index": [], "installation": [], "contributing": [], "changelog": []}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"plot_",
    "within_subsection_order": "gallery.GalleryOrder",
    "download_all_examples": False,
    "reset_modules": ("matplotlib", "gallery.forget_features"),
    "remove_config_comments": True,
    "show_memory": False,
    "write_computation_times": False,
    "abort_on_example_error": False,
    "matplotlib_animations": False,
    "min_reported_time": 0,
    "default_thumb_file": None,
}


def _prepare(app, docname, source):
    """Fill in what was measured, and turn links within the repository into links within the site."""
    text = measured.fill(source[0])
    for name in measured.sources(text):
        app.env.note_dependency(measured.RESULTS / f"{name}.json")
    text = re.sub(r"\]\((?:\.\./)*examples/(plot_\w+)\.py\)", r"](/auto_examples/\1.rst)", text)
    text = re.sub(r"\]\((?:\.\./)*CHANGELOG\.md\)", "](/changelog.md)", text)
    source[0] = re.sub(r"\]\((?:\.\./)*CONTRIBUTING\.md\)", "](/contributing.md)", text)


def _skip_foreign(app, what, name, member, skip, options):
    """Leave out what classes inherit from other libraries, and attributes, which their docstrings describe."""
    own = getattr(member, "__module__", None) or ""
    return skip or not callable(member) or not own.startswith("sktl") or None


def setup(app):
    """Write what is generated, and connect the above."""
    api_reference.write_pages(HERE / "api")
    pictures.draw_all(HERE / "generated")
    app.connect("source-read", _prepare)
    app.connect("autodoc-skip-member", _skip_foreign)
