import pytest
import torch

from pipeline_lib.config import Fusion as Block
from pipeline_lib.errors import UserError
from pipeline_lib.models import Fusion
from pipeline_lib.training.initialisation import joint_moments

LATENTS = {"radar": 2, "optical": 9, "thermal": 3}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Fusion(LATENTS, Block()).eval()


def inputs(batch=6):
    torch.manual_seed(1)
    latents = {name: torch.randn(batch, size) for name, size in LATENTS.items()}
    days = {name: torch.randint(-9, 10, (batch,)).float() for name in LATENTS}
    present = {name: torch.rand(batch) < 0.5 for name in LATENTS}
    present["optical"] = torch.ones(batch, dtype=torch.bool)
    return latents, days, present


def test_absent_sensors_and_batch_mates_change_nothing(model):
    latents, days, present = inputs()
    with torch.no_grad():
        reference = model.fuse(latents, days, present)
        gone = {
            name: torch.where(present[name][:, None], value, torch.nan)
            for name, value in latents.items()
        }
        late = {name: torch.where(present[name], value, torch.nan) for name, value in days.items()}
        torch.testing.assert_close(model.fuse(gone, late, present), reference, rtol=0, atol=1e-6)
        for row in range(6):
            one = [{k: v[row, None] for k, v in part.items()} for part in (latents, days, present)]
            torch.testing.assert_close(model.fuse(*one)[0], reference[row], rtol=0, atol=1e-5)


def test_order_of_the_sensors_in_the_config_is_of_no_matter(model):
    torch.manual_seed(0)
    other = Fusion(dict(reversed(LATENTS.items())), Block()).eval()
    with torch.no_grad():
        torch.testing.assert_close(other.fuse(*inputs()), model.fuse(*inputs()))


def test_more_sensors_than_have_patterns_are_rejected():
    with pytest.raises(UserError, match="11 to be fused, at most 10"):
        Fusion({str(number): 1 for number in range(11)}, Block())


def samples(latents=LATENTS, count=300):
    """Correlated latents with means of their own; the reference is always present."""
    torch.manual_seed(3)
    common = torch.randn(count, 4)
    values = {
        name: 2 + number + common @ torch.randn(4, size) + 0.1 * torch.randn(count, size)
        for number, (name, size) in enumerate(latents.items())
    }
    present = {name: torch.rand(count) < 0.7 for name in latents}
    present["optical"] = torch.ones(count, dtype=torch.bool)
    return values, present


def stacked(values, present):
    """All latents side by side, and which of them are shown."""
    names = sorted(values)
    shown = [present[name][:, None].expand_as(values[name]) for name in names]
    return torch.cat([values[name] for name in names], dim=1), torch.cat(shown, dim=1)


def initialised(latents=LATENTS, features=7, count=300):
    """A fusion by the moments of complete samples, without weights; and the samples."""
    values, present = samples(latents, count)
    whole, _ = stacked(values, present)
    whole = whole.double()
    model = Fusion(latents, Block(embedding_dim=features)).eval()
    model.initialise(
        whole.mean(dim=0), torch.cov(whole.T, correction=0), torch.eye(whole.shape[1]).double()
    )
    return model, values


def fused(model, values, *names):
    """Embeddings where only these sensors are present."""
    count = len(values["optical"])
    days = {name: torch.zeros(count) for name in values}
    present = {name: torch.full((count,), name in names) for name in values}
    with torch.no_grad():
        return model.fuse(values, days, present)


SETS = (("optical",), ("optical", "radar"), ("optical", "radar", "thermal"))


@pytest.mark.parametrize("names", SETS)
def test_so_many_dimensions_keep_what_principal_components_would(names):
    """Enough dimensions give all latents back; fewer what principal components would."""
    latents = {name: LATENTS[name] for name in names}
    total = sum(latents.values())
    for features in (total, 2):
        model, values = initialised(latents, features)
        embedding = fused(model, values, *names)
        torch.testing.assert_close(embedding.mean(dim=0), torch.zeros(features), atol=1e-4, rtol=0)
        unit = torch.eye(features)
        torch.testing.assert_close(torch.cov(embedding.T, correction=0), unit, atol=1e-3, rtol=0)
        back = model.split(embedding)
        found = torch.cat([back[name] for name in sorted(names)], dim=1)
        whole = torch.cat([values[name] for name in sorted(names)], dim=1)
        centred = whole - whole.mean(dim=0)
        axes = torch.linalg.svd(centred, full_matrices=False)[2][:features]
        expected = centred @ axes.T @ axes + whole.mean(dim=0)
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_dimensions_beyond_those_of_the_latents_are_zero():
    model, values = initialised({"optical": 9}, 12)
    assert torch.equal(fused(model, values, "optical")[:, 9:], torch.zeros(300, 3))


