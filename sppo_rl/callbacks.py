"""Callbacks for training, on SB3's callback interface."""

from __future__ import annotations

from stable_baselines3.common.callbacks import ProgressBarCallback


class ProgressBar(ProgressBarCallback):
    """SB3's progress bar, counting environment steps (finished copies of a batch are no longer stepped)."""

    def _on_training_start(self) -> None:
        super()._on_training_start()
        self._shown = self.num_timesteps

    def _on_step(self) -> bool:
        self.pbar.update(self.model.num_timesteps - self._shown)
        self._shown = self.model.num_timesteps
        return True
