import numpy as np
import torch
from made_towers import SMALL

from pipeline_lib.gpp.transformer import WindowTransformer, fit_regressor


def test_the_network_depends_on_the_order_of_days_and_not_on_its_batch():
    torch.manual_seed(0)
    network = WindowTransformer(3, 20, SMALL).eval()
    windows = torch.randn(5, 20, 3)
    with torch.no_grad():
        together = network(windows)
        alone = torch.cat([network(window[None]) for window in windows])
        reordered = network(windows[:, [*torch.randperm(19).tolist(), 19]])
    torch.testing.assert_close(together, alone)
    assert not torch.allclose(together, reordered, atol=1e-3)


def test_a_block_is_that_of_torch_and_may_update_the_last_day_alone():
    torch.manual_seed(0)
    block = WindowTransformer(3, 20, SMALL).eval().blocks[0]
    layer = torch.nn.TransformerEncoderLayer(
        SMALL.width,
        SMALL.heads,
        2 * SMALL.width,
        activation="gelu",
        batch_first=True,
        norm_first=True,
    ).eval()
    layer.norm1, layer.norm2 = block.attention_norm, block.perceptron[0]
    layer.linear1, layer.linear2 = block.perceptron[1], block.perceptron[3]
    layer.self_attn.out_proj = block.output
    parts = (block.query, block.key_value)
    layer.self_attn.in_proj_weight.data = torch.cat([part.weight for part in parts])
    layer.self_attn.in_proj_bias.data = torch.cat([part.bias for part in parts])
    tokens = torch.randn(2, 20, SMALL.width)
    with torch.no_grad():
        torch.testing.assert_close(block(tokens, 20), layer(tokens))
        torch.testing.assert_close(block(tokens, 20)[:, -1:], block(tokens, 1))


def test_scaling_survives_what_does_not_vary():
    inputs = np.ones((6, 4, 2), np.float32)
    inputs[..., 1] = np.arange(6)[:, None]
    target = np.full(6, 2.0, np.float32)
    held_out = np.arange(6) < 2
    fitted = fit_regressor(inputs=inputs, target=target, held_out=held_out, block=SMALL, seed=0)
    assert fitted.inputs[1][0] == 1 and fitted.target == (2, 1)
    np.testing.assert_allclose(fitted.predict(inputs), 2, atol=0.5)
    assert fitted.predict(inputs[:0]).shape == (0,)


def test_training_stops_without_improvement_and_keeps_the_best_epoch():
    rng = np.random.default_rng(0)
    fitted = fit_regressor(
        inputs=rng.normal(size=(60, 10, 3)).astype(np.float32),
        target=rng.normal(size=60).astype(np.float32),
        held_out=np.arange(60) < 15,
        block=SMALL.model_copy(update={"stop_patience": 2, "max_epochs": 60}),
        seed=0,
    )
    assert fitted.epochs < 60
    assert fitted.epochs - fitted.best_epoch == 2
