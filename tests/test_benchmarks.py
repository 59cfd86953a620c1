"""The scripts of benchmarks/ run, at sizes where what they measure means nothing."""

import json
import sys
from pathlib import Path

import pairs
import pytest
from mmengine.config import Config

sys.path.append(str(Path(__file__).parents[1] / 'benchmarks'))
import losses
import on_a_gpu
import pictures
import sanity_check
import step
import teacher
import unlabelled


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Calls a script's main and returns the rows that it measured."""
    monkeypatch.setenv('MEASURED', str(tmp_path / 'rows'))

    def call(script, *arguments):
        monkeypatch.setattr(sys, 'argv', [script.__file__, *map(str, arguments)])
        script.main()
        return [json.loads(row) for row in (tmp_path / 'rows').read_text().splitlines()]

    return call


@pytest.fixture
def config(tmp_path):
    def write(kind):
        cfg = Config(dict(model=pairs.pair(kind),
                          default_scope='mmseg' if kind == 'pspnet' else 'mmdet',
                          optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1))))  # fmt: skip
        cfg.dump(tmp_path / f'{kind}.py')
        return tmp_path / f'{kind}.py'

    return write


@pytest.mark.parametrize('kind', ['retinanet', 'faster_rcnn', 'pspnet'])
def test_a_step_beside_its_floor(kind, run, config):
    (row,) = run(step, config(kind), '--size', 64, 96, '--rounds', 1)
    assert row['ratio'] > 0 and row['config'] == kind and row['size'] == [64, 96]
    assert on_a_gpu.tables([result(row)]).count(f'`{kind}`, 2 × 64×96') == 1


def test_the_teachers_options(run, config):
    rows = run(teacher, config('retinanet'), '--size', 64, 96, '--rounds', 1, '--options',
               'bfloat16', 'channels_last')  # fmt: skip
    assert [row['option'] for row in rows] == ['bfloat16', 'channels_last']
    assert 0 < rows[0]['moved'] < 0.1 and rows[1]['moved'] < 1e-4


@pytest.mark.compiled
def test_losses_beside_their_formulas(run, monkeypatch):
    monkeypatch.setattr(losses, 'LEVELS', ((16, 24),))
    rows = run(losses, '--rounds', 1, '--threads', 1, '--dtype', 'float16')
    assert [row['loss'] for row in rows] == ['DIST', 'features']


def result(*rows):
    at = dict(gpu='A GPU', torch='2', python='3')
    return dict(machine=at, commands=dict(step=dict(seconds=1, status=0, rows=list(rows))))


def test_the_page_takes_its_tables_from_the_result_files(tmp_path, monkeypatch):
    (tmp_path / 'README.md').write_text(f'before\n{on_a_gpu.START}old\n{on_a_gpu.END}after\n')
    (tmp_path / 'a.json').write_text(json.dumps(result()))
    monkeypatch.setattr(on_a_gpu, 'HERE', tmp_path)
    monkeypatch.setattr(on_a_gpu, 'RESULTS', tmp_path)
    on_a_gpu.write_page()
    page = (tmp_path / 'README.md').read_text()
    assert 'old' not in page and '### A GPU, torch 2' in page
    assert page.startswith('before\n') and page.endswith('after\n')


def test_without_a_gpu_it_says_so(run, tmp_path, monkeypatch):
    monkeypatch.setattr(on_a_gpu, 'machine', lambda: dict(gpu=None))
    with pytest.raises(SystemExit, match='sees no GPU'):
        run(on_a_gpu, '--out', tmp_path)


def test_the_configs_that_are_measured_are_there():
    measured = on_a_gpu.commands('mmrazor', 2)
    files = [part for command in measured.values() for part in command if part.endswith('.py')]
    assert len(files) > 10 and all((on_a_gpu.ROOT / file).exists() for file in files)


def test_pytests_report(tmp_path):
    (tmp_path / 'report.xml').write_text(
        '<testsuite><testcase name="a"/><testcase name="b"><failure/></testcase>'
        '<testcase name="c"><skipped/></testcase></testsuite>')
    assert on_a_gpu.tests_of(tmp_path / 'report.xml') == dict(passed=1, skipped=1, failed=['b'])


def test_a_drawing_beside_the_steps_between_two(run, config):
    (row,) = run(pictures, config('pspnet'), '--size', 64, 64, '--rounds', 1)
    assert row['steps'] > 0
    assert row['share'] == pytest.approx(row['steps'] / pictures._DEFAULTS['interval'])


def test_an_image_without_labels_beside_one_with(run, config):
    rows = run(unlabelled, config('faster_rcnn'), '--size', 64, 64, '--rounds', 1)
    assert [row['kind'] for row in rows] == ['mixed', "mixed, the teacher's boxes"]


def test_what_comparing_gradients_costs(run, config):
    (row,) = run(sanity_check, config('pspnet'), '--size', 64, 64, '--rounds', 1)
    assert row['share'] * 1000 == pytest.approx(row['more']) and row['memory'] > 0
