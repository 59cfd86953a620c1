# KD: the divergence of the class logits, every class a Bernoulli variable, one row an anchor.
_base_ = 'dist_retinanet_digits.py'
model = dict(distill=[
    dict(name='kd', student='bbox_head.retina_cls', teacher='bbox_head.retina_cls',
         loss=dict(type='LogitKLLoss', activation='sigmoid', num_classes=10)),
])
