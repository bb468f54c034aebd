"""Sphinx builds the documents as a site: ``make docs``."""

import trough

project = "Trough"
author = "the Trough authors"
version = release = trough.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = f"Trough {release}"
exclude_patterns = ["_build"]

# A reference to a name that does not exist is an error, as everything here is that Sphinx warns of.
nitpicky = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
