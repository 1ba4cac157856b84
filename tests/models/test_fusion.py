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


def test_shapes_there_and_back(model):
    embedding = model.fuse(*inputs())
    assert embedding.shape == (6, 7)
    back = model.split(embedding)
    assert {name: part.shape for name, part in back.items()} == {
        name: (6, size) for name, size in LATENTS.items()
    }


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
