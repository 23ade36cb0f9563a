from __future__ import annotations

import pytest
import torch
from torch import nn

from styletryon.training.ema import WeightAverage, decay_of_half_life


def network(seed: int) -> nn.Sequential:
    generator = torch.Generator().manual_seed(seed)
    made = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    for tensor in made.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator))
        else:
            tensor.fill_(seed)
    return made


@pytest.mark.parametrize("average_buffers", [False, True])
def test_the_average_against_plain_arithmetic(average_buffers: bool) -> None:
    networks = [network(seed) for seed in range(4)]
    average = WeightAverage(networks[0], average_buffers=average_buffers)
    expected = {name: tensor.clone() for name, tensor in networks[0].state_dict().items()}
    for number, trained in enumerate(networks[1:], start=1):
        decay = 0.5 + 0.1 * number
        average.update(trained, decay)
        weights = dict(trained.named_parameters())
        for name, value in trained.state_dict().items():
            averaged = name in weights or (average_buffers and value.is_floating_point())
            expected[name] = decay * expected[name] + (1 - decay) * value if averaged else value
    for name, value in average.model.state_dict().items():
        torch.testing.assert_close(value, expected[name])


def test_the_average_is_a_network_of_its_own() -> None:
    trained = network(1)
    average = WeightAverage(trained)
    before = [weight.clone() for weight in trained.parameters()]
    average.update(network(2), 0.0)
    assert all(torch.equal(old, new) for old, new in zip(before, trained.parameters(), strict=True))
    assert not average.model.training
    assert not any(weight.requires_grad for weight in average.model.parameters())
    assert all(weight.requires_grad for weight in trained.parameters())


def test_half_is_forgotten_after_the_half_life() -> None:
    left = 1.0
    for step in range(100):
        left *= decay_of_half_life(400.0, seen=100_000 + 4 * step, batch_size=4)
    assert left == pytest.approx(0.5)
    assert decay_of_half_life(400.0, seen=0, batch_size=4) == 0.0  # nothing of the random weights is kept
    assert decay_of_half_life(400.0, seen=80, batch_size=4) == pytest.approx(0.5)
