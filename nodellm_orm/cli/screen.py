"""What a conversation looks like: answers on stdout, all that is said beside them on stderr."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final, Literal, assert_never

from nodellm_orm.cli.consoles import complain, remarks, results
from nodellm_orm.domain.figures import count, money
from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.domain.printable import one_line, printable

if TYPE_CHECKING:
    from nodellm_orm.domain.replies import Chunk, Reply, ToolCall, ToolResult

_PROMPT: Final = "> "
_BRIEF: Final = 200
"""Characters of arguments and results that are shown while an answer arrives; `show` has all of them."""
_ENDINGS: Final = {
    FinishReason.LENGTH: "the answer was cut off: the limit of tokens was reached",
    FinishReason.CONTENT_FILTER: "the provider's filter stopped the answer",
    FinishReason.CANCELLED: "cancelled; what had arrived is kept",
    FinishReason.TOOL_LIMIT: "the model asked for more rounds of tools than allowed",
    FinishReason.COST_LIMIT: "the chat's limit of cost was reached",
    FinishReason.APPROVAL: "a tool call waits for approval, in the program that has the tool",
}


class Screen:
    """Keeps track of what the line being written belongs to.

    Args:
        interactive: whether a person types the questions.
    """

    def __init__(self, *, interactive: bool) -> None:
        """Begin on an empty line."""
        self.interactive = interactive
        self._results = results()
        self._remarks = remarks()
        self._line: Literal["answer", "thinking"] | None = None

    def chunk(self, chunk: Chunk) -> None:
        """Show one piece of an answer."""
        if chunk.thinking:
            self._write("thinking", chunk.thinking)
        if chunk.content:
            self._write("answer", chunk.content)
        if chunk.tool_call is not None:
            self.call(chunk.tool_call)
        if chunk.tool_result is not None:
            self.result(chunk.tool_result)

    def _write(self, kind: Literal["answer", "thinking"], text: str) -> None:
        if self._line not in {kind, None}:
            self.end_line()
        self._line = kind
        match kind:
            case "answer":
                self._results.out(printable(text), end="", highlight=False)
            case "thinking":
                self._remarks.out(printable(text), end="", style="dim", highlight=False)
            case _:
                assert_never(kind)

    def end_line(self) -> None:
        """Begin a new line, unless this one is empty."""
        match self._line:
            case None:
                return
            case "answer":
                self._results.out("")
            case "thinking":
                self._remarks.out("")
            case _:
                assert_never(self._line)
        self._line = None

    def call(self, call: ToolCall) -> None:
        """Show that the model calls a tool."""
        self.note(f"→ {call.name}({call.arguments})")

    def result(self, result: ToolResult) -> None:
        """Show what a tool gave."""
        self.note(f"{'✗' if result.is_error else '←'} {result.content}")

    def reply(self, reply: Reply[object]) -> None:
        """Close an answer that was shown, and say how it ended."""
        refusal = reply.message.refusal if reply.message is not None and not reply.content else ""
        if refusal:
            self._write("answer", refusal)
        self.end_line()
        if reply.finish_reason is not FinishReason.STOP:
            self.note(_ENDINGS.get(reply.finish_reason, f"ended: {reply.finish_reason}"))
        usage = reply.usage
        if self.interactive and usage.total_tokens is not None:
            tokens = f"{count(usage.input_tokens)} tokens in, {count(usage.output_tokens)} out"
            self.note(f"{tokens}, cost {money(reply.cost, unpriced=int(reply.cost is None))}")

    def whole(self, reply: Reply[object]) -> None:
        """Show an answer that was not streamed."""
        if reply.content:
            self._write("answer", reply.content)
        self.reply(reply)

    def note(self, text: str, limit: int | None = _BRIEF) -> None:
        """Say something beside the answers.

        Args:
            text: shown on one line.
            limit: characters of it, ``None``: all.
        """
        self.end_line()
        self._remarks.out(one_line(text, limit), style="dim", highlight=False)

    def error(self, error: BaseException) -> None:
        """Say what went wrong."""
        self.end_line()
        complain(error)

    def ask(self, prompt: str = _PROMPT) -> str:
        """A line that the person types.

        Args:
            prompt: shown before it.

        Raises:
            EOFError: the person leaves (Ctrl-D).
            KeyboardInterrupt: the person drops the line (Ctrl-C).
        """
        self.end_line()
        if sys.stdout.isatty():
            return input(prompt)
        # The answers go to a file: the prompt must not.
        self._remarks.out(prompt, end="", highlight=False)
        return input()

    def confirm(self, question: str) -> bool:
        """Whether the person agrees; an empty line does."""
        try:
            return self.ask(f"{question} [Y/n] ").strip().lower() in {"", "y", "yes"}
        except (EOFError, KeyboardInterrupt):
            self._remarks.out("")
            return False
