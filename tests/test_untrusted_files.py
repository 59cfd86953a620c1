"""Files made to do harm: on no road of this package is anything in them run.

Each would leave a mark beside itself if any of it were run, or would fill the memory; each is
answered by one sentence. What is promised: SECURITY.md.
"""

import io
import json
import os
import pickle
import runpy
import struct
import sys
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader
from results import read_result
from torch import nn

import kd_plugin.safe_globals as safe_globals
from kd_plugin.teacher import load_strictly, read_config


class Calls:
    """Pickled, it is a call of a function."""

    def __init__(self, function, *arguments, state=None):
        self.call = function, arguments, *(() if state is None else (state,))

    def __reduce__(self):
        return self.call


class Found:
    """Pickled, it is an attribute of something, by the ``getattr`` that mmengine's files need."""

    def __init__(self, owner, name):
        self.owner, self.name = owner, name

    def __reduce__(self):
        return getattr, (self.owner, self.name)




def state():
    return {'0.weight': torch.ones(2, 2), '0.bias': torch.ones(2)}


def model():
    return nn.Sequential(nn.Linear(2, 2))


def saved(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def beside(harm, **options):
    """Weights, and something else among the metadata."""
    return saved(dict(state_dict=state(), meta=dict(dataset_meta=harm)), **options)


# Pickles written by hand, in the text form of protocol 0.
BUFFER = 'cmmengine.logging.history_buffer\nHistoryBuffer\n'


def opcodes(text):
    return text.encode() + b'.'


def called(function, argument):
    return f'{function}(V{argument}\ntR'


def looked_up(owner, name):
    return f'cbuiltins\ngetattr\n({owner}V{name}\ntR'


def archive(pickled, packed=zipfile.ZIP_STORED, name='archive/data.pkl', copies=0, size=0):
    """A zip archive as torch.save writes it, with a pickle of one's own."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', packed) as file:
        file.writestr(name, pickled)
        file.writestr('archive/version', '3')
        file.writestr('archive/data/0', bytes(size))
        file.filelist += [file.filelist[-1]] * copies  # all of them the same bytes
    return buffer.getvalue()


def tarred(command):
    """The oldest format, without the mark of newer tar files, a call in one of its pickles."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as file:
        for name in ('sys_info', 'pickle', 'storages', 'tensors'):
            content = pickle.dumps(Calls(os.system, command))
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    content = bytearray(buffer.getvalue())
    content[257:265] = bytes(8)
    content[148:156] = b' ' * 8  # the sum of the header is taken over blanks here
    content[148:156] = f'{sum(content[:512]):06o}\0 '.encode()
    return bytes(content)


def safetensors(header, body=b'', length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack('<Q', len(text) if length is None else length) + text + body


def entry(shape, begin, end, dtype='F32'):
    return dict(dtype=dtype, shape=shape, data_offsets=[begin, end])


RUN = 'holds more than weights, .* and is not run'
# What is in the file, by a command that would leave a mark; and what is answered.
CRAFTED = {
    'os.system': (lambda do: beside(Calls(os.system, do)), RUN),
    'os.system-instead-of-weights': (lambda do: saved(Calls(os.system, do)), RUN),
    'os.system-as-a-key': (
        lambda do: saved({'state_dict': state(), 'x': {Calls(os.system, do)}}), RUN),
    'old-format': (
        lambda do: beside(Calls(os.system, do), _use_new_zipfile_serialization=False), RUN),
    'eval': (lambda do: beside(Calls(eval, f'__import__("os").system({do!r})')), RUN),
    'exec': (lambda do: beside(Calls(exec, f'import os; os.system({do!r})')), RUN),
    'subprocess': (lambda do: beside(Calls(__import__('subprocess').getoutput, do)), RUN),
    'runpy': (lambda do: beside(Calls(runpy.run_path, do)), RUN),
    'pickle.loads': (
        lambda do: beside(Calls(pickle.loads, pickle.dumps(Calls(os.system, do)))), RUN),
    'torch.load': (lambda do: beside(Calls(torch.load, 'x.pth')), RUN),
    'getattr-chain': (lambda do: archive(opcodes(
        called(looked_up(looked_up(BUFFER, '__init__'), '__globals__'), do))), RUN),
    'getattr-of-a-module': (
        lambda do: archive(opcodes(called(looked_up('cos\npath\n', 'os'), do))), RUN),
    'getattr-of-an-array': (lambda do: beside(Found(np.ndarray, 'tofile')), RUN),
    'allowed-lookup-called': (
        lambda do: archive(opcodes(called(looked_up(BUFFER, 'mean'), do))), RUN),
    'allowed-class-with-a-callable': (
        lambda do: beside(
            Calls(HistoryBuffer, state=dict(_log_history=Calls(os.system, do)))), RUN),
    'allowed-class-in-another-way': (
        lambda do: beside(Calls(np.ndarray, (1,), np.dtype('O'), Calls(os.system, do))), RUN),
    'hook-of-a-tensor': (
        lambda do: beside(Calls(torch._utils._rebuild_tensor_v2, torch.ones(2).untyped_storage(),
                                0, (2,), (1,), False, {1: Calls(os.system, do)})), RUN),
    'state-of-a-parameter': (
        lambda do: beside(Calls(torch._utils._rebuild_parameter_with_state, torch.ones(2), False,
                                {}, dict(x=Calls(os.system, do)))), RUN),
    'pickle-alone': (
        lambda do: pickle.dumps(Calls(os.system, do), protocol=4), 'torch.save did not write'),
    'pickle-by-hand': (
        lambda do: opcodes(called('cposix\nsystem\n', do)), RUN),
    'pickle-by-hand-in-an-archive': (
        lambda do: archive(opcodes(called('cposix\nsystem\n', do))), RUN),
    'module-of-its-own': (
        lambda do: archive(opcodes(called('cos.path\nos.system\n', do))), RUN),
    'oldest-format': (tarred, 'is an archive, not a checkpoint'),
    'zip-bomb': (
        lambda do: archive(pickle.dumps(state, 2), zipfile.ZIP_DEFLATED, size=10**8),
        'unpacks to 100000.*: torch.save packs nothing'),
    'zip-bomb-of-one-entry-many-times': (
        lambda do: archive(pickle.dumps({}, 2), copies=99, size=10**5), 'unpacks to'),
    'path-above': (
        lambda do: archive(pickle.dumps({}, 2), name='../../etc/data.pkl'), 'outside of itself'),
    'path-of-the-root': (
        lambda do: archive(pickle.dumps({}, 2), name='/etc/data.pkl'), 'outside of itself'),
    'header-without-end': (
        lambda do: safetensors({}, length=2**63), 'is no checkpoint|is damaged'),
    'header-past-the-end': (lambda do: safetensors({}, length=10**7), 'is damaged or cut short'),
    'header-nested': (
        lambda do: safetensors(b'{"a":' * 10**5 + b'1' + b'}' * 10**5), 'is damaged or cut short'),
    'tensor-without-end': (
        lambda do: safetensors({'0.weight': entry([2**40, 2**20], 0, 2**62)}), 'its tensors take'),
    'tensors-of-the-same-bytes': (
        lambda do: safetensors({str(i): entry([25], 0, 100) for i in range(99)}, bytes(100)),
        'its tensors take 9900 bytes, the file has 100'),
    'tensor-before-the-start': (
        lambda do: safetensors({'0.weight': entry([25], -100, 0)}, bytes(100)), 'is damaged'),
    'tensor-of-half-a-row': (
        lambda do: safetensors({'0.weight': entry([1.5, 2], 0, 12)}, bytes(12)), 'is damaged'),
}  # fmt: skip


@pytest.fixture
def crafted(request, tmp_path):
    """A file, and the mark that it would leave."""
    make, _ = CRAFTED[request.param]
    mark = tmp_path / 'mark'
    path = tmp_path / 'file.pth'
    path.write_bytes(make(f'touch {mark}'))
    return path, mark


def test_the_files_would_do_harm(tmp_path):
    """Where they are trusted they leave their mark, so that its absence says something."""
    mark = tmp_path / 'mark'
    (tmp_path / 'file.pth').write_bytes(CRAFTED['os.system'][0](f'touch {mark}'))
    torch.load(tmp_path / 'file.pth', weights_only=False)
    assert mark.exists()
    assert len(CRAFTED) >= 12


@pytest.mark.parametrize('crafted', CRAFTED, indirect=True)
def test_as_a_teacher_nothing_is_run(crafted, request, monkeypatch):
    path, mark = crafted
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    answer = CRAFTED[request.node.callspec.params['crafted']][1]
    with pytest.raises(ValueError, match=f'^teacher.checkpoint: .*file.pth .*({answer})') as said:
        load_strictly(model(), path)
    assert '\n' not in str(said.value)
    assert sorted(path.parent.iterdir()) == [path]


@pytest.mark.parametrize('crafted', CRAFTED, indirect=True)
def test_exporting_a_student_runs_nothing(crafted, request, monkeypatch, capsys):
    path, mark = crafted
    export = __import__('export_student')
    out = path.with_name('out.pth')
    monkeypatch.setattr(sys, 'argv', ['export_student.py', str(path), str(out)])
    answer = CRAFTED[request.node.callspec.params['crafted']][1]
    with pytest.raises(SystemExit, match=f'^.*file.pth .*({answer})'):
        export.main()
    assert not mark.exists() and not out.exists()


def falls_back():
    """Whether this mmengine opens by running what may not be opened as weights."""
    import mmengine.runner.checkpoint as checkpoint
    return hasattr(checkpoint, '_safe_torch_load')


@pytest.mark.skipif(falls_back(), reason='load_from and resume are of mmengine, which runs files')
@pytest.mark.parametrize('crafted', [name for name, (_, said) in CRAFTED.items() if said == RUN],
                         indirect=True)
def test_with_the_package_imported_mmengine_opens_no_more_than_without(crafted):
    """load_from and resume: the allow-list that resuming needs lets nothing of these in."""
    path, mark = crafted
    safe_globals.allow_mmengine_checkpoints()
    with pytest.raises(pickle.UnpicklingError):
        CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
    assert not mark.exists()


@pytest.mark.parametrize(
    'tag', ['object/apply:os.system', 'object/new:os.system', 'name:os.system'])
def test_a_teachers_config_as_data_runs_nothing(tag, tmp_path):
    mark, base = tmp_path / 'mark', tmp_path / 'base.yml'
    base.write_text(f'model: !!python/{tag} ["touch {mark}"]\n')
    (tmp_path / 'teacher.yml').write_text('_base_: base.yml\n')
    for name in ('base.yml', 'teacher.yml'):
        words = f'{name}. cannot be read .*write a config file'
        with pytest.raises(ValueError, match=words) as said:
            read_config(str(tmp_path / name))
        assert '\n' not in str(said.value)
    assert not mark.exists()


def test_a_teachers_config_as_data_is_read(tmp_path):
    (tmp_path / 'teacher.yml').write_text('model: {type: RetinaNet, scales: [1, 2]}\n')
    (tmp_path / 'teacher.json').write_text('{"model": {"type": "RetinaNet", "scales": [1, 2]}}')
    for name in ('teacher.yml', 'teacher.json'):
        assert read_config(str(tmp_path / name)).model.scales == [1, 2]


@pytest.mark.parametrize(('content', 'answer'), [
    ('', 'is damaged'), ('{"hash": 1', 'is damaged'), ('[' * 10**6, 'is damaged'),
    ('["metrics"]', 'holds a list and is no result'), (' ' * (10**7 + 1), 'is no result'),
    ('__import__("os").system("touch mark")', 'is damaged'), ('\udcff', 'is damaged')])
def test_a_result_file_is_values_or_a_sentence(content, answer, tmp_path):
    path = tmp_path / 'seed-0.json'
    path.write_bytes(content.encode(errors='surrogateescape'))
    with pytest.raises(ValueError, match=f'seed-0.json .*{answer}.*; delete it'):
        read_result(path)
    assert sorted(tmp_path.iterdir()) == [path]
