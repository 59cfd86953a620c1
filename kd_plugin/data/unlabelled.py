"""Images without labels: a folder of them, and any data set with its labels left out."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import torch
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from mmengine.structures import InstanceData
from PIL import Image
from torch.utils.data import Dataset, get_worker_info

from kd_plugin.rng import seeded_random_state

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')


@DATASETS.register_module()
class ImageFolder(BaseDataset):
    """All images under a folder, in the order of their paths; nothing else is read.

    What one item says of itself suits the pipelines of mmdet and of mmseg.

    Args:
        data_root: The folder; those inside it are looked through too.
        suffixes: Of the files that are images, in small letters.
        kwargs: As :class:`mmengine.dataset.BaseDataset` has them, ``pipeline`` above all.

    Raises:
        ValueError: No such folder, or no image in it.
    """

    def __init__(
        self, data_root: str, suffixes: tuple[str, ...] = SUFFIXES, **kwargs: Any
    ) -> None:
        self.suffixes = tuple(suffixes)
        super().__init__(data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """One item an image: its path, and that it has no objects and no maps."""
        if not os.path.isdir(self.data_root):
            raise ValueError(f"there is no folder '{self.data_root}'; write the path of a folder "
                             'of images')  # fmt: skip
        paths = sorted(
            os.path.join(folder, name) for folder, _, names in os.walk(
                self.data_root, followlinks=True)
            for name in names if name.lower().endswith(self.suffixes))  # fmt: skip
        if not paths:
            raise ValueError(f"no file under '{self.data_root}' ends in one of "
                             f'{list(self.suffixes)}; name other suffixes=[…] or another folder')
        return [dict(img_path=path, img_id=i, instances=[], seg_fields=[], label_map=None,
                     reduce_zero_label=False) for i, path in enumerate(paths)]  # fmt: skip

    def get_data_info(self, idx: int) -> dict:
        """An item with the image's ``width`` and ``height``, by which samplers group images.

        They are read from the file's head, when they are asked for.
        """
        info = super().get_data_info(idx)
        with Image.open(info['img_path']) as image:
            info['width'], info['height'] = image.size
        return info


@DATASETS.register_module()
class WithoutLabels(Dataset):
    """A data set whose items keep their images and what is known of these, and no label.

    Args:
        dataset: A data set, or its dict.
        like: ``type`` and ``metainfo`` of a data set whose classes this one takes over, where it
            stands for it; by default it has its own.
    """

    def __init__(self, dataset: Any, like: dict | None = None) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self.full_init()
        self._metainfo = getattr(self.dataset, 'metainfo', {})
        if like is not None:
            kind = like['type']
            if isinstance(kind, str):
                with DATASETS.switch_scope_and_registry(None) as registry:
                    kind = registry.get(kind)
            if hasattr(kind, '_load_metainfo'):
                self._metainfo = kind._load_metainfo(like.get('metainfo'))

    @property
    def metainfo(self) -> dict:
        """The classes and the like."""
        return self._metainfo

    def full_init(self) -> None:
        """Read the list of images."""
        if hasattr(self.dataset, 'full_init'):
            self.dataset.full_init()

    def get_data_info(self, idx: int) -> dict:
        """What the data set says of an image without loading it."""
        return self.dataset.get_data_info(idx)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, idx: int) -> dict:
        item = self.dataset[idx]
        return dict(inputs=item['inputs'], data_samples=without_labels(item['data_samples']))


def without_labels(sample: Any) -> Any:
    """A data sample of the same kind, with what is known of the image and no object or map."""
    bare = type(sample)(metainfo=sample.metainfo)
    if hasattr(type(sample), 'gt_instances'):  # preprocessors look whether these have masks
        bare.gt_instances = InstanceData(
            bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    return bare


class NumberedBatches(Dataset):
    """A data set that is asked for batches, whose random draws depend on a batch's number alone.

    So a loader's augmentation takes nothing from the random numbers of training, is the same with
    any number of workers, and goes on in the midst: a batch before :attr:`start` is passed over,
    its images are not read.

    Args:
        dataset: What the items come from.
        seed: Of all draws.
        rank: Of the process; others draw other numbers.
        start: The first batch that is not passed over.
    """

    def __init__(self, dataset: Any, seed: int, rank: int, start: int = 0) -> None:
        self.dataset, self.seed, self.rank, self.start = dataset, seed, rank, start
        self.first = 0  # the number of the first batch that the loader's iterator asks for
        self._asked = 0

    def begin(self, first: int) -> None:
        """A loader is about to ask for batches; the first has this number."""
        self.first, self._asked = first, 0

    def get_data_info(self, idx: int) -> dict:
        """What the data set says of an image without loading it."""
        return self.dataset.get_data_info(idx)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, indices: list[int]) -> list[dict]:
        # Loaders hand batches to their workers in turn.
        worker = get_worker_info()
        own, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        number = self.first + own + step * self._asked
        self._asked += 1
        if number < self.start:
            return [{} for _ in indices]
        said = f'{self.seed} {self.rank} {number}'.encode()
        drawn = int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), 'big') >> 1
        with seeded_random_state(drawn):
            return [self.dataset[i] for i in indices]
