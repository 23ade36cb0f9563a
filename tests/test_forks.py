"""Processes that are forked from one that has computed."""

from __future__ import annotations

import os

import pytest
import torch

import styletryon
from styletryon import _forks
from tests._support.process import run_python

FORKED = """
import os, signal, sys
import torch
torch.set_num_threads(2)
import styletryon
from styletryon.data import paperdoll

person = paperdoll.render(paperdoll.sample_figure(3), (96, 72)).image
model = styletryon.load_model()
before = model.draw(styletryon.generate(seed=1)).image
styletryon.estimate_pose(person)
(torch.ones(600, 600) @ torch.ones(600, 600)).sum()
child = os.fork()
if child == 0:
    signal.alarm(200)  # ends the child if it hangs
    after = model.draw(styletryon.generate(seed=1)).image
    styletryon.estimate_pose(person)
    os._exit(0 if torch.allclose(before, after, atol=1e-4) and torch.get_num_threads() == 1 else 3)
_, status = os.waitpid(child, 0)
sys.exit(status if torch.get_num_threads() == 2 else 4)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_computes_on_one_thread_and_its_parent_as_before() -> None:
    ended = run_python("-c", FORKED, environment={"OMP_NUM_THREADS": "2"})
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("This process was forked") == 1


def test_a_process_that_computes_for_the_first_time_keeps_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "set_num_threads", lambda _: pytest.fail("threads were changed"))
    for before in (None, os.getpid()):
        monkeypatch.setattr(_forks, "_process", before)
        styletryon.load_model()
    assert _forks._process == os.getpid()
