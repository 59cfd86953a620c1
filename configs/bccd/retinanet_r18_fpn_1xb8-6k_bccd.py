# RetinaNet-R50 teaches RetinaNet-R18.
_base_ = 'retinanet_r18_fpn_1xb8-6k_bccd-student.py'
model = dict(
    _delete_=True,
    type='DetectorDistiller',
    student={{_base_.model}},
    teacher=dict(
        config='{{fileDirname}}/retinanet_r50_fpn_1xb8-6k_bccd.py',
        checkpoint='work_dirs/bccd/retinanet_r50_fpn_1xb8-6k_bccd/seed-0/iter_6000.pth'),
    distill='dist-plus')
