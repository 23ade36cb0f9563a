from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from styletryon import losses
from styletryon.errors import ConfigError, LossError, ShapeError
from styletryon.features import PixelFeatures, VGG16Features, perceptual_distance
from styletryon.generator import GeneratorOutput
from styletryon.labels import NUM_LABELS, Label, resolve_region
from styletryon.losses import TryOnLoss, TryOnState, TryOnTargets
from styletryon.losses.check import make_state
from styletryon.tryon import make_targets
from tests._support.fake_generator import FakeGenerator, fake_latent

ALL = [
    losses.EditingLocalizationLoss(),
    losses.EditingLocalizationLoss("signed"),
    losses.EditingLocalizationLoss("l1"),
    losses.GarmentLoss(),
    losses.GarmentLoss(target="own"),
    losses.GarmentLoss(target="both"),
    losses.IdentityLoss(),
    losses.IdentityLoss(fill=False, face=3.0),
]


def onehot(labels: Tensor) -> Tensor:
    return functional.one_hot(labels.long(), NUM_LABELS).permute(0, 3, 1, 2).float()


def paint(rows: list[str]) -> GeneratorOutput:
    """A drawing from letters: one character a pixel, its class by the first letter; colour differs per class."""
    names = {".": 0, "h": 1, "f": 2, "s": 3, "t": 4, "o": 5, "b": 6, "d": 7}
    labels = torch.tensor([[names[letter] for letter in row] for row in rows])[None]
    image = torch.stack([labels * 0.1 - 0.5, labels * -0.05, torch.zeros_like(labels) + 0.2], dim=1).float()
    return GeneratorOutput(image, 20 * onehot(labels))


def targets_of(person: GeneratorOutput, redrawn: GeneratorOutput, region: str = "top") -> TryOnTargets:
    return TryOnTargets(person, redrawn, redrawn, (), (), (), (), resolve_region(region))


@pytest.fixture(scope="module")
def targets() -> TryOnTargets:
    generator = FakeGenerator()
    return make_targets(generator, fake_latent(generator, 3, 1), fake_latent(generator, 3, 2))


class TestAttribution:
    def test_sums_to_one_over_the_classes(self, generator: torch.Generator) -> None:
        labels = torch.randint(0, NUM_LABELS, (2, 32, 24), generator=generator)
        activations = [
            torch.randn(2, 5, 4, 3, generator=generator),
            3 + 1e3 * torch.randn(2, 4, 32, 24, generator=generator),
            torch.randn(2, 3, 64, 48, generator=generator),
        ]
        for share in losses.channel_attribution(activations, onehot(labels)):
            torch.testing.assert_close(share.sum(dim=1), torch.ones(share.shape[0], share.shape[2]))
            assert float(share.min()) >= 0

    def test_equals_the_formula_written_out(self, generator: torch.Generator) -> None:
        labels = onehot(torch.randint(0, NUM_LABELS, (2, 8, 6), generator=generator))
        activation = torch.randn(2, 4, 8, 6, generator=generator)
        (share,) = losses.channel_attribution([activation], labels)
        for b in range(2):
            for c in range(4):
                a = activation[b, c].double()
                a = (a - a.mean()) / a.var(unbiased=False).sqrt()
                for k in range(NUM_LABELS):
                    assert float(share[b, k, c]) == pytest.approx(float((a**2 * labels[b, k]).mean()), abs=1e-5)

    @pytest.mark.parametrize("value", [0.0, 1.0, -1234.567])
    def test_a_constant_channel_is_spread_by_area(self, value: float) -> None:
        labels = torch.zeros(1, 8, 6)
        labels[:, :2] = 4
        (share,) = losses.channel_attribution([torch.full((1, 2, 4, 3), value)], onehot(labels))
        assert share[0, 4].tolist() == pytest.approx([0.25, 0.25])
        assert share[0, 0].tolist() == pytest.approx([0.75, 0.75])

    def test_a_channel_that_lives_in_the_region_belongs_to_it(self) -> None:
        labels = torch.zeros(1, 8, 6)
        labels[:, 6:] = 4
        activation = torch.zeros(1, 1, 8, 6)
        activation[:, :, 6:, ::2] = 5.0
        (share,) = losses.channel_attribution([activation], onehot(labels))
        assert float(share[0, 4, 0]) > 0.7

    def test_batches_must_fit(self) -> None:
        with pytest.raises(ShapeError, match=r"activations\[0\]"):
            losses.channel_attribution([torch.zeros(2, 1, 4, 3)], torch.zeros(1, 12, 4, 3))

    def test_carries_no_gradient(self) -> None:
        activation = torch.randn(1, 2, 4, 3, requires_grad=True)
        assert not losses.channel_attribution([activation], onehot(torch.zeros(1, 4, 3)))[0].requires_grad


