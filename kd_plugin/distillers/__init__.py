"""The model wrappers that a config names instead of its model."""

from .base import BaseDistiller
from .detector import DetectorDistiller
from .segmentor import SegmentorDistiller

__all__ = ['BaseDistiller', 'DetectorDistiller', 'SegmentorDistiller']
