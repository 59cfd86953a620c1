"""The short form of tests/kills.py: a few deaths of one run, which come out bit for bit."""

import json

import processes


def test_a_run_that_is_killed_comes_out_as_if_it_had_not_been(tmp_path):
    out = tmp_path / 'kills.json'
    processes.run([([str(processes.TESTS / 'kills.py'), '--out', str(out), '--moments', '1',
                     '--points', '2', '--cases', 'segmentor, acclimation, EMA'], {})])
    found = json.loads(out.read_text())
    (case,) = found['cases'].values()
    assert case['deaths'].keys() >= {'file operation', 'half a checkpoint', 'disk full',
                                     'batch of NaN'}
    assert case['runs_that_came_out_equal'] >= 5 and found['deaths'] >= 5
