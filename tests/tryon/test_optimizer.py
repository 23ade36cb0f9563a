from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from styletryon import losses
from styletryon.errors import ConfigError, LossError, RangeError, RegionError, ShapeError
from styletryon.generator import GeneratorOutput
from styletryon.latent import Latent, stack
from styletryon.losses import TryOnLoss, TryOnState
from styletryon.pose import Pose
from styletryon.tryon import (
    PRESETS,
    TryOnBatch,
    TryOnOptimizer,
    TryOnStatus,
    blend,
    blend_styles,
    find_preset,
    greedy_query,
    layer_split,
    make_targets,
    match_pairs,
    swap,
)
from tests._support.fake_generator import FakeGenerator, fake_latent
from tests._support.tiny import tiny_generator, tiny_latent


@pytest.fixture(scope="module")
def drawer() -> FakeGenerator:
    return FakeGenerator()


@pytest.fixture(scope="module")
def person(drawer: FakeGenerator) -> Latent:
    return fake_latent(drawer, 3, 1)


@pytest.fixture(scope="module")
def garment(drawer: FakeGenerator) -> Latent:
    return fake_latent(drawer, 3, 2)


@pytest.fixture(scope="module")
def batch(drawer: FakeGenerator, person: Latent, garment: Latent) -> TryOnBatch:
    return TryOnOptimizer(drawer, steps=20).optimize(person, garment)


class TestBlend:
    def test_zero_is_the_person_and_one_the_garment_bit_for_bit(self, drawer, person, garment) -> None:  # type: ignore[no-untyped-def]
        for q, styles in ((0.0, person.styles), (1.0, garment.styles)):
            drawing, expected = blend(drawer, person, garment, q), drawer.synthesize(styles, person.pose)
            assert torch.equal(drawing.image, expected.image)
            assert torch.equal(drawing.logits, expected.logits)

    def test_exact_at_the_ends_for_awkward_numbers(self) -> None:
        rng = torch.Generator().manual_seed(0)
        a = (torch.randn(4, 1000, generator=rng) * 10 ** torch.randint(-6, 6, (4, 1000), generator=rng),)
        b = (torch.randn(4, 1000, generator=rng) * 10 ** torch.randint(-6, 6, (4, 1000), generator=rng),)
        assert torch.equal(blend_styles(a, b, 0.0)[0], a[0])
        assert torch.equal(blend_styles(a, b, 1.0)[0], b[0])
        torch.testing.assert_close(blend_styles(a, b, 0.3)[0], 0.7 * a[0] + 0.3 * b[0], rtol=1e-4, atol=1e-2)

    @pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
    def test_gradient_is_the_difference_even_at_the_bounds(self, person, garment, value: float) -> None:  # type: ignore[no-untyped-def]
        q = [torch.full_like(style, value, requires_grad=True) for style in person.styles]
        mixed = blend_styles(person.styles, garment.styles, q)
        for gradient, a, b in zip(
            torch.autograd.grad(sum(layer.sum() for layer in mixed), q), person.styles, garment.styles, strict=True
        ):
            torch.testing.assert_close(gradient, b - a)

    def test_noise_is_the_persons(self, drawer, person, garment) -> None:  # type: ignore[no-untyped-def]
        noise = tuple(torch.randn(3, 1, *shape, generator=torch.Generator().manual_seed(4))
                      for shape in drawer.noise_shapes)  # fmt: skip
        noisy = Latent(person.styles, person.pose, noise)
        assert torch.equal(blend(drawer, noisy, garment, 0.0).image,
                           drawer.synthesize(person.styles, person.pose, noise=noise).image)  # fmt: skip

    def test_layers_must_match(self, person, garment) -> None:  # type: ignore[no-untyped-def]
        with pytest.raises(ShapeError, match="expected 4 layers"):
            blend_styles(person.styles, garment.styles, [torch.zeros(1)])


