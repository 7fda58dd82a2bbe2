"""When the first stage ends: not while it pays, soon after it stops, and always at the same step."""

import numpy as np

from vocabalign.train.stage_switch import has_stopped_paying


def first_end(losses, **options):
    return next((n for n in range(1, len(losses) + 1) if has_stopped_paying(losses[:n], **options)), None)


def test_it_goes_on_while_the_loss_falls_and_ends_when_it_is_flat():
    falling = [10 * 0.99**step for step in range(100)]
    assert first_end(falling) is None
    ended = first_end(falling + [falling[-1]] * 60)
    assert 100 < ended <= 140


def test_noise_of_single_steps_does_not_decide():
    random = np.random.default_rng(0)
    for _ in range(20):
        losses = 10 * 0.99 ** np.arange(80) * random.normal(1, 0.02, 80)
        assert first_end(losses.tolist()) is None


def test_nothing_is_decided_before_two_windows():
    assert not has_stopped_paying([1.0] * 9, window=5)
    assert has_stopped_paying([1.0] * 10, window=5)


def test_a_rising_loss_ends_the_stage():
    assert has_stopped_paying([1.0] * 5 + [2.0] * 5, window=5)


def test_only_what_was_recorded_decides():
    losses = [5 * 0.97**step for step in range(200)]
    assert first_end(losses) == first_end(losses + [0.0] * 50)
