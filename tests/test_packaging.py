"""An install leaves the user's own torch, mmcv, mmdet and mmseg as they are."""

from importlib.metadata import requires


def test_nothing_is_required_but_by_extras():
    assert [line for line in requires('kd_plugin') or [] if 'extra ==' not in line] == []
