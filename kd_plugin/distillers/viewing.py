"""The student's pass over a virtual view: on the same boxes, and leaving nothing behind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.logging import print_log
from torch import Tensor, nn

from kd_plugin.checking import check_keys, check_number
from kd_plugin.rng import seeded_random_state
from kd_plugin.teacher.renormalize import statistics, swaps_channels
from kd_plugin.views import VirtualViews

_OPTIONS = ('operations', 'magnitude', 'task_weight')


def read_views(options: dict | None, preprocessor: nn.Module) -> tuple[VirtualViews | None, float]:
    """The distiller's option ``views``: what makes them, and the weight of their task losses.

    Args:
        options: ``operations`` and ``magnitude`` as :class:`~kd_plugin.views.VirtualViews` has
            them, and ``task_weight`` of the student's own losses on the virtual view: 1, the
            default, adds them as they are (VRM eq. 3), 0 leaves the task to the real view.
        preprocessor: The student's.

    Raises:
        ValueError: Other options, or one outside of its range.
    """
    if options is None:
        return None, 0.0
    check_keys('views', options, _OPTIONS)
    options = dict(options)
    weight = check_number('views.task_weight', options.pop('task_weight', 1.0))
    mean, std = statistics(preprocessor)
    views = VirtualViews(mean.clone(), std.clone(), swaps_channels(preprocessor), **options)
    if weight:
        print_log(
            f'The task is learnt on both views (views.task_weight={weight}): the student trains '
            'otherwise than alone even where all distillation weights are 0.', logger='current')
    return views, float(weight)


@contextmanager
def aside(student: nn.Module, seed: int) -> Iterator[None]:
    """Inside the block a student's forward pass leaves no trace but its graph.

    Running statistics (BatchNorm's) are those of the real views alone, which evaluation sees;
    random numbers (dropout, samplers) are drawn from a seed, and training's go on as if there had
    been no block. What is recomputed in the backward pass (activation checkpointing) is outside.

    Args:
        student: Whose buffers are kept.
        seed: Of the random numbers inside.
    """
    kept = [(module, name, buffer) for module in student.modules()
            for name, buffer in module._buffers.items() if buffer is not None]  # fmt: skip
    with seeded_random_state(seed):
        try:
            for module, name, buffer in kept:
                module._buffers[name] = buffer.clone()
            yield
        finally:
            # Put back, not written to: the graph of the real view holds the buffers themselves.
            for module, name, buffer in kept:
                module._buffers[name] = buffer


class SameBoxes:
    """Lets a RoI head's loss sample the same boxes again.

    Args:
        samplers: The objects whose ``sample`` draws them.
    """

    def __init__(self, samplers: Iterable[Any]) -> None:
        self._samplers = list(dict.fromkeys(samplers))
        self._drawn: dict[Any, list[Any]] = {sampler: [] for sampler in self._samplers}

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Inside the block, what is sampled is taken down."""

        def keeping(sampler: Any) -> Any:
            sample, drawn = sampler.sample, self._drawn[sampler]

            def keep(*args: Any, **kwargs: Any) -> Any:
                drawn.append(sample(*args, **kwargs))
                return drawn[-1]

            return keep

        with self._replaced(keeping):
            yield

    @contextmanager
    def again(self) -> Iterator[None]:
        """Inside the block, the same is sampled in the same order, whatever is proposed."""

        def repeating(sampler: Any) -> Any:
            drawn = iter(self._drawn[sampler])
            return lambda *args, **kwargs: next(drawn)

        with self._replaced(repeating):
            yield

    @contextmanager
    def _replaced(self, make: Any) -> Iterator[None]:
        """An instance attribute hides each sampler's method until the block ends."""
        replacements = {sampler: make(sampler) for sampler in self._samplers}
        try:
            for sampler, sample in replacements.items():
                sampler.__dict__['sample'] = sample
            yield
        finally:
            for sampler in replacements:
                sampler.__dict__.pop('sample', None)


def of_view(losses: dict[str, Any], weight: float) -> dict[str, Any]:
    """A student's own losses on the virtual view, under names of their own.

    Args:
        losses: As the student returns them, what is no loss among them.
        weight: Of the losses; at 0 nothing is left of them.
    """
    if not weight:
        return {}

    def weighed(value: Tensor | list[Tensor]) -> Tensor | list[Tensor]:
        return [weight * part for part in value] if isinstance(value, list) else weight * value

    return {f'view.{key}': weighed(value) if 'loss' in key else value
            for key, value in losses.items()}  # fmt: skip
