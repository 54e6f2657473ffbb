"""Amazon Bedrock: all its models through Converse, with a Bedrock API key or with requests signed by AWS keys."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit

from nodellm_orm.errors import ConfigurationError
from nodellm_orm.providers.aws import AwsIdentity, AwsKeys, AwsSigner, require_library
from nodellm_orm.providers.endpoint import located
from nodellm_orm.providers.models_bedrock import BEDROCK_PROFILES
from nodellm_orm.providers.row import Dialect, KeyRule, ProviderRow
from nodellm_orm.transport import Secret, check_key
from nodellm_orm.transport.signing import SignedTransport
from nodellm_orm.wire.bedrock import Bedrock

if TYPE_CHECKING:
    from nodellm_orm.ports.transport import Transport
    from nodellm_orm.providers.endpoint import Endpoint
    from nodellm_orm.providers.row import Inquiry, Place
    from nodellm_orm.transport import HttpPool

_BASE_URL_ENV: Final = "AWS_ENDPOINT_URL_BEDROCK_RUNTIME"
_REGION_ENVS: Final = ("AWS_REGION", "AWS_DEFAULT_REGION")
_REGION: Final = re.compile(r"[a-z]{2,4}(?:-[a-z]+){1,3}-\d{1,2}")
_IN_HOST: Final = re.compile(rf"(?:^|\.)bedrock-runtime(?:-fips)?\.({_REGION.pattern})\.")
_SERVICE: Final = "bedrock"
_IDENTITY: Final = "identity"
_KEY_ENVS: Final = {
    "aws_access_key_id": "AWS_ACCESS_KEY_ID",
    "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "aws_session_token": "AWS_SESSION_TOKEN",
}
_NO_REGION: Final = (
    "bedrock needs to know its region: pass region, for instance region='us-east-1', or set AWS_REGION or "
    "AWS_DEFAULT_REGION"
)


def locate(inquiry: Inquiry) -> Place:
    """The endpoint of the region, and how its requests prove who sends them; nothing is looked for yet.

    AWS keys that are passed go before a Bedrock API key of the environment, and that one before everything else.

    Args:
        inquiry: ``api_key``, ``base_url``, the options, and the environment.

    Raises:
        ConfigurationError: the region is missing or malformed, half of a pair of keys is missing, or requests would
            have to be signed and the extra ``bedrock`` is not installed.
    """
    region = _region(inquiry)
    passed = any(name in inquiry.options for name in (*_KEY_ENVS, "aws_profile"))
    given = inquiry if not (passed and inquiry.api_key is None) else replace(inquiry, api_key="")
    if given.base_url is None and not given.environment.word(_BASE_URL_ENV):
        if region is None:
            raise ConfigurationError(_NO_REGION)
        given = replace(given, base_url=endpoint_of(region))
    place = located(given)
    if place.secret_headers:
        return replace(place, options={})
    require_library()
    found = _IN_HOST.search(urlsplit(place.base_url).hostname or "")
    region = region or (found[1] if found else None)
    if region is None:
        raise ConfigurationError(_NO_REGION)
    return replace(place, options={_IDENTITY: _identity(inquiry, region)})


def endpoint_of(region: str) -> str:
    """The address of Bedrock's runtime in a region.

    Args:
        region: its name, such as ``us-east-1``.
    """
    return f"https://bedrock-runtime.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"


def connect(endpoint: Endpoint, pool: HttpPool) -> Transport:
    """Plain HTTP with a Bedrock API key, signed requests without one.

    Args:
        endpoint: what `locate` found.
        pool: the client's connections.
    """
    identity = endpoint.options.get(_IDENTITY)
    if identity is None:
        return replace(endpoint, connect=None).transport(pool)
    return SignedTransport(
        endpoint.base_url,
        signer=AwsSigner(cast(AwsIdentity, identity)),
        headers=endpoint.headers,
        query={name: secret.reveal() for name, secret in endpoint.query.items()},
        pool=pool,
    )


def _region(inquiry: Inquiry) -> str | None:
    given = inquiry.options.get("region")
    named = ((name, inquiry.environment.word(name)) for name in _REGION_ENVS)
    name, region = (
        ("region", str(given)) if given is not None else next((pair for pair in named if pair[1]), ("", None))
    )
    if region is not None and not _REGION.fullmatch(region):
        # It becomes part of the host that keys are sent to.
        msg = f"{name}={region!r:.60} is not a region; give one like us-east-1"
        raise ConfigurationError(msg)
    return region


def _identity(inquiry: Inquiry, region: str) -> AwsIdentity:
    """As whom requests are signed: keys that are passed, else a profile that is, else the environment's of either."""
    passed = {name: str(inquiry.options[name]) for name in _KEY_ENVS if name in inquiry.options}
    profile = inquiry.options.get("aws_profile")
    if passed and profile is not None:
        msg = "aws_profile and AWS keys are two ways to say the same; give one of them"
        raise ConfigurationError(msg)
    if profile is not None:
        return AwsIdentity(region=region, service=_SERVICE, profile=str(profile))
    environment = {name: value for name, env in _KEY_ENVS.items() if (value := inquiry.environment.word(env))}
    if passed or {"aws_access_key_id", "aws_secret_access_key"} & environment.keys():
        keys = _keys(passed) if passed else _keys({_KEY_ENVS[name]: value for name, value in environment.items()})
        return AwsIdentity(region=region, service=_SERVICE, keys=keys)
    return AwsIdentity(region=region, service=_SERVICE, profile=inquiry.environment.word("AWS_PROFILE"))


def _keys(named: dict[str, str]) -> AwsKeys:
    """The pair of keys and perhaps its token, by the names that they were given under."""
    values = {name.lower(): Secret(check_key(name, value)) for name, value in named.items()}
    if missing := [name for name in ("aws_access_key_id", "aws_secret_access_key") if name not in values]:
        shown = missing[0] if next(iter(named)).islower() else missing[0].upper()
        msg = f"{shown} is missing: AWS keys come in pairs, and the other one is there"
        raise ConfigurationError(msg)
    return AwsKeys(
        access_key_id=values["aws_access_key_id"],
        secret_access_key=values["aws_secret_access_key"],
        session_token=values.get("aws_session_token"),
    )


BEDROCK: Final = ProviderRow(
    name="bedrock",
    dialects=(Dialect(wire=Bedrock(), profiles=BEDROCK_PROFILES, alias="converse"),),
    base_url_env=_BASE_URL_ENV,
    keys=(KeyRule(env="AWS_BEARER_TOKEN_BEDROCK"),),
    key_required=False,
    default_model="global.anthropic.claude-haiku-4-5-20251001-v1:0",
    embedding_model="amazon.titan-embed-text-v2:0",
    options=frozenset({"region", "aws_profile", *_KEY_ENVS}),
    locate=locate,
    connect=connect,
)
