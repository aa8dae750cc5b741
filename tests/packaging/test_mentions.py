"""The reader of documents finds what a person would read, else the tests of the documents could not fail."""

import pytest

from tests.packaging import mentions


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("`telemetry-svc keys create --role ops`", {"keys create --role ops"}),
        ("```\n$ .venv/bin/telemetry-svc up   # all\n```", {"up"}),
        ("```sh\nTELEMETRY_HTTP_PORT=0 telemetry-svc api\n```", {"api"}),
        ("```sh\ntelemetry-svc pings import \\\n  a.csv\n```", {"pings import a.csv"}),
        ("```\n$ make demo\ntelemetry-svc is up\n```", set()),
        ("```\n  `telemetry-svc keys create` makes others\n```", set()),
        ("the telemetry-svc demo in prose", set()),
    ],
    ids=["span", "prompt-path-comment", "setting-before", "continued", "output", "inside-output", "prose"],
)
def test_commands(text: str, found: set[str]) -> None:
    assert mentions.commands(text) == found


@pytest.mark.parametrize(
    ("command", "plain", "options"),
    [
        ("machines import FILE.csv --quiet", ["machines", "import"], ["--quiet"]),
        ("simulate --machines 5 --hours=24", ["simulate"], ["--machines", "--hours"]),
        ("--help", [], ["--help"]),
    ],
    ids=["argument", "values", "no-command"],
)
def test_words(command: str, plain: list[str], options: list[str]) -> None:
    assert mentions.words(command) == (plain, options)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('`make unit ARGS="-k warranty"`', {"unit"}),
        ("```sh\nTELEMETRY_HTTP_PORT=0 make demo\nmake test\n```", {"demo", "test"}),
        ("people make alerts", set()),
    ],
    ids=["arguments", "block", "prose"],
)
def test_make_targets(text: str, found: set[str]) -> None:
    assert mentions.make_targets(text) == found


def test_settings_in_code_and_prose() -> None:
    assert mentions.settings("TELEMETRY_HTTP_PORT and `TELEMETRY_DATABASE_URL_FILE`, not TELEMETRY_") == {
        "TELEMETRY_HTTP_PORT",
        "TELEMETRY_DATABASE_URL_FILE",
    }


def test_links_of_this_project_only() -> None:
    text = "[a](docs/a.md#b) [c](https://example.com) `[d](e)`\n```\n[f](g)\n```"
    assert mentions.links(text) == {"docs/a.md#b", "e"}
