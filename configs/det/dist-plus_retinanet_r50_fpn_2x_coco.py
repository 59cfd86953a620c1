# DIST+ without teacher acclimation: DIST and the relations of the five FPN outputs.
_base_ = 'dist_retinanet_r50_fpn_2x_coco.py'
model = dict(distill=[
    dict(name='dist', student='bbox_head.retina_cls', teacher='bbox_head.retina_cls',
         loss=dict(type='DISTLoss', activation='sigmoid')),
    dict(name='fpn', student='neck', teacher='neck', aligner='conv1x1',
         loss=dict(type='FeatureRelationLoss')),
])
