"""How decision records are stored: compressed against a dictionary of what they mostly say, each part by itself."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Final

from omniroute.routing.decision import Ground, Record, decision_from, ground_from, is_decision, parts_of, reduced

MOST_BYTES: Final = 32 << 10
"""Of a stored record."""


class Packer:
    """Turns bodies into what is stored. Remembers compressed grounds: the next request mostly stands on the same."""

    def __init__(self, *, most_grounds: int = 64) -> None:
        self._most_grounds = most_grounds
        self._grounds: dict[bytes, bytes] = {}
        self._endings: list[tuple[bytes, bytes]] = []
        """How the latest bodies ended, each with the ground in it, compressed."""
        # To make one of these costs as much as a short decision: it is made once, and copied.
        self._press = zlib.compressobj(_LEVEL, zlib.DEFLATED, -_SHORT_BITS, _SHORT_MEMORY, zdict=_DICTIONARY)

    def pack(self, body: bytes) -> bytes:
        """Compress a body; one that is too large loses its grounds, and the numbers that only replays need.

        Raises:
            ValueError: it is no body.
        """
        decision, grounds = self._parts(body)
        packed = _joined([self._decision(decision), *grounds])
        return packed if len(packed) <= MOST_BYTES else _joined([self._decision(reduced(decision))])

    def _parts(self, body: bytes) -> tuple[bytes, Sequence[bytes]]:
        """Return the decision of a body, and its grounds compressed.

        A ground is the longer part. Where a body ends like one of the last ones, it need not be read for that.
        """
        for ending, packed in self._endings:
            if body.endswith(ending):
                decision = body[1 : -len(ending)]
                if is_decision(decision):  # and not with another ground behind it
                    return decision, (packed,)
        decision, grounds = parts_of(body)
        if len(grounds) == 1:
            known = self._ground(grounds[0])
            self._endings = [(b"," + grounds[0] + b"]", known), *self._endings[: _ENDINGS - 1]]
            return decision, (known,)
        return decision, [self._ground(ground) for ground in grounds]

    def _decision(self, decision: bytes) -> bytes:
        if len(decision) > _SHORT_BYTES:
            return _compressed(decision)
        pressing = self._press.copy()
        return pressing.compress(decision) + pressing.flush()

    def _ground(self, ground: bytes) -> bytes:
        known = self._grounds.get(ground)
        if known is None:
            if len(self._grounds) >= self._most_grounds:
                self._grounds.clear()
            known = self._grounds[ground] = _compressed(ground)
        return known


def _joined(parts: Sequence[bytes]) -> bytes:
    return b"".join((bytes((_FORM, len(parts))), *(len(part).to_bytes(4, "big") + part for part in parts)))


class Reader:
    """Reads stored records. Remembers grounds, which many records share."""

    def __init__(self, *, most_grounds: int = 256) -> None:
        self._most_grounds = most_grounds
        self._grounds: dict[bytes, Ground] = {}

    def read(self, stored: bytes) -> Record:
        """Return a record.

        Raises:
            ValueError: it is damaged, or of a form that this version does not know.
        """
        decision, *grounds = _parts(stored)
        try:
            return Record(decision_from(_expanded(decision)), tuple(self._ground(ground) for ground in grounds))
        except (IndexError, zlib.error) as error:
            raise ValueError("The decision record is damaged.") from error

    def _ground(self, packed: bytes) -> Ground:
        known = self._grounds.get(packed)
        if known is None:
            if len(self._grounds) >= self._most_grounds:
                self._grounds.clear()
            known = self._grounds[packed] = ground_from(_expanded(packed))
        return known


def _parts(stored: bytes) -> list[bytes]:
    if len(stored) < 2 or stored[0] != _FORM:
        raise ValueError("The decision record has an unknown form.")
    parts, position = [], 2
    for _ in range(stored[1]):
        length = int.from_bytes(stored[position : position + 4], "big")
        parts.append(stored[position + 4 : position + 4 + length])
        position += 4 + length
    if position != len(stored) or not parts:
        raise ValueError("The decision record is damaged.")
    return parts


def _compressed(data: bytes) -> bytes:
    pressing = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, zdict=_DICTIONARY)
    return pressing.compress(data) + pressing.flush()


def _expanded(data: bytes) -> bytes:
    expanding = zlib.decompressobj(-zlib.MAX_WBITS, zdict=_DICTIONARY)
    expanded = expanding.decompress(data, _MOST_EXPANDED)
    if not expanding.eof:
        raise ValueError("The decision record is damaged.")
    return expanded


_LEVEL: Final = 2
_ENDINGS: Final = 8
_SHORT_BYTES: Final = 6 << 10
_SHORT_BITS: Final = 13
_SHORT_MEMORY: Final = 5
"""A window and tables that are enough for a short decision behind the dictionary. The usual ones are a quarter of a
megabyte, to be filled for each decision."""
_MOST_EXPANDED: Final = 64 << 20
_FORM: Final = 1
"""First byte of what is stored: how it is put together, and with which dictionary. Old ones stay readable for ever."""
_DICTIONARY: Final = (
    b'{"is_sticky":true,"warnings":[],"accounts":["conn_","probes":{"provider:"has_moved":true,"chain":"'
    b'"counters":[["combo_","round_robin","deck","sticky"],"last_good":[["lkgp","uses":[["bindings":[["'
    b'"lockouts":[["conn_","locked_out","model_missing"],"breakers":{"state":"open","failures":"until":'
    b'"rests":{"conn_":{"reason":"cooling","until":18,"kind":"rate","hint_source":"retry-after","since":'
    b'"figures":{"ok":,"total":,"failed_at":[],"ttft_p50":,"ttft_p95":,"total_p50":,"total_p95":,"output_mean":'
    b'{"block":[{"strategy":"round-robin","scope":"combo_","name":"","config":{"max_retries":,"levels":{"combo"},'
    b'"policy_hash":"","steps":[]},[[{"id":"step_","name":"","weight":},0,null],[{"id":"step_"},1,null]]],'
    b'"options":[[{"name":"openai/gpt-5","provider":"openai","model":"gpt-5","tier":"subscription","window":200000,'
    b'"max_output":,"capabilities":["audio","document","reasoning","schema","tools","vision"],"rates":{"input":,'
    b'"output":,"cache_read":},"is_unmetered":true,"has_prompt_cache":true},0],[{"name":"anthropic/claude-'
    b'"pools":[[0,1,2]],"accounts":[{"id":"conn_","provider":"anthropic","auth":"apikey","priority":2,"created_at":'
    b'"rest_scope":"connection:conn_","max_concurrent":},{"id":"conn_","provider":"openrouter","auth":"oauth",'
    b'"intents":[["combo_","round_robin",true]],"exclusions":[["","breaker_open","context_too_small","key_policy",'
    b'"scores":[["",0.,{"latency":[0.5,0.2,false],"cost":[1.0,0.2,true],"success":[0.8,"context":[,"fitness":[,'
    b'"recent":[1.0,0.07,true],"quota":[0.7,0.1,false],"breaker":[1.0,0.05,true]}],"forbidden":{"'
    b'"attempts":[{"option":"","account":"conn_","kind":"retry","failure_class":"rate_limit","transient",'
    b'"failure_kind":"rate","overloaded","server","status":429,"code":"rate_limit_exceeded","retry_after_s":'
    b'"waits":[["cooling",],"error_code":"'
    b'{"v":1,"request_id":"req_","gateway_version":"","rounds":[{"now":18,"seed":1,"features":{"requested":"'
    b'"client_format":"anthropic_messages","openai_responses","gemini","ollama","openai_chat","is_stream":true,'
    b'"estimated_input":1,"max_output":4096,"needs":["tools","reasoning","schema","vision"],"task":"coding",'
    b'"effort":"high","key_id":"key_","session":"","is_explicit_session":true},"outline":{"strategy":"priority",'
    b'"places":[["","",false,["conn_"]],["","step_",false,["conn_","conn_"]]]},"ground":0,"answers":{"loads":{"conn_":'
    b'{"in_flight":1,"last_used_at":18}}}}],"config_version":1,"started":,"policy_hash":"","trace":[["combo","",null],'
    b'["alias","",null],["provider","","bare","auto","suffix"]],"attempts":[{"option":"","account":"conn_",'
    b'"started_ms":0.,"headers_ms":1,"content_ms":1,"ended_ms":1,"status":200}],"result":{"status":200,'
    b'"outcome":"success","option":"","account":"conn_","is_committed":true,"first_content_ms":1,"duration_ms":1,'
    b'"tokens_in":1,"tokens_out":1,"cache_read":0,"cost_nano_usd":1,"cost_kind":"billed"}}'
)
"""What records mostly say, most frequent last. Never to be changed under the same form."""
