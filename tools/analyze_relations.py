"""Measure and draw how alike students and their teacher are, on validation data.

Takes a distillation config and checkpoints of its student (of other methods too: the student is
the same model) and writes two figures and a JSON file: correlations between classes and within a
class (Fig. 7 of DIST+), and how far the ranks of target and other classes agree (Fig. 4, Table 1).

    python tools/analyze_relations.py PAIR.py work_dirs/kd/student_last.pth \\
        work_dirs/dist/student_last.pth --labels KD DIST --out work_dirs/relations
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from kd_plugin.analysis.relations import measure, resizes_before_loading, samples
from kd_plugin.runner.distillation_hook import STATE_KEY
from kd_plugin.teacher import build_model, load_strictly

matplotlib.use('Agg')
from matplotlib import pyplot as plt  # noqa: E402

FIGURES = {
    'correlations': [f'{axis}_{kind}' for axis in ('inter', 'intra')
                     for kind in ('pearson', 'spearman', 'kendall')],
    'consistency': ['target_consistency', 'non_target_consistency'],
}  # fmt: skip


def relations_of(
    config: Path, checkpoint: Path, acclimated: bool, batches: int, per_batch: int
) -> dict[str, dict[str, float]]:
    """Measures by distill entry."""
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    distiller = build_model(cfg.model, cfg.default_scope)
    if not hasattr(distiller, 'compare_logits'):
        raise SystemExit(f'{config} is no distillation config: it has no teacher')
    load_strictly(distiller.student, checkpoint)
    if acclimated:
        state = torch.load(checkpoint, map_location='cpu').get(STATE_KEY)
        if state is None:
            raise SystemExit(f'{checkpoint} holds no acclimated teacher; take a checkpoint that '
                             'training wrote, not the student alone')  # fmt: skip
        distiller.load_distillation_state(state['weights'])
    distiller.eval()
    loader = Runner.build_dataloader(cfg.val_dataloader)
    resized = resizes_before_loading(loader.dataset)
    found = samples(distiller, per_batch)
    if not found:
        raise SystemExit(f'{config} distils no logits, so there are no relations of classes')
    for number, batch in enumerate(loader):
        if number == batches:
            break
        measure(distiller, batch, found, resized)
    return {name: sample.relations() for name, sample in found.items()}


def draw(measured: dict[str, dict[str, float]], names: list[str], path: Path) -> None:
    """Grouped bars: one group a measure, one bar a student."""
    figure, axes = plt.subplots(figsize=(1.5 + 1.3 * len(names), 3.2), layout='constrained')
    width = 0.8 / len(measured)
    for number, (label, values) in enumerate(measured.items()):
        places = [i + (number - (len(measured) - 1) / 2) * width for i in range(len(names))]
        bars = axes.bar(places, [values[name] for name in names], width * 0.92, label=label)
        axes.bar_label(bars, fmt='%.2f', fontsize=7)
    axes.set_xticks(range(len(names)), [name.replace('_', '\n', 1) for name in names], fontsize=8)
    axes.set_ylim(0, 1.08)
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(fontsize=8, ncols=len(measured), frameon=False, loc='upper center',
                bbox_to_anchor=(0.5, 1.15))  # fmt: skip
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', type=Path, help='a distillation config')
    parser.add_argument('checkpoints', nargs='+', type=Path, help='students')
    parser.add_argument('--labels', nargs='+', help='their names in the figures')
    parser.add_argument('--acclimated', action='store_true',
                        help='compare with the teacher as it was when the checkpoint was written')
    parser.add_argument('--batches', type=int, default=50, help='validation batches to look at')
    parser.add_argument('--per-batch', type=int, default=40, help='boxes or pixels of each')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/relations'),
                        help='folder of the figures')
    args = parser.parse_args()
    labels = args.labels or [path.parent.name or path.stem for path in args.checkpoints]
    if len(set(labels)) < len(args.checkpoints):
        parser.error(f'write --labels, a name for each checkpoint; got {labels}')
    measured = {
        label: relations_of(args.config, path, args.acclimated, args.batches, args.per_batch)
        for label, path in zip(labels, args.checkpoints, strict=True)
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / 'relations.json').write_text(json.dumps(measured, indent=1) + '\n')
    for entry in next(iter(measured.values())):
        for figure, names in FIGURES.items():
            path = args.out / f'{entry}_{figure}.png'
            draw({label: values[entry] for label, values in measured.items()}, names, path)
            print(path)


if __name__ == '__main__':
    main()
