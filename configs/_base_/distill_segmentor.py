# What can be distilled between segmentors, for the configs to pick from. Logits are compared before
# they are upsampled, ignored pixels included; those of the auxiliary head weigh as its task loss.
# Which features the authors used is not published: the last backbone stage is this project's choice.
_conv_seg = dict(student='decode_head.conv_seg', teacher='decode_head.conv_seg')
_aux_seg = dict(student='auxiliary_head.conv_seg', teacher='auxiliary_head.conv_seg')
_layer4 = dict(
    name='features', student='backbone.layer4', teacher='backbone.layer4', aligner='conv1x1')
entries = dict(
    kd=dict(name='kd', loss=dict(type='LogitKLLoss'), **_conv_seg),
    kd_aux=dict(name='aux', loss=dict(type='LogitKLLoss', loss_weight=0.4), **_aux_seg),
    dist=dict(name='dist', loss=dict(type='DISTLoss'), **_conv_seg),
    dist_aux=dict(name='aux', loss=dict(type='DISTLoss', loss_weight=0.4), **_aux_seg),
    features=dict(loss=dict(type='FeatureRelationLoss'), **_layer4),
    channel=dict(loss=dict(type='FeatureRelationLoss', spatial_weight=0.0), **_layer4),
    spatial=dict(loss=dict(type='FeatureRelationLoss', channel_weight=0.0), **_layer4),
    cosine=dict(loss=dict(type='FeatureRelationLoss', relation='cosine'), **_layer4),
    mimic=dict(loss=dict(type='FeatureMimicLoss'), **_layer4))
del _conv_seg, _aux_seg, _layer4
