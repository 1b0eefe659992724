"""Layout of prompts and responses, chunking by tokens, log-probabilities in pieces."""

from __future__ import annotations

import pytest
import torch as th

from sppo_rl.llm.tokens import by_token_budget, grouped_hidden_states, lay_out, similar_lengths, token_log_probs, trim
from tests.llm.conftest import tiny_model

PAD = 9


def test_layout_of_two_rows_by_hand() -> None:
    prompts = th.tensor([[4, 5, 6, 0], [7, 3, 3, 3]])  # the second has one token; 3 is its padding
    actions = th.tensor([[2, 1, PAD], [8, 8, 8]])
    layout = lay_out(prompts, th.tensor([3, 1]), actions, PAD)
    assert layout.ids.tolist() == [[4, 5, 6, 2], [7, 8, 8, 0]]
    assert layout.lengths.tolist() == [4, 3]
    assert layout.mask.tolist() == [[True, True, False], [True, True, True]]
    assert layout.rows.tolist() == [0, 0, 1, 1, 1]
    assert layout.columns.tolist() == [2, 3, 0, 1, 2], "the first token is predicted at prompt_len - 1"
    assert layout.targets.tolist() == [2, 1, 8, 8, 8]


def test_what_follows_padding_is_no_decision() -> None:
    layout = lay_out(th.tensor([[4, 5]]), th.tensor([2]), th.tensor([[2, PAD, 3]]), PAD)
    assert layout.mask.tolist() == [[True, False, False]]
    assert layout.ids.tolist() == [[4, 5]]


def test_a_row_without_a_response_keeps_its_prompt() -> None:
    layout = lay_out(th.tensor([[4, 5]]), th.tensor([2]), th.tensor([[PAD, PAD]]), PAD)
    assert layout.ids.tolist() == [[4, 5]]
    assert layout.targets.numel() == 0


def test_trim_hides_the_padding_token() -> None:
    assert trim(th.tensor([[4, 9, 9, 9], [5, 6, 9, 9]]), th.tensor([1, 2])).tolist() == [[4, 0], [5, 6]]


def test_token_budget_by_hand() -> None:
    rows = th.tensor([10, 11, 12, 13])
    assert [part.tolist() for part in by_token_budget(rows, th.tensor([5, 3, 8, 2]), 10)] == [[10, 11], [12, 13]]
    assert [part.tolist() for part in by_token_budget(rows, th.tensor([50, 3, 8, 2]), 10)] == [[10], [11], [12, 13]]
    assert list(by_token_budget(rows[:0], rows[:0], 10)) == []


def test_groups_of_similar_length_by_hand() -> None:
    assert [group.tolist() for group in similar_lengths(th.tensor([3, 8, 7, 2]))] == [[1, 2], [0], [3]]
    lengths = th.randint(1, 500, (200,))
    groups = similar_lengths(lengths)
    assert th.cat(groups).sort().values.tolist() == list(range(200))
    assert sum(int(lengths[group].max()) * len(group) for group in groups) < 4 / 3 * int(lengths.sum())


def test_hidden_states_come_in_the_order_asked_for() -> None:
    model = tiny_model().base_model
    lengths = th.tensor([3, 9, 1, 8, 2])
    ids = th.randint(2, 12, (5, 9)).where(th.arange(9) < lengths.unsqueeze(1), 0)
    rows, columns = th.tensor([4, 0, 1, 1, 2, 3, 0]), th.tensor([1, 2, 8, 0, 0, 5, 0])
    with th.no_grad():
        found = grouped_hidden_states(model, ids, lengths, rows, columns)
        for k, (row, column) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
            alone = model(input_ids=ids[row : row + 1, : lengths[row]]).last_hidden_state[0, column]
            th.testing.assert_close(found[k], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("at_once", [1, 3, 100])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_pieces_give_the_values_and_gradients_of_the_whole(at_once: int, temperature: float) -> None:
    th.manual_seed(0)
    head = th.nn.Linear(6, 13).double()
    hidden = th.randn(10, 6, dtype=th.float64, requires_grad=True)
    targets = th.randint(11, (10,))
    weights = th.randn(2, 10)

    # an independent reference, in one piece: torch's own distribution over the 11 tokens that exist
    distribution = th.distributions.Categorical(logits=(head(hidden)[:, :11] / temperature).float())
    expected = (distribution.log_prob(targets), distribution.entropy())
    (weights[0] * expected[0] + weights[1] * expected[1]).sum().backward()
    reference = [hidden.grad.clone(), head.weight.grad.clone()]  # type: ignore[union-attr]
    hidden.grad = None
    head.zero_grad()

    found = token_log_probs(head, hidden, targets, 11, temperature, at_once)
    (weights[0] * found[0] + weights[1] * found[1]).sum().backward()
    th.testing.assert_close(found[0], expected[0])
    th.testing.assert_close(found[1], expected[1])
    th.testing.assert_close(hidden.grad, reference[0], rtol=1e-4, atol=1e-6)
    th.testing.assert_close(head.weight.grad, reference[1], rtol=1e-4, atol=1e-6)
    assert head.weight.grad[11:].abs().max() == 0.0, "outputs that belong to no token are not trained"  # type: ignore[index]
