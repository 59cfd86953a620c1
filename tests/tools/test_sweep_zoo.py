"""The sweep over the zoo: one family of each task, and the page that shows what was found."""

import json

import pytest
import sweep_zoo
import zoo_page


def test_families_are_the_folders_of_the_installed_zoo():
    found = {**sweep_zoo.families('mmdet'), **sweep_zoo.families('mmseg')}
    assert len(found) > 120 and 'mmdet/_base_' not in found
    assert found['mmdet/retinanet'][0] == 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'
    assert found['mmseg/pspnet'][0].startswith('mmseg::pspnet/pspnet_r18')


def test_transformers_of_one_size_of_images_take_small_ones():
    fixed, free = (dict(backbone=backbone, data_preprocessor=dict(size=(640, 640)))
                   for backbone in (dict(img_size=(640, 640)), {}))
    small = sweep_zoo._for_small_images(fixed)
    assert small['backbone']['img_size'] == small['data_preprocessor']['size'] == (128, 128)
    assert sweep_zoo._for_small_images(free)['data_preprocessor']['size'] == (640, 640)


@pytest.mark.parametrize(('family', 'taps'), [
    ('mmdet/yolox', ['bbox_head.multi_level_conv_cls']),
    ('mmseg/erfnet', ['decode_head.conv_seg']),
])  # fmt: skip
def test_a_family_is_distilled_and_its_taps_are_found(family, taps):
    row = sweep_zoo.distil(family, sweep_zoo.families(family.split('/')[0])[family])
    assert row['plain'] == row['all']['outcome'] == row['logits']['outcome'] == 'trains'
    assert row['logits']['taps'] == taps and len(row['features']['taps']) == 1
    words = {name for name, outcome in row['others'].items() if outcome != 'trains'}
    assert words == ({'fgd'} if family.startswith('mmseg') else set()), row['others']
    json.dumps(row)


def test_the_page_is_current_and_nothing_in_it_ends_rawly():
    assert zoo_page.PAGE.read_text() == zoo_page.page()
    for folder in zoo_page.RESULTS.iterdir():
        rows = zoo_page.read(folder)
        if folder.name == zoo_page.installed()[0]:
            assert set(rows) == {
                *sweep_zoo.families('mmdet'), *sweep_zoo.families('mmseg')}  # none is left out
        for family, row in rows.items():
            for key in sweep_zoo.METHODS if row['plain'] == 'trains' else ():
                assert row[key]['outcome'].startswith(('trains', 'refused: ')), (family, row[key])
            for outcome in row.get('others', {}).values():
                assert outcome.startswith(('trains', 'refused: ')), (family, outcome)
