"""Sphinx configuration. `make docs` builds with warnings as errors."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from heros.version import __version__

project = "heros"
author = "the heros contributors"
copyright = "the heros contributors"
release = __version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_parser"]
exclude_patterns = ["_build", "_generated"]  # the latter is for pages to include
html_theme = "furo"
html_title = f"heros {release}"
html_static_path = ["_static"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_class_signature = "mixed"
napoleon_use_ivar = True
nitpicky = False


def _keep_whole(app, what, name, obj, options, lines):
    """Napoleon takes what stands before a colon in the first line of a constant's comment for its type."""
    if what in ("attribute", "data"):
        lines[:0] = ["..", ""]  # an empty comment


def setup(app):
    app.connect("autodoc-process-docstring", _keep_whole, priority=400)  # before napoleon, which is at 500
