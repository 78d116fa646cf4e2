from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.errors import Conflict
from omniroute.secret import Secret
from omniroute.storage.secrets import Cipher, CredentialUnreadable, key_id, key_id_of
from tests.storage.conftest import SECRET

PLACE: dict[str, str] = {"table": "provider_connections", "column": "api_key_enc", "row_id": "conn_1"}


@given(st.text(), st.binary(min_size=32, max_size=32))
def test_what_was_encrypted_opens(plain: str, key: bytes) -> None:
    if any(0xD800 <= ord(character) <= 0xDFFF for character in plain):
        return
    cipher = Cipher(key)
    assert cipher.decrypt(cipher.encrypt(Secret(plain), **PLACE), **PLACE).reveal() == plain


def test_the_text_form_names_version_and_key_and_hides_the_value(cipher: Cipher) -> None:
    text = cipher.encrypt(SECRET, **PLACE)
    version, key, nonce, sealed = text.split(":")
    assert (version, key) == ("v1", cipher.key_id)
    assert key_id_of(text) == key_id(bytes(range(32)))
    assert len(nonce) == 16
    assert SECRET.reveal() not in text
    assert text != cipher.encrypt(SECRET, **PLACE), "a nonce is used once"
    assert "=" not in sealed


@pytest.mark.parametrize("moved", [{"table": "provider_nodes"}, {"column": "access_token_enc"}, {"row_id": "conn_2"}])
def test_a_value_that_was_moved_does_not_open(cipher: Cipher, moved: dict[str, Any]) -> None:
    text = cipher.encrypt(SECRET, **PLACE)
    with pytest.raises(CredentialUnreadable):
        cipher.decrypt(text, **{**PLACE, **moved})


def test_a_value_of_another_key_does_not_open(cipher: Cipher) -> None:
    with pytest.raises(CredentialUnreadable):
        Cipher(bytes(32)).decrypt(cipher.encrypt(SECRET, **PLACE), **PLACE)


@pytest.mark.parametrize("position", [3, 12, 20, -1])
def test_an_altered_value_does_not_open(cipher: Cipher, position: int) -> None:
    text = cipher.encrypt(SECRET, **PLACE)
    at = position % len(text)
    altered = text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]
    with pytest.raises(CredentialUnreadable):
        cipher.decrypt(altered, **PLACE)


@pytest.mark.parametrize(
    "text", ["", "v1", "v1:a:b", "v2:00:00:00", "plain text", "v1:::", "v1:{id}:!!:!!", "v1:{id}:AA:AA"]
)
def test_nonsense_does_not_open(cipher: Cipher, text: str) -> None:
    with pytest.raises(CredentialUnreadable):
        cipher.decrypt(text.format(id=cipher.key_id), **PLACE)


@pytest.mark.parametrize("sealed", [Cipher(None), Cipher(bytes(32), is_sealed=True)])
def test_a_sealed_cipher_takes_nothing_new(sealed: Cipher) -> None:
    with pytest.raises(Conflict) as caught:
        sealed.encrypt(SECRET, **PLACE)
    assert caught.value.error_code == "encryption_key_missing"
    assert sealed.is_sealed


def test_without_a_key_nothing_opens(cipher: Cipher) -> None:
    with pytest.raises(CredentialUnreadable):
        Cipher(None).decrypt(cipher.encrypt(SECRET, **PLACE), **PLACE)
