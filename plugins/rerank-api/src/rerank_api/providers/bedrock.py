"""Amazon Bedrock: ``POST https://bedrock-agent-runtime.{region}.amazonaws.com/rerank``, signed with SigV4.

At most 1,000 sources per request, each of at most 32,000 characters, beyond which the error is Bedrock's own
(docs.aws.amazon.com/bedrock/latest/APIReference, Rerank and RerankTextDocument). botocore finds the credentials and
signs (``pip install 'rerank-api[bedrock]'``); the signed request goes through our own pool, with the usual deadlines,
retries and cancellation. Errors are ``{"message": …}``, their type in ``x-amzn-errortype``.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from rerank import AuthenticationError, InvalidOptionsError
from rerank_api.answers import read_list
from rerank_api.options import ApiOptions
from rerank_api.provider import Connection, Provider, Question
from rerank_http.wire import Reply, Sender, as_reply, encode, merge_headers

_REGION: Final = re.compile(r"[a-z]{2,4}(-[a-z]+)+-\d{1,2}")
_PARTITIONS: Final = {
    "cn-": ("aws-cn", "amazonaws.com.cn"),
    "us-gov-": ("aws-us-gov", "amazonaws.com"),
    "eusc-": ("aws-eusc", "amazonaws.eu"),
}
"""By a region's start: how its ARNs begin, and its domain (botocore's data/partitions.json)."""


def region(options: ApiOptions, model: str | None) -> str:
    """The region given, else that of the model's ARN, else the environment's or that of the AWS profile.

    Raises:
        InvalidOptionsError: None is set, or it is no region.
    """
    found = options.region or _region_of_arn(model or "") or _region_of_environment()
    if not found:
        raise InvalidOptionsError(
            "bedrock needs an AWS region: pass region=, give the model as an ARN, "
            "or set AWS_REGION or a profile's region"
        )
    if not _REGION.fullmatch(found):  # it becomes part of the host's name
        raise InvalidOptionsError(f"{found!r:.60} is not an AWS region: pass region= such as 'us-east-1'")
    return found


def partition(region: str) -> tuple[str, str]:
    """How the ARNs of a region begin, and its domain."""
    return next((own for start, own in _PARTITIONS.items() if region.startswith(start)), ("aws", "amazonaws.com"))


def url(model: str | None, options: ApiOptions) -> str:
    """The address of a region's service."""
    own = region(options, model)
    return f"https://bedrock-agent-runtime.{own}.{partition(own)[1]}"


def _region_of_arn(model: str) -> str:
    parts = model.split(":")
    return parts[3] if parts[0] == "arn" and len(parts) > 3 else ""


def _region_of_environment() -> str | None:
    if own := os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"):
        return own
    return _region_of_profile(os.environ.get("AWS_PROFILE"), os.environ.get("AWS_CONFIG_FILE"))


@cache
def _region_of_profile(profile: str | None, config_file: str | None) -> str | None:
    """The region that botocore reads from these variables and its files, once: every request asks for it.

    Raises:
        InvalidOptionsError: The profile cannot be read.
    """
    try:
        session = importlib.import_module("botocore.session").get_session()
    except ImportError:
        return None
    try:
        found: str | None = session.get_config_variable("region")
    except Exception as error:  # as for a profile that does not exist
        raise InvalidOptionsError(
            f"the AWS profile cannot be read ({error}): correct AWS_PROFILE, or pass region="
        ) from error
    return found


def request(question: Question) -> Mapping[str, Any]:
    """The body of a Bedrock request."""
    arn = question.model or ""
    if not arn.startswith("arn:"):
        own = region(question.options, arn)
        arn = f"arn:{partition(own)[0]}:bedrock:{own}::foundation-model/{arn}"
    return {
        "queries": [{"type": "TEXT", "textQuery": {"text": question.query}}],
        "sources": [
            {
                "type": "INLINE",
                "inlineDocumentSource": {"type": "TEXT", "textDocument": {"text": text}},
            }
            for text in question.texts
        ],
        "rerankingConfiguration": {
            "type": "BEDROCK_RERANKING_MODEL",
            "bedrockRerankingConfiguration": {
                "modelConfiguration": {"modelArn": arn},
                "numberOfResults": len(question.texts) if question.top_k is None else question.top_k,
            },
        },
    }


def connect(connection: Connection) -> Sender:
    """A sender that signs with the machine's own AWS credentials.

    Raises:
        AuthenticationError: botocore is not installed.
        InvalidOptionsError: A key was given, which would not be sent.
    """
    if connection.key is not None:
        raise InvalidOptionsError(
            "bedrock signs with AWS credentials: leave api_key out, and set AWS_PROFILE or their variables"
        )
    logging.getLogger("botocore.auth").addFilter(_holds_no_token)
    try:
        session = importlib.import_module("botocore.session").get_session()
        auth = importlib.import_module("botocore.auth")
        awsrequest = importlib.import_module("botocore.awsrequest")
    except ImportError as error:
        raise AuthenticationError(
            "bedrock needs botocore to sign its requests: pip install 'rerank-api[bedrock]'", provider="bedrock"
        ) from error

    def sign(content: bytes) -> Mapping[str, str]:
        credentials = session.get_credentials()
        if credentials is None:
            raise AuthenticationError(
                "bedrock has no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
                provider="bedrock",
            )
        frozen = credentials.get_frozen_credentials()
        for secret in (frozen.secret_key, frozen.token or ""):
            connection.keep_secret(secret)
        signed = awsrequest.AWSRequest("POST", connection.url, {"Content-Type": "application/json"}, content)
        auth.SigV4Auth(frozen, "bedrock", region(connection.options, connection.model)).add_auth(signed)
        return dict(signed.headers)

    async def send(body: Mapping[str, Any]) -> Reply:
        content = encode(body)
        signed = await asyncio.to_thread(sign, content)  # credentials may be fetched or refreshed over the network
        headers = merge_headers(connection.headers, signed)
        return as_reply(await connection.client.post(connection.url, content=content, headers=headers))

    return send


def rest(body: Mapping[str, Any], answer: Any) -> Mapping[str, Any] | None:
    """The body that asks for an answer's next page."""
    return {**body, "nextToken": answer["nextToken"]} if answer.get("nextToken") else None


def _holds_no_token(record: logging.LogRecord) -> bool:
    """Drop botocore's log records of a signed request that contain a session token."""
    return "x-amz-security-token:" not in record.getMessage().lower()


BEDROCK: Final = Provider(
    name="bedrock",
    summary="Amazon Bedrock",
    url=url,
    path="/rerank",
    key_required=False,
    models={"en": "cohere.rerank-v3-5:0", "other": "cohere.rerank-v3-5:0"},
    request=request,
    answer=read_list(score="relevanceScore", usage=()),
    takes=frozenset({"region"}),
    max_documents=1000,
    connect=connect,
    rest=rest,
)
