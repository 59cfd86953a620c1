"""How Sphinx builds the documentation: make docs."""

from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml

from kd_plugin.version import __version__

project = 'kd_plugin'
version = release = __version__
copyright = 'the authors of kd_plugin, under the Apache License 2.0'
language = 'en'

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx.ext.viewcode']
exclude_patterns = ['results']
suppress_warnings = ['config.cache']
nitpicky = True
# Types of packages that this site does not describe, and what is no public name.
_ELSEWHERE = (r'torch|nn|np|numpy|mmengine|Tensor|Runner|Config|BaseDataPreprocessor|os|pathlib|'
              r'collections')
nitpick_ignore_regex = [('py:.*', rf'({_ELSEWHERE})(\..*)?')]

myst_enable_extensions = ['dollarmath', 'attrs_block', 'deflist']
myst_heading_anchors = 3

autoclass_content = 'class'
autodoc_member_order = 'bysource'
autodoc_typehints = 'description'
autodoc_typehints_description_target = 'documented'
autodoc_typehints_format = 'short'
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = 'furo'
html_title = f'kd_plugin {__version__}'
html_math_renderer = 'mathml'


def _inline(self, node):
    self.body.append(tex2mathml(node.astext()))
    raise SkipNode


def _block(self, node):
    self.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise SkipNode


# Pages that stand elsewhere in the repository, where links to them lead on this site.
ELSEWHERE = {
    '../configs/det/README.md': 'recipes/coco.md',
    '../configs/seg/README.md': 'recipes/cityscapes.md',
    '../configs/camvid/README.md': 'recipes/camvid.md',
    '../configs/bccd/README.md': 'recipes/bccd.md',
    '../benchmarks/README.md': 'benchmarks.md',
    '../CONTRIBUTING.md': 'contributing.md',
}


def _lead_home(app, docname, source):
    for path, page in ELSEWHERE.items():
        source[0] = source[0].replace(f']({path}', f']({page}')


def setup(app):
    """Formulas as MathML, which browsers draw themselves: no script from elsewhere.

    Indices go to plain letters alone: docutils sets the one of an accented letter below it.
    """
    app.add_html_math_renderer('mathml', (_inline, None), (_block, None))
    app.connect('source-read', _lead_home)
