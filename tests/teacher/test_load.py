"""Files of weights: what is whole is loaded, what is not is answered by one sentence."""

import argparse
import io
import json
import pathlib
import pickle
import struct
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from kd_plugin.teacher import load_strictly
from kd_plugin.teacher.files import open_checkpoint

RAN = []


class Harmful:
    """Runs code where it is unpickled."""

    def __reduce__(self):
        return RAN.append, ('ran',)


def model():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def saved(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def safetensors(state):
    names, body, header = {torch.float32: 'F32', torch.float16: 'F16', torch.int64: 'I64'}, b'', {}
    for key, value in state.items():
        data = value.numpy().tobytes()
        header[key] = dict(dtype=names[value.dtype], shape=list(value.shape),
                           data_offsets=[len(body), len(body) + len(data)])
        body += data
    text = json.dumps({'__metadata__': dict(format='pt'), **header}).encode()
    return struct.pack('<Q', len(text)) + text + body


def zipped(name, text='x'):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        archive.writestr(name, text)
    return buffer.getvalue()


def tarred():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as archive:
        archive.addfile(tarfile.TarInfo('model.pth'))
    return buffer.getvalue()


def scripted():
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), buffer)
    return buffer.getvalue()


STATE = model().state_dict()
WHOLE = saved(dict(state_dict=STATE))
OLD = saved(dict(state_dict=STATE), _use_new_zipfile_serialization=False)
BROKEN = {
    'page': (b'\n<!DOCTYPE html><html>404</html>', 'is a web page'),
    'pointer': (b'version https://git-lfs.github.com/spec/v1\noid sha256:1\n', 'git lfs pull'),
    'nothing': (b'', r'is empty \(0 bytes\)'),
    'noise': (b'weights, honestly', "no checkpoint: it starts with b'weights"),
    'half': (WHOLE[:len(WHOLE) // 2], 'is cut short at'),
    'half-old': (OLD[:len(OLD) // 2], 'is damaged or cut short'),
    'zip': (zipped('a/b.txt'), r"is an archive of \['b.txt'\]"),
    'tar': (tarred(), 'is an archive, not'),
    'script': (scripted(), 'is a TorchScript program'),
    'empty-dict': (saved({}), 'holds no weights, but an empty dict'),
    'list': (saved([1, 2]), 'holds a list where'),
    'tensor': (saved(torch.ones(2)), 'holds a Tensor where'),
    'nested': (saved(dict(model=dict(STATE), epoch=3)), "if its 'model' are the weights"),
    'arrays': (saved({key: value.tolist() for key, value in STATE.items()}), 'holds no weights'),
    'inner-list': (saved(dict(state_dict=[1])), 'holds a list where'),
    'numbers': (saved({1: torch.ones(2)}), 'holds no weights'),
    'module': (saved(model()), 'a pickled torch.nn.modules.container.Sequential.*--trust'),
    'code': (saved(dict(state_dict=STATE, meta=Harmful())), 'and is not run; if you trust'),
    'pickle': (pickle.dumps(Harmful(), protocol=4), 'torch.save did not write, and is not run'),
    'none-left': (saved(dict(state_dict={**STATE, '0.weight': 'lost'})), 'lacks 1 of the 7 keys'),
    'other-shape': (saved({**STATE, '0.bias': torch.ones(5)}), 'have another shape: 0.bias'),
    'nan': (saved({**STATE, '0.bias': torch.full((4,), torch.nan)}),
            'NaN or infinite numbers in 1 of the 7 keys, the first is 0.bias'),
    'inf-half': (saved({**STATE, '0.bias': torch.full((4,), torch.inf).half()}), 'NaN or inf'),
    'sparse': (saved({**STATE, '0.bias': torch.zeros(4).to_sparse()}), 'a file of plain tensors'),
    'meta': (saved({**STATE, '0.bias': torch.zeros(4, device='meta')}), 'a file of plain tensors'),
    'short-tensors': (safetensors(STATE)[:-3], 'is damaged or cut short'),
    'long-header': (safetensors(STATE)[:60], 'is damaged or cut short'),
    'wrong-tensors': (safetensors(STATE).replace(b'"F32"', b'"Q42"'), 'of the type Q42'),
}  # fmt: skip


@pytest.mark.parametrize('kind', BROKEN)
def test_what_is_no_file_of_weights_is_answered_by_a_sentence(kind, tmp_path):
    content, message = BROKEN[kind]
    path = tmp_path / f'{kind}.pth'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f'(?s){kind}.pth.*{message}') as error:
        load_strictly(model(), path)
    assert len(str(error.value).splitlines()) == 1
    assert not RAN


def test_a_folder_is_answered_by_what_is_in_it(tmp_path):
    (tmp_path / 'best.pth').touch()
    with pytest.raises(ValueError, match=r"is a folder; write one of .*'best.pth'"):
        load_strictly(model(), tmp_path)


FINE = {
    'old': OLD,
    'bare': saved(STATE),
    'wrapped': saved({f'module.{key}': value for key, value in STATE.items()}),
    'half': saved({key: value.half() if value.is_floating_point() else value
                   for key, value in STATE.items()}),
    'safetensors': safetensors(STATE),
    'meta': saved(dict(state_dict=STATE, message_hub=HistoryBuffer([1.0], [1]), meta=dict(
        cfg=ConfigDict(a=1, b=[dict(c=ConfigDict(d=2))]), args=argparse.Namespace(lr=1),
        path=pathlib.Path('/a'), score=np.float64(3), palette=np.ones((2, 3), np.uint8)))),
}  # fmt: skip


@pytest.mark.parametrize('kind', FINE)
def test_whole_files_load_whatever_their_metadata(kind, tmp_path):
    path = tmp_path / 'teacher.bin'  # the name says nothing
    path.write_bytes(FINE[kind])
    filled = model()
    load_strictly(filled, path)
    for key, value in filled.state_dict().items():
        torch.testing.assert_close(value, STATE[key], atol=1e-3, rtol=1e-3)


def test_safetensors_of_every_type_come_back(tmp_path):
    state = dict(a=torch.arange(6).reshape(2, 3), b=torch.rand(2).half(), c=torch.tensor(1.5),
                 d=torch.empty(0, 3))
    (tmp_path / 'x').write_bytes(safetensors(state))
    found = open_checkpoint(tmp_path / 'x')
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], value) and found[key].dtype == value.dtype
               for key, value in state.items())