class TestLocalization:
    def test_charges_by_hand(self) -> None:
        person = torch.zeros(1, NUM_LABELS, 2)
        garment = torch.zeros(1, NUM_LABELS, 2)
        person[0, [4, 5, 0], 0] = torch.tensor([0.3, 0.1, 0.6])
        garment[0, [4, 0, 3], 0] = torch.tensor([0.5, 0.2, 0.3])
        person[0, 4, 1] = garment[0, 2, 1] = 1.0
        region = resolve_region("top")
        charge = {mode: losses.channel_charges([person], [garment], region, mode)[0][0] for mode in
                  ("outside", "signed", "l1")}  # type: ignore[arg-type]  # fmt: skip
        assert charge["outside"].tolist() == pytest.approx([0.5, 0.0])
        assert charge["signed"].tolist() == pytest.approx([0.1, 0.0])
        assert charge["l1"].tolist() == [1, 1]

    def test_linear_in_the_coefficients_and_independent_of_their_number(self) -> None:
        charges = (torch.tensor([[0.2, 0.4]]), torch.tensor([[0.9]]))
        q = (torch.tensor([[0.5, 0.25]]), torch.tensor([[1.0]]))
        assert float(losses.localization_loss(q, charges)) == pytest.approx((0.1 + 0.1 + 0.9) / 3)
        twice = [tuple(torch.cat([t, t], dim=1) for t in group) for group in (q, charges)]
        assert float(losses.localization_loss(*twice)) == pytest.approx(float(losses.localization_loss(q, charges)))

    def test_gradient_is_the_charge_even_at_the_bounds(self, targets: TryOnTargets) -> None:
        loss = losses.EditingLocalizationLoss()
        charges = loss.prepare(targets)
        for bound in (0.0, 1.0):
            q = tuple(torch.full_like(charge, bound, requires_grad=True) for charge in charges)
            state = TryOnState(0, q, (), targets.person)
            gradients = torch.autograd.grad(loss.forward(state, charges).sum(), q)
            total = sum(charge.shape[1] for charge in charges)
            for gradient, charge in zip(gradients, charges, strict=True):
                torch.testing.assert_close(gradient, charge / total)

    def test_an_unknown_mode_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="mode: expected 'outside'"):
            losses.EditingLocalizationLoss("inside")  # type: ignore[arg-type]


class TestTargetPicture:
    #                 person     redrawn
    ROWS = (
        ("hhhhhh.", "hhhhhh."),  # the person's hair stays
        ("hssssf.", "tfssst."),  # hair is not covered by the garment
        ("tttttt.", "sttttb."),  # uncovered: skin at the left, bottom at the right
        ("ttttttt", "htttt.."),  # uncovered: another's hair and background, both left free
        ("bbbbbb.", "bbttbb."),  # covered by the longer garment
        ("bbbbbb.", "bbbbbb."),
    )

    def picture(self, **options: object) -> losses.TargetPicture:
        person, redrawn = (paint([row[side] for row in self.ROWS]) for side in (0, 1))
        return losses.target_picture(targets_of(person, redrawn), **options)  # type: ignore[arg-type]

    def test_labels(self) -> None:
        letters = {0: ".", 1: "h", 2: "f", 3: "s", 4: "t", 6: "b"}
        picture = self.picture()
        rows = ["".join(letters[int(k)] for k in row) for row in picture.labels[0]]
        known = ["".join("?" if k == 0 else c for k, c in zip(flags, row, strict=True))
                 for flags, row in zip(picture.known[0, 0], rows, strict=True)]  # fmt: skip
        # A face that the redrawn garment covers is the person's: it stays.
        assert known == ["hhhhhh.", "hssssf.", "sttttb.", "?tttt??", "bbttbb.", "bbbbbb."]

    def test_the_background_counts_less_and_the_unknown_not_at_all(self) -> None:
        picture = self.picture(background=0.25)
        weight = picture.weight[0, 0]
        assert float(weight[0, 6]) == 0.25
        assert weight[3].tolist() == [0, 1, 1, 1, 1, 0, 0]
        assert float(picture.garment.sum()) == 4 + 4 + 2

    def test_fills_are_the_persons_mean_colours(self) -> None:
        person, redrawn = (paint([row[side] for row in self.ROWS]) for side in (0, 1))
        person.image[0, :, 1, 1:3] = torch.tensor([[0.1, 0.3], [0.4, 0.4], [0.7, -0.7]])
        picture = losses.target_picture(targets_of(person, redrawn))
        torch.testing.assert_close(picture.image[0, :, 2, 0], person.image[0, :, 1, 1:5].mean(dim=1))
        torch.testing.assert_close(picture.image[0, :, 2, 5], person.image[0, :, 5, 0])

    def test_somebody_who_shows_no_skin_gets_that_of_the_face(self) -> None:
        person, redrawn = paint(["fffff.", "tttttt"]), paint(["fffff.", "sttttf"])
        picture = losses.target_picture(targets_of(person, redrawn))
        torch.testing.assert_close(picture.image[0, :, 1, 0], person.image[0, :, 0, 0])
        assert picture.labels[0, 1].tolist() == [3, 4, 4, 4, 4, 3]

    def test_what_the_person_does_not_have_is_left_free(self) -> None:
        person, redrawn = paint(["ff....", "tttttt"]), paint(["ff....", "sttttb"])
        assert losses.target_picture(targets_of(person, redrawn)).known[0, 0, 1].tolist() == [0, 1, 1, 1, 1, 0]

    def test_without_fill_everything_uncovered_is_free(self) -> None:
        assert self.picture(fill=False).known[0, 0, 2].tolist() == [0, 1, 1, 1, 1, 0, 1]

    def test_under_a_dress_top_and_bottom_come_off(self) -> None:
        person = paint(["fffff", "ttttt", "bbbbb", "sssss"])
        redrawn = paint(["fffff", "sddds", ".ddd.", "sssss"])
        picture = losses.target_picture(targets_of(person, redrawn, "dress"))
        assert picture.labels[0, 1].tolist() == [3, 7, 7, 7, 3]
        assert picture.known[0, 0, 2].tolist() == [0, 1, 1, 1, 0]


