"""Sphinx settings: markdown pages by myst, the furo theme, the reference from docstrings."""

from unrolled import __version__

project = "unrolled"
author = "the unrolled authors"
copyright = "the unrolled authors; Apache-2.0"
release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"unrolled {__version__}"
html_static_path = ["_static"]

myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False

# Several classes have an attribute `bytes`, which is then ambiguous where an annotation names the type.
suppress_warnings = ["ref.python"]
