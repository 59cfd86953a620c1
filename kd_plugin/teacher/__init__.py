"""The teacher: built, loaded strictly, fed in its own colours, rid of idle parts, acclimated."""

from .acclimation import Acclimation
from .build import build_model, build_teacher, current_scope, precision, read_config
from .idle import StandIn, bypass, find_idle
from .load import load_strictly
from .renormalize import Renormalization, crop

__all__ = [
    'Acclimation',
    'Renormalization',
    'StandIn',
    'build_model',
    'build_teacher',
    'bypass',
    'crop',
    'current_scope',
    'find_idle',
    'load_strictly',
    'precision',
    'read_config',
]
