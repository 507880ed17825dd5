"""Tokenizers in Qwen3's chat format, small enough for a model of a million parameters."""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja")
CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# As in Qwen3's tokenizer, each of them is one token, but is not special: decoded text keeps them,
# and parsers look for them there.
TEXT_TOKENS = (
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
)


def untrained_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer that renders the chat format; its only text tokens are single bytes."""
    return in_chat_format(_bpe())


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, min_frequency: int
) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE on `texts`, with merges across words and lines.

    Text is split at digits only. So each constant part of the prompts becomes a few tokens, and the
    parts that differ (seen less than `min_frequency` times) stay in small pieces.
    """
    tokenizer = _bpe()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(CONTROL_TOKENS),
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    # text tokens must split the texts in training as they do in use
    _add_text_tokens(tokenizer)
    tokenizer.train_from_iterator(texts, trainer)
    return in_chat_format(tokenizer)


def _bpe() -> Tokenizer:
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = Sequence(
        [
            Split(Regex(r"\d|\D+"), behavior="isolated"),
            ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = ByteLevelDecoder()
    return tokenizer


def _add_text_tokens(tokenizer: Tokenizer) -> None:
    tokens = [AddedToken(token, special=False, normalized=False) for token in TEXT_TOKENS]
    tokenizer.add_tokens(tokens)


def in_chat_format(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Add Qwen3's special tokens and chat template to a tokenizer."""
    tokenizer.add_special_tokens(list(CONTROL_TOKENS))
    _add_text_tokens(tokenizer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE.read_text(),
        clean_up_tokenization_spaces=False,
    )