def test_numbers_that_a_model_has_by_itself_may_be_infinite(tmp_path):
    masked = nn.Module()
    masked.register_buffer('mask', torch.tensor([0, -torch.inf]))
    torch.save(masked.state_dict(), tmp_path / 'masked.pth')
    load_strictly(masked, tmp_path / 'masked.pth')


def test_what_an_address_gives_is_opened_as_safely(tmp_path, monkeypatch):
    """A loader like those of the forks: what may not be run, it runs."""

    def load(address, map_location):
        path = tmp_path / address.rpartition('/')[2]
        try:
            return torch.load(path, map_location=map_location, weights_only=True)
        except Exception:
            return torch.load(path, map_location=map_location, weights_only=False)

    def fail(address, map_location):
        raise KeyError('resnet0')

    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    CheckpointLoader.register_scheme('shelf://', load)
    CheckpointLoader.register_scheme('nowhere://', fail)
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    opener = torch.load
    for name, content in (('code', BROKEN['code'][0]), ('st', FINE['safetensors'])):
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match='shelf://code: .*is not run.*delete that copy before'):
        load_strictly(model(), 'shelf://code')
    load_strictly(model(), 'shelf://st')
    with pytest.raises(ValueError, match="nowhere://x cannot be fetched .KeyError: 'resnet0'"):
        load_strictly(model(), 'nowhere://x')
    assert not RAN and torch.load is opener
