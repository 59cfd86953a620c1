# Both relations of the features, without the logits (Table 13).
_base_ = 'dist_pspnet_digits.py'
model = dict(distill=[{{_base_.entries.features}}])
