"""A report says what its runs say, names what is missing, and needs nothing beside itself."""

import copy
import json
import re
import shutil
import subprocess

import numpy as np
import pairs
import pytest
import report
import torch
from mmengine.registry import init_default_scope
from reporting import predictions as P
from reporting import runs as R
from reporting.figures import grouped_bars, matrix
from reporting.page import Page
from reporting.seen_sections import MOST, _merged, confusion

from kd_plugin.teacher import build_model


def made(folder, model, digits, seg=True, scores=(10.0, 20.0), **options):
    """A work folder as training leaves it, with the weights that a model starts from."""
    cfg = pairs.training(model, folder, digits, seg, **options)
    name = 'mIoU' if seg else 'coco/bbox_mAP'
    logs = folder / '20260101_000000/vis_data'
    logs.mkdir(parents=True)
    cfg.dump(logs / 'config.py')
    rows = [dict(loss=3.0, loss_dist=1.0, time=0.5, memory=100, iter=i, step=i) for i in (1, 2)]
    rows += [{name: score, 'step': step + 1} for step, score in enumerate(scores)]
    (logs / 'scalars.json').write_text('\n'.join(map(json.dumps, rows)))
    init_default_scope(cfg.default_scope)
    torch.manual_seed(len(folder.name))
    built = build_model(copy.deepcopy(model.get('student', model)), cfg.default_scope)
    torch.save(dict(state_dict=built.state_dict()), folder / 'student_last.pth')
    return folder


def distilled(kind):
    cfg = pairs.pair(kind)
    cfg['student'] = copy.deepcopy(cfg['student'])
    return cfg


@pytest.fixture(scope='module')
def folders(tmp_path_factory, digits):
    """Segmentation: alone, for longer, distilled. Detection: alone, distilled."""
    root = tmp_path_factory.mktemp('runs')
    seg, det = distilled('pspnet'), distilled('retinanet')
    return dict(
        seg=[made(root / 'alone', seg['student'], digits),
             made(root / 'longer', seg['student'], digits, max_iters=8, scores=(10.0, 25.0)),
             made(root / 'taught', seg, digits, scores=(12.0, 30.0))],
        det=[made(root / 'det-alone', det['student'], digits, seg=False, scores=(0.1, 0.2)),
             made(root / 'det-taught', det, digits, seg=False, scores=(0.1, 0.3))])  # fmt: skip


def rows_of(html, first):
    """Cells of the table row that begins with some text."""
    for row in re.findall(r'<tr>(.*?)</tr>', html):
        cells = re.findall(r'<td>(.*?)</td>', row)
        if cells and cells[0] == first:
            yield cells


@pytest.fixture(scope='module')
def written(folders, tmp_path_factory):
    """Both reports: page and file."""
    root = tmp_path_factory.mktemp('reports')
    return {task: (report.write_report(paths, root / f'{task}.html', root), root / f'{task}.html')
            for task, paths in folders.items()}  # fmt: skip


def sections(html):
    return re.findall(r'<h2>(.*?)</h2>', html)


def test_a_page_of_segmentation_has_all_its_sections(written):
    page, path = written['seg']
    html = path.read_text()
    assert sections(html) == ['Accuracy', 'Curves', 'Classes', 'Confusion',
                              'Where the students differ most', 'Cost', 'Settings']  # fmt: skip
    # last, best, evaluated, gain; trained
    (alone, *_), (longer, *_), (taught, *_) = (
        list(rows_of(html, label)) for label in (
            'student alone', 'student alone, 8 iterations', 'dist + features + aux'))
    assert alone[1:3] == ['20.0', '20.0'] and alone[-1] == '4 iterations'
    assert longer[1] == '25.0' and taught[1] == '30.0'
    assert float(taught[4]) == pytest.approx(float(taught[3]) - float(alone[3]), abs=0.11)
    assert len(list(rows_of(html, 'background'))) >= 1
    assert any(text.startswith("the teacher's accuracy") for text in page.missing)
    assert any('no checkpoint' in text for text in page.missing)
    assert any('RelationHook' in text for text in page.missing)


def test_a_page_of_detection_has_the_errors_by_kind(written):
    html = written['det'][1].read_text()
    assert 'Errors by kind' in sections(html)
    for kind in ('class', 'localisation', 'both', 'duplicate', 'background', 'missed'):
        (cells,) = rows_of(html, kind)
        assert all(re.fullmatch(r'\d+ \([+-]\d+\.\d\)', cell) for cell in cells[1:])
    assert len(list(rows_of(html, 'AP at 0.5'))) == 1


