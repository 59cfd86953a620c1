# The RetinaNet student alone for as long as DIST+ takes.
_base_ = 'retinanet_bccd-small-student.py'
train_cfg = {{_base_.longer.train_cfg}}
param_scheduler = {{_base_.longer.param_scheduler}}
