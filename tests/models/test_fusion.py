import pytest
import torch

from pipeline_lib.config import Fusion as Block
from pipeline_lib.models import Fusion

LATENTS = {"radar": 2, "optical": 9, "thermal": 3}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Fusion(LATENTS, Block(width=16, heads=2, layers=2)).eval()


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


def test_dates_presence_and_identity_of_sensors_matter(model):
    latents, days, _ = inputs()
    everywhere = {name: torch.ones(6, dtype=torch.bool) for name in LATENTS}
    with torch.no_grad():
        reference = model.fuse(latents, days, everywhere)
        later = model.fuse(latents, days | {"radar": days["radar"] + 5}, everywhere)
        fewer = model.fuse(latents, days, everywhere | {"radar": ~everywhere["radar"]})
    assert (later - reference).abs().max() > 1e-4
    assert (fewer - reference).abs().max() > 1e-4


def test_order_of_the_sensors_in_the_config_is_of_no_matter(model):
    torch.manual_seed(0)
    other = Fusion(dict(reversed(LATENTS.items())), Block(width=16, heads=2, layers=2)).eval()
    with torch.no_grad():
        torch.testing.assert_close(other.fuse(*inputs()), model.fuse(*inputs()))


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


def initialised(values=None, present=None):
    """A fusion that is initialised with samples, those of `samples` unless given."""
    torch.manual_seed(0)
    model = Fusion(LATENTS, Block(width=16, heads=2, layers=2)).eval()
    if values is None:
        values, present = samples()
    model.initialise(values, present, {name: torch.eye(size) for name, size in LATENTS.items()})
    return model, values, present


SETS = (("optical",), ("optical", "radar"), ("optical", "radar", "thermal"))


@pytest.mark.parametrize("names", SETS)
def test_the_initialisation_keeps_what_so_many_dimensions_can(names):
    """Enough dimensions give all latents back; fewer what principal components would."""
    latents = {name: LATENTS[name] for name in names}
    total = sum(latents.values())
    values, _ = samples(latents)
    days = {name: torch.full((300,), 5.0) for name in names}
    everywhere = {name: torch.ones(300, dtype=torch.bool) for name in names}
    stacked = torch.cat([values[name] for name in sorted(names)], dim=1)
    for features in (total, 2):
        torch.manual_seed(0)
        model = Fusion(latents, Block(width=16, heads=2, layers=2, embedding_dim=features)).eval()
        costs = {name: torch.eye(size) for name, size in latents.items()}
        model.initialise(values, everywhere, costs)
        embedding = model.fuse(values, days, everywhere)
        torch.testing.assert_close(embedding.mean(dim=0), torch.zeros(features), atol=1e-5, rtol=0)
        torch.testing.assert_close(embedding.std(0, correction=0), torch.ones(features))
        back = model.split(embedding)
        found = torch.cat([back[name] for name in sorted(names)], dim=1)
        centred = stacked - stacked.mean(dim=0)
        axes = torch.linalg.svd(centred, full_matrices=False)[2][:features]
        expected = centred @ axes.T @ axes + stacked.mean(dim=0)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def fused(model, values, *names):
    """Embeddings on the reference's date where only these sensors are present."""
    days = {name: torch.zeros(300) for name in LATENTS}
    present = {name: torch.full((300,), name in names) for name in LATENTS}
    with torch.no_grad():
        return model.fuse(values, days, present)


def test_initialised_what_a_sensor_adds_does_not_depend_on_the_others():
    model, values, _ = initialised()
    alone = sum(fused(model, values, name) for name in LATENTS)
    torch.testing.assert_close(alone, fused(model, values, *LATENTS), atol=1e-5, rtol=0)


def test_an_absent_sensor_counts_as_its_mean():
    model, values, present = initialised()
    mean = values["radar"][present["radar"]].mean(dim=0).expand(300, -1)
    absent = fused(model, values, "optical", "thermal")
    usual = fused(model, values | {"radar": mean}, *LATENTS)
    torch.testing.assert_close(absent, usual, atol=1e-5, rtol=0)


def test_latents_of_absent_sensors_do_not_reach_the_initialisation():
    first, values, present = initialised()
    gone = {
        name: torch.where(present[name][:, None], value, torch.nan)
        for name, value in reversed(values.items())
    }
    other, *_ = initialised(gone, present)
    for key, value in first.state_dict().items():
        assert torch.equal(other.state_dict()[key], value)


def test_a_sensor_that_no_sample_has_adds_nothing_and_breaks_nothing():
    values, present = samples()
    model, *_ = initialised(values, present | {"thermal": torch.zeros(300, dtype=torch.bool)})
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    with_it, without = fused(model, values, *LATENTS), fused(model, values, "optical", "radar")
    torch.testing.assert_close(with_it, without, atol=1e-5, rtol=0)


def test_training_reaches_the_transformer_from_the_first_step():
    model, values, present = initialised()
    days = {name: torch.zeros(300) for name in LATENTS}
    back = model.split(model.fuse(values, days, present))
    sum((back[name] - values[name]).abs().mean() for name in LATENTS).backward()
    for layer in model.layers.layers:
        assert layer.self_attn.out_proj.weight.grad.abs().max() > 0
        assert layer.linear2.weight.grad.abs().max() > 0


def test_scaling_the_embedding_changes_nothing_that_becomes_of_it(model):
    with torch.no_grad():
        embedding = model.fuse(*inputs(200))
        before = model.split(embedding)
        model.scale(embedding.mean(dim=0), embedding.std(dim=0, correction=0))
        scaled = model.fuse(*inputs(200))
        torch.testing.assert_close(scaled.mean(dim=0), torch.zeros(7), atol=1e-4, rtol=0)
        torch.testing.assert_close(scaled.std(dim=0, correction=0), torch.ones(7))
        for name, latent in model.split(scaled).items():
            torch.testing.assert_close(latent, before[name], atol=1e-5, rtol=1e-5)
