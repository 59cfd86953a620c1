# KD: the Kullback-Leibler divergence of the pixel logits.
_base_ = 'dist_pspnet_digits.py'
model = dict(distill=[
    dict(name='kd', student='decode_head.conv_seg', teacher='decode_head.conv_seg',
         loss=dict(type='LogitKLLoss')),
])
