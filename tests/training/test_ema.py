import pytorch_lightning as pl
import torch
from tiny_run import tiny_module, tiny_net, train

from emseg.training.checkpoints import net_weights, read_checkpoint
from emseg.training.ema import Ema


class _Watch(pl.Callback):
    """Copies of the weights after each step, and of those that validation uses."""

    def __init__(self):
        self.live, self.validated = [], {}

    def on_train_batch_end(self, trainer, module, *_):
        self.live.append(_copy(module))

    def on_validation_batch_start(self, trainer, module, *_):
        self.validated[trainer.global_step] = _copy(module)


def _copy(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def _batch_norm_module():
    return tiny_module(net=tiny_net(norm="batch"))


def _train(folder, *, steps=8, **settings):
    watch = _Watch()
    module = _batch_norm_module()
    ema = Ema(decay=0.8, warmup_steps=3, **settings)
    train(module, folder, steps=steps, callbacks=(ema, watch), val_check_interval=1)
    return module, watch


def test_average_is_its_formula_and_validated_and_saved(tmp_path):
    module, watch = _train(tmp_path)
    average = None
    for step, live in enumerate(watch.live, 1):
        if step <= 3:
            average = live
        else:
            parameters = dict(module.named_parameters())
            average = {
                name: 0.8 * average[name] + 0.2 * value if name in parameters else value
                for name, value in live.items()
            }
        torch.testing.assert_close(watch.validated[step], average, rtol=1e-6, atol=1e-7)
    saved = read_checkpoint(tmp_path / "last.ckpt")
    torch.testing.assert_close(saved["state_dict"], average, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(saved["current_model_state"], watch.live[-1])
    torch.testing.assert_close(net_weights(saved), module.net.state_dict())
    counters = [v for name, v in average.items() if name.endswith("num_batches_tracked")]
    assert counters
    assert all(int(counter) == 8 for counter in counters)


def test_validation_may_use_the_live_weights(tmp_path):
    _, watch = _train(tmp_path, validate_with_ema=False)
    torch.testing.assert_close(watch.validated[8], watch.live[-1], rtol=0, atol=0)
