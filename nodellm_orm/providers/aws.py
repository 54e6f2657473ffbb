"""Signatures of AWS (Signature Version 4), made with ``botocore``: its signer, and its ways of finding credentials.

``botocore`` is an extra and is imported when the first request is signed. What it logs while it signs (the request with
the session's token in it) is not asked for: only the steps of its signer are used that compute.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from nodellm_orm.errors import AuthenticationError, ConfigurationError, ProviderConnectionError
from nodellm_orm.transport import Secret
from nodellm_orm.transport.signing import Signature

if TYPE_CHECKING:
    from collections.abc import Callable

    from nodellm_orm.errors import NodeLLMError
    from nodellm_orm.transport.signing import Unsigned

LIBRARY: Final = "botocore"
INSTALL: Final = "pip install 'nodellm_orm[bedrock]'"
_TIMESTAMP: Final = "%Y%m%dT%H%M%SZ"
_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_DATE: Final = "x-amz-date"
_TOKEN: Final = "x-amz-security-token"  # noqa: S105 — the name of a header
_MISSING: Final = (
    "there are no AWS credentials: set AWS_BEARER_TOKEN_BEDROCK, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
    "AWS_PROFILE; or pass api_key, or aws_access_key_id and aws_secret_access_key, or aws_profile"
)
_SETTINGS: Final = (
    "ProfileNotFound",
    "PartialCredentialsError",
    "ConfigParseError",
    "ConfigNotFound",
    "InvalidConfigError",
    "UnknownCredentialError",
    "InfiniteLoopConfigError",
)
"""Errors of `botocore` that mean that something is written down wrongly."""
_NETWORK: Final = ("HTTPClientError", "MetadataRetrievalError")
_ROLES: Final = frozenset({"container-role", "iam-role"})
"""Where the machine itself is asked, over a network that may be away for a moment."""


def require_library(name: str = LIBRARY) -> None:
    """Make sure that requests can be signed, without importing what signs them.

    Args:
        name: of the package.

    Raises:
        ConfigurationError: it is not installed.
    """
    if find_spec(name) is None:
        msg = (
            f"requests to Amazon Bedrock are signed with {name}, which is not installed: {INSTALL}; or use a Bedrock "
            "API key: pass api_key, or set AWS_BEARER_TOKEN_BEDROCK"
        )
        raise ConfigurationError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsKeys:
    """Keys that were given; shown nowhere."""

    access_key_id: Secret
    secret_access_key: Secret
    session_token: Secret | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsIdentity:
    """As whom requests are signed, and for where."""

    region: str
    service: str
    keys: AwsKeys | None = None
    """``None`` looks where `botocore` looks: environment, files, single sign-on, the machine's own role."""
    profile: str | None = None
    """The section of the files that is meant."""


class AwsSigner:
    """A `Signer`; finds the credentials with the first request, and again when they have expired or were refused."""

    def __init__(self, identity: AwsIdentity, *, now: Callable[[], time.struct_time] = time.gmtime) -> None:
        """Keep; nothing is looked for yet.

        Args:
            identity: as whom, and for where.
            now: the time in UTC, which is part of every signature.
        """
        self._identity = identity
        self._now = now
        self._lock = threading.Lock()
        self._found: Any = None

    def __repr__(self) -> str:
        return f"AwsSigner({self._identity!r})"

    def sign(self, request: Unsigned) -> Signature:
        """See `Signer.sign`.

        Args:
            request: as it is about to be sent.

        Raises:
            ConfigurationError: there are no credentials, or they are written down wrongly.
            AuthenticationError: a login has expired, or a role cannot be taken.
            ProviderConnectionError: where they come from cannot be reached.
        """
        credentials = self._credentials()
        signing = import_module("botocore.auth").SigV4Auth(credentials, self._identity.service, self._identity.region)
        headers = {_DATE: time.strftime(_TIMESTAMP, self._now())}
        secrets = {} if credentials.token is None else {_TOKEN: Secret(credentials.token)}
        unsigned = import_module("botocore.awsrequest").AWSRequest(
            method=request.method,
            url=request.url,
            headers={**request.headers, **headers, **{name: secret.reveal() for name, secret in secrets.items()}},
            data=request.body,
        )
        unsigned.context["timestamp"] = headers[_DATE]
        signature = signing.signature(signing.string_to_sign(unsigned, signing.canonical_request(unsigned)), unsigned)
        covered = signing.signed_headers(signing.headers_to_sign(unsigned))
        stated = f"Credential={signing.scope(unsigned)}, SignedHeaders={covered}, Signature={signature}"
        secrets["authorization"] = Secret(f"{_ALGORITHM} {stated}")
        return Signature(headers=headers, secret_headers=secrets)

    def refused(self) -> None:
        """See `Signer.refused`."""
        with self._lock:
            self._found = None

    def _credentials(self) -> Any:
        """The credentials of this moment, under a lock of their own while they are renewed."""
        failure: NodeLLMError | None = None
        try:
            with self._lock:
                if self._found is None:
                    self._found = self._looked_for()
                found = self._found
            if found is not None:
                return found.get_frozen_credentials()
        except Exception as error:  # noqa: BLE001 — every way of finding credentials has errors of its own
            failure = _failure(error)
        # Raised here, so that neither the foreign error nor its frames, which hold keys, hang on to ours.
        raise failure or ConfigurationError(_MISSING)

    def _looked_for(self) -> Any:
        keys = self._identity.keys
        if keys is None:
            return import_module("botocore.session").Session(profile=self._identity.profile).get_credentials()
        token = keys.session_token
        return import_module("botocore.credentials").Credentials(
            keys.access_key_id.reveal(), keys.secret_access_key.reveal(), None if token is None else token.reveal()
        )


def _failure(error: Exception) -> NodeLLMError:
    """What kept the credentials from being found, by the kind of error: its words may hold what a program printed."""
    known, kind = import_module("botocore.exceptions"), type(error).__name__
    if isinstance(error, tuple(getattr(known, name) for name in _SETTINGS)):
        return ConfigurationError(
            f"the AWS credentials are not written down as they should be ({kind}); check the profile, the files under "
            "~/.aws and the variables AWS_…"
        )
    asked = getattr(error, "kwargs", {}).get("provider")
    if asked in _ROLES or isinstance(error, tuple(getattr(known, name) for name in _NETWORK)):
        return ProviderConnectionError(f"the AWS credentials cannot be fetched ({kind}); nothing was sent, try again")
    return AuthenticationError(
        f"the AWS credentials cannot be used ({kind}); log in again (for instance aws sso login), or check the role"
    )
