"""The runner finishes what it starts, once; tables say what the results say."""

import json
import shutil
import sys
from pathlib import Path

import make_table
import pytest
import step_costs
from plans import ROOT, PlanParser, add_run_arguments
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
    """A student alone and taught by a teacher that is not trained yet: two methods of a config."""
    monkeypatch.setattr('run_experiments.WORK', tmp_path / 'work')
    teacher = write(tmp_path, 'deeplabv3_digits-teacher', digits)
    checkpoint = tmp_path / 'work/teacher/iter_4.pth'
    pair = write(
        tmp_path, 'pspnet_digits', digits,
        f'model = dict(teacher=dict(config={str(teacher)!r}, checkpoint={str(checkpoint)!r}))')
    return [Run(pair, 0, tmp_path / 'results', method=method) for method in ('none', 'dist')]


def test_runs_are_finished_once_and_teachers_first(runs, tmp_path, monkeypatch):
    _, run = runs
    teacher = run.missing_teacher()
    with monkeypatch.context() as patch:  # it is killed together with its runner
        patch.setattr(Run, '_call', lambda *args: sys.exit())
        with pytest.raises(SystemExit):
            teacher.execute(1)
    assert execute([run], threads=1) == []
    assert run.missing_teacher() is None
    assert run.name == 'dist_pspnet_digits'
    log = (run.folder / 'train.log').read_text()
    assert "dict(name='dist', " in log and 'FeatureRelationLoss' not in log
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


def make_up(run: Run, scores: list[float]) -> None:
    """Results of a run with as many seeds."""
    for seed, value in enumerate(scores):
        one = Run(run.config, seed, run.results, method=run.method)
        one.result.parent.mkdir(parents=True, exist_ok=True)
        metrics = {'mIoU': value, 'IoU/background': 90.0, 'IoU/0': value / 2}
        one.result.write_text(json.dumps(dict(
            hash=one.hash, seed=seed, metrics=metrics, train_cpu_seconds=10 + seed,
            peak_memory_mb=500)))


@pytest.fixture
def results(runs):
    """Three seeds of made-up metrics."""
    scores = [30.0, 32.5, 31.0], [36.0, 37.0, 38.5]
    for run, values in zip(runs, scores, strict=True):
        make_up(run, values)
    return runs, scores


def test_a_table_gives_means_and_the_paired_gain(results):
    runs, (alone, distilled) = results
    head, _, first, second = make_table.table(runs, [0, 1, 2]).splitlines()
    assert 'mIoU' in head
    assert first.startswith('| pspnet_digits-student | 31.2 ± 1.3 |')
    expected = ttest_rel(distilled, alone).confidence_interval(0.95)
    assert second.startswith('| dist_pspnet_digits |')
    assert f'+6.0 ({expected.low:+.1f} to {expected.high:+.1f})' in second
    assert '| 3 | 11 | 500 |' in second


def test_a_table_compares_classes(results):
    runs, (alone, distilled) = results
    head, _, first, second = make_table.table(runs, [0, 1, 2], classes=True).splitlines()
    assert '| background | 0 |' in head
    assert '90.0 ± 0.0' in first
    gain = (sum(distilled) - sum(alone)) / 6  # the class's score is half of the mean's
    assert second.endswith(f'| 90.0 (+0.0) | {sum(distilled) / 6:.1f} ({gain:+.1f}) |')


def test_a_table_compares_to_the_student_trained_for_as_long(results):
    runs, (_, distilled) = results
    longer = Run(runs[0].config, 0, runs[0].results, method='none:iters=6')
    assert 'gain over' not in make_table.table([*runs, longer], [0, 1, 2])
    make_up(longer, [35.0, 36.5, 38.0])
    rows = make_table.table([*runs, longer], [0, 1, 2]).splitlines()
    expected = ttest_rel(distilled, (35.0, 36.5, 38.0)).confidence_interval(0.95)
    assert 'gain over iters=6' in rows[0]
    assert f'({expected.low:+.1f} to {expected.high:+.1f}) | 3 | 11 |' in rows[3]
    assert rows[4].startswith('| pspnet_digits-student,iters=6 |')
    assert '|  | 3 | 11 |' in rows[4]  # not compared to itself


def test_for_as_long_is_of_the_same_labels(runs):
    config, results = runs[0].config, runs[0].results
    rows = [Run(config, 0, results, method=method) for method in (
        'none:labels=0.5', 'none', 'dist:labels=0.5,iters=9', 'none:iters=8',
        'none:labels=0.5,iters=6', 'none:labels=0.5,iters=7')]  # fmt: skip
    assert make_table.longer(rows) == (4, 'iters=6')
    assert make_table.longer(rows[1:]) == (2, 'iters=8')
    assert make_table.longer(rows[:3]) is None


