"""The number of epochs for which early stopping repeats a training on all images."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sktl._training.net_callbacks import History, StartOrBest, count_good_epochs


class Net:
    """A net whose losses of validation images are given, for the start and for each epoch."""

    verbose = 0

    def __init__(self, losses):
        self.losses, self.history = [*losses], History()

    def validate_start(self, dataset):
        return float(self.losses[0].mean())

    def held_out_losses(self):
        return self.losses[len(self.history)]

    @property
    def module_(self):
        return self

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def stopped(losses):
    """Return the history of a training with these losses, of shape (1 + n_epochs, n_images)."""
    net, callback = Net(losses), StartOrBest(len(losses))
    callback.initialize()
    callback.on_train_begin(net)
    for _ in losses[1:]:
        callback.on_epoch_begin(net)
        net.history.new_epoch()
        net.history.record("epoch", len(net.history))
        net.history.record("train_loss", 0.0)
        net.history.record("valid_loss", float(net.held_out_losses().mean()))
        callback.on_epoch_end(net)
    callback.on_train_end(net)
    return net.history


LOSSES = (
    st.integers(1, 9)
    .flatmap(lambda n: st.lists(st.lists(st.integers(0, 40), min_size=n, max_size=n), min_size=2, max_size=6))
    .map(lambda rows: np.array(rows) / 8)
)


@given(LOSSES)
def test_it_is_that_of_the_best_epoch_or_of_a_later_one_and_0_if_the_start_is_best(losses):
    means = losses.mean(axis=1)
    best, found = int(means.argmin()), count_good_epochs(stopped(losses))
    assert best <= found <= (0 if best == 0 else len(losses) - 1)


@given(LOSSES)
def test_of_a_history_that_does_not_say_what_is_near_the_lowest_it_is_the_best_epoch(losses):
    """Checkpoints of earlier versions have such histories."""
    history = History([{k: v for k, v in row.items() if k != "valid_loss_near_best"} for row in stopped(losses)])
    assert count_good_epochs(history) == losses.mean(axis=1).argmin()


@given(st.integers(1, 6), st.integers(0, 6), st.integers(0, 9))
def test_an_epoch_that_is_worse_by_chance_counts_and_one_that_is_worse_for_every_image_does_not(n, n_later, seed):
    best = np.random.default_rng(seed).uniform(1, 2, 40)
    noise = np.tile([0.5, -0.45], 20)
    before = np.linspace(9, 3, n)[:, None] + best
    later = np.arange(n_later)[:, None] * 1e-3
    assert count_good_epochs(stopped(np.concatenate([before, [best], best + later + noise]))) == n + n_later
    assert count_good_epochs(stopped(np.concatenate([before, [best], best + later + 0.025]))) == n
