"""Names of configs in installed packages: ``'mmseg::…'``, ``'kd_plugin::…'``."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from mmengine.config.utils import MODULE2PACKAGE


def allow_config_names() -> None:
    """Let mmengine find this package's configs, and mmseg's under every distribution of mmseg.

    mmengine looks for the distribution that the name in front of ``::`` stands for. For mmseg that
    is mmsegmentation: with mmseg from another distribution no such name is found, and
    ``mmengine.hub`` installs mmsegmentation over it. It also takes an import name, which all
    distributions share.
    """
    MODULE2PACKAGE.setdefault('kd_plugin', 'kd_plugin')
    try:
        version(MODULE2PACKAGE['mmseg'])
    except PackageNotFoundError:
        if find_spec('mmseg') is not None:
            MODULE2PACKAGE['mmseg'] = 'mmseg'
