"""What both distillers share: a student that trains as ever, a teacher, and the losses between."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from torch import Tensor, nn

from kd_plugin.distillers.class_map import ClassMap, read_class_names
from kd_plugin.distillers.compiling import compile_parts, read_options
from kd_plugin.losses.class_axes import LogitLoss
from kd_plugin.rng import preserved_random_state
from kd_plugin.taps import Taps, find_module
from kd_plugin.teacher import (
    Renormalization,
    build_model,
    build_teacher,
    crop,
    current_scope,
    precision,
)
from kd_plugin.teacher.acclimation import Acclimation
from kd_plugin.teacher.idle import StandIn, bypass, find_idle

from .entry import Entry, Tapped

# Size of the zeros that both models see once, when built, to learn their taps' shapes.
_PROBE_SIZE = 128, 128
# Where the student's RoIs come from, per teacher tap; None for taps that read no RoIs.
RoISource = str | None


class _Frozen:
    """Keeps the teacher out of the module tree.

    So no optimizer, checkpoint, DDP broadcast or ``train()`` ever meets it; copies of the
    distiller (an EMA, say) share it.
    """

    def __init__(
        self, teacher: nn.Module, renormalize: Renormalization, options: dict
    ) -> None:
        self.teacher = teacher
        self.renormalize = renormalize
        self.options = options
        self.idle: list[StandIn] = []

    def __deepcopy__(self, memo: dict) -> _Frozen:
        return self


class BaseDistiller(BaseModel):
    """A student wrapped with a teacher and the distillation losses between them.

    To everything outside it is the student: prediction, evaluation, ``state_dict()`` and unknown
    attributes are the student's own. Only ``mode='loss'`` adds to it.

    Args:
        student: The student's model dict, as in its plain config.
        teacher: ``config`` and ``checkpoint``, see :func:`kd_plugin.teacher.build_teacher`.
        distill: One dict per pair of taps, see :class:`~kd_plugin.distillers.entry.Entry`.
        acclimation: Teacher acclimation, see :class:`~kd_plugin.teacher.acclimation.Acclimation`;
            an empty dict takes its defaults, None leaves the teacher as it is.
        classes: Where the class sets differ: ``student`` and ``teacher``, each a list of names in
            the order of the head's outputs, or a data set's registered name. Logits are then
            compared on the classes that both have.
        data_preprocessor: For a student whose dict has none. A runner hands over the one at the
            top level of its config.

    Raises:
        ValueError: Whatever of it does not fit together, at build time.
    """

    #: Registry scope where no program is running.
    scope: str

    def __init__(
        self, student: dict, teacher: dict, distill: list[dict], acclimation: dict | None = None,
        classes: dict | None = None, data_preprocessor: dict | None = None,
    ) -> None:  # fmt: skip
        scope = current_scope(self.scope)
        if data_preprocessor is not None:
            student = {'data_preprocessor': data_preprocessor, **student}
        # The student first and alone: it must meet the random state of plain training.
        built = build_model(student, scope)
        super().__init__(data_preprocessor=built.data_preprocessor)
        self.student = built
        with preserved_random_state():
            self.entries = nn.ModuleList(Entry(options) for options in distill)
            names = [entry.name for entry in self.entries]
            if len(set(names)) < len(names):
                raise ValueError(f'distill entries need names of their own, got {names}')
            model = build_teacher(teacher, self.scope)
            renormalize = Renormalization(built.data_preprocessor, model.data_preprocessor)
            # Not a registered submodule, see _Frozen.
            self.__dict__['_frozen'] = _Frozen(model, renormalize, teacher)
            self._check_paths()
            self._classes = read_class_names(classes, scope)
            self._sources = {entry.name: self._roi_source(entry) for entry in self.entries}
            self.acclimation = None
            if acclimation is not None:
                self.acclimation = Acclimation(acclimation, list(self.entries))
            self._labels = {
                entry.name: self._label_source(entry)
                for entry in self.entries if entry.needs_target or self.acclimates(entry)
            }  # fmt: skip
            self._probe()
        if teacher.get('compile'):
            self._compile_teacher(**read_options(teacher['compile']))
        self._register_state_dict_hook(_keep_student_keys)

    @property
    def teacher(self) -> nn.Module:
        """The teacher, in eval mode; no part of this module's tree."""
        return self._frozen.teacher

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == 'student':
                raise
            # Hooks written for the plain model find what they look for.
            return getattr(self.student, name)

    def _apply(self, fn: Any, recurse: bool = True) -> BaseDistiller:
        # What moves or casts this module moves the teacher too.
        self._frozen.teacher._apply(fn)
        self._frozen.renormalize._apply(fn)
        return super()._apply(fn, recurse)

    def init_weights(self) -> None:
        """Initialise the student as plain training would; nothing else draws random numbers."""
        self.student.init_weights()

    def compile(self, **options: Any) -> None:  # type: ignore[override]
        """Compile what no tap is in of student and teacher, see :mod:`.compiling`.

        A teacher with a ``compile`` option of its own is left to that.

        Args:
            options: For ``torch.compile``.
        """
        arguments = [self._sources[entry.name] for entry in self.entries]
        arguments += [self._label_source(entry) for entry in self.entries
                      if isinstance(entry.loss, LogitLoss)]
        paths = [entry.student for entry in self.entries] + [p for p in arguments if p]
        parts = compile_parts(self.student, _hooked(self.student, paths), **options)
        print_log(f'torch.compile in the student: {", ".join(parts)}', logger='current')
        if 'compile' not in self._frozen.options:
            self._compile_teacher(**options)

    def _compile_teacher(self, **options: Any) -> None:
        fixed = _hooked(self.teacher, [entry.teacher for entry in self.entries])
        fixed |= {owner for owner, _, _ in self._frozen.idle}
        parts = compile_parts(self.teacher, fixed, **options)
        print_log(f'torch.compile in the teacher: {", ".join(parts)}', logger='current')

    # ------------------------------------------------------------------ the training step

    def forward(
        self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor', **kwargs: Any
    ) -> Any:
        """The student's forward; with ``mode='loss'``, plus the distillation losses.

        Args:
            inputs: Images [N, 3, H, W], preprocessed for the student.
            data_samples: The images' annotations.
            mode: ``'loss'``, ``'predict'`` or ``'tensor'``.
        """
        if mode == 'loss':
            return self.loss(inputs, data_samples, **kwargs)
        return self.student(inputs, data_samples, mode=mode, **kwargs)

    def loss(self, inputs: Tensor, data_samples: list | None, **kwargs: Any) -> dict[str, Any]:
        """The student's own losses, one ``loss_<name>`` per entry, and ``loss_acclimation``.

        Raises:
            ValueError: An entry's name collides with a loss of the student, or a tap was not
                called.
        """
        active = [entry for entry in self.entries if entry.factor]
        losses, compared = self._compare(inputs, data_samples, active, self._labels, **kwargs)
        for entry in self.entries:
            if entry.key in losses:
                raise ValueError(
                    f"the student has a loss '{entry.key}' of its own; "
                    f"give the distill entry '{entry.name}' another name"
                )
            tapped = compared.get(entry.name)
            if tapped is None:
                losses[entry.key] = entry.nothing(inputs)
            else:
                losses[entry.key] = entry(
                    tapped.student, [level.detach() for level in tapped.teacher],
                    tapped.targets if entry.needs_target else None)  # fmt: skip
            if self.acclimates(entry):
                losses['loss_acclimation'] = (
                    self.acclimation.nothing() if tapped is None else self.acclimation(*tapped))
        return losses

    def set_iteration(self, iteration: int) -> None:
        """Let the entries' schedules know how far training is."""
        for entry in self.entries:
            entry.factor = entry.schedule(iteration)

    @torch.no_grad()
    def compare_logits(self, inputs: Tensor, data_samples: list) -> dict[str, Tapped]:
        """What both models say of the same boxes or pixels, by entry with a loss on logits.

        Both models stay in the modes they are in; random numbers drawn (RoI sampling) do not
        count. The teacher is the acclimated one.

        Args:
            inputs: Images [N, 3, H, W], preprocessed for the student.
            data_samples: The images' annotations.

        Raises:
            ValueError: A head without class targets.
        """
        logits = [entry for entry in self.entries if isinstance(entry.loss, LogitLoss)]
        labels = {entry.name: self._label_source(entry) for entry in logits}
        with preserved_random_state():
            return self._compare(inputs, data_samples, logits, labels)[1]

    def _compare(
        self, inputs: Tensor, data_samples: list | None, entries: list[Entry],
        labels: dict[str, str | None], **kwargs: Any,
    ) -> tuple[dict[str, Any], dict[str, Tapped]]:  # fmt: skip
        """Run the student's loss and the teacher's tapped parts.

        Args:
            inputs: Images [N, 3, H, W], preprocessed for the student.
            data_samples: The images' annotations.
            entries: Whose taps are read; the teacher runs for no other.
            labels: The entries that need targets, and the loss of the student that knows them.

        Returns:
            The student's own losses, and what each entry's taps gave.
        """
        sources = {self._sources[entry.name] for entry in entries} - {None}
        known = {labels[entry.name] for entry in entries if labels.get(entry.name)}
        with Taps(self.student, {entry.student for entry in entries}, sources | known) as taps:
            losses = self.student(inputs, data_samples, mode='loss', **kwargs)
        if not entries:
            return losses, {}
        rois = {source: taps.take(source)[0] for source in sources}
        wanted = self._wanted(entries)
        acclimates = any(map(self.acclimates, entries))
        with torch.set_grad_enabled(acclimates and torch.is_grad_enabled()):
            taught = self._teach(inputs, data_samples, wanted, rois)
        compared = {}
        for entry in entries:
            student = self._once(entry, taps.take(entry.student))
            if torch.is_grad_enabled():
                _check_trainable(entry, student)
            teacher = taught[self._sources[entry.name], entry.teacher]
            student = entry.align(student, teacher)
            targets = None
            if entry.name in labels:
                path = labels[entry.name]
                said = taps.take(path) if path else []
                targets = self._targets(entry, said, data_samples, student)
            compared[entry.name] = entry.common(Tapped(student, teacher, targets))
        return losses, compared

    def _once(self, entry: Entry, student: list[Tensor]) -> list[Tensor]:
        """The student's tensors of one forward pass, where its loss runs the tap several times."""
        return student

    def acclimates(self, entry: Entry) -> bool:
        """Whether the teacher learns from this entry's logits."""
        acclimation = self.acclimation
        return acclimation is not None and acclimation.trains and acclimation.entry == entry.name

    def _wanted(self, entries: Iterable[Entry]) -> dict[RoISource, set[str]]:
        """The teacher's taps, by the RoIs that they read."""
        wanted: dict[RoISource, set[str]] = {}
        for entry in entries:
            wanted.setdefault(self._sources[entry.name], set()).add(entry.teacher)
        return wanted

    def _teach(
        self,
        inputs: Tensor,
        data_samples: list | None,
        wanted: dict[RoISource, set[str]],
        rois: dict[str, Tensor],
    ) -> dict[tuple[RoISource, str], list[Tensor]]:
        """What the teacher's taps give for a batch that was preprocessed for the student."""
        options = self._frozen.options
        images = self._frozen.renormalize(inputs, data_samples)
        if options.get('channels_last'):
            images = images.contiguous(memory_format=torch.channels_last)
        with bypass(self._frozen.idle), precision(options, images.device.type):
            taught = self._read(self.teacher, images, wanted, rois)
        for (source, path), maps in taught.items():
            if source is None:
                taught[source, path] = crop(maps, images.shape[-2:], inputs.shape[-2:])
        return taught

    def _read(
        self,
        model: nn.Module,
        images: Tensor,
        wanted: dict[RoISource, set[str]],
        rois: dict[str, Tensor],
    ) -> dict[tuple[RoISource, str], list[Tensor]]:
        """Run the parts of a model that the wanted taps are in, and return what they gave.

        Args:
            model: Student or teacher.
            images: [N, 3, H, W], preprocessed for it.
            wanted: Tap paths by RoI source.
            rois: RoIs [K, 5] by RoI source.
        """
        outputs = {}
        with Taps(model, wanted.get(None, ())) as taps:
            features = self._run_image_parts(model, images, wanted)
        for path in wanted.get(None, ()):
            outputs[None, path] = taps.take(path)
        for source, paths in wanted.items():
            if source is None:
                continue
            with Taps(model, paths) as taps:
                self._run_roi_parts(model, features, paths, rois[source])
            for path in paths:
                outputs[source, path] = taps.take(path)
        return outputs

    def _run_image_parts(
        self, model: nn.Module, images: Tensor, wanted: dict[RoISource, set[str]]
    ) -> Any:
        """Run backbone, neck and dense heads as far as taps are in them; return the features."""
        paths = wanted.get(None, set())
        if set(wanted) <= {None} and all(_part(path) == 'backbone' for path in paths):
            return model.backbone(images)
        features = model.extract_feat(images)
        for part in sorted({_part(path) for path in paths} - {'backbone', 'neck'}):
            self._run_head(model, part, features)
        return features

    def _run_head(self, model: nn.Module, part: str, features: Any) -> None:
        raise NotImplementedError

    def _run_roi_parts(
        self, model: nn.Module, features: Any, paths: set[str], rois: Tensor
    ) -> None:
        raise NotImplementedError

    def _roi_source(self, entry: Entry) -> RoISource:
        """The student's module whose RoIs the teacher's tap reads, None for a tap without."""
        return None

    def _label_source(self, entry: Entry) -> str | None:
        """The student's loss whose targets number the rows of an entry's logits.

        None where the data samples say them.
        """
        return None

    def _targets(
        self, entry: Entry, labels: list[Tensor], data_samples: list | None, student: list[Tensor]
    ) -> list[Tensor]:
        """Class indices of the rows of the student's logits, one tensor a level.

        Args:
            entry: Whose logits they are.
            labels: What the student's own loss got as targets.
            data_samples: The images' annotations.
            student: The logits, one tensor a level.
        """
        raise NotImplementedError

    # ------------------------------------------------------------------ checks at build time

    def _check_paths(self) -> None:
        for entry in self.entries:
            for owner, path in (('student', entry.student), ('teacher', entry.teacher)):
                try:
                    find_module(getattr(self, owner), path)
                except ValueError as error:
                    raise ValueError(f"distill entry '{entry.name}': {owner} {error}") from error

    def _probe(self) -> None:
        """Run both models once on zeros: fit the aligners, find what the teacher can leave out."""
        if not len(self.entries):
            return
        wanted: dict[RoISource, set[str]] = {}
        for entry in self.entries:
            wanted.setdefault(self._sources[entry.name], set()).add(entry.student)
        sources = {source for source in self._sources.values() if source}
        rois = {source: torch.tensor([[0.0, 8, 8, 72, 72], [0, 16, 24, 96, 120]])
                for source in sources}  # fmt: skip
        images = torch.zeros(2, 3, *self._probe_size())
        with torch.enable_grad(), _evaluating(self.student):
            learnt = self._read(self.student, images, wanted, rois)

        def teach() -> dict[tuple[RoISource, str], list[Tensor]]:
            return self._teach(images, None, self._wanted(self.entries), rois)

        self._frozen.idle = find_idle(
            self.teacher, lambda: [tensor for tensors in teach().values() for tensor in tensors])
        with torch.no_grad():
            taught = teach()
        for entry in self.entries:
            source = self._sources[entry.name]
            _check_trainable(entry, learnt[source, entry.student])
            classes = {
                'student': class_count(self.student, entry.student),
                'teacher': class_count(self.teacher, entry.teacher),
            }
            student, teacher = learnt[source, entry.student], taught[source, entry.teacher]
            class_map = self._class_map(entry, classes, student, teacher)
            with torch.no_grad():
                entry.fit(student, teacher, classes, class_map)
            if self.acclimation is not None and self.acclimation.entry == entry.name:

                def logits(entry: Entry, source: RoISource) -> list[Tensor]:
                    return entry.common(Tapped([], teach()[source, entry.teacher], None)).teacher

                self.acclimation.fit(self.teacher, partial(logits, entry, source), entry.classes)

    def _class_map(
        self, entry: Entry, classes: dict[str, int | None],
        student: list[Tensor], teacher: list[Tensor],
    ) -> ClassMap | None:  # fmt: skip
        """The columns of an entry's logits to compare, None for all."""
        if self._classes is None or not isinstance(entry.loss, LogitLoss):
            return None
        tensors = {'student': student[0], 'teacher': teacher[0]}
        channels = {side: tensor.shape[1] for side, tensor in tensors.items()}
        outputs = dict(channels)
        for side, tensor in tensors.items():
            if tensor.ndim == 4:  # channels may hold several anchors
                model, path = getattr(self, side), getattr(entry, side)
                count = class_count(model, path, 'cls_out_channels') or classes[side]
                outputs[side] = count or channels[side]
        try:
            class_map = ClassMap(**self._classes)
            class_map.fit(classes, channels, outputs)
        except ValueError as error:
            raise ValueError(f"distill entry '{entry.name}': {error}") from error
        if self._classes['student'] == self._classes['teacher']:
            return None
        print_log(f"distill entry '{entry.name}': {class_map}", logger='current')
        return class_map

    def _probe_size(self) -> tuple[int, int]:
        """Height and width of the images to probe with."""
        backbones = [getattr(model, 'backbone', None) for model in (self.student, self.teacher)]
        size = getattr(self.data_preprocessor, 'size', None)
        if size and any(hasattr(backbone, 'img_size') for backbone in backbones):
            return tuple(size)  # some transformers take no other images than those of training
        return _PROBE_SIZE

    # ------------------------------------------------------------------ checkpoints

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, local_metadata: dict, *args: Any
    ) -> None:
        """Take a plain student's keys; entries keep their own weights.

        Keys by this module's own paths serve as well: some hooks put back what they found by
        ``named_modules``.
        """
        student = f'{prefix}student.'
        for key in [key for key in state_dict if key.startswith(prefix)]:
            if not key.startswith(student):
                state_dict[student + key.removeprefix(prefix)] = state_dict.pop(key)
        for key, value in self.distillation_state().items():
            state_dict[prefix + key] = value
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    def distillation_state(self) -> dict[str, Tensor]:
        """What a resumed run needs beside the student: aligners, losses, the teacher's changes."""
        return copy.deepcopy(self.own_modules().state_dict())

    def load_distillation_state(self, state: dict[str, Tensor]) -> None:
        """Put back what :meth:`distillation_state` returned.

        Raises:
            ValueError: It was written with other distill entries or acclimated modules.
        """
        try:
            self.own_modules().load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(
                'the checkpoint was written with another distill or acclimation than this config '
                f'has; resume with the config it was written with: {error}'
            ) from error

    def own_modules(self) -> nn.ModuleDict:
        """What is neither the student nor frozen."""
        own = nn.ModuleDict({'entries': self.entries})
        if self.acclimation is not None:
            own['acclimation'] = self.acclimation
        return own


