"""What went wrong with one attempt, whether another may help, and the typed error that it becomes."""

from __future__ import annotations

import json
import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timezone
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any, Final

import httpx

from rerank import AuthenticationError, ProviderError, ProviderTimeoutError, RateLimitError, Secrets, shown_address
from rerank_http.answer_limit import AnswerTooDeepError, AnswerTooLargeError
from rerank_http.proxies import ProxyFailedError
from rerank_http.wire import Reply

TRANSIENT: Final = frozenset({408, 409, 429, *range(500, 600)}) - {501}
"""Statuses worth another attempt."""

_REQUEST_IDS: Final = ("x-request-id", "request-id", "x-amzn-requestid", "x-api-request-id", "nvcf-reqid", "x-trace-id")
_MESSAGES: Final = (
    "message",
    "Message",
    "error",
    "detail",
    "msg",
    "error_description",
    "error_msg",
    "error_message",
    "errorMessage",
    "reason",
    "faultstring",
    "fault",
    "title",
    "errors",
    "result",
)
"""Fields in which providers and gateways put their message, the likeliest first."""

_CODES: Final = ("code", "type", "error_code", "errorCode", "error_type", "__type", "status", "reason")
"""Fields in which they name the kind of failure, such as ``insufficient_quota``."""

_TOO_LARGE: Final = re.compile(
    r"(input|prompt|context|sequence|token|document|text|query|passage)s?\b[^.]*\b"
    r"(too (big|large|long)|(larger|longer) than|exceeds?)\b|"
    r"(context|sequence|input|prompt) (length|size|window) (is |was |has been )?exceeded|exceeds? (the )?(available )?context size|"
    r"batch size \d+ > maximum|too many documents|index out of range in self|"
    r"too many tokens|maximum context length|must have less than \d+ tokens|"
    r"size of (the )?tensor (a )?\(\d+\) must match|larger than max|(body|entity|payload) too large",
    re.IGNORECASE,
)
_MAY_PASS: Final = re.compile(
    r"rate limit|queue|deadline|timed? ?out|took too long|latency|overload|"
    r"concurrent|memory exceeds|out of memory",
    re.IGNORECASE,
)
_EXHAUSTED: Final = re.compile(
    r"insufficient ?(account|user)? ?(quota|balance|funds|credits?)|(balance|credits?) is (insufficient|too low)|"
    r"exceeded (your )?current (token )?quota|quota (is |has been )?(exhausted|used up)|no (more )?credits?\b|out of (credits|call volume quota)|"
    r"billing (hard limit|not active)|check (your|its) billing|budget (has been )?exceeded|arrearage|bill ?overdue|"
    r"account ?overdue|not purchased|not in good standing|free (allocated )?(quota|tier) .*(used up|exhausted|exceeded)|free ?tier ?only|"
    r"(/|per|this|the|current) month\b|monthly (\w+ )?(credits?|limit|quota|requests|tokens)|余额不足|欠费",
    re.IGNORECASE,
)
_BRIEF: Final = re.compile(r"(per|this|each|/) ?(second|minute|min)\b", re.IGNORECASE)
_LONGEST: Final = 400
_MOST_READ: Final = 1000
"""How many letters of a message and its codes are searched for what they mean: the time grows with their square."""
_DEEPEST: Final = 10
"""How deep a message may be nested."""
_DURATION: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One failed attempt.

    Args:
        what: What happened; follows the provider's name.
        step: What to do next.
        kind: The error it becomes.
        status: The HTTP status, if a response came.
        request_id: The provider's identifier, if it sent one.
        wait: Seconds that the provider asks to wait.
        transient: Whether another attempt may help.
    """

    what: str
    step: str
    kind: type[ProviderError] = ProviderError
    status: int | None = None
    request_id: str | None = None
    wait: float | None = None
    transient: bool = False

    def error(self, provider: str, attempts: int) -> ProviderError:
        """The typed error after this many attempts."""
        details = [f"request {self.request_id}"] if self.request_id else []
        details += [f"{attempts} attempts"] if attempts > 1 else []
        more = f" ({', '.join(details)})" if details else ""
        message = f"{provider} {self.what}{more}: {self.step}"
        if issubclass(self.kind, RateLimitError):
            return self.kind(
                message, provider=provider, status=self.status, request_id=self.request_id, retry_after=self.wait
            )
        return self.kind(message, provider=provider, status=self.status, request_id=self.request_id)


class AttemptError(Exception):
    """Carries a `Failure` out of an attempt."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.what)
        self.failure = failure


