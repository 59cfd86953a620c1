# What can be distilled between RetinaNets, for the configs to pick from. DIST takes all A*C channels
# of a pixel as one row, as published; num_classes=C in its loss is the literal reading of eq. 8,
# one row an anchor.
_retina_cls = dict(student='bbox_head.retina_cls', teacher='bbox_head.retina_cls')
_fpn = dict(name='fpn', student='neck', teacher='neck', aligner='conv1x1')
entries = dict(
    # Every class a Bernoulli variable, one row an anchor.
    kd=dict(
        name='kd', loss=dict(type='LogitKLLoss', activation='sigmoid', num_classes=80),
        **_retina_cls),
    dist=dict(name='dist', loss=dict(type='DISTLoss', activation='sigmoid'), **_retina_cls),
    features=dict(loss=dict(type='FeatureRelationLoss'), **_fpn),
    channel=dict(loss=dict(type='FeatureRelationLoss', spatial_weight=0.0), **_fpn),
    spatial=dict(loss=dict(type='FeatureRelationLoss', channel_weight=0.0), **_fpn),
    cosine=dict(loss=dict(type='FeatureRelationLoss', relation='cosine'), **_fpn),
    mimic=dict(loss=dict(type='FeatureMimicLoss'), **_fpn))
del _retina_cls, _fpn