class TestBaselines:
    def test_swap_and_split(self, drawer: FakeGenerator) -> None:
        assert all(bool((layer == 1).all()) for layer in swap(drawer.style_channels))
        assert [float(layer.mean()) for layer in layer_split(drawer.style_channels, 2)] == [1, 1, 0, 0]
        with pytest.raises(RangeError, match="layer: expected 0 to 4"):
            layer_split(drawer.style_channels, 5)

    def test_greedy_query_by_hand(self) -> None:
        inside = (torch.tensor([[0.9, 0.2], [0.5, 0.5]]), torch.tensor([[0.8, 0.1], [0.5, 0.5]]))
        # The first pair's costs in order of rank: 0.1, 0.2, 0.8, 0.9, together 2.0.
        assert [layer[0].tolist() for layer in greedy_query(inside, 0.15)] == [[1, 0], [1, 0]]
        assert [layer[0].tolist() for layer in greedy_query(inside, 0.1)] == [[1, 0], [0, 0]]
        assert [layer[0].tolist() for layer in greedy_query(inside, 1.0, rho=0.15)] == [[1, 1], [1, 0]]
        assert [layer[1].tolist() for layer in greedy_query(inside, 0.5)] == [[1, 1], [0, 0]]
        with pytest.raises(RangeError, match="budget"):
            greedy_query(inside, 1.5)


class TestTargets:
    def test_what_is_drawn(self, drawer, person, garment) -> None:  # type: ignore[no-untyped-def]
        targets = make_targets(drawer, person, garment)
        assert torch.equal(targets.person.image, blend(drawer, person, garment, 0.0).image)
        assert torch.equal(targets.redrawn.image, blend(drawer, person, garment, 1.0).image)
        assert torch.equal(targets.garment.image, drawer.synthesize(garment.styles, garment.pose).image)
        assert targets.person.activations is None
        for attribution in (targets.person_attribution, targets.garment_attribution):
            for share, count in zip(attribution, drawer.style_channels, strict=True):
                assert share.shape == (3, 12, count)
                torch.testing.assert_close(share.sum(dim=1), torch.ones(3, count))
        assert not targets.person.image.requires_grad
        assert targets.size == (32, 24)
        assert float((targets.redrawn_mask - (targets.redrawn_probability > 0.5).float()).abs().mean()) < 0.05

    def test_a_region_that_the_garment_does_not_show_is_an_error(self, drawer, person, garment) -> None:  # type: ignore[no-untyped-def]
        with pytest.raises(RegionError, match=r"of pair 0, 1, 2 shows no dress; it shows .*top.*choose a region"):
            make_targets(drawer, person, garment, "dress")
        with pytest.raises(RegionError, match="the garment picture shows no shoes"):
            make_targets(drawer, person[:1], garment[:1], {"shoes"})
        with pytest.raises(RegionError, match="expected one of"):
            TryOnOptimizer(drawer).optimize(person, garment, region="hat")

    def test_one_is_paired_with_each(self, drawer, person, garment) -> None:  # type: ignore[no-untyped-def]
        one, many = match_pairs(drawer, person[0], garment)
        assert (len(one), len(many)) == (3, 3)
        assert torch.equal(one.styles[0][2], person.styles[0][0])
        assert len(match_pairs(drawer, person, garment[1])[1]) == 3

    def test_a_latent_on_another_device_is_refused(self, person, garment) -> None:  # type: ignore[no-untyped-def]
        elsewhere = FakeGenerator().to("meta")
        with pytest.raises(ConfigError, match=r"person: expected a latent on meta.*got one on cpu; pass person\.to"):
            TryOnOptimizer(elsewhere).optimize(person, garment)

    def test_misfits_are_refused(self, drawer, person, garment) -> None:  # type: ignore[no-untyped-def]
        with pytest.raises(ShapeError, match="equal batches, or one of 1, got 2 and 3"):
            match_pairs(drawer, person[:2], garment)
        with pytest.raises(ConfigError, match="garment: expected a latent of this generator"):
            match_pairs(drawer, person, Latent(garment.styles, garment.pose, model="another"))
        with pytest.raises(ShapeError, match="person: expected style codes of"):
            match_pairs(drawer, Latent(person.styles[:2], person.pose), garment)
        square = replace(garment, pose=Pose(garment.pose.keypoints, (32, 32)))
        with pytest.raises(ShapeError, match=r"garment.pose: expected keypoints in a picture of 32x24 .* got 32x32"):
            match_pairs(drawer, person, square)
        with pytest.raises(ShapeError, match="empty batch"):
            match_pairs(drawer, person[:0], garment)


