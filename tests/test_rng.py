"""Random numbers beside those of training."""

import random

import numpy as np
import torch

from kd_plugin.rng import RandomStream, seeded_random_state


def everything():
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_a_seeded_block_draws_the_same_and_takes_nothing():
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    expected = everything(), everything()
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    first = everything()
    with seeded_random_state(2**63 - 1):
        inside = everything()
    assert (first, everything()) == expected
    with seeded_random_state(2**63 - 1):
        assert everything() == inside


def test_a_stream_starts_from_the_seed_of_the_process_and_goes_on_from_its_state():
    stream, other = RandomStream('a'), RandomStream('b')
    seeds = [stream.seed() for _ in range(4)]
    assert len({*seeds, other.seed()}) == 5 and all(0 <= seed < 2**63 for seed in seeds)
    assert [RandomStream('a').seed() for _ in range(2)] == seeds[:1] * 2
    torch.manual_seed(2**63 + 5)
    again = RandomStream('a')
    assert again.seed() != seeds[0]
    again.load_state_dict(stream.state_dict())
    assert again.seed() == stream.seed()
    again.count = 2
    assert again.seed() == seeds[2]
    one, two = (stream.generator() for _ in range(2))
    assert torch.rand(1, generator=one) != torch.rand(1, generator=two)
