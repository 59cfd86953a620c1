"""Images without labels, beside those of the training loader."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from mmengine.dist import broadcast, get_rank
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS
from mmengine.runner import Runner

from kd_plugin.data.unlabelled import NumberedBatches, WithoutLabels
from kd_plugin.rng import seeded_random_state

from .unwrapped import unwrapped


@HOOKS.register_module()
class UnlabelledHook(Hook):
    """Hands the distiller of each iteration its images without labels.

    They come from a stock data loader and sampler of their own, and take no random number from
    training. The distiller's state says how many batches were given, and a resumed run goes on
    behind them; the images of those are not read again. Registered by itself where a config has
    an option ``unlabelled`` with a share above 0.

    Args:
        loader: The data loader's dict.
        labelled: How many labelled images a batch of one process has.
    """

    def __init__(self, loader: dict, labelled: int) -> None:
        self.loader, self.labelled = loader, labelled
        self._batches: Iterator | None = None

    def before_train(self, runner: Runner) -> None:
        """Start the loader, behind what a resumed run has seen.

        Raises:
            ValueError: No images, or a pipeline that cannot do without labels.
        """
        model = unwrapped(runner.model)
        options = model.unlabelled
        if not options.teaches:
            runner.logger.info('No loss is taken on images without labels: none are loaded')
            return
        first = torch.tensor(options.draws.first + 1)  # not the seed of the labelled images
        broadcast(first)  # processes share the images out, so they shuffle alike
        self._batches = _Batches(self.loader, int(first), options.given)
        runner.logger.info(
            f'Each batch of a process has {self.labelled} labelled images and '
            f"{self.loader['batch_size']} without labels; on these count "
            + ', '.join(f'unlabelled.{entry.key}' for entry in model.entries
                        if entry.name in options.teaches))  # fmt: skip

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Hand over a batch."""
        if self._batches is not None:
            unwrapped(runner.model).unlabelled.give(next(self._batches))

    def after_train(self, runner: Runner) -> None:
        """Let the loader's workers go."""
        self._batches = None


class _Batches:
    """A data loader's batches without end, from one number on.

    Args:
        options: The data loader's dict.
        seed: Of the sampler and of what augmentation draws, the same in all processes.
        start: How many batches to pass over.
    """

    def __init__(self, options: dict, seed: int, start: int) -> None:
        self._seed, self._number, self._passes = seed, 0, 0
        with seeded_random_state(seed):
            dataset = check_images(options['dataset'])
            self._images = NumberedBatches(dataset, seed, get_rank(), start)
            self._loader = Runner.build_dataloader(
                dict(options, dataset=self._images), seed=seed % 2**31)
        self._begin()
        for _ in range(start):
            next(self)

    def _begin(self) -> None:
        """Start a pass over the sampler."""
        self._images.begin(self._number)
        sampler: Any = getattr(self._loader.batch_sampler, 'sampler', None)
        if hasattr(sampler, 'set_epoch'):
            sampler.set_epoch(self._passes)
        with seeded_random_state(self._seed + self._passes):  # loaders draw a seed for workers
            self._iterator = iter(self._loader)
        self._passes += 1

    def __iter__(self) -> Iterator[dict]:
        return self

    def __next__(self) -> dict:
        try:
            batch = next(self._iterator)
        except StopIteration:
            self._begin()
            batch = next(self._iterator)
        self._number += 1
        return batch


def check_images(dataset: dict) -> WithoutLabels:
    """Build a data set, and see that its pipeline needs no labels.

    Args:
        dataset: A dict of :class:`~kd_plugin.data.unlabelled.WithoutLabels`.

    Raises:
        ValueError: It cannot be built, or the first image cannot be loaded.
    """
    try:
        images = DATASETS.build(dataset)
    except Exception as error:
        raise ValueError(f"unlabelled.dataset={dataset['dataset']!r} cannot be built "
                         f'({type(error).__name__}: {error})') from error
    try:
        images[0]
    except Exception as error:
        steps = [step['type'] for step in dataset['dataset'].get('pipeline', [])]
        raise ValueError(
            f'unlabelled: the first image cannot go through the pipeline {steps} '
            f'({type(error).__name__}: {error}); a step may want labels: write '
            "unlabelled.pipeline=[dict(type='LoadImageFromFile'), …] without it") from error
    return images