def test_garment_and_identity_add_up_to_one_objective(targets: TryOnTargets) -> None:
    state = make_like(targets)
    values = [loss.forward(state, loss.prepare(targets)) for loss in (losses.GarmentLoss(), losses.IdentityLoss())]
    picture = losses.target_picture(targets)
    expected = perceptual_distance(PixelFeatures(), state.image, picture.image, picture.weight)
    surprise = functional.cross_entropy(state.logits, picture.labels, reduction="none")
    known = picture.known.squeeze(1)
    expected = expected + 0.5 * (surprise * known).sum(dim=(1, 2)) / known.sum(dim=(1, 2))
    torch.testing.assert_close(values[0] + values[1], expected)
    assert all(bool((value > 0).all()) for value in values)


def make_like(targets: TryOnTargets) -> TryOnState:
    generator = FakeGenerator()
    person, garment = fake_latent(generator, 3, 1), fake_latent(generator, 3, 2)
    q = tuple(torch.full_like(style, 0.4, requires_grad=True) for style in person.styles)
    styles = tuple(torch.lerp(*layer) for layer in zip(person.styles, garment.styles, q, strict=True))
    assert len(targets) == 3
    return TryOnState(0, q, styles, generator.synthesize(styles, person.pose))


def test_own_target_does_not_depend_on_the_place_of_the_garment(targets: TryOnTargets) -> None:
    rolled = replace(
        targets,
        garment=GeneratorOutput(targets.garment.image.roll(3, 3), targets.garment.logits.roll(3, 3)),
        _features={},
    )
    loss = losses.GarmentLoss(PixelFeatures(levels=1, gradient=0), target="own")
    state = make_like(targets)
    ours, theirs = (loss.forward(state, loss.prepare(each)) for each in (targets, rolled))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_equal_networks_share_the_features_of_a_step(targets: TryOnTargets) -> None:
    calls = []

    class Counting:
        def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
            calls.append(len(images))
            return (images,)

    network = Counting()
    judges = [losses.GarmentLoss(network), losses.IdentityLoss(network)]
    state = make_like(targets)
    for judge in judges:
        judge.forward(state, judge.prepare(replace(targets, _features=targets._features)))
    assert len(calls) == 2  # once for the picture, once for the step


def test_features_of_another_picture_of_the_same_name_are_computed_anew(targets: TryOnTargets) -> None:
    network = PixelFeatures()
    first = targets.features(network, "mine", targets.person.image)
    assert targets.features(network, "mine", targets.person.image.clone())[0] is first[0]
    other = targets.features(network, "mine", targets.garment.image)
    assert torch.equal(other[0], network(targets.garment.image)[0])


def test_deep_features_can_be_used() -> None:
    network = VGG16Features(("relu1_2",), weights=None)
    assert losses.check_loss(losses.GarmentLoss(network, target="both"))
    assert losses.check_loss(losses.IdentityLoss(network))


def test_soft_masks_carry_a_gradient_and_hard_ones_do_not() -> None:
    drawing = paint(["ttb", "sss"])
    logits = drawing.logits.requires_grad_()
    drawing = GeneratorOutput(drawing.image, logits)
    assert losses.class_mask(drawing, {Label.TOP}, soft=True).requires_grad
    hard = losses.class_mask(drawing, {Label.TOP, Label.BOTTOM})
    assert not hard.requires_grad
    assert hard.flatten().tolist() == [1, 1, 1, 0, 0, 0]


