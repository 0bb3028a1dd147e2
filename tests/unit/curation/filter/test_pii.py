from __future__ import annotations

import pytest

from megatron_redone.curation.filter.config import PII_KINDS
from megatron_redone.curation.filter.pii import is_identity_card, masked, passes_luhn

REGIONS = ("CN", "US")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to a.b+c@mail.example.co.uk, please", "write to <EMAIL>, please"),
        ("邮箱：li_lei@example.com。", "邮箱：<EMAIL>。"),
        ("邮箱li＠example．com", "邮箱<EMAIL>"),
        ("电话13812345678找我", "电话<PHONE>找我"),
        ("call +86 138 1234 5678 now", "call <PHONE> now"),
        ("座机 010-62345678 转", "座机 <PHONE> 转"),
        ("ring (212) 555-2368 today", "ring <PHONE> today"),
        ("ring +44 20 7946 0958 today", "ring <PHONE> today"),
        ("身份证11010519491231002X号", "身份证<IDENTITY_CARD>号"),
        ("卡号 6222 0212 3456 7894 更换", "卡号 <BANK_CARD> 更换"),
        ("card 4111-1111-1111-1111?", "card 4111-1111-1111-1111?"),
        ("card 4539 1488 0343 6467.", "card <BANK_CARD>."),
    ],
)
def test_private_data_is_masked(text: str, expected: str) -> None:
    assert masked(text, PII_KINDS, REGIONS)[0] == expected


@pytest.mark.parametrize(
    "text",
    [
        "on 2023-11-05 we counted 1234567 steps, 3.14159265358979 of them twice",
        "订单 20231105123456 已发货，共 128 件，价格 99.80 元",
        "身份证 110105194912310021 不对",
        "@someone said a@b and c @ d",
        "card 6222 0212 3456 7895 fails its check digit",
    ],
)
def test_other_numbers_and_signs_stay(text: str) -> None:
    assert masked(text, PII_KINDS, REGIONS) == (text, {})


def test_kinds_are_counted_and_can_be_left_out() -> None:
    text = "a@example.com b@example.com 13812345678"
    assert masked(text, PII_KINDS, REGIONS)[1] == {"email": 2, "phone": 1}
    assert masked(text, ("phone",), REGIONS) == ("a@example.com b@example.com <PHONE>", {"phone": 1})


def test_check_digits() -> None:
    assert is_identity_card("11010519491231002X")
    assert not is_identity_card("110105194912310020")
    assert not is_identity_card("11010519491331002X")  # month 13
    assert passes_luhn("4539148803436467")
    assert not passes_luhn("4539148803436468")
