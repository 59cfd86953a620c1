import functools
import os
import signal
import sys
import tempfile
from pathlib import Path

import mmengine
import pytest
import torch
from mmengine.registry import DefaultScope

import kd_plugin  # noqa: F401

sys.path.insert(0, str(Path(__file__).parent))
torch.set_num_threads(1)  # for fixtures of a module, too: they come before those of a test
# A script's background jobs ignore it (make test &), and so would processes that tests stop by it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _same_ground(monkeypatch):
    """One thread (sums over several may differ in the last bit), one seed, no scope left over."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    DefaultScope._instance_dict.clear()
    monkeypatch.chdir(Path(__file__).parents[1])


@pytest.fixture(scope='session', autouse=True)
def _quick_configs():
    """Leave out what takes most of a short run: laying out its config prettily, and reading all
    metafiles of a package for each config that is named after it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mmengine.config.config.FormatCode', lambda text, **kwargs: (text, False),
                      raising=False)  # the forks have none
        patch.setattr('mmengine.config.utils.load', functools.cache(mmengine.fileio.load))
        yield


@pytest.fixture(scope='session', autouse=True)
def _kernels_of_this_processor():
    """A cache of compiled kernels for each instruction set: torch's own takes them for equal."""
    own = Path(tempfile.gettempdir()) / f'kd_plugin-kernels-{os.getuid()}'
    cache = Path(os.environ.get('TORCHINDUCTOR_CACHE_DIR', own))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TORCHINDUCTOR_CACHE_DIR',
                     str(cache / torch.backends.cpu.get_cpu_capability()))
        yield


@pytest.fixture(scope='session')
def digits(tmp_path_factory):
    from pairs import SETTINGS

    from kd_plugin.data import ensure

    return ensure(tmp_path_factory.mktemp('data') / 'digits', SETTINGS)