def of_reply(reply: Reply, secrets: Secrets, *, expected: str, key_hint: str) -> Failure | None:
    """What is wrong with a reply as a whole; None if its body may contain an answer.

    Args:
        reply: The reply.
        secrets: What messages must not show.
        expected: What should answer at the address, such as ``a rerank service``.
        key_hint: How to set a key, such as ``set COHERE_API_KEY or pass api_key=``.
    """
    if 200 <= reply.status < 300 and reply.text is None:
        return None
    request_id = _request_id(reply, secrets)
    if 200 <= reply.status < 300:
        return Failure(
            what=f"answered {reply.status} with {_not_json(reply, secrets)}",
            step=f"check url= and that {expected} answers there",
            status=reply.status,
            request_id=request_id,
        )
    message = message_of(reply, secrets)
    lasting = _lasting(reply.status, " ".join([message, *_codes_in(reply.body)])[:_MOST_READ].replace("_", " "))
    kind, step = _kind_and_step(reply.status, key_hint)
    wait = wait_of(reply.headers, time.time())
    asked = f"; it asks to wait {wait:.3g} s" if wait is not None and reply.status == 429 else ""
    return Failure(
        what=f"answered {reply.status}{f' ({message})' if message else ''}{_where(reply, secrets)}{asked}",
        step=lasting or step,
        kind=kind,
        status=reply.status,
        request_id=request_id,
        wait=wait,
        transient=reply.status in TRANSIENT and lasting is None,
    )


def _lasting(status: int, said: str) -> str | None:
    """What to do about a failure that another attempt meets again, whatever its status; None if it may pass."""
    if status == 501:
        return "start the server with reranking enabled, or use another server"
    if _BRIEF.search(said):
        return None
    if _EXHAUSTED.search(said):
        return "check the account's quota and credit"
    if status not in (413, 429) and _TOO_LARGE.search(said) and not _MAY_PASS.search(said):
        return (
            "send shorter documents, or fewer per request (batch_size=), or raise the server's limit (its batch size, its "
            "context or its max_length)"
        )
    return None


def _where(reply: Reply, secrets: Secrets) -> str:
    """Which address answered, where that is likely what is wrong, and where a redirect leads."""
    if reply.status in (404, 405) and reply.url:
        return f" at {_line(shown_address(reply.url), secrets, _LONGEST)}"
    if 300 <= reply.status < 400 and (target := reply.headers.get("location")):
        address, elsewhere = (_line(shown_address(url), secrets, _LONGEST) for url in (reply.url, target))
        return f" at {address}, redirecting to {elsewhere}"
    return ""


def of_answer(problem: str, reply: Reply, secrets: Secrets) -> Failure:
    """An answer that cannot be used: what is wrong with it, and the provider's message if it sent one."""
    message = message_of(reply, secrets) if isinstance(reply.body, Mapping) else ""
    return Failure(
        what=f"answered {reply.status}, but {_line(problem, secrets, _LONGEST)}{f'; it says: {message}' if message else ''}",
        step="check the model and the options, and that url= belongs to the provider",
        status=reply.status,
        request_id=_request_id(reply, secrets),
    )


