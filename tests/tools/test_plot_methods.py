"""Scores of methods over what varies among them, and other teachers of a pair."""

import sys
from pathlib import Path

import make_table
import plot_methods
import pytest
from by_method import with_method
from mmengine.config import Config
from run_experiments import Run
from test_run_experiments import make_up, runs, write  # noqa: F401  (a fixture)


def give(run, *scores):
    make_up(run, list(scores))
    return run


@pytest.fixture
def taught(runs, digits):  # noqa: F811
    """By two teachers of one config, and by another."""
    alone, dist = runs
    write(alone.config.parent, 'deeplabv3_digits-student', digits)
    found = [give(alone, 30.0, 32.0)]
    for kind in ('kd', 'dist'):
        for option, gain in (("teacher_iters=2", 4), ("teacher='deeplabv3_digits-student.py'", 2),
                             ("teacher_iters=4", 1 if kind == 'kd' else 6)):  # fmt: skip
            run = Run(dist.config, 0, dist.results, method=f'{kind}:{option}')
            found.append(give(run, 30.0 + gain, 32.0 + gain))
    for run, score in zip(found[1:4], (40.0, 35.0, 50.0), strict=True):
        give(run.teacher_run(), score)
    return found


def test_another_teacher_is_one_that_the_runner_trains(taught, tmp_path):
    alone, short, other, _, *_ = taught
    assert short.name == 'kd,teacher_iters=2_pspnet_digits'
    assert other.name == 'kd,teacher=deeplabv3_digits-student.py_pspnet_digits'
    teachers = [run.teacher_run() for run in (short, other)]
    assert [one.name for one in teachers] == [
        'deeplabv3_digits-teacher,iters=2', 'deeplabv3_digits-student']
    assert [run.cfg.model.teacher.checkpoint for run in (short, other)] == [
        'work_dirs/deeplabv3_digits-teacher,iters=2/seed-0/iter_2.pth',
        'work_dirs/deeplabv3_digits-student/seed-0/iter_4.pth']
    assert teachers[0].cfg.train_cfg.max_iters == 2 and short.cfg.train_cfg.max_iters == 4
    assert short.cfg.model.distill == 'kd' and short.hash != other.hash


def test_a_teacher_of_a_share_of_the_labels_trains_on_these_alone(runs):  # noqa: F811
    alone = runs[1].teacher_run()
    taught = Run(runs[1].config, 0, runs[1].results, method='kd:labels=0.5,teacher_labels=0.25')
    teacher = taught.teacher_run()
    assert teacher.name == 'deeplabv3_digits-teacher,labels=0.25' != alone.name
    assert Path(taught.cfg.model.teacher.checkpoint).parts[1] == teacher.name
    seen = {one.name: one.cfg.train_dataloader.dataset for one in (taught, teacher)}
    assert [(part.type, part.begin, part.end) for part in seen.values()] == [
        ('mmengine.PartOf', 0, 0.5), ('mmengine.PartOf', 0, 0.25)]
    assert teacher.cfg.train_cfg == alone.cfg.train_cfg


@pytest.mark.parametrize(('method', 'message'), [
    ('none:teacher_iters=2', 'without a teacher there is none to choose'),
    ("kd:teacher='nothing.py'", 'nothing.py.*no such config'),
    ('kd:teacher_epochs=2', 'teacher_epochs: .* trains by iters'),
    ('kd:teacher_iters=2,teacher_epochs=2', 'teacher_iters, teacher_epochs: .* trains by iters'),
    ('kd:teacher_labels=2', 'teacher_labels: labels=2; write a share of the training images'),
    ("kd:teacher='pspnet_digits.py'", "'pspnet_digits.py' is the config of a pair"),
])  # fmt: skip
def test_teachers_that_cannot_be_chosen_are_refused(runs, method, message):  # noqa: F811
    with pytest.raises(ValueError, match=message):
        with_method(Config.fromfile(runs[0].config), method)


def test_a_table_has_all_teachers_of_its_rows(taught):
    rows = make_table.table(taught, [0, 1]).splitlines()
    assert [row.split('|')[1].strip() for row in rows[2:5]] == [
        'deeplabv3_digits-teacher,iters=2', 'deeplabv3_digits-student',
        'deeplabv3_digits-teacher,iters=4']
    assert len(rows) == 2 + 3 + len(taught)


def test_over_the_teacher_places_are_its_own_scores(taught):
    metric, found = plot_methods.lines(taught, [0, 1], 'teacher')
    assert metric == 'mIoU'
    assert found == {
        'student alone': {None: [30.0, 32.0]},
        'kd': {40.0: [34.0, 36.0], 35.0: [32.0, 34.0], 50.0: [31.0, 33.0]},
        'dist': {40.0: [34.0, 36.0], 35.0: [32.0, 34.0], 50.0: [36.0, 38.0]}}


def test_a_teacher_without_results_has_no_place(taught):
    taught[1].teacher_run().result.unlink()
    with pytest.raises(ValueError, match='kd,teacher_iters=2_pspnet_digits: its teacher has no'):
        plot_methods.lines(taught, [0, 1], 'teacher')


def test_over_an_option_places_are_its_numbers(taught):
    _, found = plot_methods.lines(taught, [0, 1], 'teacher_iters')
    assert found['dist'] == {2.0: [34.0, 36.0], 4.0: [36.0, 38.0]}
    assert found['dist, teacher=deeplabv3_digits-student.py'] == {None: [32.0, 34.0]}
    with pytest.raises(ValueError, match="no results of runs that have 'labels'"):
        plot_methods.lines(taught, [0, 1], 'labels')


def test_the_figure_has_a_line_a_method(taught, tmp_path, monkeypatch, capsys):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, 'savefig', lambda self, out, **_: drawn.append((self, out)))
    monkeypatch.setattr(sys, 'argv', [
        'plot_methods.py', str(taught[0].config), '--over', 'teacher', '--out', 'a.png', '--seeds',
        '0', '1', '--results', str(taught[0].results), '--methods',
        *(run.method for run in taught)])  # fmt: skip
    plot_methods.main()
    (figure, out), = drawn
    (axes,) = figure.axes
    labels = axes.get_legend_handles_labels()[1]
    assert sorted(labels) == ['dist', 'kd', 'student alone'] and str(out) == 'a.png'
    assert axes.get_xlabel() == 'mIoU of the teacher' and axes.get_ylabel() == 'mIoU'
    lines = {tuple(line.get_xdata()): list(line.get_ydata()) for line in axes.lines}
    assert any(places == (35.0, 40.0, 50.0) for places in lines)
