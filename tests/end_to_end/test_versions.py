"""The versions of tokens in a real run whose episodes span updates of the weights.

Each token has the log-probability that the saved weights of its version give it.
"""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from tests.stack import command, folder_of, run_to_the_end

STEPS = 3
OPTIONS = (
    f"total_train_steps={STEPS}",
    "saver.freq_steps=1",
    # a step trains on one group, while two more are under way
    "train_dataset.batch_size=1",
    "gconfig.n_samples=2",
    "rollout.max_head_offpolicyness=2",
    "rollout.max_concurrent_rollouts=3",
    # a step makes all weights smaller by a twentieth, whatever the rewards are
    "actor.optimizer.lr=2e-3",
    "actor.optimizer.weight_decay=25",
)
# an episode has one row for each completion
Episode = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def fileroot(model, tmp_path_factory) -> Path:
    """The folder of a finished run."""
    fileroot = tmp_path_factory.mktemp("runs")
    words = command(fileroot, *OPTIONS, script=("-m", "tests.end_to_end.spanning"))
    run_to_the_end(words, fileroot / "printed")
    return fileroot


@pytest.fixture(scope="module")
def models(model, fileroot) -> list[PreTrainedModel]:
    """The model of each version of the weights. The run begins with version 0."""
    steps = [f"checkpoints/**/default/*globalstep{step}" for step in range(STEPS)]
    folders = [model, *(next(fileroot.glob(step)) for step in steps)]
    return [AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32) for path in folders]


@pytest.fixture(scope="module")
def episodes(fileroot) -> list[Episode]:
    """All episodes of the run."""
    groups = [torch.load(path) for path in folder_of(fileroot).glob("groups/*.pt")]
    return [
        {name: tensor[group["episode"] == number] for name, tensor in group.items()}
        for group in groups
        for number in group["episode"].unique()
    ]


@pytest.fixture(scope="module")
def spanning(episodes) -> list[Episode]:
    """The episodes that span an update."""
    return [episode for episode in episodes if len(versions_in(episode)) > 1]


def versions_in(episode: Episode) -> list[int]:
    """List the versions of an episode's tokens; the others belong to prompts, or are padding."""
    return episode["versions"][episode["loss_mask"] == 1].unique().tolist()


@torch.no_grad()
def largest_error(model: PreTrainedModel, episode: Episode, version: int) -> float:
    """Compare the log-probabilities of an episode's tokens of a version with those of a model."""
    logits = model(episode["input_ids"], attention_mask=episode["attention_mask"]).logits
    next_tokens = episode["input_ids"][:, 1:, None]
    computed = logits[:, :-1].log_softmax(-1).gather(2, next_tokens).squeeze(2)
    is_of_version = (episode["versions"] == version) & (episode["loss_mask"] == 1)
    errors = (computed - episode["logprobs"][:, 1:]).abs()
    return errors[is_of_version[:, 1:]].max().item()


def test_an_update_also_cuts_completions(spanning):
    assert any(
        len(versions[mask == 1].unique()) > 1
        for episode in spanning
        for versions, mask in zip(episode["versions"], episode["loss_mask"], strict=True)
    )


def test_each_token_was_served_by_the_weights_of_its_version(episodes, models):
    for episode in episodes:
        for version in versions_in(episode):
            assert largest_error(models[version], episode, version) < 1e-4


def test_it_was_not_served_by_those_of_another_version(spanning, models):
    for episode in spanning:
        for version in versions_in(episode):
            for other, model in enumerate(models):
                assert other == version or largest_error(model, episode, version) > 1e-3
