"""Steps that are replayed: with a stand-in for CUDA graphs here, with real ones where there is a GPU."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from styletryon import _graphs, losses
from styletryon._graphs import Adam, Repeated
from styletryon.features import PixelFeatures
from styletryon.generator import GeneratorOutput
from styletryon.latent import Latent
from styletryon.losses import TryOnLoss, TryOnState
from styletryon.models import PoseStyleGAN2
from styletryon.projection import LatentProjector
from styletryon.tryon import TryOnBatch, TryOnOptimizer, TryOnStatus, blend_styles, make_targets
from tests._support.fake_generator import FakeGenerator, fake_latent
from tests._support.tape import TapeRecorder, recorder
from tests._support.tiny import tiny_generator, tiny_latent

__all__ = ["recorder"]

CPU = torch.device("cpu")
ALL = range(1, 12)


class Capturable:
    capturable = True


class Look(TryOnLoss):
    """Says that it can be captured, and looks at a value."""

    capturable = True

    def forward(self, state: TryOnState, prepared: None) -> Tensor:
        values = state.image.square().mean(dim=(1, 2, 3))
        return values * 2 if bool(values.sum() > 1e9) else values


class Plain(TryOnLoss):
    """Does not say that it can be captured."""

    def forward(self, state: TryOnState, prepared: None) -> Tensor:
        return state.image.square().mean(dim=(1, 2, 3))


class TestAdam:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_is_torchs_bit_for_bit(self, generator: torch.Generator, dtype: torch.dtype) -> None:
        ours, theirs = ([torch.linspace(-1, 1, n, dtype=dtype) for n in (3, 37)] for _ in range(2))
        for variable in theirs:
            variable.requires_grad_()
        adam, torchs = Adam(ours, (0.9, 0.99)), torch.optim.Adam(theirs, betas=(0.9, 0.99))
        for step in range(40):
            rate = 0.3 / (1 + step)
            torchs.param_groups[0]["lr"] = rate
            gradients = [torch.randn(n, generator=generator, dtype=dtype) * 10 ** (step % 5 - 2) for n in (3, 37)]
            for variable, gradient in zip(theirs, gradients, strict=True):
                variable.grad = gradient.clone()
            torchs.step()
            adam.set_rate(rate)
            adam.step(gradients)
            assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))

    def test_what_has_no_gradient_stays_and_what_is_not_finite_counts_as_none(self) -> None:
        variables = [torch.ones(3), torch.ones(2)]
        adam = Adam(variables, (0.9, 0.99))
        adam.set_rate(0.1)
        adam.step([torch.tensor([1.0, float("nan"), float("-inf")]), None])
        assert variables[0].tolist() == pytest.approx([0.9, 1, 1])
        assert variables[1].tolist() == [1, 1]


class TestRepeated:
    def test_warms_up_captures_once_and_replays(self, recorder: type[TapeRecorder]) -> None:
        total, runs = torch.zeros(()), []

        def step() -> None:
            runs.append(1)
            total.add_(1)

        repeated = Repeated(step, CPU, {"it": Capturable()}, count=20)
        for count in range(1, 21):
            repeated()
            assert float(total) == count  # the capture itself has counted nothing
        assert len(runs) == _graphs._WARM_UP + 1
        assert (recorder.captures, recorder.replays) == (1, 20 - _graphs._WARM_UP)
        assert repeated.obstacle is None

    def test_a_failed_capture_is_told_once_and_changes_nothing(
        self, recorder: type[TapeRecorder], caplog: pytest.LogCaptureFixture
    ) -> None:
        total = torch.zeros(())

        def step() -> None:
            total.add_(1)
            total.mul_(1 if bool(total > 0) else 2)

        for _ in range(2):
            total.zero_()
            repeated = Repeated(step, CPU, {}, count=20)
            for _ in range(20):
                repeated()
            assert float(total) == 20
            assert repeated.obstacle == (
                "the capture failed (RuntimeError: operation not permitted when stream is capturing)"
            )
        assert recorder.captures == 0
        assert [record.levelno for record in caplog.records] == [logging.WARNING]

    def test_an_error_of_the_step_itself_is_its_own(self, recorder: type[TapeRecorder]) -> None:
        del recorder
        runs: list[int] = []

        def step() -> None:
            runs.append(1)
            if len(runs) > _graphs._WARM_UP:  # in the capture, and when it is run after all
                raise KeyError("hem")

        repeated = Repeated(step, CPU, {}, count=20)
        for _ in range(_graphs._WARM_UP):
            repeated()
        with pytest.raises(KeyError, match="hem"):
            repeated()

    @pytest.mark.parametrize(
        ("device", "parts", "count", "wanted", "reason"),
        [
            ("cpu", {}, 100, True, "the tensors are on cpu, not on CUDA"),
            ("cuda", {}, 100, False, "graph=False was asked for"),
            ("cuda", {}, 15, True, "there are fewer than 16 steps"),
            ("cuda", {"a": Capturable(), "losses['b']": object()}, 100, True, "losses['b'] does not say that it"),
        ],
    )
    def test_what_forbids_it(
        self,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        device: str,
        parts: dict[str, object],
        count: int,
        wanted: bool,
        reason: str,
    ) -> None:
        monkeypatch.setattr(_graphs, "_told", set())
        with caplog.at_level(logging.INFO):
            made = [Repeated(list, torch.device(device), parts, count=count, wanted=wanted) for _ in range(3)]  # type: ignore[arg-type]
        assert all(str(repeated.obstacle).startswith(reason) for repeated in made)
        assert [record.levelno for record in caplog.records] == [logging.INFO]
        assert reason in caplog.text

    def test_so_do_anomaly_detection_and_transforms(self, recorder: type[TapeRecorder]) -> None:
        del recorder
        with pytest.warns(UserWarning, match="Anomaly Detection"), torch.autograd.detect_anomaly():
            assert "anomalies" in str(Repeated(list, CPU, {}, count=20).obstacle)  # type: ignore[arg-type]
        found = []

        def inside(x: Tensor) -> Tensor:
            found.append(Repeated(list, CPU, {}, count=20).obstacle)  # type: ignore[arg-type]
            return x

        torch.func.vmap(inside)(torch.zeros(2))
        assert found == ["a transform of torch.func is active"]


class TestRecorder:
    """The calls that reach CUDA, written down by stand-ins."""

    @pytest.fixture
    def calls(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        calls: list[str] = []

        class Stream:
            def __init__(self, name: object) -> None:
                self.name = "side" if isinstance(name, torch.device) else name

            def wait_stream(self, other: Stream) -> None:
                calls.append(f"{self.name} waits for {other.name}")

        class Graph:
            def replay(self) -> None:
                calls.append("replay")

        @contextmanager
        def stream(which: Stream) -> Iterator[None]:
            calls.append(f"enter {which.name}")
            try:
                yield
            finally:
                calls.append(f"leave {which.name}")

        @contextmanager
        def graph(graph: Graph, *, stream: Stream, capture_error_mode: str) -> Iterator[None]:
            calls.append(f"capture on {stream.name}, {capture_error_mode}")
            try:
                yield
            finally:
                calls.append("end")

        current = Stream("current")
        monkeypatch.setattr(torch.cuda, "Stream", Stream)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "stream", stream)
        monkeypatch.setattr(torch.cuda, "graph", graph)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current)
        return calls

    def test_a_step_runs_aside_between_what_comes_before_and_after(self, calls: list[str]) -> None:
        _graphs.Recorder(CPU).run(lambda: calls.append("step"))
        assert calls == ["side waits for current", "enter side", "step", "leave side", "current waits for side"]

    def test_a_capture_returns_its_replay(self, calls: list[str]) -> None:
        replay = _graphs.Recorder(CPU).capture(lambda: calls.append("step"))
        replay()
        assert calls == ["enter side", "capture on side, thread_local", "step", "end", "leave side", "replay"]

    def test_a_failed_capture_is_followed_by_one_that_ends_well(self, calls: list[str]) -> None:
        def step() -> None:
            raise RuntimeError("operation not permitted when stream is capturing")

        with pytest.raises(RuntimeError, match="not permitted"):
            _graphs.Recorder(CPU).capture(step)
        assert calls == ["enter side", "capture on side, thread_local", "end", "leave side"] * 2
        assert not _graphs._capturing.locked()


def plain_try_on(
    drawer: FakeGenerator, person: Latent, garment: Latent, steps: int, rate: float, bound: str
) -> tuple[Tensor, GeneratorOutput, Tensor]:
    """The loop of the optimizer as one would write it down, with torch's Adam: best q, its drawing, and the totals."""
    targets = make_targets(drawer, person, garment)
    judges = losses.defaults()
    with torch.no_grad():
        prepared = {name: loss.prepare(targets) for name, (_, loss) in judges.items()}
    q = torch.full((len(person), sum(drawer.style_channels)), 0.3)
    variable = (q.logit() if bound == "sigmoid" else q).requires_grad_()
    adam = torch.optim.Adam([variable], lr=rate, betas=(0.7, 0.99))
    totals: list[Tensor] = []
    best, kept = torch.full((len(person),), torch.inf), None
    for step in range(steps + 1):
        mixture = torch.sigmoid(variable) if bound == "sigmoid" else variable
        layers = torch.split(mixture, list(drawer.style_channels), dim=1)
        styles = blend_styles(person.styles, garment.styles, layers)
        drawing = drawer.synthesize(styles, person.pose, noise=person.noise)
        state = TryOnState(step, layers, styles, drawing)
        terms = [weight * loss.forward(state, prepared[name]) for name, (weight, loss) in judges.items()]
        total = torch.stack(terms).sum(dim=0)
        totals.append(total.detach())
        now = (mixture.detach().clone(), drawing.image.detach(), drawing.logits.detach())
        better = totals[-1] < best
        best = torch.where(better, totals[-1], best)
        rows = [better.view(-1, *[1] * (new.ndim - 1)) for new in now]
        kept = now if kept is None else tuple(map(torch.where, rows, now, kept))
        adam.zero_grad()
        total.sum().backward()
        adam.step()
        with torch.no_grad():
            variable.clamp_(*((-6, 6) if bound == "sigmoid" else (0, 1)))
    assert kept is not None
    return kept[0], GeneratorOutput(kept[1], kept[2]), torch.stack(totals)