@pytest.mark.parametrize("names", [("optical",), ("optical", "thermal"), ("radar", "thermal")])
def test_without_a_sensor_the_embedding_is_the_one_that_a_regression_expects(names):
    """Least squares of the whole embedding on the present latents: an independent formula."""
    model, values = initialised()
    whole = fused(model, values, *LATENTS).double()
    known = torch.cat([values[name] for name in names], dim=1).double()
    design = torch.cat([known, torch.ones(300, 1)], dim=1)
    expected = design @ torch.linalg.lstsq(design, whole).solution
    found = fused(model, values, *names).double()
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)
    alike = torch.corrcoef(torch.stack([found[:, 0], whole[:, 0]]))[0, 1]
    assert alike > 0.9, "what the absent sensor shares with the others is not lost"


def test_moments_of_complete_samples_are_theirs():
    values, _ = samples(count=5000)
    whole, shown = stacked(values, {name: torch.ones(5000, dtype=torch.bool) for name in values})
    mean, covariance = joint_moments(whole, shown)
    torch.testing.assert_close(mean, whole.double().mean(dim=0), atol=1e-6, rtol=1e-6)
    expected = torch.cov(whole.double().T, correction=0)
    torch.testing.assert_close(covariance, expected, atol=0, rtol=0.01)


def test_moments_of_a_sensor_that_some_samples_have_are_those_on_all_samples():
    """By regression on the sensor that all have (Anderson 1957), where two sensors are enough."""
    torch.manual_seed(0)
    optical = torch.randn(20000, 2).double()
    radar = optical @ torch.tensor([[1.0], [2.0]]).double() + torch.randn(20000, 1)
    # The radar's samples are no random choice: mean and variance of what is there mislead.
    shown = (optical[:, :1] > 0.5).expand(-1, 3).clone()
    shown[:, :2] = True
    whole = torch.cat([optical, radar], dim=1)
    gaps = torch.where(shown, whole, torch.nan)
    mean, covariance = joint_moments(gaps, shown)
    here = shown[:, 2]
    design = torch.cat([optical, torch.ones(20000, 1)], dim=1)
    slopes = torch.linalg.lstsq(design[here], radar[here]).solution
    errors = (radar - design @ slopes)[here]
    level = (design @ slopes).mean()
    spread = (design @ slopes).var(correction=0) + errors.square().mean()
    assert float(mean[2]) == pytest.approx(float(level), abs=0.01)
    assert float(covariance[2, 2]) == pytest.approx(float(spread), rel=0.01)
    torch.testing.assert_close(covariance, torch.cov(whole.T, correction=0), atol=0.1, rtol=0.05)


def test_a_sensor_that_no_sample_has_is_correlated_with_nothing():
    values, present = samples()
    whole, shown = stacked(values, present | {"thermal": torch.zeros(300, dtype=torch.bool)})
    mean, covariance = joint_moments(whole, shown)
    assert torch.isfinite(covariance).all() and not mean[-3:].any()
    assert not covariance[-3:, :-3].any()


def test_few_samples_of_a_sensor_do_not_make_a_chance_a_certainty():
    """Ten samples of a radar that has nothing to do with nine optical latents."""
    torch.manual_seed(0)
    optical, radar = torch.randn(2000, 9), torch.randn(2000, 1)
    shown = torch.ones(2000, 10, dtype=torch.bool)
    shown[10:, 9] = False
    _, covariance = joint_moments(torch.cat([optical, radar], dim=1), shown)
    slopes = torch.linalg.solve(covariance[:9, :9], covariance[:9, 9])
    explained = (optical.double() @ slopes).var() / covariance[9, 9]
    assert explained < 0.6
