"""Settings of Sphinx; `make docs` builds the pages into docs/_build."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from napari_unet import __version__

project = "U-Net for napari"
author = "napari-unet developers"
version = release = __version__

extensions = [
    "myst_parser",
    "program",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_typehints = "none"
napoleon_google_docstring = False

html_theme = "pydata_sphinx_theme"
html_title = "U-Net for napari"
html_show_sourcelink = False
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["pictures.css"]
html_theme_options = {
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": True,
}
