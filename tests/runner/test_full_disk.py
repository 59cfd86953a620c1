"""A disk that is really full: a small file system, where this machine lets one mount."""

import shutil
import subprocess
import sys
from pathlib import Path

import pairs
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
# Trains on a disk for one checkpoint and a half, then with room, then takes the student out.
SCRIPT = """
mount -t tmpfs -o size={size} tmpfs {work} || exit 77
{train} > {out}/first.log 2>&1
echo $? > {out}/first
cp {work}/iter_*.pth {out}
ls {work} > {out}/left
mount -o remount,size=1g {work}
{train} --resume > {out}/second.log 2>&1 || exit 1
cp {work}/student_last.pth {out}
"""


def mounts():
    if shutil.which('unshare') is None:
        return False
    return subprocess.run(['unshare', '-rm', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt'],
                          capture_output=True, check=False).returncode == 0  # fmt: skip


@pytest.mark.skipif(not mounts(), reason='no file system can be mounted here')
def test_the_last_checkpoint_stays_and_the_run_goes_on_when_there_is_room(tmp_path, digits):
    cfg = pairs.training(pairs.pair('pspnet'), tmp_path / 'whole', digits, seg=True, max_iters=3,
                         default_hooks=dict(checkpoint=dict(interval=1, max_keep_ckpts=1)),
                         val_cfg=None, val_dataloader=None, val_evaluator=None)  # fmt: skip
    cfg.custom_imports = dict(imports=['kd_plugin'])
    cfg.dump(tmp_path / 'config.py')
    pairs.Runner.from_cfg(cfg).train()
    work, out = tmp_path / 'small', tmp_path / 'out'
    work.mkdir()
    out.mkdir()
    size = (tmp_path / 'whole/iter_3.pth').stat().st_size
    train = (f'{sys.executable} -W ignore {ROOT}/tools/train.py {tmp_path}/config.py '
             f'--work-dir {work}')  # fmt: skip
    script = SCRIPT.format(size=int(1.5 * size), work=work, out=out, train=train)
    done = subprocess.run(['unshare', '-rm', 'sh', '-c', script], check=False,
                          env={'OMP_NUM_THREADS': '1', 'PATH': '/usr/bin:/bin',
                               'HOME': str(tmp_path)})  # fmt: skip
    said = (out / 'first.log').read_text()
    assert (out / 'first').read_text().strip() != '0' and 'No space left on device' in said
    left = (out / 'left').read_text().split()
    assert [name for name in left if '.pth' in name] == ['iter_1.pth']
    kept = torch.load(out / 'iter_1.pth', map_location='cpu', weights_only=False)
    assert kept['meta']['iter'] == 1
    assert done.returncode == 0, (out / 'second.log').read_text()[-2000:]
    expected, got = (torch.load(path / 'student_last.pth', weights_only=True)['state_dict']
                     for path in (tmp_path / 'whole', out))
    assert all(torch.equal(value, got[key]) for key, value in expected.items())
