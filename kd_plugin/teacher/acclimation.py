"""Teacher acclimation: named teacher modules learn from the student (DIST+ Sec. 5.3)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from kd_plugin.checking import check_keys, check_number
from kd_plugin.losses import AcclimationLoss
from kd_plugin.losses.build import build_loss
from kd_plugin.losses.class_axes import LogitLoss
from kd_plugin.taps import find_module
from kd_plugin.teacher.idle import leaves, with_graph

_OPTIONS = ('modules', 'entry', 'loss', 'lr_mult')
# Columns of each row that a relation leaves out.
_LEFT_OUT = {'non_target': 1, 'pearson': 0}


class Acclimation(nn.Module):
    """The teacher's trainable modules and the loss that trains them.

    They stay in eval mode: dropout is off and BatchNorm keeps its statistics. As parameters of
    the distiller they share its one optimizer, their learning rate multiplied by ``lr_mult``.

    Args:
        options: ``modules`` (paths in the teacher; by default the classification layer that the
            entry taps and the layer that feeds it), ``entry`` (the distill
            entry whose logits acclimate; by default the first with a loss on logits), ``loss``
            (by default :class:`~kd_plugin.losses.AcclimationLoss` with the entry's activation)
            and ``lr_mult`` (by default 0.01).
            The paper gives no rate. Nothing but this loss holds the teacher: at the student's own
            rate its accuracy is gone within some hundred iterations, and the student's with it.
        entries: The distiller's entries.

    Raises:
        ValueError: An unknown option, or no entry whose logits could acclimate.
    """

    def __init__(self, options: dict, entries: list) -> None:
        super().__init__()
        check_keys('acclimation', options, _OPTIONS)
        logits = {entry.name: entry for entry in entries if isinstance(entry.loss, LogitLoss)}
        self.entry = options.get('entry', next(iter(logits), None))
        if self.entry not in list(logits):
            raise ValueError(
                f'acclimation.entry is {self.entry!r}; write one of the entries with a loss on '
                f'logits: {list(logits)}'
            )
        self.tap = logits[self.entry].teacher
        own = logits[self.entry].loss
        self.lr_mult = check_number('acclimation.lr_mult', options.get('lr_mult', 0.01))
        self.loss = _loss(options.get('loss', {}), own.activation)
        self.paths = options.get('modules')
        listed = isinstance(self.paths, (list, tuple, type(None)))
        if not listed or self.paths == [] or any(type(one) is not str for one in self.paths or ()):
            raise ValueError(
                f'acclimation.modules={self.paths!r}; write a list of paths in the teacher, such '
                f'as [{self.tap!r}], or leave it out'
            )
        self.parts = nn.ModuleDict()
        self.original: dict[str, Tensor] = {}

    def fit(
        self,
        teacher: nn.Module,
        run: Callable[[], list[Tensor]],
        classes: int | None,
    ) -> None:
        """Take the modules from the teacher and make them trainable.

        Args:
            teacher: The teacher, frozen.
            run: Runs it with gradients and returns the tapped logits, of the compared classes.
            classes: Classes that the tapped head predicts, to split anchors; None where unknown.

        Raises:
            ValueError: A path that does not exist, a module that the logits do not depend on, or
                too few columns.
        """
        if self.paths is None:
            self.paths = [*_layers_before(teacher, self.tap, with_graph(teacher, run)), self.tap]
        for path in self.paths:
            try:
                module = find_module(teacher, path)
            except ValueError as error:
                raise ValueError(f'acclimation.modules: {error}') from error
            # A ModuleDict takes no dots in its keys.
            self.parts[path.replace('.', '/')] = module
        parameters = dict(self.parts.named_parameters())
        self.parts.requires_grad_(True)
        with torch.enable_grad():
            logits = run()
        reached = leaves(logits)
        useless = [name.replace('/', '.') for name, parameter in parameters.items()
                   if parameter not in reached]  # fmt: skip
        if useless:
            raise ValueError(
                f"acclimation.modules: the logits of '{self.tap}' do not depend on {useless}; "
                'name modules that come before it, by default the last layer and its predecessor'
            )
        channels = logits[0].shape[1]
        splits = classes and channels % classes == 0  # binary heads have one output for both
        if self.loss.classes is None and splits and self.loss.activation == 'sigmoid':
            self.loss.classes = classes
        self._check_columns(self.loss.classes or channels)
        if self.loss.loss_weight == 0:
            # Its gradient would be zero, but weight decay would still change the teacher.
            self.parts.requires_grad_(False)
        state = self.parts.state_dict()
        self.original = {key: value.clone() for key, value in state.items()}

    def _check_columns(self, columns: int) -> None:
        """Refuse rows that cannot be related, and warn where they are short.

        Raises:
            ValueError: Less than two columns are left.
        """
        relation = getattr(self.loss, 'relation', '')
        related = columns - _LEFT_OUT.get(relation, 0)
        if not self.trains or relation not in _LEFT_OUT:
            return
        if related < 2:
            raise ValueError(
                f"acclimation: of the {columns} columns of '{self.tap}' the relation "
                f"'{relation}' compares {max(related, 0)}, and nothing relates to nothing: the "
                'teacher would learn nothing; leave acclimation out'
            )
        if related < 3:
            print_log(
                f"acclimation: the relation '{relation}' compares {related} of the {columns} "
                f"columns of '{self.tap}', whose correlation is +1, -1 or nothing whatever the "
                'logits say: its gradient comes from single rows, and is large; better leave '
                'acclimation out',
                logger='current', level=logging.WARNING)  # fmt: skip

    @property
    def trains(self) -> bool:
        """Whether the teacher must be run with gradients."""
        return self.loss.loss_weight != 0

    @contextmanager
    def undone(self) -> Iterator[None]:
        """The teacher as it was loaded, inside the block."""
        acclimated = {k: v.clone() for k, v in self.parts.state_dict().items()}
        self.parts.load_state_dict(self.original)
        try:
            yield
        finally:
            self.parts.load_state_dict(acclimated)

    def train(self, mode: bool = True) -> Acclimation:
        """Stay in eval mode, as the rest of the teacher."""
        return super().train(False)

    def forward(
        self, student: list[Tensor], teacher: list[Tensor], targets: list[Tensor]
    ) -> Tensor:
        """The weighted acclimation loss, summed over levels."""
        return sum(map(self.loss, student, teacher, targets))

    def nothing(self, zero: Tensor) -> Tensor:
        """A loss of zero that still gives the teacher's parameters their gradients."""
        return sum((p.sum() * 0 for p in self.parameters()), zero)


def _loss(options: Any, activation: str) -> AcclimationLoss:
    """The loss that trains the modules.

    Args:
        options: In a config, of :class:`AcclimationLoss`.
        activation: Of the entry whose logits acclimate.

    Raises:
        ValueError: Others, or another loss.
    """
    if isinstance(options, dict):
        options = {'type': 'AcclimationLoss', 'activation': activation, **options}
    own = 'AcclimationLoss', AcclimationLoss
    if not isinstance(options, dict) or options['type'] not in own:
        # Any other would send a gradient into the student.
        raise ValueError(
            f'acclimation.loss={options!r}; write options of AcclimationLoss, such as '
            'dict(loss_weight=0.5)'
        )
    return build_loss('acclimation.loss', options)  # type: ignore[return-value]  # see above


def _layers_before(teacher: nn.Module, tap: str, logits: list[Tensor]) -> list[str]:
    """Paths of the last layer with weights that feeds the tap, of each level's own where they are.

    Args:
        teacher: The model.
        tap: Path of the classification layer.
        logits: What it gave, with the graph behind it.
    """
    layers = {
        module.weight: path for path, module in teacher.named_modules()
        if isinstance(getattr(module, 'weight', None), Tensor) and module.weight.ndim > 1
        and not f'{path}.'.startswith(f'{tap}.')
    }  # fmt: skip
    nearest = [[layers[leaf] for leaf in leaves([level]) if leaf in layers] for level in logits]
    return list(dict.fromkeys(path for paths in nearest for path in paths[:1]))