def of_exception(error: httpx.HTTPError, url: str, secrets: Secrets) -> Failure:
    """A request to which no whole response came."""
    detail = _line(f"{type(error).__name__}: {error}".rstrip(": "), secrets, _LONGEST)
    if isinstance(error, AnswerTooLargeError):
        return Failure(what=f"sent {error}", step="raise max_answer_bytes= if you trust the service, or check url=")
    if isinstance(error, AnswerTooDeepError):
        return Failure(what=f"sent {error}", step="raise max_answer_depth= if you trust the service, or check url=")
    if _is_untrusted(error):
        return Failure(
            what=f"has an untrusted certificate at {shown_address(url)} ({detail})",
            step="check url=, or pass ca_file= with the certificates of your authority",
        )
    if isinstance(error, ProxyFailedError):
        return Failure(
            what=f"could not be reached at {shown_address(url)} through the proxy ({_line(str(error), secrets, _LONGEST)})",
            step=f"check the proxy that {error.origin} names, or "
            + ("leave it out" if error.origin == "proxy=" else "name the host in NO_PROXY"),
            kind=ProviderTimeoutError if isinstance(error.__cause__, httpx.TimeoutException) else ProviderError,
            transient=True,
        )
    if isinstance(error, httpx.ConnectTimeout):
        return Failure(
            what=f"could not be reached in time at {shown_address(url)} ({detail})",
            step="check url= and the network, or raise connect_timeout",
            kind=ProviderTimeoutError,
            transient=True,
        )
    if isinstance(error, httpx.TimeoutException):
        return Failure(
            what=f"stopped answering ({detail})",
            step="try again later, send fewer documents (batch_size=), or raise read_timeout",
            kind=ProviderTimeoutError,
            transient=True,
        )
    if isinstance(error, httpx.TransportError):
        return Failure(
            what=f"could not be reached, or broke the connection, at {shown_address(url)} ({detail})",
            step="check url=, the network and that the service runs, or try again later",
            transient=True,
        )
    return Failure(
        what=f"sent a response that cannot be decoded ({detail})", step="check url=, or report it to the provider"
    )


def message_of(reply: Reply, secrets: Secrets) -> str:
    """The provider's own message, in one line and without secrets; empty if there is none."""
    found = (_message_in(reply.body) or _shortened(reply.body)) if reply.text is None else _page(reply.text)
    return _line(found, secrets, _LONGEST)


def _line(text: str, secrets: Secrets, longest: int) -> str:
    """A server's text as messages show it: shortened to one line, without secrets, and with visible escapes."""
    words = " ".join(secrets.hide(text)[: 16 * longest].split())
    line = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in words[: longest + 1])
    return line if len(line) <= longest else line[: longest - 1] + "…"


def _message_in(body: Any, depth: int = 0) -> str:
    """The first message in a JSON body, in any of the fields that providers use; FastAPI's with the place it is about."""
    if isinstance(body, str):
        return body
    if depth == _DEEPEST:
        return ""
    if isinstance(body, list):
        return "; ".join(filter(None, (_message_in(part, depth + 1) for part in body[:3])))
    if isinstance(body, Mapping):
        place = body.get("loc")
        at = ".".join(map(str, place)) + ": " if isinstance(place, list) else ""
        return next((at + found for name in _MESSAGES if (found := _message_in(body.get(name), depth + 1))), "")
    return ""


def _codes_in(body: Any, depth: int = 0) -> list[str]:
    """The names of the failure in a JSON body, beside its messages."""
    if depth == _DEEPEST:
        return []
    if isinstance(body, list):
        return [code for part in body[:3] for code in _codes_in(part, depth + 1)]
    if not isinstance(body, Mapping):
        return []
    own = [value for name in _CODES if isinstance(value := body.get(name), str)]
    return own + [code for name in _MESSAGES for code in _codes_in(body.get(name), depth + 1)]


def _shortened(body: Any) -> str:
    """The start of a JSON body without any message that is known, as it is."""
    if body in ({}, [], ""):
        return ""
    parts = json.JSONEncoder(ensure_ascii=False).iterencode(body)  # part by part: a body can be large, or nested deep
    return "".join(islice(parts, _LONGEST))