def same(a: TryOnBatch, b: TryOnBatch) -> bool:
    pairs = [
        *zip(a.coefficients, b.coefficients, strict=True),
        (a.drawing.image, b.drawing.image),
        (a.drawing.logits, b.drawing.logits),
        (a.best_step, b.best_step),
        *((a.history[name].nan_to_num(-1), b.history[name].nan_to_num(-1)) for name in a.history),
    ]
    return a.status == b.status and all(torch.equal(x, y) for x, y in pairs)


@pytest.fixture(scope="module")
def model() -> PoseStyleGAN2:
    return tiny_generator(shares=True)


class TestTryOn:
    @pytest.mark.parametrize("bound", ["sigmoid", "clamp"])
    def test_is_the_plain_loop_bit_for_bit(self, bound: str) -> None:
        drawer = FakeGenerator()
        person, garment = fake_latent(drawer, 3, 1), fake_latent(drawer, 3, 2)
        # So fast that the last step is not the best.
        q, drawing, totals = plain_try_on(drawer, person, garment, 20, 2.0, bound)
        result = TryOnOptimizer(
            drawer, steps=20, learning_rate=2.0, initial=0.3, patience=0, bound=bound  # type: ignore[arg-type]
        ).optimize(person, garment)  # fmt: skip
        assert torch.equal(torch.cat(result.coefficients, dim=1), q)
        assert torch.equal(result.drawing.image, drawing.image)
        assert torch.equal(result.drawing.logits, drawing.logits)
        assert torch.equal(result.history["total"], totals)
        assert result.best_step.tolist() == totals.argmin(dim=0).tolist()

    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"bound": "clamp", "per": "layer"},
            {"batch_size": 2},
            {"autocast": torch.bfloat16},
            {"steps": 60, "patience": 4, "tolerance": 0.02},
        ],
        ids=str,
    )
    def test_replayed_steps_are_the_steps(
        self, model: PoseStyleGAN2, recorder: type[TapeRecorder], settings: dict[str, Any]
    ) -> None:
        person, garment = tiny_latent(model, 3, 1), tiny_latent(model, 3, 2)
        settings = {"steps": 18, "patience": 0} | settings
        expected, result = (
            TryOnOptimizer(model, graph=graph, **settings).optimize(person, garment, region=ALL)
            for graph in (False, True)
        )
        assert same(result, expected)
        chunks = 2 if "batch_size" in settings else 1
        assert recorder.captures == chunks
        if not settings["patience"]:
            assert recorder.replays == chunks * (18 - _graphs._WARM_UP)

    def test_the_callback_is_told_the_same_between_replays(
        self, model: PoseStyleGAN2, recorder: type[TapeRecorder]
    ) -> None:
        told: dict[bool, list[tuple[int, list[float], list[float]]]] = {False: [], True: []}
        for graph, heard in told.items():

            def tell(progress: Any, heard: list[Any] = heard) -> bool:
                heard.append((progress.step, progress.losses["total"].tolist(), progress.best.tolist()))
                return progress.step == 12

            optimizer = TryOnOptimizer(model, steps=30, graph=graph)
            result = optimizer.optimize(tiny_latent(model, 2, 1), tiny_latent(model, 2, 2), region=ALL, callback=tell)
            assert set(result.status) == {TryOnStatus.STOPPED}
        assert told[True] == told[False]
        assert len(told[True]) == 12
        assert recorder.replays == 12 - _graphs._WARM_UP

    @pytest.mark.parametrize(
        ("loss", "reason"),
        [
            (Plain(), "losses['mine'] does not say"),
            (lambda state: state.image.square().mean(dim=(1, 2, 3)), "losses['mine'] does not say"),
            (Look(), "the capture failed"),
        ],
        ids=["plain", "callable", "looks"],
    )
    def test_a_loss_that_cannot_be_captured_runs_as_it_is(
        self,
        model: PoseStyleGAN2,
        recorder: type[TapeRecorder],
        caplog: pytest.LogCaptureFixture,
        loss: TryOnLoss | Callable[[TryOnState], Tensor],
        reason: str,
    ) -> None:
        person, garment = tiny_latent(model, 2, 1), tiny_latent(model, 2, 2)
        mine = {**losses.defaults(), "mine": (1.0, loss)}
        with caplog.at_level(logging.INFO, "styletryon"):
            result, expected = (
                TryOnOptimizer(model, losses=mine, steps=18, graph=graph).optimize(person, garment, region=ALL)
                for graph in (True, False)
            )
        assert same(result, expected)
        assert recorder.replays == 0
        assert reason in caplog.messages[0]

    def test_a_drawer_that_does_not_say_so_runs_as_it_is(self, recorder: type[TapeRecorder]) -> None:
        drawer = FakeGenerator()
        TryOnOptimizer(drawer, steps=18).optimize(fake_latent(drawer, 2, 1), fake_latent(drawer, 2, 2))
        assert recorder.captures == 0

    def test_the_stand_in_would_notice_a_number_of_the_host(
        self, model: PoseStyleGAN2, recorder: type[TapeRecorder]
    ) -> None:
        class Counts(Plain):
            capturable = True

            def forward(self, state: TryOnState, prepared: None) -> Tensor:
                return super().forward(state, prepared) * (1 + state.step)

        totals = [
            TryOnOptimizer(model, losses={"x": (1.0, Counts())}, steps=18, patience=0, graph=graph)
            .optimize(tiny_latent(model, 1, 1), tiny_latent(model, 1, 2), region=ALL)
            .history["x"]
            for graph in (False, True)
        ]
        assert recorder.replays > 0
        assert torch.equal(totals[0][: _graphs._WARM_UP + 1], totals[1][: _graphs._WARM_UP + 1])
        assert not torch.equal(totals[0], totals[1])


