"""Providers of a simulated world: what each account answers is decided by rules over virtual time.

An answer that is no success is a status, headers and a body as providers send them, and goes through the gateway's own
table of failures, so that hints are read in the form in which they come.
"""

from __future__ import annotations

import json
import math
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from omniroute.formats.wire import WireFormat
from omniroute.providers.classify import classify
from omniroute.routing.failures import Failure, FailureClass, Sent
from omniroute.routing.view import QuotaWindow


@dataclass(frozen=True, slots=True)
class Reply:
    """What an account answers instead of serving. `rests_s`: for how long it has said to leave it alone."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    rests_s: float | None = None
    after_s: float = 0.05

    def failure(self, now: float) -> Failure:
        """Return what the gateway makes of it; status 0 is a connection that is refused."""
        if self.status == 0:
            return Failure("transport", FailureClass.TRANSIENT, sent=Sent.NONE)
        return classify(WireFormat.OPENAI_CHAT, self.status, self.headers, self.body, now=now)


def said(message: str, code: str = "", **more: Any) -> bytes:
    """Return an error body in the Chat dialect."""
    error: dict[str, Any] = {"message": message, "type": code or "error", **more}
    return json.dumps({"error": {**error, "code": code} if code else error}).encode()


UNAUTHORIZED = Reply(401, body=said("Incorrect API key provided.", "invalid_api_key"))
NO_CREDIT = Reply(402, body=said("Your credit balance is too low.", "billing_error"))
FORBIDDEN = Reply(403, body=said("You may not do this."))
RATE_LIMITED = Reply(429, body=said("Rate limit reached.", "rate_limit_exceeded"))
MALFORMED = Reply(400, body=said("Improperly formed request."))
TOO_LONG = Reply(400, body=said("This model's maximum context length is 8192 tokens.", "context_length_exceeded"))
MISSING = Reply(404, body=said("The model does not exist.", "model_not_found"))
NOT_IN_PLAN = Reply(403, body=said("This model is not in your plan.", "usage_not_included"))
DOWN = Reply(500, body=said("The server had an error.", "server_error"))
REFUSED = Reply(0, after_s=0.001)


def limited(rests_s: float, form: str = "header") -> Reply:
    """Return a 429 that says for how long, in one of the forms that providers use."""
    match form:
        case "header":
            return Reply(429, {"retry-after": f"{math.ceil(rests_s)}"}, RATE_LIMITED.body, rests_s)
        case "ms":
            return Reply(429, {"retry-after-ms": f"{math.ceil(rests_s * 1000)}"}, RATE_LIMITED.body, rests_s)
        case "window":
            headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": f"{rests_s:.3f}s"}
            return Reply(429, headers, RATE_LIMITED.body, rests_s)
        case "text":
            text = f"Rate limit reached. Please try again in {rests_s:.3f}s."
            return Reply(429, {}, said(text, "rate_limit_exceeded"), rests_s)
        case _:
            raise ValueError(form)


class Rule(Protocol):
    """Something about an account that may keep it from serving."""

    def reply(self, model: str, now: float) -> Reply | None:
        """Return what it answers to a call, and count the call; None where this rule lets it pass."""
        ...

    def lets_pass(self, model: str, now: float) -> bool:
        """Say whether a call would pass, without counting one."""
        ...


@dataclass(slots=True)
class Always:
    """The same answer, for some time and some models."""

    answer: Reply
    since: float = -math.inf
    until: float = math.inf
    models: Sequence[str] = ()

    def reply(self, model: str, now: float) -> Reply | None:
        return None if self.lets_pass(model, now) else self.answer

    def lets_pass(self, model: str, now: float) -> bool:
        return not self.since <= now < self.until or bool(self.models and model not in self.models)


@dataclass(slots=True)
class PerMinute:
    """So many calls in any minute; what is refused does not count."""

    calls: int
    form: str | None = "header"
    window_s: float = 60.0
    _taken: deque[float] = field(default_factory=deque)

    def reply(self, model: str, now: float) -> Reply | None:
        if self.lets_pass(model, now):
            self._taken.append(now)
            return None
        rests_s = self._taken[0] + self.window_s - now
        return RATE_LIMITED if self.form is None else limited(rests_s, self.form)

    def lets_pass(self, model: str, now: float) -> bool:
        del model
        while self._taken and self._taken[0] <= now - self.window_s:
            self._taken.popleft()
        return len(self._taken) < self.calls


@dataclass(slots=True)
class Quota:
    """So many calls in each window of a plan, whose resets come at fixed times; `tells` its reset when it is spent."""

    calls: int
    length_s: float
    starts_at: float
    tells: bool = True
    name: str = "five_hour"
    used: int = 0
    lapsed: list[float] = field(default_factory=list)
    """Which fraction of each window that has ended was not used."""
    _number: int = 0

    def reply(self, model: str, now: float) -> Reply | None:
        if self.lets_pass(model, now):
            self.used += 1
            return None
        message, code = "The usage limit has been reached.", "usage_limit_reached"
        if not self.tells:
            return Reply(429, {}, said(message, code))
        resets_at = math.ceil(self.resets_at(now))
        return Reply(429, {}, said(message, code, resets_at=resets_at), resets_at - now)

    def lets_pass(self, model: str, now: float) -> bool:
        del model
        self._roll(now)
        return self.used < self.calls

    def resets_at(self, now: float) -> float:
        self._roll(now)
        return self.starts_at + (self._number + 1) * self.length_s

    def window(self, now: float) -> QuotaWindow:
        """Return what a reading of the quota would say."""
        resets_at = self.resets_at(now)
        return QuotaWindow(self.name, self.used / self.calls, resets_at, self.length_s, source="reading", read_at=now)

    def _roll(self, now: float) -> None:
        while now >= self.starts_at + (self._number + 1) * self.length_s:
            self.lapsed.append(1 - self.used / self.calls)
            self._number += 1
            self.used = 0


@dataclass(slots=True)
class AtOnce:
    """So many calls at once; the site says how many run."""

    calls: int
    running: Callable[[], int]

    def reply(self, model: str, now: float) -> Reply | None:
        return (
            None if self.lets_pass(model, now) else Reply(429, {}, said("Too many concurrent requests.", "concurrency"))
        )

    def lets_pass(self, model: str, now: float) -> bool:
        return self.running() < self.calls


@dataclass(slots=True)
class Flaky:
    """An answer with some probability."""

    answer: Reply
    probability: float
    rng: random.Random

    def reply(self, model: str, now: float) -> Reply | None:
        return self.answer if self.rng.random() < self.probability else None

    def lets_pass(self, model: str, now: float) -> bool:
        return self.probability < 0.5


@dataclass(slots=True)
class Site:
    """What one account answers.

    Attributes:
        first_s: median time to the first content, drawn log-normally with `sigma`.
        whole_s: time from there to the end of the answer.
        told_until: until when its own answers have said to leave it alone; `told_at` is when that began.
    """

    rules: list[Rule] = field(default_factory=list)
    first_s: float = 0.4
    sigma: float = 0.3
    whole_s: float = 1.0
    told_until: float = 0.0
    told_at: float = 0.0
    running: int = 0
    calls: int = 0
    served: int = 0

    def judge(self, model: str, now: float) -> Reply | None:
        """Answer one call: None serves."""
        self.calls += 1
        for rule in self.rules:
            reply = rule.reply(model, now)
            if reply is not None:
                if reply.rests_s is not None and now + reply.rests_s > self.told_until:
                    if now >= self.told_until:
                        self.told_at = now
                    self.told_until = now + reply.rests_s
                return reply
        self.served += 1
        return None

    def would_serve(self, model: str, now: float) -> bool:
        """Say whether a call would be served now."""
        return all(rule.lets_pass(model, now) for rule in self.rules)

    def latency_s(self, rng: random.Random) -> float:
        """Draw the time to the first content."""
        return self.first_s * math.exp(rng.gauss(0.0, self.sigma)) if self.first_s else 0.0

    def windows(self, now: float) -> tuple[QuotaWindow, ...]:
        """Return what a reading of its quotas says."""
        return tuple(rule.window(now) for rule in self.rules if isinstance(rule, Quota))