def test_unknown_classes_of_a_small_generator_are_passed_over() -> None:
    drawing = GeneratorOutput(torch.zeros(1, 3, 2, 2), torch.zeros(1, 5, 2, 2))
    assert losses.class_mask(drawing, {Label.DRESS}).sum() == 0


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(ConfigError, match="target: expected 'redrawn'"):
        losses.GarmentLoss(target="mine")  # type: ignore[arg-type]


def test_defaults_are_the_three_losses() -> None:
    assert {name: type(loss).__name__ for name, (_, loss) in losses.defaults().items()} == {
        "localization": "EditingLocalizationLoss",
        "garment": "GarmentLoss",
        "identity": "IdentityLoss",
    }
    network = PixelFeatures(levels=2)
    assert losses.defaults(network)["identity"][1].features is network  # type: ignore[attr-defined]


class TestCheckLoss:
    @pytest.mark.parametrize("loss", ALL, ids=repr)
    @pytest.mark.usefixtures("global_randomness_stays")
    def test_our_own_keep_the_contract(self, loss: TryOnLoss) -> None:
        assert len(losses.check_loss(loss)) == 6

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_checks_where_gradients_are_off(self, mode) -> None:  # type: ignore[no-untyped-def]
        with mode():
            assert losses.check_loss(losses.IdentityLoss())

    def test_one_that_fails_when_called_again_is_named(self) -> None:
        calls: list[int] = []

        def once(state: TryOnState) -> Tensor:
            calls.append(state.step)
            if len(calls) > 1:
                raise KeyError("sleeve")
            return state.image.mean(dim=(1, 2, 3))

        with pytest.raises(LossError, match=r"once: .*a second time raised KeyError"):
            losses.check_loss(once)

    def test_a_plain_callable_will_do(self) -> None:
        assert losses.check_loss(lambda state: state.image.square().mean(dim=(1, 2, 3)))

    @pytest.mark.parametrize(
        ("function", "message"),
        [
            (lambda state: state.image.mean(), r"shape \(3,\), got \(\)"),
            (lambda state: state.image.mean(dim=(1, 2, 3)).long(), "one float per pair"),
            (lambda state: 1.0, "expected a tensor"),
            (lambda state: state.image.mean(dim=(1, 2, 3)) / 0, "finite"),
            (lambda state: state.image.detach().mean(dim=(1, 2, 3)), "no gradient"),
            (lambda state: torch.zeros(3), "no gradient"),
            (lambda state: state.image.round().mean(dim=(1, 2, 3)), "no gradient reaches"),
            (lambda state: (state.image - state.image).abs().sum(dim=(1, 2, 3)).sqrt(), "gradient is not finite"),
            (lambda state: (state.image - state.image.mean()).square().mean(dim=(1, 2, 3)), "in a batch and"),
            (lambda state: state.image.mean(dim=(1, 2, 3)) * torch.rand(()), "the same state gave"),
            (lambda state: state.picture, "raised AttributeError"),
        ],
    )
    def test_broken_ones_are_told_how(self, function: object, message: str) -> None:
        with pytest.raises(LossError, match=message):
            losses.check_loss(function)  # type: ignore[arg-type]

    def test_a_loss_that_paints_over_its_targets_is_told(self) -> None:
        class Vandal(TryOnLoss):
            def prepare(self, targets: TryOnTargets) -> None:
                targets.person.image.mul_(0.5)

            def forward(self, state: TryOnState, prepared: None) -> Tensor:
                return state.image.mean(dim=(1, 2, 3))

        with pytest.raises(LossError, match="changed the targets"):
            losses.check_loss(Vandal())

    def test_a_class_is_no_loss(self) -> None:
        with pytest.raises(LossError, match="pass an instance"):
            losses.check_loss(losses.IdentityLoss)  # type: ignore[arg-type]

    def test_one_pair_alone_is_drawn_as_in_the_batch(self) -> None:
        from styletryon.losses.check import _make_targets, _take

        made = _make_targets()
        whole, single = make_state(made, 0), make_state(_take(made, 1), 0, 1)
        torch.testing.assert_close(whole.image[1:2], single.image)


def test_who_may_be_captured() -> None:
    features = PixelFeatures()
    assert all(loss.capturable for _, loss in losses.defaults().values())
    # A feature network that does not say so may do anything.
    judged = losses.defaults(lambda images: features(images))
    assert [name for name, (_, loss) in judged.items() if loss.capturable] == ["localization"]

    def mine(state: TryOnState) -> Tensor:
        return state.image.mean(dim=(1, 2, 3))

    assert not losses.as_loss(mine).capturable
    mine.capturable = True  # type: ignore[attr-defined]
    assert losses.as_loss(mine).capturable
