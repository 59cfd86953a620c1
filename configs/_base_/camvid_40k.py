# The published setting on CamVid: 40k iterations at batch 16, SGD 0.02, poly 0.9 down to 1e-4.
_base_ = [
    'camvid.py', 'mmseg::_base_/schedules/schedule_40k.py', 'mmseg::_base_/default_runtime.py']
optim_wrapper = dict(optimizer=dict(lr=0.02))
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
randomness = dict(seed=0)
