"""The comparison with the student trained for as long: what is run, and what is said."""

import json
import sys

import compare
import pairs
import pytest
import run_experiments
import torch
from run_experiments import ROOT
from step_costs import relative_cost

SCORES = {'none': 40.0, 'none:iters=12': 41.0, 'kd': 40.5, 'dist-plus': 44.0}


@pytest.fixture
def files(tmp_path, digits):
    """A plain student's config, a teacher's, and its weights."""
    cfg = pairs.training(pairs.segmentor(), tmp_path / 'w', digits, seg=True, max_iters=6)
    cfg.dump(tmp_path / 'student.py')
    cfg.dump(tmp_path / 'teacher.py')
    torch.save(pairs.build(pairs.pair('pspnet')).student.state_dict(), tmp_path / 'teacher.pth')
    return tmp_path


@pytest.fixture
def run(files, monkeypatch):
    """Calls the tool with runs and costs that are made up; the runs that it asked for."""
    asked = []

    def execute(runs, jobs, threads):
        for one in runs:
            if one.done():
                continue
            asked.append((one.method, one.seed))
            one.result.parent.mkdir(parents=True, exist_ok=True)
            score = SCORES[one.method]
            score = score[one.seed] if isinstance(score, list) else score + 0.1 * (one.seed % 2)
            one.result.write_text(json.dumps(dict(
                hash=one.hash, seed=one.seed, metrics={'mIoU': score},
                validation={'mIoU': 100 - score}, train_cpu_seconds=1.0,
                peak_memory_mb=1)))  # fmt: skip
        return []

    monkeypatch.setattr(compare, 'execute', execute)
    monkeypatch.setattr(compare, 'relative_cost', lambda alone, distilled: 2.0)
    monkeypatch.setattr(compare.Comparison, 'teacher', lambda self: {'mIoU': 50.0})

    def call(*arguments):
        monkeypatch.setattr(sys, 'argv', [
            'compare.py', str(files / 'student.py'), '--work-dir', str(files / 'out'),
            *map(str, arguments)])  # fmt: skip
        compare.main()
        return asked

    return call


def taught(files):
    return '--teacher', files / 'teacher.py', '--teacher-checkpoint', files / 'teacher.pth'


def test_each_method_gets_a_line_and_nothing_is_trained_twice(run, files, capsys):
    arguments = *taught(files), '--methods', 'kd', 'dist-plus', '--seeds', 0, 1
    asked = run(*arguments)
    assert sorted(asked) == sorted((row, seed) for row in SCORES for seed in (0, 1))
    report = (files / 'out/report.md').read_text()
    assert 'looks' not in report
    lines = report.splitlines()
    assert any(line.startswith('dist-plus pays: +3.0') for line in lines)
    assert any(line.startswith('kd does not pay: -0.5') for line in lines)
    assert any(line.startswith('The teacher stands +9.0 above') for line in lines)
    assert report in capsys.readouterr().out
    before = len(asked)
    assert len(run(*arguments)) == before


def test_seeds_are_added_until_all_is_decided(run, files, monkeypatch):
    monkeypatch.setitem(SCORES, 'kd', 41.0)  # as good as the student for as long
    asked = run(*taught(files), '--methods', 'kd', '--seeds', 0, 1, '--until-decided', 4)
    assert {seed for _, seed in asked} == {0, 1, 2, 3}
    assert '95 % over all looks together' in (files / 'out/report.md').read_text()


def test_what_one_look_decides_many_may_not(run, files, monkeypatch):
    monkeypatch.setitem(SCORES, 'none:iters=12', [41.0] * 8)
    monkeypatch.setitem(SCORES, 'kd', [44.0, 42.6, 43.6, *[43.4] * 5])
    arguments = *taught(files), '--methods', 'kd', '--seeds', 0, 1, 2
    assert len({seed for _, seed in run(*arguments)}) == 3
    assert 'kd pays: +2.4' in (files / 'out/report.md').read_text()
    assert 3 < len({seed for _, seed in run(*arguments, '--until-decided', 8)}) < 8
    assert 'kd pays: +2.4' in (files / 'out/report.md').read_text()


