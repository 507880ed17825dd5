"""Makes a Qwen3 of a million parameters that solves about half of its tasks, for `make demo`.

A machine without a GPU trains this model. `python3 examples/tau2/cpu/model.py <out_dir>` makes it
from tau2's mock domain alone, in about a minute:

1. A demonstrator plays every task in solo mode, as episodes of this project. It mostly does what
   the task expects; otherwise what another task expects, nothing at all, or only words.
2. A tokenizer is trained on the prompts of these episodes, as SGLang's server renders them.
3. The weights learn the demonstrator's turns until the policy, when it plays episodes itself, is as
   good as the demonstrator.

The policy learns the demonstrator's mistakes too, so it makes mistakes in every task. GRPO then
finds groups of mixed outcomes, and there is something left to learn.
"""

import argparse
import asyncio
import hashlib
import json
import logging
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

if __name__ == "__main__":
    # the repository's root instead of this folder
    sys.path[0] = str(Path(__file__).resolve().parents[3])
    from examples.tau2 import quiet_tau2

    quiet_tau2()
# on busy cores, threads that spin cost several times what they gain
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from openai.types.chat import ChatCompletion
from tau2.data_model.tasks import Task
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from examples.tau2.cpu.serve import Policy, completion
from examples.tau2.cpu.tokenizer import train_tokenizer, untrained_tokenizer
from examples.tau2.data.dataset import task_rows
from examples.tau2.data.rendering import render, render_text
from examples.tau2.episode import environment
from examples.tau2.episode.config import Tau2EnvConfig
from examples.tau2.episode.llm import CallLLM
from examples.tau2.episode.reward import evaluate_episode
from examples.tau2.episode.simulation import AsyncOrchestrator

ECONFIG = Tau2EnvConfig(domain="mock", solo_mode=True, max_steps=12)
TASKS = "tau2/base"
# words without a tool call, which solo mode does not allow
WORDS = "I have taken care of this for you."
# of the demonstrations; it makes 62% of them right
RIGHT_PER_WRONG = 1.6

VOCABULARY = 2048
# in turns
BATCH_SIZE = 24
LEARNING_RATE = 4e-3
# in steps
CHECK_EVERY = 25
MIN_STEPS = 125
MAX_STEPS = 400
# for each task
EPISODES_PER_CHECK = 16
# between the fractions of a task's episodes that the policy and the demonstrator solve
TOLERANCE = 0.3

# messages, tools, what the demonstrator said
Turn = tuple[list[dict], list[dict], str]
# the tokens of the prompt, and those of the answer with its end token
Example = tuple[list[int], list[int]]
T = TypeVar("T")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    make_model(args.out_dir, args.seed)


def make_model(out_dir: Path, seed: int = 1) -> Path:
    """Make the model unless this very code has made all of it already; return its folder."""
    recipe = {"seed": seed, "sources": _sources()}
    marker = out_dir / "recipe.json"
    if marker.exists() and json.loads(marker.read_text()) == recipe:
        marker.touch()
        return out_dir
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{out_dir.name}-", dir=out_dir.parent))
    try:
        model, tokenizer = train(seed)
        tokenizer.save_pretrained(unfinished)
        model.save_pretrained(unfinished)
        (unfinished / "recipe.json").write_text(json.dumps(recipe))
        # mkdtemp's folders are private
        unfinished.chmod(0o755)
        shutil.rmtree(out_dir, ignore_errors=True)
        unfinished.rename(out_dir)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    print(f"{out_dir} is ready", flush=True)
    return out_dir