class TestProjection:
    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"space": "z", "noise": False},
            {"space": "s", "prior_weight": 0.5},
            {"batch_size": 2, "autocast": torch.bfloat16},
        ],
        ids=str,
    )
    def test_replayed_steps_are_the_steps(self, recorder: type[TapeRecorder], settings: dict[str, Any]) -> None:
        model = tiny_generator()
        latent = tiny_latent(model, 3, 1)
        with torch.no_grad():
            drawing = model.draw(latent)
        expected, result = (
            LatentProjector(model, steps=18, graph=graph, **settings).project(
                drawing.image.clamp(-1, 1), latent.pose, labels=drawing.labels
            )
            for graph in (False, True)
        )
        found, wanted = ((*latent.styles, *(latent.noise or ())) for latent in (result, expected))
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
        assert {**result.report, "projection_seconds": 0} == {**expected.report, "projection_seconds": 0}
        assert recorder.captures == (2 if "batch_size" in settings else 1)
        assert recorder.replays == recorder.captures * (18 - _graphs._WARM_UP)

    def test_features_that_do_not_say_so_run_as_they_are(self, recorder: type[TapeRecorder]) -> None:
        model, features = tiny_generator(), PixelFeatures()
        latent = tiny_latent(model, 1)
        projector = LatentProjector(model, steps=18, features=lambda images: features(images))
        projector.project(torch.zeros(1, 3, 32, 24), latent.pose)
        assert recorder.captures == 0


