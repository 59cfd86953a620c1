# RetinaNet teaches a narrower RetinaNet.
_base_ = 'retinanet_digits-student.py'
model = dict(
    _delete_=True,
    type='DetectorDistiller',
    student={{_base_.model}},
    teacher=dict(
        config='{{fileDirname}}/retinanet_digits-teacher.py',
        checkpoint='work_dirs/demo/retinanet_digits-teacher/seed-0/iter_1200.pth'),
    distill='dist-plus')
