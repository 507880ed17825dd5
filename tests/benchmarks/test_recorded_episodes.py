"""Recorded episodes are what AReaL would train on."""

from benchmarks.models import load_tokenizer
from benchmarks.recorded_episodes import record, solved, tasks_that_change_the_database
from benchmarks.step_measurement import load
from benchmarks.train_step import CONFIG
from benchmarks.tries import count_packed_tokens, samples_of


def test_a_group_is_recorded_as_areal_trains_on_it():
    tokenizer = load_tokenizer(None)
    tasks = tasks_that_change_the_database()[1:2]
    (group,) = record(load(CONFIG, []), tokenizer, tasks, episodes=2, thinking=20)
    succeeded, failed = group
    assert [turn["rewards"].item() for turn in succeeded] == [1.0] * len(succeeded)
    assert [turn["rewards"].item() for turn in failed] == [0.0] * len(failed)
    assert solved(group) == 1
    for turn in samples_of(group):
        generated = turn["input_ids"][turn["loss_mask"].bool()]
        assert tokenizer.decode(generated).startswith("<think>\n")
        assert generated[-1] == tokenizer.eos_token_id
        assert 4000 < turn["input_ids"].shape[1] < 8000
    # the two episodes have tokens in common, too
    assert count_packed_tokens(samples_of(group), 24576)["ratio"] > len(succeeded)