@pytest.fixture
def on_gpu() -> Iterator[tuple[PoseStyleGAN2, Latent, Latent]]:
    model = tiny_generator((64, 48), shares=True).to("cuda")
    yield model, *(tiny_latent(tiny_generator((64, 48), shares=True), 3, seed).to("cuda") for seed in (1, 2))
    torch.rand(2, device="cuda")  # the random generators are as they were
    torch.cuda.synchronize()


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
class TestOnGpu:
    """Kernels that add in no fixed order part ways slowly: few steps, and a tolerance."""

    @pytest.mark.parametrize("settings", [{}, {"batch_size": 2}, {"bound": "clamp"}], ids=str)
    def test_a_replayed_try_on_is_the_try_on(
        self, on_gpu: tuple[PoseStyleGAN2, Latent, Latent], monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
    ) -> None:
        model, person, garment = on_gpu
        obstacles = watch(monkeypatch, "styletryon.tryon.optimizer")
        expected, result = (
            TryOnOptimizer(model, steps=18, patience=0, initial=0.3, graph=graph, **settings).optimize(
                person, garment, region=ALL
            )
            for graph in (False, True)
        )
        assert [repeated.obstacle for repeated in obstacles if repeated.obstacle != "graph=False was asked for"] == [
            None
        ] * (2 if "batch_size" in settings else 1)
        close(result.history["total"], expected.history["total"])
        close(result.drawing.image, expected.drawing.image)

    @pytest.mark.parametrize("settings", [{}, {"noise": False, "batch_size": 2}], ids=str)
    def test_a_replayed_projection_is_the_projection(
        self, on_gpu: tuple[PoseStyleGAN2, Latent, Latent], monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
    ) -> None:
        model, person, _ = on_gpu
        obstacles = watch(monkeypatch, "styletryon.projection.projector")
        with torch.no_grad():
            image = model.draw(person).image.clamp(-1, 1)
        expected, result = (
            LatentProjector(model, steps=18, graph=graph, **settings).project(image, person.pose)
            for graph in (False, True)
        )
        assert obstacles[-1].obstacle is None
        assert result.report["projection_loss"] == pytest.approx(expected.report["projection_loss"], rel=1e-3)

    @pytest.mark.parametrize("loss", [Plain(), Look()], ids=["plain", "looks"])
    def test_a_loss_that_cannot_be_captured_runs_as_it_is(
        self, on_gpu: tuple[PoseStyleGAN2, Latent, Latent], loss: TryOnLoss
    ) -> None:
        model, person, garment = on_gpu
        mine = {**losses.defaults(), "mine": (1.0, loss)}
        stream = torch.cuda.current_stream()
        expected, result = (
            TryOnOptimizer(model, losses=mine, steps=18, patience=0, graph=graph).optimize(person, garment, region=ALL)
            for graph in (False, True)
        )
        assert torch.cuda.current_stream() == stream
        close(result.history["total"], expected.history["total"])
        # A failed capture stands in the way of no later one.
        again = TryOnOptimizer(model, steps=18, patience=0).optimize(person, garment, region=ALL)
        assert bool(torch.isfinite(again.history["total"]).all())

    def test_works_on_a_stream_of_the_callers(self, on_gpu: tuple[PoseStyleGAN2, Latent, Latent]) -> None:
        model, person, garment = on_gpu
        optimizer = TryOnOptimizer(model, steps=18, patience=0, initial=0.3)
        expected = optimizer.optimize(person, garment, region=ALL)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = optimizer.optimize(person, garment, region=ALL)
        torch.cuda.current_stream().wait_stream(stream)
        close(result.history["total"], expected.history["total"])

    def test_how_much_sooner(self, on_gpu: tuple[PoseStyleGAN2, Latent, Latent]) -> None:
        model, person, garment = on_gpu
        seconds = {}
        for graph in (False, True, False, True):
            ticks: list[float] = []

            def tell(progress: Any, ticks: list[float] = ticks) -> None:
                if progress.step in (20, 120):
                    torch.cuda.synchronize()
                    ticks.append(time.perf_counter())

            TryOnOptimizer(model, steps=121, patience=0, graph=graph).optimize(
                replace(person[0], noise=None), garment[0], region=ALL, callback=tell
            )
            seconds[graph] = (ticks[1] - ticks[0]) / 100
        print(f"try-on step: {seconds[False] * 1e3:.2f} ms one by one, {seconds[True] * 1e3:.2f} ms replayed, "
              f"{seconds[False] / seconds[True]:.1f}x")  # fmt: skip
        assert seconds[True] < seconds[False]


def watch(monkeypatch: pytest.MonkeyPatch, module: str) -> list[Repeated]:
    """Collect what a module makes of its steps."""
    made: list[Repeated] = []

    def make(*arguments: Any, **keywords: Any) -> Repeated:
        made.append(Repeated(*arguments, **keywords))
        return made[-1]

    monkeypatch.setattr(f"{module}.Repeated", make)
    return made
