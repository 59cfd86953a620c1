# KD: the divergence of the class probabilities, of three classes and not of COCO's 80.
_base_ = 'dist_retinanet_bccd-small.py'
model = dict(distill=[
    dict(name='kd', student='bbox_head.retina_cls', teacher='bbox_head.retina_cls',
         loss=dict(type='LogitKLLoss', activation='sigmoid', num_classes=3)),
])
