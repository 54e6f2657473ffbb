"""What each provider demands of a request, written from their documentation and not from our code.

Strict on purpose: a member, a role or a block that is not named here is refused, so that nothing foreign slips through.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from tests.acceptance.speakers import Api


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_SHORT_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def check_request(body: Any, api: Api, *, provider: str = "", model: str = "") -> None:
    """Refuse what the provider refuses.

    Args:
        body: of the request.
        api: its format.
        provider: who is asked, where rules differ; the home of the format otherwise.
        model: the model's name, where the body does not say it.
    """
    _RULES[api](body, provider, model or str(body.get("model", "")))


class Calls:
    """The calls of a conversation: every id once, every call answered before anything else is said."""

    def __init__(self, legal: re.Pattern[str]) -> None:
        self._legal = legal
        self._seen: set[str] = set()
        self.waiting: list[str] = []

    def ask(self, call_id: str) -> None:
        """A call is made."""
        assert self._legal.fullmatch(call_id), f"the id {call_id!r} is not legal"
        assert call_id not in self._seen, f"the id {call_id!r} is there twice"
        self._seen.add(call_id)
        self.waiting.append(call_id)

    def answer(self, call_id: str, *, in_order: bool = True) -> None:
        """One is answered."""
        assert call_id in self.waiting, f"a result for {call_id!r}, which no call waits for"
        assert not in_order or self.waiting[0] == call_id, f"{call_id!r} is answered before {self.waiting[0]!r}"
        self.waiting.remove(call_id)

    def settled(self) -> None:
        """Nothing waits."""
        assert not self.waiting, f"calls without a result: {self.waiting}"


def _only(value: Any, allowed: Collection[str], required: Collection[str] = ()) -> dict[str, Any]:
    assert isinstance(value, dict), f"an object is expected, not {value!r:.100}"
    assert value.keys() <= set(allowed), f"{sorted(value.keys() - set(allowed))} in {value!r:.200}"
    assert value.keys() >= set(required), f"{sorted(set(required) - value.keys())} missing in {value!r:.200}"
    return value


def _said(text: Any) -> None:
    assert isinstance(text, str), f"a text is expected, not {text!r:.100}"
    assert text, "an empty text"


def _audible(text: Any) -> None:
    _said(text)
    assert text.strip(), "a blank text"


def _packed(data: Any) -> None:
    _said(data)
    assert base64.b64decode(data, validate=True), "no bytes"


def _linked(url: Any) -> None:
    _said(url)
    if url.startswith("data:"):
        _packed(url.partition(";base64,")[2])
    else:
        assert url.startswith("https://")


def _listed(value: Any) -> list[Any]:
    assert isinstance(value, list), f"a list is expected, not {value!r:.100}"
    assert value, "an empty list"
    return value


# ── Chat Completions ────────────────────────────────────────────────────────────────────────────────────────────────

_CHAT_BODY: Final = _words(
    "model messages tools tool_choice parallel_tool_calls stream stream_options max_tokens max_completion_tokens "
    "temperature response_format reasoning_effort"
)
_CHAT_BODIES: Final[Mapping[str, Collection[str]]] = {
    "deepseek": ("thinking",),
    "openrouter": ("reasoning", "cache_control"),
    "mistral": ("prompt_mode",),
}
_CHAT_THINKING: Final[Mapping[str, Collection[str]]] = {
    "deepseek": ("reasoning_content",),
    "openrouter": ("reasoning", "reasoning_details"),
    "ollama": ("reasoning",),
}
_CHAT_IDS: Final = {"mistral": re.compile(r"[a-zA-Z0-9]{9}")}
_CHAT_ITEMS: Final[Mapping[str, Collection[str]]] = {
    "openrouter": ("text", "image_url", "input_audio", "file", "video_url"),
    "mistral": ("text", "image_url", "input_audio", "document_url", "file"),
}


def _chat(body: Any, provider: str, model: str) -> None:
    del model
    mistral = provider == "mistral"
    members = _only(body, {*_CHAT_BODY, *_CHAT_BODIES.get(provider, ())}, ("model", "messages"))
    assert not (mistral and members.keys() & {"stream_options", "max_completion_tokens"})
    for tool in members.get("tools", ()):
        _only(tool, ("type", "function", "cache_control"))
        _only(tool["function"], ("name", "description", "parameters", "strict"), ("name", "parameters"))
        assert _NAME.fullmatch(tool["function"]["name"])
    calls = Calls(_CHAT_IDS.get(provider, re.compile(r"[\x21-\x7e]{1,40}")))
    before = ""
    for place, message in enumerate(_listed(members["messages"])):
        role = message["role"]
        if role != "tool":
            calls.settled()
        assert not (mistral and before == "tool" and role not in {"tool", "assistant"}), "only the assistant may follow"
        match role:
            case "system" | "developer":
                _only(message, ("role", "content"))
                assert not (mistral and place), "instructions come first"
                assert not (role == "developer" and provider not in {"", "openai", "azure"})
                for text in [message["content"]] if isinstance(message["content"], str) else message["content"]:
                    _said(text if isinstance(text, str) else _only(text, ("type", "text", "cache_control"))["text"])
            case "user":
                _only(message, ("role", "content"))
                _chat_content(message["content"], provider)
            case "assistant":
                _chat_answer(message, provider, calls)
            case "tool":
                name = ("name",) if mistral else ()
                _only(message, ("role", "tool_call_id", "content", *name), ("tool_call_id", "content", *name))
                assert isinstance(message["content"], str)
                calls.answer(message["tool_call_id"])
            case _:
                raise AssertionError(role)
        before = role
    calls.settled()
    assert before in {"user", "tool"}, "nobody asks for an answer"


def _chat_content(content: Any, provider: str) -> None:
    if isinstance(content, str):
        _said(content)
        return
    for item in _listed(content):
        kind = item["type"]
        assert kind in _CHAT_ITEMS.get(provider, ("text", "image_url", "input_audio", "file"))
        match kind:
            case "text":
                _said(_only(item, ("type", "text"))["text"])
            case "image_url" | "video_url":
                _linked(_only(_only(item, ("type", kind))[kind], ("url", "detail"))["url"])
            case "input_audio" if provider == "mistral":
                _said(_only(item, ("type", "input_audio"))["input_audio"])
            case "input_audio":
                sound = _only(item, ("type", "input_audio"))["input_audio"]
                _packed(_only(sound, ("data", "format"), ("data", "format"))["data"])
            case "document_url":
                _linked(_only(item, ("type", "document_url", "document_name"))["document_url"])
            case _:
                file = _only(item, ("type", "file"))["file"]
                _only(file, ("filename", "file_data") if "file_data" in file else ("file_id",))
                if "file_data" in file:
                    _said(file["filename"])
                    _linked(file["file_data"])


def _chat_answer(message: Any, provider: str, calls: Calls) -> None:
    thinking = _CHAT_THINKING.get(provider, ())
    _only(message, ("role", "content", "refusal", "tool_calls", "annotations", *thinking))
    content = message.get("content")
    if content is not None and not isinstance(content, str):
        for item in _listed(content):
            assert item["type"] in ({"text", "thinking", "reference"} if provider == "mistral" else {"text"})
    asked = message.get("tool_calls", [])
    assert content or message.get("refusal") or asked, "an answer that says nothing"
    assert asked or "tool_calls" not in message, "an empty list of calls"
    for call in asked:
        _only(call, ("id", "type", "function"), ("id", "type", "function"))
        function = _only(call["function"], ("name", "arguments"), ("name", "arguments"))
        assert _NAME.fullmatch(function["name"]), f"the name {function['name']!r} is not legal"
        assert isinstance(function["arguments"], str)
        calls.ask(call["id"])
    if provider == "deepseek" and asked:
        assert isinstance(message.get("reasoning_content"), str), "calls without what was thought"


# ── Responses ───────────────────────────────────────────────────────────────────────────────────────────────────────

_RESPONSES_BODY: Final = _words(
    "model input instructions max_output_tokens tools tool_choice parallel_tool_calls text reasoning include store "
    "stream stream_options temperature"
)
_HOSTED: Final = re.compile(r"(?!function_|custom_)[a-z_]+_call|compaction")


def _responses(body: Any, provider: str, model: str) -> None:
    del provider, model
    members = _only(body, _RESPONSES_BODY, ("model", "input"))
    assert members["store"] is False, "nothing is to be kept there"
    for tool in members.get("tools", ()):
        names = ("type", "name", "description", "parameters", "strict")
        assert _NAME.fullmatch(_only(tool, names, ("type", "name", "parameters", "strict"))["name"])
    calls, ids, items = Calls(re.compile(r"[\x21-\x7e]{1,64}")), set[str](), _listed(members["input"])
    for item, after in zip(items, [*items[1:], None], strict=True):
        if "id" in item:
            assert item["id"] not in ids, "the same item twice"
            ids.add(item["id"])
        match item["type"]:
            case "message":
                calls.settled()
                _responses_message(item)
            case "function_call":
                _only(item, _words("type id call_id name arguments status"), ("call_id", "name", "arguments"))
                assert str(item.get("id", "fc_")).startswith("fc_")
                assert _NAME.fullmatch(item["name"]), f"the name {item['name']!r} is not legal"
                assert isinstance(item["arguments"], str)
                calls.ask(item["call_id"])
            case "function_call_output":
                output = _only(item, ("type", "call_id", "output"), ("call_id", "output"))["output"]
                assert isinstance(output, str) or _listed(output)
                calls.answer(item["call_id"], in_order=False)
            case "reasoning":
                _only(item, ("type", "id", "summary", "encrypted_content", "content", "status"), ("summary",))
                assert item.get("encrypted_content") or item.get("content"), "reasoning that nobody can read"
                assert str(item.get("id", "rs_")).startswith("rs_")
                follows = after or {"type": "nothing"}
                own = follows.get("role", "assistant") == "assistant"
                wanted = own and follows["type"] not in {"nothing", "function_call_output"}
                assert wanted, "reasoning without the item it led to"
            case kind:
                assert _HOSTED.fullmatch(kind), kind
                assert item["id"]
    calls.settled()
    last = items[-1]
    assert last["type"] == "function_call_output" or last.get("role") == "user", "nobody asks for an answer"


def _responses_message(item: Any) -> None:
    role, content = item["role"], item["content"]
    _only(item, ("type", "role", "content") + (("id", "status", "phase") if role == "assistant" else ()))
    assert role in {"user", "assistant", "system", "developer"}
    assert str(item.get("id", "msg_")).startswith("msg_")
    if isinstance(content, str):
        _said(content)
        return
    for piece in _listed(content):
        match role, piece["type"]:
            case "assistant", "output_text":
                _only(piece, ("type", "text", "annotations"))
                _said(piece["text"])
                assert "annotations" not in piece or "id" in item
            case "assistant", "refusal":
                _said(_only(piece, ("type", "refusal"))["refusal"])
            case "user" | "system" | "developer", "input_text":
                _said(_only(piece, ("type", "text"))["text"])
            case "user", "input_image":
                _linked(_only(piece, ("type", "image_url", "detail"), ("image_url",))["image_url"])
            case "user", "input_file":
                _only(piece, ("type", "filename", "file_data", "detail"), ("filename", "file_data"))
                _linked(piece["file_data"])
            case "user", "input_audio":
                _packed(_only(piece["input_audio"], ("data", "format"))["data"])
            case _:
                msg = f"{piece['type']} of the {role}"
                raise AssertionError(msg)


# ── Messages ────────────────────────────────────────────────────────────────────────────────────────────────────────

_MESSAGES_BODY: Final = _words(
    "model max_tokens stream temperature thinking output_config tool_choice cache_control container tools system "
    "messages"
)
_RESULT_OF_SERVER: Final = re.compile(r"(?!tool_result)[a-z_]+_tool_result")
_LONG_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}")


def _messages(body: Any, provider: str, model: str) -> None:
    del provider, model
    members = _only(body, _MESSAGES_BODY, ("model", "messages", "max_tokens"))
    assert members["max_tokens"] >= 1
    for tool in members.get("tools", ()):
        _only(tool, ("name", "description", "input_schema", "strict", "cache_control"), ("name", "input_schema"))
        assert _LONG_NAME.fullmatch(tool["name"])
    for block in members.get("system", ()):
        _audible(_only(block, ("type", "text", "cache_control"))["text"])
    calls = Calls(_SHORT_ID)
    for number, message in enumerate(_listed(members["messages"])):
        role, content = _only(message, ("role", "content"))["role"], _listed(message["content"])
        assert role == ("user", "assistant")[number % 2], "user and assistant take turns, the user first"
        kinds = [block["type"] for block in content]
        if role == "user":
            results = kinds.count("tool_result")
            assert kinds[:results] == ["tool_result"] * results, "results come first"
            for block in content:
                _messages_given(block, calls)
            calls.settled()
            texts = [block["text"] for block in content if block["type"] == "text"]
            assert not texts or any(text.strip() for text in texts), "nothing but blanks"
        else:
            assert kinds[-1] not in {"thinking", "redacted_thinking"}, "an answer ends in thinking"
            _messages_answer(content, calls)
    calls.settled()
    assert members["messages"][-1]["role"] == "user"


def _messages_given(block: Any, calls: Calls) -> None:
    match block["type"]:
        case "text":
            _said(_only(block, ("type", "text"))["text"])
        case "tool_result":
            _only(block, ("type", "tool_use_id", "content", "is_error"), ("tool_use_id",))
            if "content" in block:
                _audible(block["content"])
            assert block.get("content") or not block.get("is_error"), "an error without words"
            calls.answer(block["tool_use_id"], in_order=False)
        case "image" | "document" as kind:
            _only(block, ("type", "source", "title", "context", "citations"), ("source",))
            source = block["source"]
            match source["type"]:
                case "base64":
                    wanted = r"application/pdf" if kind == "document" else r"image/(png|jpeg|gif|webp)"
                    assert re.fullmatch(wanted, _only(source, ("type", "media_type", "data"))["media_type"])
                    _packed(source["data"])
                case "text":
                    _only(source, ("type", "media_type", "data"))
                    assert (kind, source["media_type"]) == ("document", "text/plain")
                case "url":
                    _linked(_only(source, ("type", "url"))["url"])
                case _:
                    raise AssertionError(source)
        case kind:
            raise AssertionError(kind)


def _messages_answer(content: list[Any], calls: Calls) -> None:
    served: set[str] = set()
    for place, block in enumerate(content):
        match block["type"]:
            case "text":
                _said(_only(block, ("type", "text", "citations"))["text"])
                assert block["text"].strip() or 0 < place < len(content) - 1, "a blank text at an end"
            case "thinking":
                _said(_only(block, ("type", "thinking", "signature"), ("thinking", "signature"))["signature"])
            case "redacted_thinking":
                _said(_only(block, ("type", "data"))["data"])
            case "tool_use":
                _only(block, ("type", "id", "name", "input", "caller"), ("id", "name", "input"))
                assert _LONG_NAME.fullmatch(block["name"]), f"the name {block['name']!r} is not legal"
                assert isinstance(block["input"], dict)
                calls.ask(block["id"])
            case "server_tool_use":
                served.add(_only(block, ("type", "id", "name", "input", "caller"), ("id", "name", "input"))["id"])
            case kind:
                assert _RESULT_OF_SERVER.fullmatch(kind), kind
                served.remove(block["tool_use_id"])
    assert not served, "a server's call without its result"


# ── generateContent ─────────────────────────────────────────────────────────────────────────────────────────────────

_GOOGLE_BODY: Final = _words("contents systemInstruction tools toolConfig generationConfig")
_GOOGLE_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}")
_GOOGLE_DATA: Final = _words(
    "text inlineData fileData functionCall functionResponse executableCode codeExecutionResult"
)


def _generate(body: Any, provider: str, model: str) -> None:
    del provider
    members = _only(body, _GOOGLE_BODY, ("contents",))
    for tool in members.get("tools", ()):
        for function in _only(tool, ("functionDeclarations",))["functionDeclarations"]:
            assert _GOOGLE_NAME.fullmatch(_only(function, ("name", "description", "parametersJsonSchema"))["name"])
    for part in members.get("systemInstruction", {}).get("parts", ()):
        _audible(_only(part, ("text",))["text"])
    waiting: list[tuple[str, Any]] = []
    before = ""
    for content in _listed(members["contents"]):
        role, parts = _only(content, ("role", "parts"))["role"], _listed(content["parts"])
        kinds = [_google_part(part, role) for part in parts]
        answers = [part["functionResponse"] for part in parts if "functionResponse" in part]
        assert [(answer["name"], answer.get("id")) for answer in answers] == waiting, "calls and results do not match"
        assert not waiting or set(kinds) == {"functionResponse"}, "something else among the results"
        assert role == "user" or before == "user", "the model speaks after the user only"
        asked = [part for part in parts if "functionCall" in part]
        waiting = [(part["functionCall"]["name"], part["functionCall"].get("id")) for part in asked]
        if asked and re.match(r"gemini-[3-9]", model):
            assert "thoughtSignature" in asked[0], "the first call has no signature"
        before = role
    assert not waiting, "calls without a result"
    assert before == "user", "nobody asks for an answer"


def _google_part(part: Any, role: str) -> str:
    _only(part, {*_GOOGLE_DATA, "thought", "thoughtSignature"})
    (kind,) = part.keys() & _GOOGLE_DATA
    if "thoughtSignature" in part:
        _packed(part["thoughtSignature"])
    match kind:
        case "text":
            assert isinstance(part["text"], str)
            assert part["text"] or "thoughtSignature" in part, "an empty text"
        case "functionCall":
            assert role == "model"
            call = _only(part[kind], ("id", "name", "args"), ("name",))
            assert _GOOGLE_NAME.fullmatch(call["name"]), f"the name {call['name']!r} is not legal"
            assert isinstance(call.get("args", {}), dict)
        case "functionResponse":
            assert role == "user"
            assert isinstance(_only(part[kind], ("id", "name", "response"), ("name", "response"))["response"], dict)
        case "inlineData":
            _packed(_only(part[kind], ("mimeType", "data"), ("mimeType", "data"))["data"])
        case "fileData":
            _only(part[kind], ("mimeType", "fileUri"), ("mimeType", "fileUri"))
        case _:
            assert role == "model"
    assert role == "model" or not part.keys() & {"thought", "thoughtSignature"}
    assert role in {"user", "model"}
    return str(kind)


# ── Converse ────────────────────────────────────────────────────────────────────────────────────────────────────────

_CONVERSE_BODY: Final = _words("inferenceConfig additionalModelRequestFields outputConfig toolConfig system messages")
_CONVERSE_BLOCKS: Final = _words(
    "text image document video audio toolUse toolResult reasoningContent cachePoint citationsContent"
)
_DOCUMENT_NAME: Final = re.compile(r"(?!.*\s\s)[A-Za-z0-9\s\-()\[\]]{1,200}")


def _converse(body: Any, provider: str, model: str) -> None:
    del provider
    members = _only(body, _CONVERSE_BODY, ("messages",))
    for block in members.get("system", ()):
        if "cachePoint" not in block:
            _audible(_only(block, ("text",))["text"])
    tools = members.get("toolConfig", {}).get("tools", [])
    for tool in tools:
        spec = _only(tool["toolSpec"], ("name", "description", "inputSchema", "strict"), ("name", "inputSchema"))
        assert _NAME.fullmatch(spec["name"])
        assert spec.get("description", "x")
    calls, names = Calls(_SHORT_ID), set[str]()
    for number, message in enumerate(_listed(members["messages"])):
        role, content = _only(message, ("role", "content"))["role"], _listed(message["content"])
        assert role == ("user", "assistant")[number % 2], "user and assistant take turns, the user first"
        kinds = [_converse_block(block, role, calls, names) for block in content]
        results = kinds.count("toolResult")
        if role == "user":
            assert kinds[:results] == ["toolResult"] * results
            calls.settled()
            bulky = {"document", "video"} & set(kinds)
            assert not (results and bulky and "anthropic" in model), "a document beside results"
        else:
            assert kinds[-1] != "reasoningContent", "an answer ends in thinking"
        assert "document" not in kinds or "text" in kinds, "a document without words"
        assert tools or not {"toolUse", "toolResult"} & set(kinds), "calls without any tool"
    calls.settled()
    assert members["messages"][-1]["role"] == "user"


def _converse_block(block: Any, role: str, calls: Calls, names: set[str]) -> str:
    (kind,) = _only(block, _CONVERSE_BLOCKS)
    held = block[kind]
    match kind:
        case "text":
            _audible(held)
        case "toolUse":
            assert role == "assistant"
            _only(held, ("toolUseId", "name", "input", "type"), ("toolUseId", "name", "input"))
            assert _NAME.fullmatch(held["name"]), f"the name {held['name']!r} is not legal"
            assert isinstance(held["input"], dict)
            if held.get("type") != "server_tool_use":
                calls.ask(held["toolUseId"])
        case "toolResult" if role == "assistant":
            assert held["type"]
        case "toolResult":
            _only(held, ("toolUseId", "content", "status"), ("toolUseId", "content"))
            for told in _listed(held["content"]):
                _audible(_only(told, ("text",))["text"])
            calls.answer(held["toolUseId"])
        case "reasoningContent":
            assert role == "assistant"
            _only(held, ("reasoningText", "redactedContent"))
            if "reasoningText" in held:
                _said(_only(held["reasoningText"], ("text", "signature"), ("text", "signature"))["signature"])
            else:
                _packed(held["redactedContent"])
        case "document" | "image" | "video" | "audio":
            _only(held, ("format", "source", *(("name",) if kind == "document" else ())), ("format", "source"))
            _packed(_only(held["source"], ("bytes",))["bytes"])
            if kind == "document":
                assert _DOCUMENT_NAME.fullmatch(held["name"]), f"the name {held['name']!r} is not legal"
                assert held["name"].lower() not in names, "two documents of one name"
                names.add(held["name"].lower())
        case _:
            raise AssertionError(kind)
    return str(kind)


# ── /api/chat ───────────────────────────────────────────────────────────────────────────────────────────────────────

_OLLAMA_BODY: Final = _words("model messages tools format options stream think truncate shift keep_alive")


def _ollama(body: Any, provider: str, model: str) -> None:
    del provider, model
    members = _only(body, _OLLAMA_BODY, ("model", "messages", "stream"))
    calls, called = Calls(re.compile(r".{1,64}")), dict[str, str]()
    before = ""
    for message in _listed(members["messages"]):
        role = message["role"]
        assert isinstance(message["content"], str)
        for image in message.get("images", ()):
            _packed(image)
        if role != "tool":
            calls.settled()
        match role:
            case "system" | "user":
                _only(message, ("role", "content", "images"))
                assert message["content"] or message.get("images"), "nothing is said"
            case "assistant":
                _only(message, ("role", "content", "thinking", "images", "tool_calls"))
                assert message["content"] or message.get("tool_calls") or message.get("images"), "nothing is said"
                for call in message.get("tool_calls", ()):
                    _only(call, ("id", "type", "function"), ("function",))
                    function = _only(call["function"], ("index", "name", "arguments"), ("name", "arguments"))
                    assert isinstance(function["arguments"], dict)
                    assert isinstance(function["name"], str)
                    calls.ask(call["id"])
                    called[call["id"]] = function["name"]
            case "tool":
                _only(message, ("role", "content", "tool_name", "tool_call_id", "images"))
                assert message["tool_name"] == called[message["tool_call_id"]]
                calls.answer(message["tool_call_id"])
            case _:
                raise AssertionError(role)
        before = role
    calls.settled()
    assert before in {"user", "tool"}, "nobody asks for an answer"


_RULES: Final[Mapping[Api, Callable[[Any, str, str], None]]] = {
    "openai_chat": _chat,
    "openai_responses": _responses,
    "anthropic": _messages,
    "gemini": _generate,
    "bedrock": _converse,
    "ollama": _ollama,
}