@pytest.mark.parametrize('task', ['seg', 'det'])
def test_a_page_needs_nothing_beside_itself(written, task):
    path = written[task][1]
    html = path.read_text()
    sources = re.findall(r'(?:src|href|url)\s*[=(]\s*["\']?([^"\'\s>)]{0,40})', html)
    assert sources and all(re.match(r'data:image/png;base64,|#[\w-]+$', s) for s in sources)
    assert '<script' not in html and "default-src 'none'" in html
    pictures = list(path.with_name(f'{task}_files').glob('*.png'))
    assert len(pictures) == html.count('<img ') > 5
    assert all(one.read_bytes().startswith(b'\x89PNG') for one in pictures)


def test_predictions_are_made_once(written, folders, tmp_path, monkeypatch):
    def fail(*args):
        raise AssertionError('evaluated again')

    monkeypatch.setattr(P, '_evaluate', fail)
    page, path = written['seg']
    again = report.write_report(folders['seg'], path, tmp_path)
    assert again.html() == page.html()


def test_no_evaluation_has_the_name_of_another(folders, tmp_path, monkeypatch):
    names = []

    def stop(cfg):
        names.extend([cfg.experiment_name, cfg.visualizer.name])
        raise InterruptedError

    monkeypatch.setattr(P.Runner, 'from_cfg', stop)
    work = R.read_work(folders['seg'][0], tmp_path)
    for _ in range(20):  # mmengine would give a later one the loggers and scope of the first
        with pytest.raises(InterruptedError):
            P._evaluate(work, work.checkpoint, False)
    assert len(set(names)) == 20


@pytest.mark.parametrize('task', ['seg', 'det'])
def test_what_is_kept_is_what_was_predicted(folders, task, tmp_path):
    work = R.read_work(folders[task][0], tmp_path)
    work.label = 'alone'
    seen = P._evaluate(work, work.checkpoint, False)
    P._write(tmp_path / 'kept.npz', seen)
    kept = P._read(tmp_path / 'kept.npz')
    assert (kept.meta, kept.paths) == (seen.meta, seen.paths)
    np.testing.assert_equal(kept.metrics, seen.metrics)  # with classes that are not there
    np.testing.assert_array_equal(kept.confusion(), seen.confusion())
    assert len(kept.paths) == 4 and kept.detects == (task == 'det')
    if task == 'seg':  # the config's own evaluator is the oracle
        assert kept.of_classes() == pytest.approx(
            {key[4:]: value for key, value in seen.metrics.items() if key.startswith('IoU/')},
            abs=0.006, nan_ok=True)
    else:
        there = [value for value in kept.of_classes().values() if value == value]
        # pycocotools takes the boxes of a thousand detections, and rounds to three places.
        assert np.mean(there) == pytest.approx(100 * seen.metrics['coco/bbox_mAP'], abs=0.11)
    assert all(0 <= kept.of_image(index) <= 1 for index in range(4))


def test_one_run_is_enough_and_what_is_missing_is_said(folders, tmp_path):
    page = report.write_report([folders['seg'][0]], tmp_path / 'one.html', tmp_path)
    html = page.html()
    assert 'What is missing here' in html and 'a distilled run' in html
    assert not any('predictions' in text for text in page.missing)
    assert 'Confusion' in sections(html) and 'Where the students' not in html
    assert any('student alone and a distilled one' in text for text in page.missing)


def test_without_predictions_only_what_was_written_is_shown(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(P, '_evaluate', None)
    page = report.write_report(folders['det'], tmp_path / 'quick.html', tmp_path, evaluate=False)
    assert sections(page.html()) == ['Accuracy', 'Curves', 'Cost', 'Settings']
    taught = next(rows_of(page.html(), 'dist + features'))
    assert taught[1:4] == ['30.0', '30.0', '+10.0']  # COCO's shares as percent


def test_a_run_without_weights_or_logs_is_still_shown(folders, tmp_path):
    bare = tmp_path / 'bare'
    logs = bare / '1/vis_data'
    logs.mkdir(parents=True)
    source = next(folders['seg'][0].glob('*/vis_data/config.py'))
    shutil.copy(source, logs)
    page = report.write_report([bare], tmp_path / 'bare.html', tmp_path)
    assert any('no checkpoint' in text for text in page.missing)
    assert any('scalars.json' in text for text in page.missing)
    assert sections(page.html()) == ['Accuracy', 'Curves', 'Cost', 'Settings']


def test_results_of_experiments_belong_to_their_runs(folders, tmp_path):
    run = folders['seg'][0]
    file = tmp_path / 'results/demo' / run.parent.name / f'{run.name}.json'
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(dict(
        metrics=dict(mIoU=21.5), train_seconds=600.0, peak_memory_mb=77)))
    page = report.write_report([run], tmp_path / 'r.html', tmp_path / 'results', evaluate=False)
    accuracy, cost, *_ = rows_of(page.html(), 'student alone')
    assert accuracy[1:4] == ['20.0', '20.0', '21.5'] and cost[-2:] == ['10.0', '77']


