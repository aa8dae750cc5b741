"""Accept-Language as browsers and scripts send it."""

import pytest

from telemetry_svc.api.languages import chosen


@pytest.mark.parametrize(
    ("header", "language"),
    [
        pytest.param(None, "en", id="absent"),
        pytest.param("", "en", id="empty"),
        pytest.param("zh", "zh-CN", id="Chinese"),
        pytest.param("zh-TW", "zh-CN", id="the nearest Chinese we have"),
        pytest.param("EN-us,zh;q=0.9", "en", id="English first"),
        pytest.param("en;q=0.3, zh-CN;q=0.7", "zh-CN", id="by weight, not by place"),
        pytest.param("de-DE, fr;q=0.8", "en", id="neither"),
        pytest.param("de, zh;q=0.1", "zh-CN", id="the only one of ours"),
        pytest.param("zh;q=0, en;q=0.1", "en", id="excluded"),
        pytest.param("zh;q=high, en;q=0.1", "en", id="a weight that is no number"),
        pytest.param("zh;q=2, en;q=0.1", "en", id="a weight beyond 1"),
        pytest.param("zh;q=nan, en;q=0.1", "en", id="a weight that is not a number"),
        pytest.param("*", "en", id="any"),
        pytest.param(";;;,,=", "en", id="garbage"),
    ],
)
def test_the_language_asked_for(header: str | None, language: str) -> None:
    assert chosen(header) == language
