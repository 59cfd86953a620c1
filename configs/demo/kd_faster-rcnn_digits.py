# KD: the Kullback-Leibler divergence of the class logits, on the student's own RoIs.
_base_ = 'dist_faster-rcnn_digits.py'
model = dict(distill=[
    dict(name='kd', student='roi_head.bbox_head.fc_cls', teacher='roi_head.bbox_head.0.fc_cls',
         loss=dict(type='LogitKLLoss')),
])
