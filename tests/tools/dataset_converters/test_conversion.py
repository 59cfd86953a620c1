"""Output is whole or not there, and only an earlier output is replaced."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conversion import Summary, replacing, require

KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, 'tools/dataset_converters')
from conversion import replacing
with replacing(Path(sys.argv[1]), ('part',)) as work:
    (work / 'part').write_text('half')
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize('earlier', [False, True])
def test_a_kill_leaves_what_was_there(tmp_path, earlier):
    target = tmp_path / 'out'
    if earlier:
        target.mkdir()
        (target / 'part').write_text('whole')
    done = subprocess.run([sys.executable, '-c', KILLED, str(target)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert target.exists() == earlier
    (left,) = set(tmp_path.iterdir()) - {target}
    assert left.name.startswith('.out.') and left.suffix == '.tmp'
    with replacing(target, ('part',)) as work:
        (work / 'part').write_text('new')
    assert (target / 'part').read_text() == 'new'


def test_an_error_leaves_nothing_behind(tmp_path):
    with pytest.raises(OSError, match='full'), replacing(tmp_path / 'out', ('part',)) as work:
        (work / 'part').write_text('half')
        raise OSError('disk full')
    assert list(tmp_path.iterdir()) == []


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / 'real').mkdir()
    (tmp_path / 'link').symlink_to(tmp_path / 'real')
    with replacing(tmp_path / 'link', ('part',)) as work:
        (work / 'part').write_text('new')
    assert (tmp_path / 'link').is_symlink()
    assert (tmp_path / 'real/part').read_text() == 'new'


def test_a_folder_of_other_things_is_not_replaced(tmp_path):
    (tmp_path / 'thesis.tex').write_text('mine')
    with pytest.raises(SystemExit, match='holds thesis.tex'), replacing(tmp_path, ('part',)):
        pass
    assert (tmp_path / 'thesis.tex').read_text() == 'mine'


def test_a_wrong_folder_is_answered_by_what_was_looked_for(tmp_path):
    (tmp_path / 'photos').mkdir()
    with pytest.raises(SystemExit, match=r"as CamVid: no folder train, val; there are \['photos'"):
        require(tmp_path, 'CamVid', ['train', 'photos', 'val'])
    with pytest.raises(SystemExit, match='there is no such folder'):
        require(Path('nowhere'), 'CamVid', ['train'])


def test_a_summary_gives_each_reason_with_some_of_its_files(capsys):
    summary = Summary()
    for number in range(7):
        summary.drop('box of zero area', f'image-{number}')
    summary.show('train', '3 images')
    assert capsys.readouterr().out.splitlines() == [
        'train: 3 images',
        '  left out: 7 × box of zero area (image-0, image-1, image-2, image-3, image-4, …)']
