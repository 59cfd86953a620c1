"""The distillation losses: thin modules over :mod:`kd_plugin.functional`, one concept a file."""

from .acclimation import AcclimationLoss
from .dist import DISTLoss
from .feature_mimic import FeatureMimicLoss
from .feature_relation import FeatureRelationLoss
from .logit_kl import LogitKLLoss
from .vrm import VRMLoss

__all__ = [
    'AcclimationLoss',
    'DISTLoss',
    'FeatureMimicLoss',
    'FeatureRelationLoss',
    'LogitKLLoss',
    'VRMLoss',
]
