"""A licence that nobody has looked at stops `make lint`."""

from __future__ import annotations

from email.message import Message
from importlib.metadata import PackageMetadata
from types import SimpleNamespace
from typing import cast

import pytest

from tests import lint_licences


def package(**fields: str) -> PackageMetadata:
    said = Message()
    said["Name"] = "other"
    for name, value in fields.items():
        said[name.replace("_", "-")] = value
    return cast(PackageMetadata, said)


@pytest.mark.parametrize(
    "fields",
    [
        {"License_Expression": "Apache-2.0 OR BSD-3-Clause"},
        {"License_Expression": "GPL-3.0-only OR MIT"},
        {"License_Expression": "BSD-3-Clause AND 0BSD"},
        {"Classifier": "License :: OSI Approved :: MIT License"},
        {"License": "BSD 2-Clause License"},
    ],
)
def test_a_licence_is_known_wherever_it_is_said(
    fields: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = [SimpleNamespace(metadata=package(**fields))]
    monkeypatch.setattr(lint_licences, "distributions", lambda: installed)
    assert lint_licences.main() == 0


@pytest.mark.parametrize(("title", "status"), [("Apache License", 0), ("GNU AFFERO", 1)])
def test_a_package_that_says_nothing_has_the_licence_that_it_brings(
    title: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {"licenses/LICENSE": f"\n    {title}\n  Version 2.0\n"}
    installed = [SimpleNamespace(metadata=package(License_File="LICENSE"), read_text=texts.get)]
    monkeypatch.setattr(lint_licences, "distributions", lambda: installed)
    assert lint_licences.main() == status


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"License_Expression": "AGPL-3.0-only"}, "AGPL-3.0-only"),
        ({"License_Expression": "MIT AND AGPL-3.0-only"}, "MIT AND AGPL-3.0-only"),
        ({"License": "GPLv3"}, "GPLv3"),
        ({"License": "Limited"}, "Limited"),
        ({}, "nothing"),
    ],
)
def test_another_one_is_named(
    fields: dict[str, str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    installed = [SimpleNamespace(metadata=package(**fields))]
    monkeypatch.setattr(lint_licences, "distributions", lambda: installed)
    assert lint_licences.main() == 1
    expected = f"other: its licence is not one of the known ones: it says {said}\n"
    assert capsys.readouterr().out == expected
