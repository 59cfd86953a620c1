# RetinaNet teaches a narrower RetinaNet, for CPU cores.
_base_ = 'retinanet_bccd-small-student.py'
model = dict(
    _delete_=True,
    type='DetectorDistiller',
    student={{_base_.model}},
    teacher=dict(
        config='{{fileDirname}}/retinanet_bccd-small-teacher.py',
        checkpoint='work_dirs/bccd/retinanet_bccd-small-teacher/seed-0/iter_1500.pth'),
    distill='dist-plus')