def _keep_student_keys(
    module: nn.Module, state_dict: dict, prefix: str, local_metadata: dict
) -> None:
    """State-dict hook: the student's keys without their prefix, and no other."""
    student = f'{prefix}student.'
    for key in [key for key in state_dict if key.startswith(prefix)]:
        value = state_dict.pop(key)
        if key.startswith(student):
            state_dict[prefix + key.removeprefix(student)] = value
    # BatchNorm reads the version of its state from the metadata of its path.
    metadata = getattr(state_dict, '_metadata', {})
    for path in [path for path in metadata if path.startswith(student)]:
        metadata[prefix + path.removeprefix(student)] = metadata.pop(path)


def _hooked(model: nn.Module, paths: Iterable[str]) -> set[nn.Module]:
    """The modules that taps at some paths put their hooks on."""
    modules = [find_module(model, path) for path in paths]
    return {called for module in modules
            for called in (module if isinstance(module, nn.ModuleList) else [module])}


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside the block, every module's own mode after it."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _check_trainable(entry: Entry, student: list[Tensor]) -> None:
    """Refuse a student's tap that no gradient leaves.

    Raises:
        ValueError: It is one.
    """
    if not any(level.requires_grad for level in student):
        raise ValueError(
            f"distill entry '{entry.name}': no gradient reaches the student from "
            f"'{entry.student}', so nothing would be learnt there: its layers and all before them "
            'are frozen (frozen_stages), or they are recomputed in the backward pass (with_cp, '
            'activation_checkpointing); tap a later module, or the checkpointed module itself'
        )


def _part(path: str) -> str:
    return path.partition('.')[0]


def class_count(model: nn.Module, path: str, attribute: str = 'num_classes') -> int | None:
    """``num_classes`` of the closest module around a path that has one."""
    parts = path.split('.')
    for end in range(len(parts), 0, -1):
        count = find_module(model, '.'.join(parts[:end])).__dict__.get(attribute)
        if count is not None:
            return count
    return None
