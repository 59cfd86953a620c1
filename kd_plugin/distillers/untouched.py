"""The teacher's tapped numbers beside those of its own forward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from kd_plugin.rng import preserved_random_state
from kd_plugin.teacher.untouched import equal, first_difference

from .reading import Taught

if TYPE_CHECKING:
    from .base import BaseDistiller


def compare_with_untouched(
    distiller: BaseDistiller, images: Tensor, samples: list, rois: dict[str, Tensor]
) -> None:
    """Compare the teacher's tapped numbers with those of its own forward pass, wholly at work.

    Raises:
        ValueError: They differ.
    """
    teacher, wanted = distiller.teacher, distiller._wanted(distiller.entries)
    images = distiller._frozen.renormalize(images, samples)

    def tapped() -> Taught:
        with preserved_random_state(), distiller.bypassed():
            return distiller._read(teacher, images, wanted, rois)

    def untouched() -> Taught:
        with preserved_random_state():
            return distiller._own_outputs(teacher, images, samples, wanted, rois)

    got, expected = tapped(), untouched()
    for (source, path), tensors in expected.items():
        found = got[source, path]
        # Some (CondInst) run their head again, for its loss.
        if not equal(tensors[: len(found)], found):
            differs = first_difference(teacher, untouched, tapped)
            raise ValueError(
                f"the teacher's '{path}' gives other numbers when it is tapped than in "
                f"{type(teacher).__name__}'s own forward pass; the first module that differs is "
                f"'{differs}'; tap another module, or the neck"
            )
