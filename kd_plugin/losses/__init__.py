"""The distillation losses: thin modules over :mod:`kd_plugin.functional`, one concept a file."""

from .acclimation import AcclimationLoss
from .channel_wise import ChannelWiseLoss
from .dist import DISTLoss
from .feature_mimic import FeatureMimicLoss
from .feature_relation import FeatureRelationLoss
from .fgd import FGDLoss
from .logit_kl import LogitKLLoss
from .mgd import MGDLoss
from .pkd import PKDLoss
from .vrm import VRMLoss

__all__ = [
    'AcclimationLoss',
    'ChannelWiseLoss',
    'DISTLoss',
    'FGDLoss',
    'FeatureMimicLoss',
    'FeatureRelationLoss',
    'LogitKLLoss',
    'MGDLoss',
    'PKDLoss',
    'VRMLoss',
]
