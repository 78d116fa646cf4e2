"""How decision records are stored: compressed against a dictionary of what they mostly say, each part by itself."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Final

import zstandard

from omniroute.routing.decision import (
    VERSION,
    Ground,
    Record,
    decision_from,
    ground_from,
    parts_of,
    reduced,
    written_out,
)

MOST_BYTES: Final = 32 << 10
"""Of a stored record."""


class Packer:
    """Turns bodies into what is stored. Remembers compressed grounds: the next request mostly stands on the same."""

    def __init__(self, *, most_grounds: int = 64) -> None:
        self._most_grounds = most_grounds
        self._grounds: dict[bytes, bytes] = {}
        self._endings: list[tuple[bytes, bytes]] = []
        """How the latest bodies with one ground ended, each with the end of what was stored: the ground, compressed."""
        self._press = zstandard.ZstdCompressor(compression_params=_PRESS, dict_data=_DECISIONS)
        self._ground_press = zstandard.ZstdCompressor(compression_params=_GROUND_PRESS, dict_data=_GROUNDS)

    def pack(self, body: bytes) -> bytes:
        """Compress a body; one that is too large loses its grounds, and the numbers that only replays need.

        Raises:
            ValueError: it is no body.
        """
        packed = self._packed(body)
        return packed if len(packed) <= MOST_BYTES else _joined([self._press.compress(reduced(body))])

    def _packed(self, body: bytes) -> bytes:
        """Compress a body. A ground is the longer part: where a body ends like one of the last, it is not read."""
        if body.startswith(_HAS_ONE_GROUND):
            for ending, packed in self._endings:
                if body.endswith(ending):
                    decision = self._press.compress(body[1 : -len(ending)])
                    return b"%b%b%b%b" % (_TWO_PARTS, len(decision).to_bytes(4, "big"), decision, packed)
        decision, grounds = parts_of(body)
        parts = [self._ground(ground) for ground in grounds]
        if len(grounds) == 1:
            known = b"," + grounds[0] + b"]", len(parts[0]).to_bytes(4, "big") + parts[0]
            self._endings = [known, *self._endings[: _ENDINGS - 1]]
        return _joined([self._press.compress(decision), *parts])

    def _ground(self, ground: bytes) -> bytes:
        known = self._grounds.get(ground)
        if known is None:
            if len(self._grounds) >= self._most_grounds:
                self._grounds.clear()
            known = self._grounds[ground] = self._ground_press.compress(ground)
        return known


def _joined(parts: Sequence[bytes]) -> bytes:
    return b"".join((bytes((_FORM, len(parts))), *(len(part).to_bytes(4, "big") + part for part in parts)))


class Reader:
    """Reads stored records. Remembers grounds, which many records share."""

    def __init__(self, *, most_grounds: int = 256) -> None:
        self._most_grounds = most_grounds
        self._grounds: dict[tuple[int, bytes], Ground] = {}

    def read(self, stored: bytes) -> Record:
        """Return a record.

        Raises:
            ValueError: it is damaged, or of a form that this version does not know.
        """
        form, (decision, *packed) = _parts(stored)
        try:
            grounds = tuple(self._ground(form, ground) for ground in packed)
            return Record(written_out(decision_from(_expanded(form, decision, _DECISIONS)), grounds), grounds)
        except (IndexError, zlib.error, zstandard.ZstdError) as error:
            raise ValueError("The decision record is damaged.") from error

    def _ground(self, form: int, packed: bytes) -> Ground:
        known = self._grounds.get((form, packed))
        if known is None:
            if len(self._grounds) >= self._most_grounds:
                self._grounds.clear()
            known = self._grounds[form, packed] = ground_from(_expanded(form, packed, _GROUNDS))
        return known


def _parts(stored: bytes) -> tuple[int, list[bytes]]:
    """Return the form of a stored record, and its parts."""
    if len(stored) < 2 or stored[0] not in {_DEFLATED, _FORM}:
        raise ValueError("The decision record has an unknown form.")
    parts, position = [], 2
    for _ in range(stored[1]):
        length = int.from_bytes(stored[position : position + 4], "big")
        parts.append(stored[position + 4 : position + 4 + length])
        position += 4 + length
    if position != len(stored) or not parts:
        raise ValueError("The decision record is damaged.")
    return stored[0], parts


def _expanded(form: int, data: bytes, dictionary: zstandard.ZstdCompressionDict) -> bytes:
    if form == _FORM:
        reading = zstandard.ZstdDecompressor(dict_data=dictionary, format=zstandard.FORMAT_ZSTD1_MAGICLESS)
        return reading.decompress(data, max_output_size=_MOST_EXPANDED)
    expanding = zlib.decompressobj(-zlib.MAX_WBITS, zdict=_DEFLATE_DICTIONARY)
    expanded = expanding.decompress(data, _MOST_EXPANDED)
    if not expanding.eof:
        raise ValueError("The decision record is damaged.")
    return expanded


_FORM: Final = 2
"""First byte of what is stored: how it is put together, and with which dictionary. Old ones stay readable for ever."""
_DEFLATED: Final = 1
"""The first form: deflated, both parts with the same dictionary."""
_TWO_PARTS: Final = bytes((_FORM, 2))
_HAS_ONE_GROUND: Final = b'[{"v":%d,' % VERSION
"""How a body begins that has no number of its grounds."""
_ENDINGS: Final = 8
_MOST_EXPANDED: Final = 64 << 20
_DEFLATE_DICTIONARY: Final = (
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
"""What records of the first form mostly say. Never to be changed."""


_DECISION_TEXT: Final = (
    b'"is_reduced":true,"continued_at":1,"chain":"","has_moved":true,"bound":"conn_","waits":[["cooling",1],["rpm_full",'
    b'"counters":[["combo_","round_robin","position","head","deck"],"last_good":[["combo_","","uses":[["bindings":[["'
    b'"lockouts":[["conn_","locked_out","model_missing"],"breakers":{"":{"state":"open","failures":1,"until":18},'
    b'"rests":{"conn_":{"reason":"cooling","until":18,"kind":"rate","hint_source":"retry-after","since":18},'
    b'"loads":{"conn_":{"in_flight":1,"last_used_at":18},"figures":{"":{"ok":1,"total":1,"failed_at":[18],"ttft_p50":1,'
    b'"ttft_p95":1,"total_p50":1,"total_p95":1,"output_mean":1},"intents":[["combo_","position",1,true]],"is_sticky":true,'
    b'"warnings":["context_estimate_exceeds_window"],"exclusions":[["","breaker_open","context_too_small","key_policy",null],'
    b'"scores":[["",0.,{"latency":[0.5,0.2,false],"cost":[1.0,0.2,true],"success":[0.8,"context":[0.,"fitness":[0.,'
    b'"recent":[1.0,0.07,true],"quota":[0.7,0.1,false],"breaker":[1.0,0.05,true]}],"forbidden":{"":["conn_"]},"cut":[1,0],'
    b'"digest":"","kind":"retry","failure_class":"rate_limit","failure_kind":"rate","code":"rate_limit_exceeded",'
    b'"failure_class":"transient","failure_kind":"server","overloaded","retry_after_s":1,"hint_source":"","intents":["'
    b'"error_code":"all_targets_failed","strategy":"round-robin","fill-first","places":[["","step_",false,["conn_","conn_"],'
    b'{}],["","",true,["conn_"],{}]]},"client_format":"anthropic_messages","openai_responses","gemini","ollama",'
    b'"needs":["tools","reasoning","schema","vision"],"task":"coding","effort":"high","moved":[[0,[1,0]]]'
    b'"features":{"requested":"","client_format":"anthropic_messages","is_stream":true,"estimated_input":1,"max_output":4096,'
    b'"needs":["tools"],"key_id":"key_","session":"","is_explicit_session":true},"outline":{"strategy":"'
    b'{"v":2,"request_id":"req_","gateway_version":"","rounds":[{"now":18,"seed":1,"features":{"requested":"'
    b'"client_format":"openai_chat","estimated_input":1,"max_output":1,"needs":[],"key_id":"key_","session":"'
    b'"},"outline":{"strategy":"priority","is_listed":true},"ground":0,"answers":{"bindings":[["","",{"connection_id":"conn_","target":"'
    b'"}]]},"answers":{}}],"config_version":1,"started":1,"policy_hash":"","trace":[["combo","","'
    b'"],["combo","",null],["alias","",null],["provider","","/"],["bare","auto","suffix"]],"attempts":[{"option":"","account":"conn_",'
    b'"started_ms":0.,"headers_ms":1,"content_ms":1,"ended_ms":1,"status":200,"tokens_in":1,"tokens_out":1,"cost_nano_usd":1}],'
    b'"bound":"conn_","result":{"status":200,"outcome":"success","option":"","account":"conn_","is_committed":true,'
    b'"first_content_ms":1,"duration_ms":1,"tokens_in":1,"tokens_out":1,"cache_read":0,"cost_nano_usd":1,"cost_kind":"billed"}}'
)
"""What decisions mostly say, most frequent last. Never to be changed under the same form."""


def _parameters(level: int) -> zstandard.ZstdCompressionParameters:
    return zstandard.ZstdCompressionParameters.from_level(
        level, format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_content_size=True, write_dict_id=False
    )


def _dictionary(text: bytes, parameters: zstandard.ZstdCompressionParameters) -> zstandard.ZstdCompressionDict:
    made = zstandard.ZstdCompressionDict(text, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    made.precompute_compress(compression_params=parameters)
    return made


_PRESS: Final = _parameters(-1)
"""For decisions, one for each request: the higher levels take half as long again for a tenth less."""
_GROUND_PRESS: Final = _parameters(12)
"""For grounds, of which each is compressed once."""
_DECISIONS: Final = _dictionary(_DECISION_TEXT, _PRESS)
_GROUNDS: Final = _dictionary(_DEFLATE_DICTIONARY, _GROUND_PRESS)
