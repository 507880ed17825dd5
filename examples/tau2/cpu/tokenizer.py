"""A tokenizer in Qwen3's chat format, small enough for a model of a million parameters."""

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
# like Qwen3's: tokens of their own, but part of the text, so that parsers find them in what is decoded
TEXT_TOKENS = (
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
)


def untrained_tokenizer() -> PreTrainedTokenizerFast:
    """Renders text in the chat format, but knows no more than bytes."""
    return in_chat_format(_bpe())


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, min_frequency: int
) -> PreTrainedTokenizerFast:
    """A byte-level BPE over `texts` that merges across words and lines.

    It is split only before capital letters and around digits, so that the constant parts of a prompt collapse to a few
    tokens each, while what differs between prompts (seen less than `min_frequency` times) stays in small pieces.
    """
    tokenizer = _bpe()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(CONTROL_TOKENS),
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    # a text token splits the prompt wherever it stands, in training as in use
    tokenizer.add_tokens(
        [AddedToken(token, special=False, normalized=False) for token in TEXT_TOKENS]
    )
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


def in_chat_format(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Any tokenizer with Qwen3's special tokens and chat template."""
    tokenizer.add_special_tokens(list(CONTROL_TOKENS))
    tokenizer.add_tokens(
        [AddedToken(token, special=False, normalized=False) for token in TEXT_TOKENS]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE.read_text(),
        clean_up_tokenization_spaces=False,
    )
