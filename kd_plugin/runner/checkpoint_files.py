"""Checkpoints that outlive a run that dies: written whole, removed late, found by a resume."""

from __future__ import annotations

import logging
import os.path as osp
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from glob import escape, glob
from inspect import signature
from typing import Any

from mmengine.dist import all_gather_object, get_rank, get_world_size, is_main_process
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmengine.runner.checkpoint import find_latest_checkpoint

from kd_plugin.atomic import atomic_write, write_text
from kd_plugin.rng import get_random_state

# What a run resumes from; best checkpoints have no optimizer.
_RESUMABLE = re.compile(r'(epoch|iter)_\d+\.pth')


@HOOKS.register_module()
class CheckpointFilesHook(Hook):
    """Remove an outdated checkpoint when the one that takes its place is written, not before.

    mmengine removes first: with ``max_keep_ckpts=1`` a run that dies while it writes has none.
    Registered by itself for every runner of a distiller.
    """

    # After the checkpoint hook has chosen where it writes.
    priority = 'LOWEST'

    def __init__(self) -> None:
        self._outdated: list[tuple[Callable, str]] = []

    def before_train(self, runner: Runner) -> None:
        """Stand between the checkpoint hook and its files."""
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook) and not isinstance(hook.file_backend, _Patient):
                hook.file_backend = _Patient(hook.file_backend, self._outdated)
                hook._save_checkpoint_with_step = _of_all_ranks(hook._save_checkpoint_with_step)

    def written(self, path: str) -> None:
        """Remove what the checkpoint that was just written has replaced."""
        while self._outdated:
            remove, outdated = self._outdated.pop(0)
            if outdated != path:
                remove(outdated)


class _Patient:
    """A file backend whose removals wait in a list."""

    def __init__(self, backend: Any, waiting: list[tuple[Callable, str]]) -> None:
        self._backend, self._waiting = backend, waiting

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        """Of a file."""
        self._waiting.append((self._backend.remove, path))

    def rmtree(self, path: str) -> None:
        """Of a folder."""
        self._waiting.append((self._backend.rmtree, path))


def written_whole(save: Callable, applies: Callable[[Any], bool]) -> Callable:
    """A runner's ``save_checkpoint`` that leaves no file cut short."""
    parameters = signature(save)

    @wraps(save)
    def save_whole(self: Any, *args: Any, **kwargs: Any) -> None:
        if not applies(self):
            return save(self, *args, **kwargs)
        given = parameters.bind(self, *args, **kwargs)
        given.apply_defaults()
        options = given.arguments
        path = osp.join(options['out_dir'], options['filename'])
        if options['file_client_args'] is not None or not isinstance(
                get_file_backend(options['out_dir'], backend_args=options['backend_args']),
                LocalBackend):
            save(*given.args, **given.kwargs)  # no local file; stores put objects whole
        else:
            with atomic_write(path) as partial:
                options['filename'] = osp.basename(partial)
                save(*given.args, **given.kwargs)
        for hook in self.hooks:
            if isinstance(hook, CheckpointFilesHook):
                hook.written(path)

    return save_whole


@contextmanager
def random_states_of_all_ranks(runner: Any) -> Iterator[None]:
    """Inside the block a checkpoint gets the random state of each process, not of the main one.

    All processes of a run come here together, as they do to mmengine's checkpoint hook; to
    ``save_checkpoint`` by itself a hook may send the main process alone.
    """
    runner._random_states = gathered(get_random_state())
    try:
        yield
    finally:
        del runner._random_states


def _of_all_ranks(save: Callable) -> Callable:
    @wraps(save)
    def save_all(runner: Any, *args: Any, **kwargs: Any) -> None:
        with random_states_of_all_ranks(runner):
            save(runner, *args, **kwargs)

    return save_all


def gathered(value: Any) -> list[Any]:
    """A value of each process, by rank."""
    return all_gather_object(value) if get_world_size() > 1 else [value]


def own_of(values: list[Any]) -> Any:
    """This process's one of gathered values; the first where they were gathered of other ranks."""
    return values[get_rank() if len(values) == get_world_size() else 0]


def resumed_whole(load: Callable, applies: Callable[[Any], bool]) -> Callable:
    """A runner's ``load_or_resume`` that passes over checkpoints that are cut off or gone."""

    @wraps(load)
    def load_whole(self: Any) -> None:
        if not self._resume or self._has_loaded or not applies(self):
            return load(self)
        given = self._load_from
        if given is not None or isinstance(self._resume, str):
            _check_whole(self._resume if isinstance(self._resume, str) else given)
            return load(self)
        self._load_from = newest_whole(self.work_dir, self.logger)
        try:
            if self._load_from is not None:
                load(self)
        finally:
            self._load_from = given

    return load_whole


def newest_whole(work_dir: str, logger: logging.Logger) -> str | None:
    """The checkpoint to go on from.

    That is the one which ``last_checkpoint`` names, as for mmengine. If a run died so that this
    one is gone or cut off, it is the newest whole one beside it, with a line in the log for each
    that is passed over.

    Args:
        work_dir: The run's work folder.
        logger: For those lines.

    Returns:
        Its path; None if there is none, and training starts at the beginning.
    """
    pointer = osp.join(work_dir, 'last_checkpoint')
    named = find_latest_checkpoint(work_dir) if osp.exists(pointer) else None
    if named and is_whole(named):
        return named
    if named and not osp.exists(named):
        logger.warning(f'last_checkpoint names {named}, which is not there')
    folder = osp.dirname(named) if named and osp.dirname(named) else work_dir
    found = [path for path in glob(osp.join(escape(folder), '*.pth'))
             if _RESUMABLE.fullmatch(osp.basename(path))]  # fmt: skip
    for path in sorted(found, key=osp.getmtime, reverse=True):
        if is_whole(path):
            logger.info(f'Resumed from the newest whole checkpoint {path}')
            if is_main_process():
                # A run that has nothing left to do would not write it.
                write_text(pointer, path)
            return path
        logger.warning(f'{path} is cut off: it is passed over')
    logger.info(f'{folder} has no checkpoint to resume from: training starts at the beginning')
    return None


def is_whole(path: str) -> bool:
    """Whether a checkpoint was written to its end; what is not a local file counts as such.

    The list of contents is the last part of a zip archive, which ``torch.save`` writes.
    """
    return '://' in path or osp.isdir(path) or zipfile.is_zipfile(path)


def _check_whole(path: str) -> None:
    """Refuse a file that was named.

    Raises:
        ValueError: It is cut off.
    """
    if osp.isfile(path) and not is_whole(path):
        raise ValueError(
            f'load_from={path!r} is cut off and cannot be resumed from; write another checkpoint, '
            'or leave it out (--resume without a value) to go on from the newest whole one')
