"""The wrapper that is the student to everything outside."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from mmengine.logging import print_log
from mmengine.model import BaseModel
from torch import Tensor, nn

from kd_plugin.losses.class_axes import LogitLoss, pick
from kd_plugin.methods import config_text, make_plan
from kd_plugin.rng import preserved_random_state
from kd_plugin.taps import find_module
from kd_plugin.teacher import Renormalization, build_model, build_teacher, current_scope
from kd_plugin.teacher.acclimation import Acclimation

from .arguments import check_logit_taps, check_names, check_scope, check_types
from .checkpoints import Checkpoints, keep_student_keys
from .class_map import read_class_names
from .comparing import Comparing
from .compiling import compile_parts, read_options
from .entry import Entry
from .inference import builds_for_inference
from .nonfinite import CHOICES, Nonfinite
from .parts import Entries, Frozen
from .trial import try_out
from .unlabelled import Unlabelled, has_targets
from .viewing import read_views


class BaseDistiller(Comparing, Checkpoints, BaseModel):
    """A student wrapped with a teacher and the distillation losses between them.

    To everything outside it is the student: prediction, evaluation, ``state_dict()`` and unknown
    attributes are the student's own. Only ``mode='loss'`` adds to it.

    Args:
        student: The student's model dict, as in its plain config.
        teacher: ``config`` and ``checkpoint``, see :func:`kd_plugin.teacher.build_teacher`.
        distill: A method's name, ``dict(type=NAME, …)`` with its options (see
            :mod:`kd_plugin.methods`), or a list of one dict per pair of taps, see
            :class:`~kd_plugin.distillers.entry.Entry`.
        acclimation: Teacher acclimation, see :class:`~kd_plugin.teacher.acclimation.Acclimation`;
            an empty dict takes its defaults, None leaves the teacher as it is.
        classes: Where the class sets differ: ``student`` and ``teacher``, each a list of names in
            the order of the head's outputs, or a data set's registered name. Logits are then
            compared on the classes that both have.
        views: Virtual views of each batch, see :func:`kd_plugin.distillers.viewing.read_views`;
            an empty dict takes its defaults, None makes none.
        nonfinite: What becomes of a distillation loss that is NaN or infinite: ``'stop'``,
            training ends by an error that names entry and iteration; ``'skip'``, the
            iteration makes no step; ``'zero'``, the step is made without that loss.
        unlabelled: What is done with images without labels, see
            :class:`kd_plugin.distillers.unlabelled.Unlabelled`. A runner hands over that of the
            option at the top level of its config, which names the images too.
        data_preprocessor: For a student whose dict has none. A runner hands over the one at the
            top level of its config.

    Raises:
        ValueError: Whatever of it does not fit together, at build time.
    """

    #: Registry scope where no program is running.
    scope: str

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        # Copies are made without arguments.
        student = args[0] if args else kwargs.get('student')
        if isinstance(student, dict) and builds_for_inference():
            if kwargs.get('data_preprocessor') is not None:
                student = {'data_preprocessor': kwargs['data_preprocessor'], **student}
            return build_model(student, current_scope(cls.scope))
        if args or kwargs:  # inference functions add some of a plain model's
            check_names(cls, args, kwargs)
        return super().__new__(cls)

    def __init__(
        self, student: dict, teacher: dict, distill: str | dict | list[dict],
        acclimation: dict | None = None, classes: dict | None = None, views: dict | None = None,
        nonfinite: str = 'stop', unlabelled: dict | None = None,
        data_preprocessor: dict | None = None,
    ) -> None:  # fmt: skip
        pick('model.nonfinite', nonfinite, CHOICES)
        check_types(student, teacher, distill, acclimation, views)
        scope = current_scope(self.scope)
        if data_preprocessor is not None:
            student = {'data_preprocessor': data_preprocessor, **student}
        # The student first and alone: it must meet the random state of plain training.
        built = build_model(student, scope, 'model.student')
        if isinstance(built, BaseDistiller):
            raise ValueError(
                "model.student is itself a distiller; write the plain student's dict, and all "
                'entries in one distill list (one teacher at a time)'
            )
        check_scope(self.scope, 'model.student', built)
        super().__init__(data_preprocessor=built.data_preprocessor)
        self.student = built
        with preserved_random_state():
            model = build_teacher(teacher, self.scope)
            self.left_out: list[str] = []  # of a method, and why
            check_scope(self.scope, 'teacher.config', model)
            if not isinstance(distill, (list, tuple)):
                plan = make_plan(distill, built, model, self.scope)
                distill = plan.entries
                acclimation = plan.acclimation if acclimation is None else acclimation
                views = plan.views if views is None else views
                self.left_out = plan.notes
                print_log(f'What is distilled:\n{config_text(plan)}', logger='current')
            self.entries = Entries(Entry(options) for options in distill)
            names = [entry.name for entry in self.entries]
            if len(set(names)) < len(names):
                raise ValueError(
                    f'distill entries need names of their own, got {names}; rename those that are '
                    'alike'
                )
            if acclimation is not None and 'acclimation' in names:
                raise ValueError(
                    "loss_acclimation is the loss of acclimation; give the distill entry "
                    "'acclimation' another name"
                )
            renormalize = Renormalization(built.data_preprocessor, model.data_preprocessor)
            # Not a registered submodule, see Frozen.
            self.__dict__['_frozen'] = Frozen(model, renormalize, teacher)
            self._check_paths()
            self.views, self.view_weight = read_views(views, built.data_preprocessor)
            self._check_views()
            self._classes = read_class_names(classes, scope)
            self._sources = {
                entry.name: self._roi_source(built, entry.student) for entry in self.entries}
            self.unlabelled = None if unlabelled is None else Unlabelled(
                unlabelled, built.data_preprocessor, list(self.entries))
            self.acclimation = None
            if acclimation is not None and has_targets(self.unlabelled):
                self.acclimation = Acclimation(acclimation, list(self.entries))
            self._labels = {
                entry.name: self._label_source(entry)
                for entry in self.entries if entry.needs_target or self.acclimates(entry)
            }  # fmt: skip
            self._find_foreground()
            try_out(self)
        self.nonfinite = Nonfinite(nonfinite, {
            'loss_acclimation': [],
            **{entry.key: [entry.loss, entry.losses] for entry in self.entries}})
        if teacher.get('compile'):
            self._compile_teacher(**read_options(teacher['compile']))
        self._register_state_dict_hook(keep_student_keys)

    def _find_foreground(self) -> None:
        """Read targets for losses that can do without, where the student's head gives some."""
        self._optional = {entry.name for entry in self.entries
                          if entry.draws_rows and entry.name not in self._labels}
        for entry in self.entries:
            if entry.name in self._optional:
                with suppress(ValueError):
                    self._labels[entry.name] = self._label_source(entry)

    def _check_paths(self) -> None:
        for entry in self.entries:
            for owner, path in (('student', entry.student), ('teacher', entry.teacher)):
                try:
                    find_module(getattr(self, owner), path)
                except ValueError as error:
                    raise ValueError(f"distill entry '{entry.name}': {owner} {error}") from error
            if isinstance(entry.loss, LogitLoss):
                check_logit_taps(entry)
            self._check_sides(entry)

    def _check_views(self) -> None:
        for entry in self.entries:
            if entry.needs_views and self.views is None:
                raise ValueError(
                    f"distill entry '{entry.name}': {type(entry.loss).__name__} relates two views "
                    'of each batch, and there is one; write views=dict() beside distill, or '
                    'cross_view=False in the loss'
                )

    def _check_sides(self, entry: Entry) -> None:
        """Refuse taps that do not speak of the same.

        Raises:
            ValueError: The entry has such.
        """

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

    def compile(self, **options: Any) -> None:
        """Compile what no tap is in of student and teacher, see :mod:`.compiling`.

        A teacher with a ``compile`` option of its own is left to that.

        Args:
            options: For ``torch.compile``.
        """
        labels = [self._label_source(entry) for entry in self.entries
                  if isinstance(entry.loss, LogitLoss)]
        paths = [entry.student for entry in self.entries] + [path for path in labels if path]
        parts = compile_parts(self.student, _hooked(self.student, paths), **options)
        print_log(f'torch.compile in the student: {", ".join(parts)}', logger='current')
        if 'compile' not in self._frozen.options:
            self._compile_teacher(**options)

    def _compile_teacher(self, **options: Any) -> None:
        fixed = _hooked(self.teacher, [entry.teacher for entry in self.entries])
        fixed |= {owner for owner, _, _ in self._frozen.idle}
        parts = compile_parts(self.teacher, fixed, **options)
        print_log(f'torch.compile in the teacher: {", ".join(parts)}', logger='current')

    def forward(
        self, inputs: Tensor, data_samples: Any = None, mode: str = 'tensor', **kwargs: Any
    ) -> Any:
        """The student's forward; with ``mode='loss'``, plus the distillation losses.

        Args:
            inputs: Images [N, C, H, W], preprocessed for the student.
            data_samples: The images' annotations, a list; a loss needs them.
            mode: ``'loss'``, ``'predict'`` or ``'tensor'``.
        """
        if mode == 'loss':
            return self.loss(inputs, data_samples, **kwargs)
        return self.student(inputs, data_samples, mode=mode, **kwargs)

    def set_iteration(self, iteration: int) -> None:
        """Let the entries' schedules know how far training is."""
        for entry in self.entries:
            entry.factor = entry.schedule(iteration)


def _hooked(model: nn.Module, paths: Iterable[str]) -> set[nn.Module]:
    """The modules that taps at some paths put their hooks on."""
    modules = [find_module(model, path) for path in paths]
    return {called for module in modules
            for called in (module if isinstance(module, nn.ModuleList) else [module])}
