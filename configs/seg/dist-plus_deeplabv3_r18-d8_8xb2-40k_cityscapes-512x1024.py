# DIST+ without teacher acclimation: DIST and the relations of the last backbone stage. Which map
# the authors used is not published; the last stage is this project's choice.
_base_ = 'dist_deeplabv3_r18-d8_8xb2-40k_cityscapes-512x1024.py'
model = dict(distill=[
    dict(name='dist', student='decode_head.conv_seg', teacher='decode_head.conv_seg',
         loss=dict(type='DISTLoss')),
    dict(name='aux', student='auxiliary_head.conv_seg', teacher='auxiliary_head.conv_seg',
         loss=dict(type='DISTLoss', loss_weight=0.4)),
    dict(name='features', student='backbone.layer4', teacher='backbone.layer4',
         aligner='conv1x1', loss=dict(type='FeatureRelationLoss')),
])
