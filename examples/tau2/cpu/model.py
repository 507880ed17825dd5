"""A Qwen3 of a million parameters that solves about half of its tasks: what a machine without a GPU trains in `make demo`.

`python3 examples/tau2/cpu/model.py <out_dir>` makes it on the spot, in about a minute, from tau2's mock domain alone:

1. A demonstrator plays every task in solo mode, through this project's own episodes: mostly what the task expects,
   otherwise what another task expects, nothing at all, or only words.
2. A tokenizer is trained on the prompts of these episodes, as AReaL's proxy renders them.
3. The weights learn the demonstrator's turns until the policy, playing episodes itself, is as good as the demonstrator.
   It cannot become better by that, and since mistakes are part of what it learnt, it makes them in every task: GRPO
   finds groups of mixed rewards, and something left to learn.
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

if __name__ == "__main__":  # the repository's root instead of this folder
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
from examples.tau2.data.rendering import render
from examples.tau2.episode import environment
from examples.tau2.episode.config import Tau2EnvConfig
from examples.tau2.episode.llm import CallLLM
from examples.tau2.episode.reward import evaluate_episode
from examples.tau2.episode.simulation import AsyncOrchestrator

ECONFIG = Tau2EnvConfig(domain="mock", solo_mode=True, max_steps=12)
TASKS = "tau2/base"
WORDS = "I have taken care of this for you."  # without a tool call, which solo mode does not allow
RIGHT_PER_WRONG = 1.6  # demonstrations: 0.62 of them are right

VOCABULARY = 2048
BATCH_SIZE = 24  # turns
LEARNING_RATE = 4e-3
CHECK_EVERY = 25  # steps
MIN_STEPS, MAX_STEPS = 125, 400
CHECKED_EPISODES = 16  # of each task
TOLERANCE = (
    0.3  # between the fractions of episodes that the policy and the demonstrator solve of a task
)

Turn = tuple[list[dict], list[dict], str]  # messages, tools, what the demonstrator said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    make_model(args.out_dir, args.seed)


def make_model(out_dir: Path, seed: int = 1) -> Path:
    """The model's directory, made unless it is there already, complete and by this very code."""
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
        unfinished.chmod(0o755)  # mkdtemp's folders are private
        shutil.rmtree(out_dir, ignore_errors=True)
        unfinished.rename(out_dir)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    print(f"{out_dir} is ready", flush=True)
    return out_dir


