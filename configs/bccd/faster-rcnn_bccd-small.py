# Cascade R-CNN teaches Faster R-CNN, for CPU cores.
_base_ = 'faster-rcnn_bccd-small-student.py'
model = dict(
    _delete_=True,
    type='DetectorDistiller',
    student={{_base_.model}},
    teacher=dict(
        config='{{fileDirname}}/cascade-rcnn_bccd-small-teacher.py',
        checkpoint='work_dirs/bccd/cascade-rcnn_bccd-small-teacher/seed-0/iter_1500.pth'),
    distill='dist-plus')
