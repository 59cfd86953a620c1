# DIST: the relations of the class probabilities, DeepLabV3 -> PSPNet.
_base_ = ['pspnet_camvid-small-student.py', '../_base_/distill_segmentor.py']
model = dict(
    _delete_=True,
    type='SegmentorDistiller',
    student={{_base_.model}},
    teacher=dict(
        config='{{fileDirname}}/deeplabv3_camvid-small-teacher.py',
        checkpoint='work_dirs/camvid/deeplabv3_camvid-small-teacher/seed-0/iter_1500.pth'),
    distill=[{{_base_.entries.dist}}])
