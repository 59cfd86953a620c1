"""``unlabelled=dict(…)`` of a config: what loads the images, and what the distiller does."""

from __future__ import annotations

import copy
from fractions import Fraction
from typing import Any, NamedTuple

from kd_plugin.checking import check_keys

# What belongs to the distiller, see kd_plugin.distillers.unlabelled.
_DISTILLER = ('weight', 'rois', 'strong', 'threshold')
_LOADER = ('num_workers', 'sampler', 'batch_sampler', 'collate_fn', 'pin_memory',
           'prefetch_factor', 'drop_last', 'timeout')  # fmt: skip
_OPTIONS = ('dataset', 'ratio', 'pipeline', *_LOADER, *_DISTILLER)
# Of the labelled images' loader, where nothing else is written.
_SHARED = ('num_workers', 'batch_sampler', 'collate_fn', 'pin_memory', 'prefetch_factor')
_READS_LABELS = ('Annotations', 'Proposals', 'GenerateEdge')


class Plan(NamedTuple):
    """What an option ``unlabelled`` asks for.

    Attributes:
        distiller: The distiller's option of the same name.
        loader: A data loader's dict.
        labelled: Labelled images in a batch of one process; 0 where there are none at all, and
            the loader takes the place of ``train_dataloader``.
    """

    distiller: dict[str, Any]
    loader: dict[str, Any]
    labelled: int


def read_unlabelled(options: dict, train: dict) -> Plan | None:
    """Read a config's ``unlabelled``; nothing where its share is 0.

    Args:
        options: ``dataset`` (a folder of images, or any data set's dict), ``ratio`` (labelled to
            unlabelled images of a batch: (1, 1) by default, (1, 0) is training without the
            latter, (0, 1) without the former), ``pipeline`` (by default that of the training
            data, without what reads labels), ``weight``, ``rois``, ``strong`` and ``threshold``
            (see :class:`kd_plugin.distillers.unlabelled.Unlabelled`), and options of a data
            loader.
        train: The config's ``train_dataloader``.

    Raises:
        ValueError: What does not fit together, with what to write instead.
    """
    check_keys('unlabelled', options, _OPTIONS, required=['dataset'])
    labelled, unlabelled = _read_ratio(options.get('ratio', (1, 1)))
    if not unlabelled:
        return None
    size = train.get('batch_size') or (train.get('batch_sampler') or {}).get('batch_size')
    if not size:
        raise ValueError('unlabelled: train_dataloader has no batch_size to take the ratio of; '
                         'write one')  # fmt: skip
    own = {key: options[key] for key in _DISTILLER if key in options}
    dataset = dict(type='WithoutLabels', dataset=_read_dataset(options, train['dataset']))
    loader = {key: options[key] for key in _LOADER if key in options}
    if not labelled:
        inner = innermost(train['dataset'])
        dataset['like'] = {key: inner[key] for key in ('type', 'metainfo') if key in inner}
        loader = {**{k: v for k, v in train.items() if k != 'dataset'}, **loader}
        return Plan(dict(own, only=True), copy.deepcopy(dict(loader, dataset=dataset)), 0)
    share = Fraction(unlabelled, labelled) * size
    if share.denominator != 1:
        raise ValueError(
            f'unlabelled.ratio=({labelled}, {unlabelled}) of a batch of {size} labelled images is '
            f'{float(share):g} unlabelled ones; write a ratio, or a train_dataloader.batch_size, '
            'that gives a whole number')
    defaults: dict[str, Any] = dict(
        {key: train[key] for key in _SHARED if key in train},
        sampler=dict(type='InfiniteSampler', shuffle=True))  # fmt: skip
    loader = dict({**defaults, **loader}, batch_size=int(share), dataset=dataset)
    if loader.get('batch_sampler'):
        loader['batch_sampler'].pop('batch_size', None)
    return Plan(own, copy.deepcopy(loader), size)


def _read_ratio(ratio: Any) -> tuple[int, int]:
    fits = isinstance(ratio, (list, tuple)) and len(ratio) == 2 and all(
        type(n) is int and n >= 0 for n in ratio) and any(ratio)  # fmt: skip
    if not fits:
        raise ValueError(
            f'unlabelled.ratio={ratio!r}; write two whole numbers, labelled to unlabelled images: '
            '(1, 4), (1, 0) for none without labels, (0, 1) for none with labels')
    return ratio[0], ratio[1]


def innermost(dataset: dict) -> dict:
    """A data set's dict, without what is wrapped around it; of several the first."""
    while 'dataset' in dataset or 'datasets' in dataset:
        dataset = dataset['dataset'] if 'dataset' in dataset else dataset['datasets'][0]
    return dataset


def _read_dataset(options: dict, train: dict) -> dict:
    """The dict of the data set, with a pipeline.

    Raises:
        ValueError: It is no data set, or its pipeline cannot be that of training.
    """
    dataset = options['dataset']
    if isinstance(dataset, str):
        dataset = dict(data_root=dataset)
    if not isinstance(dataset, dict):
        raise ValueError(f"unlabelled.dataset={dataset!r}; write the path of a folder of images, "
                         "or a data set's dict")  # fmt: skip
    dataset = copy.deepcopy(dict(dataset))
    dataset.setdefault('type', 'ImageFolder')
    if 'pipeline' in options:
        dataset['pipeline'] = options['pipeline']
    elif 'pipeline' not in innermost(dataset):
        dataset['pipeline'] = _without_labels(train)
    return dataset


def _without_labels(train: dict) -> list[dict]:
    """The pipeline of the training data without what reads labels.

    Raises:
        ValueError: It has none, or one that mixes labelled images.
    """
    kind, steps = _name(train), train.get('pipeline', innermost(train).get('pipeline'))
    if kind == 'MultiImageMixDataset' or not steps:
        raise ValueError(
            f'the training data ({kind}) have no pipeline that suits single images; write '
            "unlabelled.pipeline=[dict(type='LoadImageFromFile'), …]")
    return without_label_steps(steps)


def without_label_steps(steps: list[dict]) -> list[dict]:
    """The steps of a pipeline that can do without labels."""
    steps = [dict(step) for step in steps
             if not any(part in _name(step) for part in _READS_LABELS)]
    for step in steps:
        if 'cat_max_ratio' in step:  # crops until no class of the label map takes more
            step['cat_max_ratio'] = 1.0
    return steps


def _name(node: dict) -> str:
    kind = node['type']
    return kind.rpartition('.')[2] if isinstance(kind, str) else kind.__name__