class TestOptimizer:
    def test_the_result_fits_together(self, drawer, person, garment, batch: TryOnBatch) -> None:  # type: ignore[no-untyped-def]
        again = blend(drawer, person, garment, batch.coefficients)
        torch.testing.assert_close(again.image, batch.drawing.image, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(again.logits, batch.drawing.logits, rtol=1e-4, atol=1e-4)
        for q, count in zip(batch.coefficients, drawer.style_channels, strict=True):
            assert q.shape == (3, count)
            assert float(q.min()) >= 0
            assert float(q.max()) <= 1
        total = sum(batch.weights[name] * batch.history[name] for name in batch.weights)
        torch.testing.assert_close(total, batch.history["total"])
        assert not batch.drawing.image.requires_grad
        assert torch.equal(batch.latent.styles[0], batch.styles[0])

    @pytest.mark.parametrize("per", ["channel", "layer"])
    @pytest.mark.parametrize("bound", ["sigmoid", "clamp"])
    @pytest.mark.parametrize("initial", [0.0, 1.0, "greedy", "attribution", "random"])
    def test_gets_better_from_anywhere(self, drawer, person, garment, per, bound, initial) -> None:  # type: ignore[no-untyped-def]
        result = TryOnOptimizer(drawer, per=per, bound=bound, initial=initial, steps=8, patience=0).optimize(
            person, garment
        )
        total = result.history["total"]
        assert total.shape == (9, 3)
        assert float((total.min(dim=0).values - total[0]).sum()) < -0.01
        for q in result.coefficients:
            assert float(q.min()) >= 0
            assert float(q.max()) <= 1
            if per == "layer":
                assert torch.equal(q, q[:, :1].expand_as(q))

    def test_a_coefficient_at_a_bound_still_moves(self, drawer, person, garment) -> None:  # type: ignore[no-untyped-def]
        pull = {"up": (1.0, lambda state: -sum(q.mean(dim=1) for q in state.coefficients))}
        for bound in ("clamp", "sigmoid"):
            optimizer = TryOnOptimizer(drawer, losses=pull, initial=0.0, bound=bound, steps=30, learning_rate=0.4)  # type: ignore[arg-type]
            result = optimizer.optimize(person, garment)
            assert min(float(q.min()) for q in result.coefficients) > 0.95

    def test_the_best_step_is_kept_without_drawing_it_again(self, drawer, person, garment) -> None:  # type: ignore[no-untyped-def]
        class Counting(FakeGenerator):
            drawn = 0

            def synthesize(self, *arguments, **keywords) -> GeneratorOutput:  # type: ignore[no-untyped-def]
                type(self).drawn += 1
                return super().synthesize(*arguments, **keywords)

        counting = Counting()
        # So fast that it oscillates: the last step is not the best.
        result = TryOnOptimizer(counting, steps=12, learning_rate=6.0, patience=0).optimize(person, garment)
        assert Counting.drawn == 3 + 13
        best, where = result.history["total"].min(dim=0)
        assert result.best_step.tolist() == where.tolist()
        assert min(result.best_step.tolist()) < 12
        again = blend(drawer, person, garment, result.coefficients)
        torch.testing.assert_close(again.image, result.drawing.image, rtol=1e-4, atol=1e-5)
        assert bool((best <= result.history["total"][-1]).all())

    def test_the_pose_is_encoded_once_however_many_steps_there_are(self, monkeypatch: pytest.MonkeyPatch) -> None:
        generator, encoded = tiny_generator(), []
        encode = type(generator).encode_pose
        counted = lambda self, pose: encoded.append(pose) or encode(self, pose)  # noqa: E731
        monkeypatch.setattr(type(generator), "encode_pose", counted)
        person, garment = tiny_latent(generator, 2, 1), tiny_latent(generator, 2, 2)
        TryOnOptimizer(generator, steps=5).optimize(person, garment, region=range(1, 12))
        assert len(encoded) == 3 + 1  # the targets, and all steps

    @pytest.mark.usefixtures("global_randomness_stays")
    def test_repeats_bit_for_bit(self, drawer, person, garment, batch: TryOnBatch) -> None:  # type: ignore[no-untyped-def]
        again = TryOnOptimizer(drawer, steps=20).optimize(person, garment)
        assert torch.equal(again.drawing.image, batch.drawing.image)
        assert all(torch.equal(a, b) for a, b in zip(again.coefficients, batch.coefficients, strict=True))

    def test_a_pair_does_not_depend_on_its_batch_or_chunk(self, drawer, person, garment) -> None:  # type: ignore[no-untyped-def]
        def run(size: int, part: slice) -> TryOnBatch:
            optimizer = TryOnOptimizer(drawer, steps=6, batch_size=size, initial="random")
            return optimizer.optimize(person[part], garment[part])

        whole, chunked = run(3, slice(0, 3)), run(2, slice(0, 3))
        for index in range(3):
            alone = run(3, slice(index, index + 1))
            torch.testing.assert_close(alone.drawing.image[0], whole.drawing.image[index], rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(chunked.drawing.image[index], whole.drawing.image[index], rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(chunked.history["total"][:, index], whole.history["total"][:, index])
        assert len(chunked.targets) == 3

    def test_inputs_and_generator_are_left_as_they_were(self, drawer, person, garment) -> None:  # type: ignore[no-untyped-def]
        before = [style.clone() for style in person.styles]
        flags = [parameter.requires_grad for parameter in drawer.parameters()]
        TryOnOptimizer(drawer, steps=2).optimize(person, garment)
        assert all(torch.equal(a, b) for a, b in zip(before, person.styles, strict=True))
        assert [parameter.requires_grad for parameter in drawer.parameters()] == flags
        assert all(parameter.grad is None for parameter in drawer.parameters())

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_works_where_gradients_are_off(self, drawer, person, garment, mode) -> None:  # type: ignore[no-untyped-def]
        expected = TryOnOptimizer(drawer, steps=3).optimize(person, garment)
        with mode():
            wearer = fake_latent(drawer, 3, 2)  # of inference mode, as `generate` makes them there
            result = TryOnOptimizer(drawer, steps=3).optimize(person, garment)
            TryOnOptimizer(drawer, steps=1, autocast=torch.bfloat16).optimize(person, wearer, region=range(1, 12))
        assert float(result.history["total"][-1].sum()) < float(result.history["total"][0].sum())
        assert torch.equal(result.drawing.image, expected.drawing.image)
        assert not result.drawing.image.is_inference()

    def test_styles_with_a_gradient_leave_none_on_the_result(self, drawer, person, garment) -> None:  # type: ignore[no-untyped-def]
        grown = replace(person, styles=tuple(style.clone().requires_grad_() for style in person.styles))
        result = TryOnOptimizer(drawer, steps=1).optimize(grown, garment)
        assert not any(style.requires_grad for style in (*result.styles, *result.coefficients))
        assert not result.drawing.image.requires_grad

    def test_no_steps_only_evaluate_the_start(self, drawer, person, garment) -> None:  # type: ignore[no-untyped-def]
        result = TryOnOptimizer(drawer, steps=0, initial=0.0, bound="clamp").optimize(person, garment)
        assert result.history["total"].shape == (1, 3)
        assert torch.equal(result.drawing.image, blend(drawer, person, garment, 0.0).image)

    def test_half_precision_on_request(self, drawer, person, garment) -> None:  # type: ignore[no-untyped-def]
        result = TryOnOptimizer(drawer, steps=2, autocast=torch.bfloat16).optimize(person, garment)
        assert result.drawing.image.dtype == torch.float32


class TestEnding:
    def test_converged(self, drawer, person, garment) -> None:  # type: ignore[no-untyped-def]
        flat = {"flat": (1.0, lambda state: 0 * state.coefficients[0].sum(dim=1) + 1)}
        result = TryOnOptimizer(drawer, losses=flat, steps=200, patience=3).optimize(person, garment)
        assert set(result.status) == {TryOnStatus.CONVERGED}
        assert len(result.history["total"]) < 12
        assert result.best_step.tolist() == [0, 0, 0]

    def test_the_history_of_a_pair_ends_with_it(self, drawer, person, garment) -> None:  # type: ignore[no-untyped-def]
        told = []

        def flat_for_the_second(state: TryOnState) -> Tensor:
            return (1 - sum(q.mean(dim=1) for q in state.coefficients)) * torch.tensor([1.0, 0.0, 1.0])

        mine = {"x": (2.0, flat_for_the_second)}
        optimizer = TryOnOptimizer(drawer, losses=mine, steps=10, patience=3, learning_rate=0.05)
        result = optimizer.optimize(person, garment, callback=lambda progress: told.append(progress.losses["x"][1]))
        assert [status is TryOnStatus.CONVERGED for status in result.status] == [False, True, False]
        for values in result.history.values():
            assert values.shape == (11, 3)
            assert torch.isfinite(values[:, 1]).tolist() == [True] * 4 + [False] * 7
            assert bool(torch.isfinite(values[:, [0, 2]]).all())
        assert [bool(value.isnan()) for value in told] == [False] * 4 + [True] * 7

    def test_step_limit(self, batch: TryOnBatch) -> None:
        assert set(batch.status) == {TryOnStatus.STEP_LIMIT}

    def test_time_limit(self, drawer, person, garment) -> None:  # type: ignore[no-untyped-def]
        def slow(state: TryOnState) -> Tensor:
            time.sleep(0.02)
            return state.image.square().mean(dim=(1, 2, 3))

        result = TryOnOptimizer(drawer, losses={"slow": (1.0, slow)}, steps=5000, patience=0, time_limit=0.15).optimize(
            person, garment
        )
        assert set(result.status) == {TryOnStatus.TIME_LIMIT}
        assert 0 < result.seconds < 5

    def test_stopped_by_the_callback_in_every_chunk(self, drawer, person, garment) -> None:  # type: ignore[no-untyped-def]
        told = []

        def callback(progress):  # type: ignore[no-untyped-def]
            told.append((progress.first, progress.count, progress.step))
            return progress.step == 3

        result = TryOnOptimizer(drawer, steps=9, batch_size=2).optimize(person, garment, callback=callback)
        assert set(result.status) == {TryOnStatus.STOPPED}
        assert told == [(0, 2, 1), (0, 2, 2), (0, 2, 3)]  # nobody is asked about pairs that never started
        assert result.history["total"].shape == (3, 3)
        assert torch.isnan(result.history["total"][1:, 2]).all()

    def test_progress_names_every_loss(self, drawer, person, garment) -> None:  # type: ignore[no-untyped-def]
        seen = []
        TryOnOptimizer(drawer, steps=1).optimize(person, garment, callback=lambda p: seen.append(p))
        assert set(seen[0].losses) == {"localization", "garment", "identity", "total"}
        assert seen[0].best.shape == (3,)
        assert seen[0].steps == 2

    def test_a_pair_that_ceases_to_be_finite_ends_alone(self, drawer, person, garment) -> None:  # type: ignore[no-untyped-def]
        def poison(state: TryOnState) -> Tensor:
            values = state.image.square().mean(dim=(1, 2, 3))
            return values * torch.tensor([1.0, float("nan") if state.step == 4 else 1.0, 1.0])

        clean, result = (
            TryOnOptimizer(drawer, losses={"x": (1.0, loss)}, steps=10, patience=0).optimize(person, garment)
            for loss in (lambda state: state.image.square().mean(dim=(1, 2, 3)), poison)
        )
        assert [status is TryOnStatus.NON_FINITE for status in result.status] == [False, True, False]
        assert int(result.best_step[1]) <= 3
        assert bool(torch.isfinite(result.drawing.image).all())
        for index in (0, 2):
            assert torch.equal(result.drawing.image[index], clean.drawing.image[index])


class TestCustomLosses:
    def test_a_loss_of_ones_own_pulls(self, drawer, person, garment) -> None:  # type: ignore[no-untyped-def]
        class Darker(TryOnLoss):
            prepared = 0

            def prepare(self, targets: losses.TryOnTargets) -> Tensor:
                type(self).prepared += 1
                assert not torch.is_grad_enabled()
                return targets.person.image.mean(dim=(1, 2, 3)) - 1

            def forward(self, state: TryOnState, prepared: Tensor) -> Tensor:
                return (state.image.mean(dim=(1, 2, 3)) - prepared).square()

        plain = TryOnOptimizer(drawer, steps=10).optimize(person, garment)
        with_it = TryOnOptimizer(drawer, losses={**losses.defaults(), "dark": (50.0, Darker())}, steps=10).optimize(
            person, garment
        )
        assert Darker.prepared == 1
        assert float(with_it.drawing.image.mean()) < float(plain.drawing.image.mean())
        assert with_it.history["dark"].shape == (11, 3)

    @pytest.mark.parametrize(
        ("function", "message"),
        [
            (lambda state: state.image.mean(), r"losses\['mine'\]: expected one float per pair, shape \(3,\)"),
            (lambda state: state.image.mean(dim=(1, 2, 3)) / 0, r"losses\['mine'\]: expected finite"),
            (lambda state: state.image.detach().mean(dim=(1, 2, 3)), r"losses\['mine'\]: it has no gradient"),
            (lambda state: state.pixels, r"losses\['mine'\]: forward raised AttributeError"),
            (lambda state: "one", r"losses\['mine'\]: expected a tensor"),
        ],
    )
    def test_a_broken_one_is_named(self, drawer, person, garment, function, message: str) -> None:  # type: ignore[no-untyped-def]
        with pytest.raises(LossError, match=message):
            TryOnOptimizer(drawer, losses={"mine": (1.0, function)}).optimize(person, garment)

    def test_a_loss_that_changes_its_shape_is_named(self, drawer, person, garment) -> None:  # type: ignore[no-untyped-def]
        def moody(state: TryOnState) -> Tensor:
            values = state.image.mean(dim=(1, 2, 3))
            return values if state.step < 2 else values.mean()

        with pytest.raises(LossError, match=r"losses\['mine'\]: expected shape \(3,\) at step 2"):
            TryOnOptimizer(drawer, losses={"mine": (1.0, moody)}).optimize(person, garment)

    def test_a_broken_preparation_is_named(self, drawer, person, garment) -> None:  # type: ignore[no-untyped-def]
        class Broken(TryOnLoss):
            def prepare(self, targets: losses.TryOnTargets) -> None:
                raise KeyError("hem")

            def forward(self, state: TryOnState, prepared: None) -> Tensor:
                return state.image.mean(dim=(1, 2, 3))

        with pytest.raises(LossError, match=r"losses\['mine'\]: prepare raised KeyError"):
            TryOnOptimizer(drawer, losses={"mine": (1.0, Broken())}).optimize(person, garment)

    @pytest.mark.parametrize(
        ("given", "error", "message"),
        [
            ({}, ConfigError, "at least one"),
            ({"total": (1.0, losses.IdentityLoss())}, ConfigError, "'total' is taken"),
            ({"x": losses.IdentityLoss()}, LossError, r"expected \(weight, loss\)"),
            ({"x": (float("nan"), losses.IdentityLoss())}, RangeError, "finite weight"),
            ({"x": (1.0, losses.IdentityLoss)}, LossError, "pass an instance"),
        ],
    )
    def test_a_bad_mapping_is_refused(self, drawer, given, error, message: str) -> None:  # type: ignore[no-untyped-def]
        with pytest.raises(error, match=message):
            TryOnOptimizer(drawer, losses=given)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"per": "pixel"}, "per: expected 'channel' or 'layer'"),
        ({"bound": "none"}, "bound: expected 'sigmoid' or 'clamp'"),
        ({"initial": "here"}, "initial: expected a number"),
        ({"initial": 1.5}, r"initial: expected a finite number in \[0, 1\]"),
        ({"steps": -1}, "steps: expected a whole number of at least 0, got -1"),
        ({"learning_rate": 0.0}, "learning_rate: expected a finite number above 0"),
        ({"time_limit": 0.0}, "time_limit: expected a finite number above 0"),
        ({"preset": "slow"}, "preset: expected one of 'fast', 'balanced', 'quality'"),
    ],
)
def test_settings_are_checked(drawer: FakeGenerator, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TryOnOptimizer(drawer, **settings)  # type: ignore[arg-type]


def test_presets_differ_in_steps_and_can_be_overridden(drawer: FakeGenerator) -> None:
    steps = [find_preset(name).steps for name in ("fast", "balanced", "quality")]
    assert steps == sorted(steps)
    assert len(PRESETS) == 3
    optimizer = TryOnOptimizer(drawer, preset="fast", steps=3)
    assert (optimizer.steps, optimizer.initial) == (3, PRESETS["fast"].initial)


def test_a_try_on_can_be_dressed_again(drawer, person, garment, batch: TryOnBatch) -> None:  # type: ignore[no-untyped-def]
    again = TryOnOptimizer(drawer, steps=1).optimize(batch.latent, garment, region="bottom")
    assert len(again) == 3
    assert len(stack([batch.latent, person])) == 6


class TestLearntShares:
    @pytest.fixture
    def generator(self):  # type: ignore[no-untyped-def]
        return tiny_generator(shares=True)

    def test_the_garment_is_redrawn_on_the_person(self, generator) -> None:  # type: ignore[no-untyped-def]
        person, garment = tiny_latent(generator, 2, 1), tiny_latent(generator, 2, 2)
        region = frozenset(range(1, 12))
        targets = make_targets(generator, person, garment, region)
        shares = generator.channel_masks(region)
        assert targets.channel_masks is not None
        assert all(torch.equal(*pair) for pair in zip(targets.channel_masks, shares, strict=True))
        expected = blend(generator, person, garment, [share[None] for share in shares])
        assert torch.equal(targets.redrawn.image, expected.image)

    def test_codes_are_drawn_to_their_anchor_before_they_exchange_clothes(self, generator) -> None:  # type: ignore[no-untyped-def]
        person, garment, other = (tiny_latent(generator, 2, seed) for seed in (1, 2, 3))
        anchored = replace(person, anchor=other.styles)
        drawn_back = replace(person, styles=replace(person, anchor=other.styles).editable_styles)
        region = frozenset(range(1, 12))
        found = make_targets(generator, anchored, garment, region)
        expected = make_targets(generator, drawn_back, garment, region)
        torch.testing.assert_close(found.redrawn.image, expected.redrawn.image)
        plain = make_targets(generator, person, garment, region)
        assert torch.equal(found.person.image, plain.person.image)  # the person stays who was projected
        assert not torch.allclose(found.redrawn.image, plain.redrawn.image)

    def test_coefficients_start_at_the_shares(self, generator) -> None:  # type: ignore[no-untyped-def]
        person, garment = tiny_latent(generator, 1, 1), tiny_latent(generator, 1, 2)
        region = frozenset(range(1, 12))
        found = TryOnOptimizer(generator, steps=0).optimize(person, garment, region=region)
        for q, share in zip(found.coefficients, generator.channel_masks(region), strict=True):
            torch.testing.assert_close(q, share[None].clamp(0.02, 0.98), atol=1e-5, rtol=0)

    def test_shares_that_nobody_learnt_cannot_be_the_start(self, drawer, person, garment) -> None:  # type: ignore[no-untyped-def]
        with pytest.raises(ConfigError, match="channel_masks"):
            TryOnOptimizer(drawer, initial="channel_masks").optimize(person, garment)
