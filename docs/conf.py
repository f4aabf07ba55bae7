"""The docs: Markdown pages, and the API reference from the docstrings."""

from sphinx.application import Sphinx

from bge_rerank_integrations import __version__

project = "bge-rerank-integrations"
release = __version__
html_title = f"{project} {release}"
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_show_copyright = False
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["conf.py"]

myst_heading_anchors = 3
default_role = "code"  # docstrings put names in single backticks
add_module_names = False
python_use_unqualified_type_names = True
# longer ones get a line for each argument
python_maximum_signature_line_length = 90
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False

# The docs build without a network, so nothing of other projects can be linked, and
# aliases of argument types have no entry of their own.
nitpick_ignore_regex = [
    ("py:class", r"SentencePairs|Layers"),
    ("py:.*", r"(os|collections|torch|numpy|pydantic|langchain_core|llama_index)\..*"),
]


def _keep_colons(
    app: Sphinx, what: str, name: str, item: object, options: object, lines: list[str]
) -> None:
    """Begin an attribute's docstring with an escaped space, which shows nothing.

    Otherwise napoleon takes what stands before the first colon of the first line for
    the attribute's type.
    """
    if what in ("attribute", "data"):
        lines.insert(0, "\\ ")


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", _keep_colons, priority=400)