def _page(text: str) -> str:
    title = re.search(r"<title[^>]*>(.*?)</title", text[:4096], re.IGNORECASE | re.DOTALL)
    return title[1] if title else text


def _not_json(reply: Reply, secrets: Secrets) -> str:
    text = (reply.text or "").lstrip()
    if not text:
        return "nothing instead of JSON"
    kind = "HTML" if text.startswith("<") else "incomplete JSON" if text[0] in "{[" else "text"
    return f"{kind} instead of JSON ({_line(_page(text), secrets, 80)!r})"


def _kind_and_step(status: int, key_hint: str) -> tuple[type[ProviderError], str]:
    if status in (401, 403):
        return AuthenticationError, f"{key_hint}, and check the key's permissions"
    if status == 429:
        return RateLimitError, "wait, lower max_concurrency, or set requests_per_minute or tokens_per_minute"
    if status in (408, 504):
        return ProviderTimeoutError, "try again later, or send fewer documents (batch_size=)"
    if status >= 500:
        return ProviderError, "try again later, or check the provider's status page"
    if 300 <= status < 400:
        return ProviderError, "redirects are not followed: give the final address as url="
    steps = {
        402: "check the account's credit",
        404: "check the model's name and url=",
        405: "check url=: give the server's route for reranking",
        407: "a proxy asks for a user and a password: give them in its variable, as http://user:password@proxy.example:3128",
        413: "send fewer documents per request (batch_size=) or shorter ones",
    }
    return ProviderError, steps.get(status, "check the model, the documents and the options")


def _request_id(reply: Reply, secrets: Secrets) -> str | None:
    found = next((reply.headers[name] for name in _REQUEST_IDS if reply.headers.get(name)), None)
    if found is None and isinstance(reply.body, Mapping):
        found = next((v for name in ("request_id", "id") if isinstance(v := reply.body.get(name), str) and v), None)
    return None if found is None else _line(found, secrets, 100)


def _is_untrusted(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def wait_of(headers: Mapping[str, str], now: float) -> float | None:
    """How many seconds the provider asks to wait: ``Retry-After``, else when its rate limits reset.

    Args:
        headers: Lower-case names.
        now: Seconds since 1970.
    """
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    if (after := headers.get("retry-after")) is not None:
        return _number(after) if _number(after) is not None else _until(after, now)
    waits = [
        wait
        for prefix in ("x-ratelimit", "ratelimit", "x-rate-limit")
        for suffix in ("", "-requests", "-tokens")
        if _number(headers.get(f"{prefix}-remaining{suffix}")) in (None, 0)
        and (wait := _reset(headers.get(f"{prefix}-reset{suffix}"), now)) is not None
    ]
    return max(waits, default=None)


def _number(text: str | None) -> float | None:
    """A number of at least 0; None if the text is not one."""
    return float(text) if text is not None and re.fullmatch(r"\s*\d{1,15}(\.\d*)?\s*", text) else None


def _until(date: str, now: float) -> float | None:
    try:
        then = parsedate_to_datetime(date)
        return max(0.0, (then if then.tzinfo else then.replace(tzinfo=timezone.utc)).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def _reset(text: str | None, now: float) -> float | None:
    """Seconds until a reset, given as seconds, as a time since 1970 in seconds or milliseconds, as ``6m0s`` or a date."""
    if text is None:
        return None
    if (number := _number(text)) is not None:
        if number < 1e8:
            return number
        return max(0.0, (number if number < 1e11 else number / 1000) - now)
    if text.strip() and (parts := _DURATION.fullmatch(text.strip())):
        hours, minutes, seconds, milliseconds = (float(part or 0) for part in parts.groups())
        return 3600 * hours + 60 * minutes + seconds + milliseconds / 1000
    return _until(text, now)
