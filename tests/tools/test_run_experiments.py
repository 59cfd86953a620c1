"""The runner finishes what it starts, once; tables say what the results say."""

import json
import shutil
import sys
from pathlib import Path

import make_table
import pytest
from run_experiments import Run, execute
from scipy.stats import ttest_rel

CONFIG = """
_base_ = {base!r}
custom_imports = dict(_delete_=True, imports=['kd_plugin', 'kd_plugin.analysis.class_iou'])
train_cfg = dict(max_iters=4, val_interval=4)
default_hooks = dict(checkpoint=dict(interval=2, max_keep_ckpts=2))
train_dataloader = dict(batch_size=2, dataset=dict(data_root={data!r}))
val_dataloader = dict(dataset=dict(data_root={data!r}))
test_dataloader = dict(dataset=dict(data_root={data!r}))
"""


def write(folder: Path, name: str, data: Path, more: str = '') -> Path:
    base = str(Path(f'configs/demo/{name}.py').resolve())
    path = folder / f'{name}.py'
    path.write_text(CONFIG.format(base=base, data=str(data)) + more)
    return path


@pytest.fixture
def runs(tmp_path, digits, monkeypatch):
    """A student alone and one with a teacher that is not trained yet."""
    monkeypatch.setattr('run_experiments.WORK', tmp_path / 'work')
    teacher = write(tmp_path, 'deeplabv3_digits-teacher', digits)
    checkpoint = tmp_path / 'work/teacher/iter_4.pth'
    student = write(tmp_path, 'pspnet_digits-student', digits)
    distilled = write(
        tmp_path, 'dist_pspnet_digits', digits,
        f'model = dict(teacher=dict(config={str(teacher)!r}, checkpoint={str(checkpoint)!r}))')
    return [Run(path, 0, tmp_path / 'results') for path in (student, distilled)]


def test_runs_are_finished_once_and_teachers_first(runs, tmp_path, monkeypatch):
    _, run = runs
    teacher = run.missing_teacher()
    with monkeypatch.context() as patch:  # it is killed together with its runner
        patch.setattr(Run, '_call', lambda *args: sys.exit())
        with pytest.raises(SystemExit):
            teacher.execute(1)
    assert execute([run], threads=1) == []
    assert run.missing_teacher() is None
    taught, result = (json.loads(one.result.read_text()) for one in (teacher, run))
    for found in (taught, result):
        assert found['metrics']['mIoU'] >= 0
        assert 'IoU/background' in found['metrics']
        assert found['peak_memory_mb'] > 0
        assert found['versions']['torch']
    assert taught['train_cpu_seconds'] is None  # the killed attempt's is not known
    assert result['train_seconds'] > 0
    assert result['train_cpu_seconds'] > 1

    # Done is done.
    written = run.result.stat().st_mtime_ns
    assert execute([run]) == []
    assert run.result.stat().st_mtime_ns == written

    # What was interrupted goes on where it stopped, and ends the same.
    (run.folder / 'iter_4.pth').unlink()
    attempts = json.loads((run.folder / 'attempts.json').read_text())
    attempts[-1]['finished'] = False
    (run.folder / 'attempts.json').write_text(json.dumps(attempts))
    (run.folder / 'last_checkpoint').write_text(str(run.folder / 'iter_2.pth'))
    run.result.unlink()
    assert execute([run], threads=1) == []
    assert 'resumed epoch: 0, iter: 2' in (run.folder / 'train.log').read_text()
    again = json.loads(run.result.read_text())
    assert again['metrics'] == pytest.approx(result['metrics'], rel=0, abs=0, nan_ok=True)
    assert again['train_cpu_seconds'] > result['train_cpu_seconds']

    # Other settings are not continued with these weights.
    run.result.unlink()
    run.options.append('train_dataloader.batch_size=3')
    run.hash = run._hash()
    assert 'delete it' in execute([run])[0]


def test_a_run_that_fails_says_why(digits, tmp_path):
    config = write(tmp_path, 'pspnet_digits-student', digits,
                   'model = dict(decode_head=dict(in_channels=7))')
    run = Run(config, 0, tmp_path / 'results', tmp_path / 'work')
    (message,) = execute([run], threads=1)
    assert 'train failed' in message
    assert 'Error' in message
    assert not run.result.exists()


