"""From text to token ids as lm-eval's `hf` model does it, and where thoughts come between a context and its continuation."""

from __future__ import annotations

from typing import Any

from latentthought.errors import ConfigError
from latentthought.evaluation.models import positions_taken


class HarnessTokens:
    """The part of the model class that deals with text: chat templates, begin tokens, the border between two texts."""

    tokenizer: Any
    thoughts: Any
    model: Any
    add_bos_token: bool | None
    chat_template_args: dict[str, Any]
    _prefix_token_id: int | None
    # whether lm-eval has asked for the chat template
    _templated = False

    @property
    def eot_token_id(self) -> int:
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        """What an empty context is made of: the begin token, else the end token."""
        for token in (self._prefix_token_id, self.tokenizer.bos_token_id):
            if token is not None:
                return token
        return self.eot_token_id

    @property
    def tokenizer_name(self) -> str:
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The turns as one text; what the model was trained to be prompted without (`format.chat_drop`) is taken off its end."""
        if not self.tokenizer.chat_template:
            raise ConfigError("--apply_chat_template: this model's tokenizer has no chat template")
        text = self.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
            **self.chat_template_args,
        )
        self._templated = True
        trained = getattr(self.model.config, "prompt_format", None) or {}
        return str(text).removesuffix(trained.get("chat_drop", "") if add_generation_prompt else "")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Token ids; special tokens by the tokenizer's own rule, but never a second begin token."""
        special = self.add_bos_token if add_special_tokens is None else add_special_tokens
        prefix = self.tokenizer.decode([self.prefix_token_id])
        if add_special_tokens is None and prefix and string.startswith(prefix):
            special = False
        return self.tokenizer.encode(string, **({} if special is None else {"add_special_tokens": special}))

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Ids of a context and its continuation.

        Without thoughts as lm-eval does it, spaces at the end of the context moved over. With thoughts in between the context
        stays what it would be for `generate_until`, and the continuation has the tokens of its place in the text, or its own
        where one token would span the two.
        """
        if not positions_taken(self.model, self.thoughts):
            return super()._encode_pair(context, continuation)  # type: ignore[misc]
        given, whole = self.tok_encode(context), self.tok_encode(context + continuation)
        if whole[: len(given)] == given and len(whole) > len(given):
            return given, whole[len(given) :]
        return given, self.tok_encode(continuation, add_special_tokens=False)