def test_gains_are_over_the_student_alone_with_the_same_labels(runs):
    """And each class's; where no row of the student has them, over the first."""
    config, results = runs[0].config, runs[0].results
    scores = {'none:labels=0.1': 10.0, 'none:labels=0.1,iters=6': 12.0, 'dist:labels=0.1': 15.0,
              'none:labels=0.5': 30.0, 'dist:labels=0.5': 31.0, 'none:labels=0.5,iters=6': 30.5,
              'dist:labels=0.2': 11.0}  # fmt: skip
    rows = [Run(config, 0, results, method=method) for method in scores]
    for run, score in zip(rows, scores.values(), strict=True):
        make_up(run, [score])
    cells = [[cell.strip() for cell in line.split('|')]
             for line in make_table.table(rows, [0]).splitlines()[2:]]  # fmt: skip
    assert [row[3:5] for row in cells] == [
        ['', ''], ['+2.0', ''], ['+5.0', '+3.0'], ['', ''], ['+1.0', '+0.5'], ['+0.5', ''],
        ['+1.0', '-1.0']]  # fmt: skip
    assert '| gain over iters=6 |' in make_table.table(rows, [0])
    last = make_table.table([rows[2], rows[0]], [0]).splitlines()
    assert '| +5.0 |' in last[2] and '+' not in last[3]  # wherever it stands
    longer = Run(config, 0, results, method='none:labels=0.5,iters=9')
    make_up(longer, [40.0])
    assert '| gain over alone for as long |' in make_table.table([*rows[:5], longer], [0])
    classes = make_table.table(rows, [0], classes=True).splitlines()
    assert classes[4 + 2].endswith('15.5 (+0.5) |')


def test_a_table_has_what_a_step_costs_where_it_was_measured(results):
    runs, _ = results
    assert 'training, CPU s' in make_table.table(runs, [0, 1, 2])
    runs[1].cost.write_text(json.dumps(dict(hash=runs[1].hash, ratio=1.567)))
    rows = make_table.table(runs, [0, 1, 2]).splitlines()
    assert 'step, × student' in rows[0] and 'CPU s' not in rows[0]
    assert '| 3 | 1.00 |' in rows[2] and '| 3 | 1.57 |' in rows[3]
    runs[1].cost.write_text(json.dumps(dict(hash='of other settings', ratio=1.567)))
    assert 'training, CPU s' in make_table.table(runs, [0, 1, 2])


def test_a_steps_cost_is_measured_once_of_these_settings(runs, monkeypatch):
    asked = []

    def cost(alone, distilled, rounds):
        asked.append((alone.model.type, distilled.model.type, rounds))
        return 1.5678

    monkeypatch.setattr(step_costs, 'relative_cost', cost)
    line = ['step_costs.py', str(runs[1].config), '--methods', 'none', 'dist', '--rounds', '7',
            '--results', str(runs[1].results)]  # fmt: skip
    monkeypatch.setattr(sys, 'argv', line)
    with pytest.raises(SystemExit, match='not trained yet; run tools/run_experiments.py'):
        step_costs.main()
    monkeypatch.setattr(Run, 'missing_teacher', lambda run: None)
    for _ in range(2):
        step_costs.main()
    assert asked == [('EncoderDecoder', 'SegmentorDistiller', 7)]
    assert [run.step_cost() for run in runs] == [1.0, 1.568]


def test_a_table_without_results_yet_stays_a_marker(runs, tmp_path):
    document = tmp_path / 'page.md'
    text = f'<!-- table: {runs[0].config} --methods none --results {tmp_path} -->\n\nAfter.\n'
    document.write_text(text)
    make_table.refresh(document)
    assert document.read_text() == text


def test_results_of_other_settings_are_refused(results):
    runs, _ = results
    config = runs[0].config
    config.write_text(config.read_text() + '\nrandomness = dict(seed=7)\n')
    changed = [Run(config, 0, run.results, method=run.method) for run in runs]
    with pytest.raises(ValueError, match='other settings'):
        make_table.table(changed, [0])


def test_a_document_keeps_its_tables_up_to_date(results, tmp_path):
    runs, _ = results
    document, plan = tmp_path / 'page.md', tmp_path / 'plan.txt'
    plan.write_text(f'{runs[0].config}  # the pair\n--methods none dist\n--seeds 0 1 2\n')
    arguments = f'@{plan} --results {runs[0].results}'
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


def test_results_of_own_configs_do_not_lie_among_the_projects(tmp_path):
    def folder(*configs):
        parser = PlanParser('')
        add_run_arguments(parser)
        return parser.parse_args([*map(str, configs)]).results

    own, projects = tmp_path / 'mine.py', ROOT / 'configs/demo/pspnet_digits.py'
    own.touch()
    assert folder(projects) == ROOT / 'docs/results'
    assert folder(own) == folder(projects, own) == ROOT / 'work_dirs/results'
