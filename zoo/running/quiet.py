"""Keeps what libraries print on the way out of a command's own output."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_transformers_bars() -> Iterator[None]:
    """Leave out the bars with which transformers reads and writes weights."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@contextmanager
def no_advice_on_learning_rates() -> Iterator[None]:
    """Leave out the policy's warning that a rate is high for a pre-trained model, which a tiny shipped prior is not."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="learning_rate is .* which suits control tasks", category=UserWarning)
        yield
