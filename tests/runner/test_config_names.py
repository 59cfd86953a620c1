import importlib.metadata
import subprocess

import mmengine.hub
import pytest
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE

from kd_plugin.runner import config_names

PSPNET = 'mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py'


@pytest.fixture
def lonely(monkeypatch):
    """mmseg without a distribution called mmsegmentation, and mmengine's table as it ships."""

    def version(name):
        if name == 'mmsegmentation':
            raise importlib.metadata.PackageNotFoundError(name)
        return '1.0'

    monkeypatch.setattr(config_names, 'version', version)
    monkeypatch.setitem(MODULE2PACKAGE, 'mmseg', 'mmsegmentation')


def refuse(*args, **kwargs):
    raise AssertionError(f'installs something: {args}')


def test_mmsegs_configs_are_found_and_nothing_is_installed(monkeypatch):
    for call in ('check_call', 'run', 'Popen'):
        monkeypatch.setattr(subprocess, call, refuse)
    for cfg in (mmengine.hub.get_config(PSPNET), Config.fromstring(f'_base_ = {PSPNET!r}', '.py')):
        assert cfg.model.decode_head.type == 'PSPHead'


def test_without_its_usual_distribution_mmseg_is_found_by_import_name(lonely):
    config_names.allow_config_names()
    assert MODULE2PACKAGE['mmseg'] == 'mmseg'


def test_with_it_mmengine_is_left_as_it_is(lonely, monkeypatch):
    monkeypatch.setattr(config_names, 'version', lambda name: '1.0')
    config_names.allow_config_names()
    assert MODULE2PACKAGE['mmseg'] == 'mmsegmentation'


def test_without_mmseg_the_message_names_what_to_install(lonely, monkeypatch):
    monkeypatch.setattr(config_names, 'find_spec', lambda name: None)
    config_names.allow_config_names()
    assert MODULE2PACKAGE['mmseg'] == 'mmsegmentation'