def train(seed: int) -> tuple[Qwen3ForCausalLM, PreTrainedTokenizerFast]:
    """
    Raises:
        RuntimeError: the model has not learnt enough in `MAX_STEPS`.
    """
    logging.getLogger("sglang").setLevel(
        logging.CRITICAL
    )  # a beginner's tool calls are not worth a message each
    start = time.monotonic()
    rows = task_rows(ECONFIG.domain, TASKS, ECONFIG.solo_mode)
    tasks = [environment.find_task(ECONFIG.domain, row["task_id"]) for row in rows]
    turns, aim = demonstrations(tasks)
    plain = untrained_tokenizer()
    prompts = {render(plain, messages, tools, tokenize=False) for messages, tools, _ in turns}
    tokenizer = train_tokenizer(sorted(prompts), VOCABULARY, min_frequency=len(tasks))
    examples = [_tokenize(tokenizer, turn) for turn in turns]
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(tiny_config(tokenizer))
    lengths = [len(prompt) for prompt, _ in examples]
    print(
        f"{len(turns)} turns in {len(tasks)} tasks, prompts of {min(lengths)} to {max(lengths)} tokens; "
        f"{model.num_parameters() / 1e6:.2f} M parameters, vocabulary of {len(tokenizer)}",
        flush=True,
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    batches = _batches(examples, random.Random(seed))
    for step in range(1, MAX_STEPS + 1):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * min(step / 10, 1, 60 / step)
        loss = _loss(model, next(batches), tokenizer.pad_token_id)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % CHECK_EVERY == 0:
            solved = asyncio.run(solved_fractions(model, tokenizer, tasks))
            print(
                f"step {step}: loss {loss.item():.2f}, solves {sum(solved) / len(solved):.2f} of its episodes "
                f"(by task {' '.join(f'{fraction:.2f}' for fraction in solved)}), the demonstrator "
                f"{sum(aim) / len(aim):.2f} ({' '.join(f'{fraction:.2f}' for fraction in aim)}); "
                f"{time.monotonic() - start:.0f} s",
                flush=True,
            )
            if step >= MIN_STEPS and all(
                abs(a - b) <= TOLERANCE for a, b in zip(solved, aim, strict=True)
            ):
                return model, tokenizer
    if not 0.3 < sum(solved) / len(solved) < 0.8:
        raise RuntimeError(
            f"after {MAX_STEPS} steps the model solves {sum(solved) / len(solved):.2f} of its tasks"
        )
    return model, tokenizer  # uneven, but some episodes succeed and others fail


def demonstrations(tasks: list[Task]) -> tuple[list[Turn], list[float]]:
    """Every agent turn of the demonstrator's episodes, and the fraction of each task's episodes that got a reward."""
    expected = {
        task.id: tuple(_call(a.name, a.arguments) for a in task.evaluation_criteria.actions)
        for task in tasks
    }
    scripts = sorted({*expected.values(), (), (WORDS,)})
    turns: list[Turn] = []

    def demonstrator(script: tuple[str, ...]) -> CallLLM:
        async def say(
            messages: list[dict], tools: list[dict], tool_choice: str | None
        ) -> ChatCompletion:
            text = script[sum(message["role"] == "assistant" for message in messages)]
            turns.append((list(messages), tools, text))
            return completion(text, tools, "stop")

        return say

    solved = []
    for task in tasks:
        right = expected[task.id]
        wrong = [script for script in scripts if script != right]
        played = wrong + [right] * round(RIGHT_PER_WRONG * len(wrong))
        rewards = [
            asyncio.run(play(task, demonstrator((*script, _call("done", {}))))) for script in played
        ]
        solved.append(sum(rewards) / len(rewards))
    return turns, solved


async def play(task: Task, agent: CallLLM) -> float:
    """The reward of one episode by tau2's evaluation."""
    episode = AsyncOrchestrator(ECONFIG, task, agent, None)
    await episode.converse()
    return evaluate_episode(
        episode.simulation_run(), task, ECONFIG.domain, ECONFIG.solo_mode, thinking_tool=False
    ).reward


async def solved_fractions(
    model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, tasks: list[Task]
) -> list[float]:
    """The solved fraction of each task at temperature 1."""
    policy = Policy(model, tokenizer)
    rewards = await asyncio.gather(
        *(play(task, policy) for task in tasks for _ in range(CHECKED_EPISODES))
    )
    return [
        sum(rewards[i : i + CHECKED_EPISODES]) / CHECKED_EPISODES
        for i in range(0, len(rewards), CHECKED_EPISODES)
    ]


def _batches(examples: list, rng: random.Random) -> Iterator[list]:
    """Batches of one shuffled pass after another."""
    pool = []
    while True:
        if len(pool) < BATCH_SIZE:
            pool += rng.sample(examples, len(examples))
        yield [pool.pop(0) for _ in range(BATCH_SIZE)]


def tiny_config(tokenizer: PreTrainedTokenizerFast) -> Qwen3Config:
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
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def _tokenize(tokenizer: PreTrainedTokenizerFast, turn: Turn) -> tuple[list[int], list[int]]:
    """(prompt, answer with its end token) as the model sees them when it generates: the answer is not merged with the prompt."""
    messages, tools, text = turn
    answer = tokenizer(text, add_special_tokens=False)["input_ids"]
    return render(tokenizer, messages, tools), [*answer, tokenizer.eos_token_id]


def _loss(
    model: Qwen3ForCausalLM, batch: list[tuple[list[int], list[int]]], padding: int
) -> torch.Tensor:
    """Mean negative log-likelihood of the answers' tokens, in nats."""
    length = max(len(prompt) + len(answer) for prompt, answer in batch)
    tokens = torch.full((len(batch), length), padding)
    labels = torch.full((len(batch), length), -100)
    for row, (prompt, answer) in enumerate(batch):
        end = len(prompt) + len(answer)
        tokens[row, :end] = torch.tensor(prompt + answer)
        labels[row, len(prompt) : end] = torch.tensor(answer)
    # padding is on the right of a causal model: no mask needed
    logits = model(input_ids=tokens).logits
    return cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def _sources() -> str:
    """What the model is made by, so that a change of it makes a new one."""
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