def test_seeds_are_told_apart_and_averaged(digits, tmp_path):
    model = pairs.segmentor()
    runs = [made(tmp_path / f'seed-{seed}', model, digits, scores=(10.0, 20.0 + 2 * seed),
                 randomness=dict(seed=seed)) for seed in (0, 1)]  # fmt: skip
    page = report.write_report(runs, tmp_path / 'r.html', tmp_path, evaluate=False)
    assert len(list(rows_of(page.html(), 'student alone, seed 1'))) == 3
    ((*_, mean),) = rows_of(page.html(), 'student alone, mean of 2')
    assert '21.0 ± 1.4' in page.html() and mean == ''


def test_a_teachers_run_is_known_by_its_checkpoint(folders, digits, tmp_path):
    teacher = made(tmp_path / 'strong', pairs.segmentor(pairs.DEEPLAB, 12), digits)
    taught = distilled('pspnet')
    taught['teacher']['checkpoint'] = str(teacher / 'student_last.pth')
    runs = [made(tmp_path / 'taught', taught, digits), teacher, folders['seg'][0]]
    works = R.read_works(runs, tmp_path)
    assert [work.role for work in works] == [R.TEACHER, R.ALONE, R.DISTILLED]


def test_what_is_no_run_gets_a_sentence(folders, tmp_path):
    with pytest.raises(ValueError, match='holds no run: neither .* write the folder'):
        R.read_works([tmp_path], tmp_path)
    with pytest.raises(ValueError, match='mmdet and mmseg; write a report for each'):
        R.read_works([folders['seg'][0], folders['det'][0]], tmp_path)
    (tmp_path / 'config.py').write_text('value = 1\n')
    with pytest.raises(ValueError, match='has no model'):
        R.read_work(tmp_path, tmp_path)


def test_text_is_escaped_and_empty_columns_are_left_out(tmp_path):
    page = Page('<b>', 'below', tmp_path)
    page.section('A & B')
    page.table(['', 'empty', 'full'], [['<i>', '', '1']])
    html = page.html()
    assert '<b>' not in html and '<i>' not in html and 'A &amp; B' in html
    assert 'empty' not in html and '<td>1</td>' in html


def test_many_classes_are_merged_and_drawn(tmp_path):
    random = np.random.default_rng(0)
    counts = random.integers(50, size=(80, 80))
    kept = np.sort(random.permutation(80)[:MOST])
    merged = _merged(counts, kept)
    assert merged.shape == (MOST + 1, MOST + 1) and merged.sum() == counts.sum()
    np.testing.assert_array_equal(merged[:-1, :-1], counts[np.ix_(kept, kept)])
    labels = [random.integers(80, size=(40, 40)) for _ in range(2)]
    seen = P.Seen({}, dict(classes=[f'class {i}' for i in range(80)]), ['a.png'],
                  [P._closed(labels[0])], [P._closed(labels[1])])  # fmt: skip
    page = Page('many', '', tmp_path)
    confusion(page, dict(one=seen, other=seen), 'one', 'other')
    assert page.html().count('<img') == 3
    for content in (grouped_bars({'a': [1.0, float('nan')]}, ['x', 'y'], 't'),
                    matrix(np.eye(3, dtype=int), 'abc', 't')):  # fmt: skip
        assert content.startswith(b'\x89PNG')


def browser():
    return next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))),
                None)  # fmt: skip


@pytest.mark.skipif(browser() is None, reason='no Chromium on this machine')
@pytest.mark.parametrize('width', [500, 1280])
def test_a_browser_shows_all_pictures_and_scrolls_down_alone(written, tmp_path, width):
    """At the least width of its windows and at a desk's. The page itself has no script."""
    html = written['det'][1].read_text()
    html = re.sub(r'<meta http-equiv[^>]*>', '', html)
    html = html.replace('</body>', '''<script>addEventListener('load', () => {
        const shown = [...document.images].filter(one => one.naturalWidth > 0).length
        document.title = ['measured', document.documentElement.scrollWidth, innerWidth,
                          shown, document.images.length].join(' ') })</script></body>''')
    (tmp_path / 'page.html').write_text(html)
    done = subprocess.run(
        [browser(), '--headless', '--no-sandbox', '--disable-gpu',
         '--disable-background-networking', '--disable-component-update', '--disable-sync',
         '--no-first-run', f'--user-data-dir={tmp_path}/profile', f'--window-size={width},900',
         '--dump-dom', f'file://{tmp_path}/page.html'],
        capture_output=True, text=True, timeout=120, check=True)  # fmt: skip
    measured = re.search(r'<title>measured (\d+) (\d+) (\d+) (\d+)</title>', done.stdout)
    scrolled, window, shown, pictures = map(int, measured.groups())
    assert scrolled <= window and shown == pictures == html.count('<img ')
