"""Options that several commands share are checked where they are read."""

from __future__ import annotations

import pytest

from sppo_rl.zoo.cli import main

CARTPOLE = "sppo_rl/PrecisionCartPole200-v0"


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--env", "CartPole-v1"],
        ["train-agent", "--env", CARTPOLE, "--episodes", "8"],
        ["evaluate", "--env", CARTPOLE, "--agent"],
        ["enjoy", "--env", CARTPOLE, "--agent", "-o", "video.mp4"],
        ["pretrain", "--env", CARTPOLE],
        ["train-llm", "--config", "chain_sum_tiny"],
        ["pretrain-llm"],
    ],
)
def test_a_seed_that_cannot_be_is_refused_by_name(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in ("-1", str(2**32)):
        with pytest.raises(SystemExit) as status:
            main([*words, "--seed", seed])
        assert status.value.code == 2
        said = f"argument --seed: seed must be a whole number from 0 to 4294967295, got {seed}."
        assert said in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*words, "--seed", "one"])
    assert "argument --seed: invalid int value: 'one'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
