"""Makes samples of solved turns, as AReaL's supervised trainer takes them."""

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast

from examples.tau2.data.rendering import TemplateRefusal, render_turn
from examples.tau2.data.turns import Turn, read_turns

# `input_ids`, int64, and `loss_mask`, bool, true for the answer: [tokens of prompt and answer]
Sample = dict[str, torch.Tensor]
# what to do if the chat template does not render what a run needs
OTHER_TEMPLATE = (
    "take another model (actor.path), or put another chat_template.jinja into its folder"
)


@dataclass
class SupervisedData:
    """The samples of a fine-tuning run; `valid` is None if there is no validation."""

    train: list[Sample]
    valid: list[Sample] | None


def load_samples(path: str | Path, tokenizer: PreTrainedTokenizerFast) -> list[Sample]:
    """Load a file of turns as samples, one for each turn.

    Raises:
        ValueError: lines of the file are wrong; each line of the message is one cause.
        OSError: the file cannot be read.
    """

    def make_sample(turn: Turn) -> Sample:
        try:
            prompt, answer = render_turn(tokenizer, turn.messages, turn.tools, turn.answer)
        except TemplateRefusal as error:
            raise ValueError(f"{error}; {OTHER_TEMPLATE}") from error
        mask = torch.arange(len(prompt) + len(answer)) >= len(prompt)
        return {"input_ids": torch.tensor([*prompt, *answer]), "loss_mask": mask}

    return read_turns(path, make_sample)
