"""The student alone, as files that open anywhere."""

from __future__ import annotations

import os.path as osp

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmengine.runner.checkpoint import save_checkpoint, weights_to_cpu

from kd_plugin.atomic import atomic_write
from kd_plugin.export import plain

from .unwrapped import unwrapped


@master_only
def write_student(runner: Runner, name: str, state_dict: dict) -> None:
    """Write weights and class names, in plain types, into the work folder."""
    path = osp.join(runner.work_dir, name)
    meta = plain(getattr(runner.train_dataloader.dataset, 'metainfo', {}))
    with atomic_write(path) as partial:
        save_checkpoint(dict(meta=dict(dataset_meta=meta), state_dict=state_dict), partial)
    runner.logger.info(f'The student alone, for any mmdet or mmseg: {path}')


@HOOKS.register_module()
class LastStudentHook(Hook):
    """Write ``student_last.pth`` when training ends, as a checkpoint of then would hold it.

    Registered by itself for every runner of a distiller.
    """

    # Before all that reports on the training, as a report may fail.
    priority = 'HIGHEST'

    def after_train(self, runner: Runner) -> None:
        """Write it."""
        state = weights_to_cpu(unwrapped(runner.model).state_dict())
        checkpoint = dict(meta=dict(iter=runner.iter), state_dict=state, message_hub={})
        # Other hooks may have their say, an EMA its averages.
        runner.call_hook('before_save_checkpoint', checkpoint=checkpoint)
        write_student(runner, 'student_last.pth', checkpoint['state_dict'])
