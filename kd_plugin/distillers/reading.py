"""How the tapped parts of a model are run, by its own methods."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor

from kd_plugin.rng import preserved_random_state
from kd_plugin.taps import Call, Taps
from kd_plugin.teacher import bypass, crop, precision

from .entry import Entry, Tapped
from .parts import Parts

# Where the student's RoIs come from, per teacher tap; None for taps that read no RoIs.
RoISource = str | None
Taught = dict[tuple[RoISource, str], list[Tensor]]
# RoIs [K, 5] by source, or what finds them on the features.
RoIs = dict[str, Tensor] | Callable[[Any], dict[str, Tensor]]


class Reading(Parts):
    """Runs no more of a model than its taps need; detectors and segmentors say how."""

    def _read(
        self, model: BaseModel, images: Tensor, wanted: dict[RoISource, set[str]], rois: RoIs
    ) -> Taught:
        """Run the parts of a model that the wanted taps are in, and return what they gave.

        Args:
            model: Student or teacher.
            images: [N, C, H, W], preprocessed for it.
            wanted: Tap paths by RoI source.
            rois: RoIs [K, 5] by RoI source, or a function that finds them on the features; where
                a source has none, nothing is returned.
        """
        return {key: [tensor for tensors in calls for tensor in tensors]
                for key, calls in self._read_calls(model, images, wanted, rois).items()}

    def _read_calls(
        self, model: BaseModel, images: Tensor, wanted: dict[RoISource, set[str]], rois: RoIs
    ) -> dict[tuple[RoISource, str], list[list[Tensor]]]:
        """What each call of a tap gave; arguments as in :meth:`_read`."""
        outputs: dict[tuple[RoISource, str], list[list[Tensor]]] = {}
        with Taps(model, wanted.get(None, ())) as taps:
            features = self._run_image_parts(model, images, wanted)
        for path in wanted.get(None, ()):
            outputs[None, path] = taps.each(path)
        if callable(rois):
            rois = rois(features)
        for source, paths in wanted.items():
            if source is None or source not in rois:
                continue
            with Taps(model, paths, methods=self._methods({source})) as taps:
                self._run_roi_parts(model, features, paths, rois[source])
            for path in paths:
                call = self._roi_call(taps, self._roi_source(model, path))
                outputs[source, path] = taps.each(path, call)
        return outputs

    def _run_image_parts(
        self, model: BaseModel, images: Tensor, wanted: dict[RoISource, set[str]]
    ) -> Any:
        """Run backbone, neck and dense heads as far as taps are in them; return the features."""
        paths = wanted.get(None, set())
        parts = {path.partition('.')[0] for path in paths}
        if set(wanted) <= {None} and parts <= {'backbone'}:
            return model.backbone(images)
        features = model.extract_feat(images)
        for part in sorted(parts - {'backbone', 'neck'}):
            try:
                self._run_head(
                    model, part, features, {p for p in paths if p.split('.')[0] == part})
            except (TypeError, AttributeError, NotImplementedError) as error:
                raise ValueError(
                    f"'{part}' of {type(model).__name__} cannot be run on the features alone "
                    f'({type(error).__name__}: {error}); tap its backbone or neck'
                ) from error
        return features

    def _wanted(self, entries: Iterable[Entry]) -> dict[RoISource, set[str]]:
        """The teacher's taps, by the RoIs that they read."""
        wanted: dict[RoISource, set[str]] = {}
        for entry in entries:
            wanted.setdefault(self._sources[entry.name], set()).add(entry.teacher)
        return wanted

    def _teach(
        self, inputs: Tensor, data_samples: list, wanted: dict[RoISource, set[str]],
        rois: RoIs,
    ) -> Taught:  # fmt: skip
        """What the teacher's taps give for a batch that was preprocessed for the student."""
        frozen = self._frozen
        images = frozen.renormalize(inputs, data_samples)
        if frozen.options.get('channels_last'):
            images = images.contiguous(memory_format=torch.channels_last)
        # What the teacher draws (SegNeXt's bases, say) plain training would not.
        ground = preserved_random_state() if frozen.draws else nullcontext()
        with ground, self.bypassed(), precision(frozen.options, images.device.type):
            taught = self._read(self.teacher, images, wanted, rois)
        for (source, path), maps in taught.items():
            if source is None:
                taught[source, path] = crop(maps, images.shape[-2:], inputs.shape[-2:])
        return taught

    def bypassed(self) -> AbstractContextManager:
        """Inside the block, the teacher's idle parts are left out."""
        return bypass(self._frozen.idle)

    def _sources_of(self, entries: Iterable[Entry]) -> set[str]:
        """Where the RoIs come from that the taps of some entries read."""
        found = {self._sources[entry.name] for entry in entries}
        return {source for source in found if source is not None}

    # ------------------------------------------ what detectors and segmentors do differently

    def _run_head(self, model: BaseModel, part: str, features: Any, paths: set[str]) -> None:
        raise NotImplementedError

    def _run_roi_parts(
        self, model: BaseModel, features: Any, paths: set[str], rois: Tensor
    ) -> None:
        raise NotImplementedError

    def _roi_source(self, model: BaseModel, path: str) -> RoISource:
        """The module of a model whose RoIs a tap reads, None for a tap without."""
        return None

    def _own_outputs(
        self, model: BaseModel, images: Tensor, data_samples: list,
        wanted: dict[RoISource, set[str]], rois: dict[str, Tensor],
    ) -> Taught:  # fmt: skip
        """What taps give in a model's own forward pass, if it runs them; see :meth:`_read`."""
        paths = {path for path in wanted.get(None, ()) if '_head' in path.partition('.')[0]}
        if not paths:
            return {}
        with Taps(model, paths) as taps:
            try:
                model(images, data_samples, mode='tensor')
            except Exception:  # some have no such mode
                return {}
        return {(None, path): taps.take(path) for path in paths if taps.was_called(path)}

    def _methods(self, sources: set[str]) -> list[tuple[str, str]]:
        """The methods that are called once for each of some RoI sources."""
        return []

    def _roi_call(self, taps: Taps, source: RoISource) -> Call | None:
        """The call over the RoIs that the loss was taken over; None where there was none."""
        return None

    def _rois(self, taps: Taps, call: Call) -> Tensor:
        """The RoIs [K, 5] of a call."""
        raise NotImplementedError

    def _samplers(self, model: BaseModel) -> list[Any]:
        """The objects that sample a model's RoIs in training."""
        return []

    def _foreground(self, entry: Entry, tapped: Tapped) -> list[Tensor] | None:
        """Booleans of the rows of an entry's logits, one tensor a level; None where unknown."""
        raise NotImplementedError

    def _label_source(self, entry: Entry) -> str | None:
        """The student's loss whose targets number the rows of an entry's logits.

        None where the data samples say them.
        """
        return None

    def _targets(
        self, entry: Entry, labels: list[Tensor], data_samples: list, student: list[Tensor]
    ) -> list[Any]:
        """Class indices of the rows of the student's logits, one tensor a level, or boxes.

        Args:
            entry: Whose logits they are.
            labels: What the student's own loss got as targets.
            data_samples: The images' annotations.
            student: The logits, one tensor a level.
        """
        raise NotImplementedError
