# DIST: the relations of the class logits, on the student's own RoIs.
_base_ = 'faster-rcnn_digits-student.py'
model = dict(
    _delete_=True,
    type='DetectorDistiller',
    student={{_base_.model}},
    teacher=dict(
        config='{{fileDirname}}/cascade-mask-rcnn_digits-teacher.py',
        checkpoint='work_dirs/demo/cascade-mask-rcnn_digits-teacher/seed-0/iter_1200.pth'),
    distill=[
        dict(name='dist', student='roi_head.bbox_head.fc_cls',
             teacher='roi_head.bbox_head.0.fc_cls', loss=dict(type='DISTLoss')),
    ])