@pytest.fixture
def results(runs):
    """Three seeds of made-up metrics."""
    scores = [30.0, 32.5, 31.0], [36.0, 37.0, 38.5]
    for run, values in zip(runs, scores, strict=True):
        for seed, value in enumerate(values):
            one = Run(run.config, seed, run.results)
            one.result.parent.mkdir(parents=True, exist_ok=True)
            metrics = {'mIoU': value, 'IoU/background': 90.0, 'IoU/0': value / 2}
            one.result.write_text(json.dumps(dict(
                hash=one.hash, seed=seed, metrics=metrics, train_cpu_seconds=10 + seed,
                peak_memory_mb=500)))
    return [run.config for run in runs], runs[0].results, scores


def test_a_table_gives_means_and_the_paired_gain(results):
    configs, folder, (alone, distilled) = results
    head, _, first, second = make_table.table(configs, [0, 1, 2], folder).splitlines()
    assert 'mIoU' in head
    assert '31.2 ± 1.3' in first
    expected = ttest_rel(distilled, alone).confidence_interval(0.95)
    assert f'+6.0 ({expected.low:+.1f} to {expected.high:+.1f})' in second
    assert '| 3 | 11 | 500 |' in second


def test_a_table_compares_classes(results):
    configs, folder, (alone, distilled) = results
    head, _, first, second = make_table.table(
        configs, [0, 1, 2], folder, classes=True).splitlines()
    assert '| background | 0 |' in head
    assert '90.0 ± 0.0' in first
    gain = (sum(distilled) - sum(alone)) / 6  # the class's score is half of the mean's
    assert second.endswith(f'| 90.0 (+0.0) | {sum(distilled) / 6:.1f} ({gain:+.1f}) |')


def test_a_table_compares_to_the_student_trained_for_as_long(results):
    configs, folder, (_, distilled) = results
    longer = configs[0].with_stem(f'{configs[0].stem}-long')
    longer.write_text(configs[0].read_text() + '\ntrain_cfg.update(max_iters=6)\n')
    plain = make_table.table([*configs, longer], [0, 1, 2], folder)
    assert 'gain over -long' not in plain
    for seed, score in enumerate((35.0, 36.5, 38.0)):
        run = Run(longer, seed, folder)
        run.result.parent.mkdir(parents=True, exist_ok=True)
        run.result.write_text(json.dumps(dict(
            hash=run.hash, seed=seed, metrics={'mIoU': score}, train_cpu_seconds=20,
            peak_memory_mb=500)))
    rows = make_table.table([*configs, longer], [0, 1, 2], folder).splitlines()
    expected = ttest_rel(distilled, (35.0, 36.5, 38.0)).confidence_interval(0.95)
    assert 'gain over -long' in rows[0]
    assert f'({expected.low:+.1f} to {expected.high:+.1f}) | 3 | 11 |' in rows[3]
    assert '|  | 3 | 20 |' in rows[4]  # not compared to itself


def test_a_table_without_results_yet_stays_a_marker(runs, tmp_path):
    document = tmp_path / 'page.md'
    text = f'<!-- table: {runs[0].config} --results {tmp_path} -->\n\nAfter.\n'
    document.write_text(text)
    make_table.refresh(document)
    assert document.read_text() == text


def test_results_of_other_settings_are_refused(results):
    configs, folder, _ = results
    configs[1].write_text(configs[1].read_text() + '\nrandomness = dict(seed=7)\n')
    with pytest.raises(ValueError, match='other settings'):
        make_table.table(configs, [0], folder)


def test_a_document_keeps_its_tables_up_to_date(results, tmp_path):
    configs, folder, _ = results
    document = tmp_path / 'page.md'
    arguments = f'{configs[0]} {configs[1]} --seeds 0 1 2 --results {folder}'
    document.write_text(f'Before.\n\n<!-- table: {arguments} -->\n| old |\n\nAfter.\n')
    make_table.refresh(document)
    text = document.read_text()
    assert '31.2 ± 1.3' in text
    assert '| old |' not in text
    assert text.endswith('\n\nAfter.\n')
    make_table.refresh(document)
    assert document.read_text() == text


@pytest.mark.parametrize(
    'document', sorted(str(path) for path in [Path('README.md'), *Path('docs').rglob('*.md')]))
def test_the_projects_own_tables_are_up_to_date(document, tmp_path):
    copy = tmp_path / 'page.md'
    shutil.copy(document, copy)
    make_table.refresh(copy)
    assert copy.read_text() == Path(document).read_text()
