"""DigitScenes: a small data set for detection and segmentation, made on first use.

scikit-learn's 1797 real handwritten digits (8x8 pixels, shipped with that package) are scaled,
rotated, coloured and pasted on smooth, darker, noisy backgrounds. Later digits hide parts of
earlier ones. The result is files that stock dataset classes read::

    ROOT/images/{train,val}/000000.png    RGB scenes
    ROOT/masks/{train,val}/000000.png     uint8 class indices: 0 background, 1..10 the digits 0..9
    ROOT/annotations/{train,val}.json     COCO boxes and RLE masks, category ids 1..10
    ROOT/digit_scenes.json                the settings all this was made with

mmdet's ``CocoDataset`` takes ``metainfo=dict(classes=CLASSES)``; mmseg's ``BaseSegDataset`` takes
``metainfo=dict(classes=('background', *CLASSES), palette=PALETTE)``, ``img_suffix='.png'`` and
``seg_map_suffix='.png'``.

Pixels follow from the settings alone, each scene from its own seed: the first 100 scenes of a
long set are those of a short one. The bytes of the PNG files may differ between OpenCV builds.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .drawing import CELLS, background, blend, brighter, glyphs, warp

CLASSES = tuple('0123456789')
PALETTE = (
    (0, 0, 0), (230, 60, 60), (245, 150, 40), (240, 225, 60), (140, 210, 60), (40, 160, 80),
    (60, 210, 210), (60, 120, 230), (130, 80, 220), (220, 90, 200), (170, 120, 80),
)
SPLITS = ('train', 'val')
MIN_VISIBLE = 0.4  # of a digit's own mask

_FORMAT = 2  # raise whenever the same settings come to give other files
_STAMP = 'digit_scenes.json'
_TRAIN_DIGITS, _ALL_DIGITS = 1400, 1797
_TRIES = 40  # positions tried before a digit is left out
_THRESHOLD = 0.4  # intensity of 1 above which a pixel belongs to the digit
_NOISE = (8.0, 14.0)
_MAX_ANGLE = math.radians(20)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True)
class Settings:
    """What to generate; two equal settings give the same data.

    Args:
        train: Number of training scenes, at least 1.
        val: Number of validation scenes, at least 1.
        size: Side of the square scenes in pixels, at least ``scale[1]``.
        digits: Fewest and most digits put in a scene, both included. A digit for which no place
            is found is left out, but never the first one, so crowded settings may give fewer.
        scale: Smallest and largest side of a pasted digit in pixels, both included, at least 8.
        seed: At least 0.

    Raises:
        ValueError: A value makes no sense.
    """

    train: int = 2400
    val: int = 300
    size: int = 64
    digits: tuple[int, int] = (1, 3)
    scale: tuple[int, int] = (22, 44)
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (('train', 1), ('val', 1), ('size', 1), ('seed', 0)):
            value = getattr(self, name)
            if not _is_int(value) or value < least:
                raise ValueError(f'{name}={value!r}: write an integer of at least {least}')
        for name, least in (('digits', 1), ('scale', CELLS)):
            pair = getattr(self, name)
            if not (isinstance(pair, (tuple, list)) and len(pair) == 2
                    and all(map(_is_int, pair)) and least <= pair[0] <= pair[1]):
                raise ValueError(f'{name}={pair!r}: write two integers (fewest, most), the first '
                                 f'at least {least} and the second no smaller than the first')
            object.__setattr__(self, name, tuple(pair))  # a list would not equal its tuple
        if self.size < self.scale[1]:
            raise ValueError(f'size={self.size} cannot hold digits of scale={self.scale}: write a '
                             f'size of at least {self.scale[1]}, or a smaller scale')


class Digit(NamedTuple):
    """One digit of a scene: its class, where it came from and what is seen of it."""

    label: int  # 0..9
    source: int  # index into sklearn.datasets.load_digits()
    visible: np.ndarray  # bool (size, size)
    area: int  # pixels of its own mask, hidden ones included


class Scene(NamedTuple):
    """A scene before it is written."""

    image: np.ndarray  # uint8 (size, size, 3), RGB
    mask: np.ndarray  # uint8 (size, size), 0 background, 1..10 the digits
    digits: list[Digit]  # in the order they were pasted, at least one


def split_digits(split: str) -> range:
    """Indices into ``sklearn.datasets.load_digits()`` that scenes of ``split`` may show.

    Raises:
        ValueError: ``split`` is neither ``'train'`` nor ``'val'``.

    Example:
        >>> split_digits('val')
        range(1400, 1797)
    """
    if split not in SPLITS:
        raise ValueError(f'split={split!r}: write one of {SPLITS}')
    return range(_TRAIN_DIGITS) if split == 'train' else range(_TRAIN_DIGITS, _ALL_DIGITS)


def make_scene(settings: Settings, split: str, index: int) -> Scene:
    """Scene number ``index`` (from 0) of ``split``; depends on neither ``train`` nor ``val``.

    Raises:
        ValueError: ``split`` is neither ``'train'`` nor ``'val'``.

    Example:
        >>> scene = make_scene(Settings(size=64), 'train', 0)
        >>> scene.image.shape, 1 <= len(scene.digits) <= 3
        ((64, 64, 3), True)
    """
    pool = split_digits(split)
    rng = np.random.default_rng(
        np.random.SeedSequence([settings.seed, SPLITS.index(split), index]))
    shapes, labels = glyphs()
    size = settings.size
    canvas = background(rng, size)
    owner = np.full((size, size), -1)  # which digit is on top
    placed: list[tuple[int, int]] = []  # source, own area
    for _ in range(rng.integers(*settings.digits, endpoint=True)):
        source = int(rng.integers(pool.start, pool.stop))
        side = int(rng.integers(*settings.scale, endpoint=True))
        angle = rng.uniform(-_MAX_ANGLE, _MAX_ANGLE)
        for _ in range(_TRIES):
            centre = rng.uniform(side / 2, size - side / 2, 2)
            alpha = warp(shapes[source], size, centre, side, angle)
            own = alpha > _THRESHOLD
            layered = np.where(own, len(placed), owner)
            areas = np.array([area for _, area in placed] + [int(own.sum())])
            seen = np.bincount(layered[layered >= 0], minlength=len(areas))
            if own.any() and (seen >= MIN_VISIBLE * areas).all():
                canvas = blend(canvas, alpha, brighter(rng, canvas[own].mean(0)))
                owner = layered
                placed.append((source, int(areas[-1])))
                break
    noisy = canvas + rng.normal(0, rng.uniform(*_NOISE), canvas.shape)
    values = np.array([0] + [labels[source] + 1 for source, _ in placed], np.uint8)
    return Scene(
        image=noisy.round().clip(0, 255).astype(np.uint8),
        mask=values[owner + 1],
        digits=[Digit(int(labels[source]), source, owner == layer, area)
                for layer, (source, area) in enumerate(placed)])


def generate(root: str | os.PathLike[str], settings: Settings = Settings()) -> Path:
    """Write the data set to ``root``, which must be absent or empty, and return it as a path.

    Files go to a hidden folder beside ``root`` that takes its name at the end: ``root`` is whole
    or not there. If another process was first with the same settings, its data stay. A killed
    process may leave its ``.NAME.*.tmp`` behind, safe to delete.

    Raises:
        FileExistsError: ``root`` holds something already.
        ValueError: Another process was first, with other settings.
        OSError: Something could not be written.
    """
    if _occupied(Path(root)):
        raise FileExistsError(f'{root} is there already: delete it or choose another folder')
    return _build(Path(root), settings)


def ensure(root: str | os.PathLike[str], settings: Settings = Settings()) -> Path:
    """Return ``root`` as a path once it holds the data of ``settings``, made now if it is absent.

    Raises:
        ValueError: ``root`` holds something else.
        OSError: Something could not be written.
    """
    root = Path(root)
    if not _occupied(root):
        return _build(root, settings)
    _require(root, settings)
    return root


def _occupied(root: Path) -> bool:
    return root.exists() and not (root.is_dir() and next(root.iterdir(), None) is None)


def _stamp(settings: Settings) -> dict[str, Any]:
    fields = {key: list(value) if isinstance(value, tuple) else value
              for key, value in asdict(settings).items()}
    return {'format': _FORMAT, **fields}


def _require(root: Path, settings: Settings) -> None:
    wanted = _stamp(settings)
    try:
        found = json.loads((root / _STAMP).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        found = f'no readable {_STAMP}'
    if found != wanted:
        raise ValueError(f'{root} does not hold the data asked for: found {found}, wanted '
                         f'{wanted}. Delete that folder or choose another one')


def _build(root: Path, settings: Settings) -> Path:
    target = root.resolve()  # renaming onto a symbolic link would fail
    target.parent.mkdir(parents=True, exist_ok=True)
    work = target.with_name(f'.{target.name}.{uuid.uuid4().hex}.tmp')
    try:
        for split in SPLITS:
            _write_split(work, settings, split)
        _write_json(work / _STAMP, _stamp(settings))
        try:
            work.rename(target)
        except OSError:
            if not _occupied(target):
                raise
            _require(root, settings)  # another process was first
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return root


def _write_split(root: Path, settings: Settings, split: str) -> None:
    for folder in ('images', 'masks'):
        (root / folder / split).mkdir(parents=True)
    (root / 'annotations').mkdir(exist_ok=True)
    size = settings.size
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(getattr(settings, split)):
        scene = make_scene(settings, split, index)
        name = f'{index:06d}.png'
        _write_png(root / 'images' / split / name, scene.image[..., ::-1])
        _write_png(root / 'masks' / split / name, scene.mask)
        images.append({'id': index, 'file_name': name, 'width': size, 'height': size})
        for digit in scene.digits:  # ids from 1: COCO's evaluation takes 0 for "no match"
            annotations.append({'id': len(annotations) + 1, 'image_id': index,
                                'category_id': digit.label + 1, 'iscrowd': 0,
                                **_shape(digit.visible)})
    categories = [{'id': label + 1, 'name': name} for label, name in enumerate(CLASSES)]
    _write_json(root / 'annotations' / f'{split}.json',
                {'images': images, 'annotations': annotations, 'categories': categories})


def _shape(visible: np.ndarray) -> dict[str, Any]:
    from pycocotools import mask as coco_mask

    rle = coco_mask.encode(np.asfortranarray(visible, dtype=np.uint8))
    ys, xs = np.nonzero(visible)
    left, top = int(xs.min()), int(ys.min())
    return {
        'bbox': [left, top, int(xs.max()) + 1 - left, int(ys.max()) + 1 - top],
        'area': len(xs),
        'segmentation': {'size': list(visible.shape), 'counts': rle['counts'].decode('ascii')},
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding='utf-8')


def _write_png(path: Path, pixels: np.ndarray) -> None:
    """Write grey or BGR uint8 pixels; unlike ``cv2.imwrite``, failures raise OSError."""
    import cv2

    path.write_bytes(cv2.imencode('.png', np.ascontiguousarray(pixels))[1].tobytes())
