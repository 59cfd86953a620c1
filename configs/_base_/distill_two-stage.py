# What can be distilled between two-stage detectors, for the configs to pick from. Logits are compared
# on the student's own RoIs; the teacher is a cascade, of which only the first stage is used.
_fc_cls = dict(
    student='roi_head.bbox_head.fc_cls', teacher='roi_head.bbox_head.0.fc_cls')
_fpn = dict(name='fpn', student='neck', teacher='neck', aligner='conv1x1')
entries = dict(
    kd=dict(name='kd', loss=dict(type='LogitKLLoss'), **_fc_cls),
    dist=dict(name='dist', loss=dict(type='DISTLoss'), **_fc_cls),
    features=dict(loss=dict(type='FeatureRelationLoss'), **_fpn),
    channel=dict(loss=dict(type='FeatureRelationLoss', spatial_weight=0.0), **_fpn),
    spatial=dict(loss=dict(type='FeatureRelationLoss', channel_weight=0.0), **_fpn),
    cosine=dict(loss=dict(type='FeatureRelationLoss', relation='cosine'), **_fpn),
    mimic=dict(loss=dict(type='FeatureMimicLoss'), **_fpn))
del _fc_cls, _fpn
