# DIST+: the relations of the class logits and of the pyramid's features.
_base_ = 'dist_faster-rcnn_digits.py'
model = dict(distill=[
    dict(name='dist', student='roi_head.bbox_head.fc_cls',
         teacher='roi_head.bbox_head.0.fc_cls', loss=dict(type='DISTLoss')),
    dict(name='fpn', student='neck', teacher='neck', aligner='conv1x1',
         loss=dict(type='FeatureRelationLoss')),
])
