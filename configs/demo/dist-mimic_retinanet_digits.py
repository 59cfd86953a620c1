# DIST + mimic: the relations of the class logits, and the squared error of the pyramid.
_base_ = 'dist_retinanet_digits.py'
model = dict(distill=[
    dict(name='dist', student='bbox_head.retina_cls', teacher='bbox_head.retina_cls',
         loss=dict(type='DISTLoss', activation='sigmoid')),
    dict(name='fpn', student='neck', teacher='neck', aligner='conv1x1',
         loss=dict(type='FeatureMimicLoss')),
])