def test_weights_are_chosen_on_the_validation_data_and_count(run, files, monkeypatch):
    for row, score in {'kd:weight=0.3': 39.0, 'kd:weight=3': 45.0, 'none:iters=36': 41.0}.items():
        monkeypatch.setitem(SCORES, row, score)  # in validation the other way round
    asked = run(*taught(files), '--methods', 'kd', '--seeds', 0, 1, '--tune')
    assert asked[:3] == [('kd:weight=0.3', 0), ('kd', 0), ('kd:weight=3', 0)]
    assert {row for row, seed in asked if seed == 1} == {'none', 'none:iters=36', 'kd:weight=0.3'}
    assert 'kd:weight=0.3 does not pay' in (files / 'out/report.md').read_text()


def test_a_pairs_config_stands_for_both(files, monkeypatch, run):
    text = (files / 'student.py').read_text()
    (files / 'student.py').write_text(text + f'''
model = dict(type='SegmentorDistiller', student=model, teacher=dict(
    config={str(files / 'teacher.py')!r}, checkpoint={str(files / 'teacher.pth')!r}), distill='kd')
''')
    assert ('kd', 0) in run('--methods', 'kd', '--seeds', 0)
    with pytest.raises(SystemExit, match='has a teacher already'):
        run(*taught(files), '--methods', 'kd')


def test_what_is_missing_is_said_first(run, files):
    with pytest.raises(SystemExit, match='is a plain model; write --teacher CONFIG'):
        run('--methods', 'kd')
    with pytest.raises(SystemExit, match='there is no such file'):
        run('--teacher', 'a.py', '--teacher-checkpoint', 'b.pth', '--methods', 'kd')
    with pytest.raises(SystemExit, match="write 'kd', or one"):
        run(*taught(files), '--methods', 'kdd')


def test_a_steps_cost_is_measured_in_turns(files):
    alone = pairs.Config.fromfile(files / 'student.py')
    distilled = compare.distilled(pairs.Config.fromfile(files / 'student.py'),
                                  str(files / 'teacher.py'), str(files / 'teacher.pth'), 'dist')
    assert 1 < relative_cost(alone, distilled, rounds=3, warm_up=1) < 20


def test_the_time_of_a_detectors_steps_is_taken_silently(tmp_path, digits, capsys):
    alone, distilled = (
        pairs.training(pairs.pair('retinanet'), tmp_path, digits, seg=False, max_iters=2)
        for _ in range(2))
    assert relative_cost(alone, distilled, rounds=1, warm_up=0) > 0
    assert 'loading annotations' not in capsys.readouterr().out


@pytest.mark.parametrize('rows', [['none'], ['kd'], ['none', 'none:iters=12', 'kd']])
def test_a_detector_that_finds_nothing_has_no_number(run, files, monkeypatch, rows):
    execute = compare.execute

    def without(runs, jobs, threads):
        failures = execute(runs, jobs, threads)
        for one in runs:
            if one.method in rows:
                kept = json.loads(one.result.read_text())
                one.result.write_text(json.dumps(dict(kept, metrics={})))
        return failures

    monkeypatch.setattr(compare, 'execute', without)
    with pytest.raises(SystemExit, match=f'{rows[0]}, seed 0: its test gave no number.*train lon'):
        run(*taught(files), '--methods', 'kd', '--seeds', 0)


def test_relative_paths_are_read_from_where_the_command_is_given(files, monkeypatch):
    """The repository's own configs are read from its root."""
    monkeypatch.chdir(files)
    kept = []
    monkeypatch.setattr(run_experiments.subprocess, 'Popen', lambda *args, **options:
                        kept.append((args[0][3], options['cwd'])) or 1 / 0)
    for config, base in ((files / 'student.py', files),
                         (ROOT / 'configs/demo/pspnet_digits-student.py', ROOT)):
        run = run_experiments.Run(config, 0, files / 'results', files / 'runs')
        run._lock = 0
        run.folder.mkdir(exist_ok=True)
        with pytest.raises(ZeroDivisionError):
            run._call('train', [], 1)
        assert kept.pop() == (str(ROOT / 'tools/train.py'), base)
