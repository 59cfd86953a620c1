# DIST + mimic: the relations of the pixel logits, and the squared error of the last stage.
_base_ = 'dist_pspnet_digits.py'
model = dict(distill=[
    dict(name='dist', student='decode_head.conv_seg', teacher='decode_head.conv_seg',
         loss=dict(type='DISTLoss')),
    dict(name='features', student='backbone.layer4', teacher='backbone.layer4',
         aligner='conv1x1', loss=dict(type='FeatureMimicLoss')),
])
