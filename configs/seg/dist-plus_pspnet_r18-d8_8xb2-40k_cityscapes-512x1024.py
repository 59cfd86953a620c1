# DIST+: relations of logits and features, and teacher acclimation.
_base_ = 'pspnet_r18-d8_8xb2-40k_cityscapes-512x1024.py'
model = dict(distill='dist-plus')
