"""What an install brings, and what it leaves alone."""

import subprocess
import sys
import zipfile
from importlib.metadata import requires
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


def test_nothing_is_required_but_by_extras():
    """So the user's own torch, mmcv, mmdet and mmseg stay as they are."""
    assert [line for line in requires('kd_plugin') or [] if 'extra ==' not in line] == []


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp('wheel')
    source = folder / 'source'
    subprocess.run(['git', 'clone', '-q', str(ROOT), str(source)], check=True)
    subprocess.run([sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '--no-index',
                    '--no-build-isolation', '-w', str(folder), str(source)], check=True)
    (path,) = folder.glob('*.whl')
    return path


def test_a_wheel_carries_configs_and_tools(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ('configs', 'tools'):
        files = [path.relative_to(ROOT) for path in (ROOT / folder).rglob('*')
                 if path.is_file() and '__pycache__' not in path.parts]  # fmt: skip
        assert files
        assert [path for path in files if f'kd_plugin/.mim/{path}' not in names] == []
    assert 'kd_plugin/.mim/model-index.yml' in names
    assert not [name for name in names if '__pycache__' in name]


def test_tools_and_configs_are_found_by_the_packages_name_from_a_wheel(wheel, tmp_path):
    subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--no-index',
                    '--target', str(tmp_path / 'site'), str(wheel)], check=True)
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-m', 'kd_plugin', 'train', 'nowhere.py'], cwd=tmp_path,
        capture_output=True, text=True, env={'PYTHONPATH': str(tmp_path / 'site')}, check=False)
    assert "config 'nowhere.py' is no file (looked from" in done.stderr and done.returncode == 1
    code = (
        'import kd_plugin; from mmengine.hub import get_config;'
        "print(kd_plugin.__file__, get_config("
        "'kd_plugin::det/dist-plus_retinanet_r50_fpn_2x_coco.py').model.type)")
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True,
                          text=True, cwd=tmp_path, env={'PYTHONPATH': str(tmp_path / 'site')},
                          check=False)  # fmt: skip
    assert done.stdout.split() == [
        str(tmp_path / 'site/kd_plugin/__init__.py'), 'DetectorDistiller'], done.stderr


@pytest.mark.parametrize('task', ['bccd', 'camvid', 'det', 'seg'])
def test_the_index_lists_every_config(task):
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    assert f'configs/{task}/metafile.yml' in index['Import']
    models = yaml.safe_load((ROOT / f'configs/{task}/metafile.yml').read_text())['Models']
    listed = {model['Config'] for model in models}
    assert listed == {f'configs/{task}/{path.name}'
                      for path in (ROOT / 'configs' / task).glob('*.py')}