def train(seed: int) -> tuple[Qwen3ForCausalLM, PreTrainedTokenizerFast]:
    """Train model and tokenizer on demonstrations of all tasks.

    Raises:
        RuntimeError: the model has not learnt enough in `MAX_STEPS`.
    """
    # a beginner's tool calls are not worth a message each
    logging.getLogger("sglang").setLevel(logging.CRITICAL)
    start = time.monotonic()
    rows = task_rows(ECONFIG.domain, TASKS, ECONFIG.solo_mode)
    tasks = [environment.find_task(ECONFIG.domain, row["task_id"]) for row in rows]
    turns, solved_by_demonstrator = demonstrations(tasks)
    plain = untrained_tokenizer()
    prompts = {render_text(plain, messages, tools) for messages, tools, _ in turns}
    tokenizer = train_tokenizer(sorted(prompts), VOCABULARY, min_frequency=len(tasks))
    examples = [_tokenize(tokenizer, turn) for turn in turns]
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(tiny_config(tokenizer))
    lengths = [len(prompt) for prompt, _ in examples]
    print(
        f"{len(turns)} turns in {len(tasks)} tasks, "
        f"prompts of {min(lengths)} to {max(lengths)} tokens; "
        f"{model.num_parameters() / 1e6:.2f} M parameters, vocabulary of {len(tokenizer)}",
        flush=True,
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    batches = _batches(examples, random.Random(seed))
    solved: list[float] = []
    for step in range(1, MAX_STEPS + 1):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * min(step / 10, 1, 60 / step)
        loss = _loss(model, next(batches), tokenizer.pad_token_id)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % CHECK_EVERY != 0:
            continue
        solved = asyncio.run(solved_fractions(model, tokenizer, tasks))
        print(
            f"step {step}: loss {loss.item():.2f}, solves {_mean(solved):.2f} of its episodes "
            f"(by task {_list(solved)}), the demonstrator {_mean(solved_by_demonstrator):.2f} "
            f"({_list(solved_by_demonstrator)}); {time.monotonic() - start:.0f} s",
            flush=True,
        )
        if step >= MIN_STEPS and _are_close(solved, solved_by_demonstrator):
            return model, tokenizer
    # The tasks are uneven. The model will do if some episodes succeed and others fail.
    if not 0.3 < _mean(solved) < 0.8:
        raise RuntimeError(
            f"after {MAX_STEPS} steps the model solves {_mean(solved):.2f} of its tasks"
        )
    return model, tokenizer


def _mean(fractions: list[float]) -> float:
    return sum(fractions) / len(fractions)


def _list(fractions: list[float]) -> str:
    return " ".join(f"{fraction:.2f}" for fraction in fractions)


def _are_close(solved: list[float], aim: list[float]) -> bool:
    """Return whether the fractions of every task are within `TOLERANCE`."""
    return all(abs(a - b) <= TOLERANCE for a, b in zip(solved, aim, strict=True))


def demonstrations(tasks: list[Task]) -> tuple[list[Turn], list[float]]:
    """Play the demonstrator's episodes.

    Returns every agent turn, and the fraction of each task's episodes that got a reward.
    """
    expected = {task.id: _expected_calls(task) for task in tasks}
    scripts = sorted({*expected.values(), (), (WORDS,)})
    turns: list[Turn] = []
    solved = []
    for task in tasks:
        right = expected[task.id]
        wrong = [script for script in scripts if script != right]
        played = wrong + [right] * round(RIGHT_PER_WRONG * len(wrong))
        rewards = []
        for script in played:
            agent = _demonstrator((*script, _call("done", {})), turns)
            rewards.append(asyncio.run(play(task, agent)))
        solved.append(_mean(rewards))
    return turns, solved


def _expected_calls(task: Task) -> tuple[str, ...]:
    """Write the actions that the task expects as texts of the model."""
    actions = environment.expected_actions(task)
    return tuple(_call(action.name, action.arguments) for action in actions)


def _demonstrator(script: tuple[str, ...], turns: list[Turn]) -> CallLLM:
    """Make an agent that says the texts of `script` in turn, and adds each turn to `turns`."""

    async def say(
        messages: list[dict], tools: list[dict], tool_choice: str | None
    ) -> ChatCompletion:
        said_before = sum(message["role"] == "assistant" for message in messages)
        text = script[said_before]
        turns.append((list(messages), tools, text))
        return completion(text, tools, "stop")

    return say


async def play(task: Task, agent: CallLLM) -> float:
    """Return the reward of one episode by tau2's evaluation."""
    episode = AsyncOrchestrator(ECONFIG, task, agent, None)
    await episode.converse()
    return evaluate_episode(
        episode.simulation_run(), task, ECONFIG.domain, ECONFIG.solo_mode, thinking_tool=False
    ).reward


async def solved_fractions(
    model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, tasks: list[Task]
) -> list[float]:
    """Return the fraction of each task's episodes that the model solves at temperature 1."""
    policy = Policy(model, tokenizer)
    episodes = [play(task, policy) for task in tasks for _ in range(EPISODES_PER_CHECK)]
    rewards = await asyncio.gather(*episodes)
    by_task = torch.tensor(rewards, dtype=torch.float64).view(len(tasks), EPISODES_PER_CHECK)
    return by_task.mean(1).tolist()


def _batches(examples: list[T], rng: random.Random) -> Iterator[list[T]]:
    """Yield batches of one shuffled pass after another."""
    pool: list[T] = []
    while True:
        if len(pool) < BATCH_SIZE:
            pool += rng.sample(examples, len(examples))
        batch, pool = pool[:BATCH_SIZE], pool[BATCH_SIZE:]
        yield batch


def tiny_config(tokenizer: PreTrainedTokenizerFast) -> Qwen3Config:
    """Return the shape of a model of about a million parameters."""
    return Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        dtype="float32",
    )


def _call(name: str, arguments: dict) -> str:
    """Write a tool call as text of the model."""
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def _tokenize(tokenizer: PreTrainedTokenizerFast, turn: Turn) -> Example:
    """Tokenize prompt and answer apart, as when the model generates: no token spans both."""
    messages, tools, text = turn
    answer = tokenizer(text, add_special_tokens=False)["input_ids"]
    return render(tokenizer, messages, tools), [*answer, tokenizer.eos_token_id]


def _loss(model: Qwen3ForCausalLM, batch: list[Example], padding: int) -> torch.Tensor:
    """Return the mean negative log-likelihood of the answers' tokens, in nats."""
    length = max(len(prompt) + len(answer) for prompt, answer in batch)
    tokens = torch.full((len(batch), length), padding)
    labels = torch.full((len(batch), length), -100)
    for row, (prompt, answer) in enumerate(batch):
        end = len(prompt) + len(answer)
        tokens[row, :end] = torch.tensor(prompt + answer)
        labels[row, len(prompt) : end] = torch.tensor(answer)
    # the model is causal, so padding on the right needs no mask
    logits = model(input_ids=tokens).logits
    return cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def _sources() -> str:
    """Hash the files that shape the model, so that a change in them makes a new model."""
    folder = Path(__file__).parent
    files = [
        Path(__file__),
        folder / "serve.py",
        folder / "tokenizer.py",
        folder / "chat_template.jinja",
        folder.parent / "data/rendering.py",
    ]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


if __name__ == "__main__":
    main()
