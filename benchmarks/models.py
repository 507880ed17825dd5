"""The models and tokenizers that the benchmark of training steps knows."""

import copy
from pathlib import Path

import litellm.litellm_core_utils.tokenizers as litellm_tokenizers
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)
from transformers.convert_slow_tokenizer import TikTokenConverter

from examples.tau2.cpu.tokenizer import in_chat_format
from examples.tau2.training.launch import ConfigError

# Qwen3's vocabulary is that of tiktoken's cl100k_base and more. litellm carries cl100k_base under
# this name.
CL100K_BASE = (
    Path(next(iter(litellm_tokenizers.__path__))) / "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"
)
# How Qwen3 splits text into words; each digit is a word.
QWEN3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _published_qwen3(hidden_size: int, intermediate_size: int) -> Qwen3Config:
    """Make the config of a published Qwen3 model with less than 4 billion parameters."""
    return Qwen3Config(
        tie_word_embeddings=True,
        head_dim=128,
        num_attention_heads=16,
        num_key_value_heads=8,
        num_hidden_layers=28,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        vocab_size=151_936,
    )


MODELS = {
    # The benchmark reduces its vocabulary to the tokens that occur: with all of Qwen3's tokens, a
    # CPU would be busy with logits only.
    "tiny": Qwen3Config(
        tie_word_embeddings=True,
        head_dim=32,
        num_attention_heads=1,
        num_key_value_heads=1,
        num_hidden_layers=2,
        hidden_size=64,
        intermediate_size=128,
    ),
    "0.6b": _published_qwen3(hidden_size=1024, intermediate_size=3072),
    "1.7b": _published_qwen3(hidden_size=2048, intermediate_size=6144),
}


def load_model(name: str) -> PretrainedConfig:
    """Return the config of one of `MODELS`, or that of a model's folder.

    Raises:
        ConfigError: `name` is neither.
    """
    if name in MODELS:
        return copy.deepcopy(MODELS[name])
    try:
        return AutoConfig.from_pretrained(Path(name))
    except (OSError, ValueError) as error:
        raise ConfigError(
            [f"--model: {name} is neither one of {', '.join(MODELS)} nor a folder with a config"]
        ) from error


def load_tokenizer(folder: Path | None) -> PreTrainedTokenizerFast:
    """Load the tokenizer of a folder; without a folder, make one that is nearly Qwen3's.

    Raises:
        ConfigError: the folder has no (fast) tokenizer.
    """
    if folder is None:
        return in_chat_format(TikTokenConverter(str(CL100K_BASE), pattern=QWEN3_WORDS).converted())
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ConfigError([f"--tokenizer: {folder} has no tokenizer"]) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ConfigError([f"--tokenizer: {folder} has no fast tokenizer"])
    return tokenizer
