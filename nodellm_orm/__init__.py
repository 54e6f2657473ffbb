"""Chats with any model, kept in your own SQL database."""

from __future__ import annotations

from nodellm_orm.chat import Chat
from nodellm_orm.chats import Chats
from nodellm_orm.client import create_chat, interrupted_turns, list_chats, load_chat
from nodellm_orm.creating import create_llm
from nodellm_orm.domain.attachments import AttachmentPolicy
from nodellm_orm.domain.catalogue import ListedModel, ModelInfo
from nodellm_orm.domain.embeddings import Embeddings
from nodellm_orm.domain.found import FoundMessage, FoundMessages
from nodellm_orm.domain.messages import Completion, FinishReason, Message
from nodellm_orm.domain.money import Price
from nodellm_orm.domain.pages import ChatSummary, InterruptedTurn, Page
from nodellm_orm.domain.parts import (
    MediaPart,
    OpaquePart,
    RefusalPart,
    SummaryPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
)
from nodellm_orm.domain.policies import CircuitBreaker, Fallback, RetryPolicy, Timeout
from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.domain.ratelimit import RateLimit, RateLimits
from nodellm_orm.domain.replies import Chunk, Reply, Thinking, ToolCall, ToolResult
from nodellm_orm.domain.settings import ThinkingConfig
from nodellm_orm.domain.usage import Usage
from nodellm_orm.domain.windows import Window
from nodellm_orm.domain.words import Excerpt
from nodellm_orm.errors import (
    AttachmentError,
    AuthenticationError,
    BadRequestError,
    ChatBusyError,
    ChatError,
    ChatNotFoundError,
    CircuitOpenError,
    ConfigurationError,
    ContentFilterError,
    ContextWindowError,
    EncryptionError,
    IdempotencyError,
    LimitExceededError,
    ModelNotFoundError,
    NodeLLMError,
    OverloadedError,
    PermissionDeniedError,
    ProtocolError,
    ProviderConnectionError,
    ProviderError,
    ProviderTimeoutError,
    QuotaExceededError,
    RateLimitError,
    SchemaValidationError,
    SchemaVersionError,
    ServerError,
    SessionStateError,
    StaleChatError,
    StorageError,
    StreamInterruptedError,
    TamperedValueError,
    ToolError,
    ToolLimitError,
    TurnInterruptedError,
    UnsupportedFeatureError,
)
from nodellm_orm.llm import LLM
from nodellm_orm.neutral import AnthropicLLMClient, OpenAILLMClient
from nodellm_orm.ports.keeping import Persistence
from nodellm_orm.ports.llm import LLMClient, LLMCompleteResult, LLMMessage, LLMTool, LLMToolCall, LLMUsage
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.ports.states import ChatTotals
from nodellm_orm.ports.wire import ModelRequest
from nodellm_orm.providers.prices import refresh_prices
from nodellm_orm.providers.registry import register_provider
from nodellm_orm.replay.asking import replay_chat
from nodellm_orm.replay.llm import ReplayLLM
from nodellm_orm.replay.many import replay_chats
from nodellm_orm.replay.report import (
    ReplayAnswer,
    ReplayCall,
    ReplayProgress,
    ReplayReport,
    ReplayTotals,
    ReplayTurn,
)
from nodellm_orm.reporting.report import usage_report
from nodellm_orm.reporting.rollup import RollupReport, refresh_rollup
from nodellm_orm.reporting.rows import UsageRow
from nodellm_orm.runtime.stream import ReplyStream
from nodellm_orm.runtime.tools import Tool, ToolContext, ToolHalt, tool
from nodellm_orm.search.keeping import create_search_index, drop_search_index
from nodellm_orm.search.messages import search_messages
from nodellm_orm.store.encryption import Encryption
from nodellm_orm.store.engine import make_engine
from nodellm_orm.store.records import define_records
from nodellm_orm.store.rotation import RotationReport, UnreadableValue, rotate_keys
from nodellm_orm.store.schema import migrate
from nodellm_orm.transfer.exporting import export_chats
from nodellm_orm.transfer.importing import import_chats
from nodellm_orm.transfer.reports import ExportReport, ImportReport, TransferProgress
from nodellm_orm.upkeep.findings import Finding, VerifyProgress, VerifyReport
from nodellm_orm.upkeep.retention import PurgeReport, purge
from nodellm_orm.upkeep.verify import verify

__all__ = [
    "ANY_OWNER",
    "LLM",
    "AnthropicLLMClient",
    "AttachmentError",
    "AttachmentPolicy",
    "AuthenticationError",
    "BadRequestError",
    "Chat",
    "ChatBusyError",
    "ChatError",
    "ChatNotFoundError",
    "ChatSummary",
    "ChatTotals",
    "Chats",
    "Chunk",
    "CircuitBreaker",
    "CircuitOpenError",
    "Completion",
    "ConfigurationError",
    "ContentFilterError",
    "ContextWindowError",
    "Embeddings",
    "Encryption",
    "EncryptionError",
    "Excerpt",
    "ExportReport",
    "Fallback",
    "Finding",
    "FinishReason",
    "FoundMessage",
    "FoundMessages",
    "IdempotencyError",
    "ImportReport",
    "InterruptedTurn",
    "LLMClient",
    "LLMCompleteResult",
    "LLMMessage",
    "LLMTool",
    "LLMToolCall",
    "LLMUsage",
    "LimitExceededError",
    "ListedModel",
    "MediaPart",
    "Message",
    "ModelInfo",
    "ModelNotFoundError",
    "ModelProfile",
    "ModelRequest",
    "NodeLLMError",
    "OpaquePart",
    "OpenAILLMClient",
    "OverloadedError",
    "Page",
    "PermissionDeniedError",
    "Persistence",
    "Price",
    "ProtocolError",
    "ProviderConnectionError",
    "ProviderError",
    "ProviderTimeoutError",
    "PurgeReport",
    "QuotaExceededError",
    "RateLimit",
    "RateLimitError",
    "RateLimits",
    "RefusalPart",
    "ReplayAnswer",
    "ReplayCall",
    "ReplayLLM",
    "ReplayProgress",
    "ReplayReport",
    "ReplayTotals",
    "ReplayTurn",
    "Reply",
    "ReplyStream",
    "RetryPolicy",
    "RollupReport",
    "RotationReport",
    "SchemaValidationError",
    "SchemaVersionError",
    "ServerError",
    "SessionStateError",
    "StaleChatError",
    "StorageError",
    "StreamInterruptedError",
    "SummaryPart",
    "TamperedValueError",
    "TextPart",
    "Thinking",
    "ThinkingConfig",
    "ThinkingPart",
    "Timeout",
    "Tool",
    "ToolCall",
    "ToolCallPart",
    "ToolContext",
    "ToolError",
    "ToolHalt",
    "ToolLimitError",
    "ToolResult",
    "ToolResultPart",
    "TransferProgress",
    "TurnInterruptedError",
    "UnreadableValue",
    "UnsupportedFeatureError",
    "Usage",
    "UsageRow",
    "VerifyProgress",
    "VerifyReport",
    "Window",
    "create_chat",
    "create_llm",
    "create_search_index",
    "define_records",
    "drop_search_index",
    "export_chats",
    "import_chats",
    "interrupted_turns",
    "list_chats",
    "load_chat",
    "make_engine",
    "migrate",
    "purge",
    "refresh_prices",
    "refresh_rollup",
    "register_provider",
    "replay_chat",
    "replay_chats",
    "rotate_keys",
    "search_messages",
    "tool",
    "usage_report",
    "verify",
]
