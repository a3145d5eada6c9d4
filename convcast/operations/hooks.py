"""Who is told what: commands with JSON on stdin, and a webhook. That telling fails is noted, and fails nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import requests

from convcast.archive.connections import Exchange, Session, split_credentials
from convcast.archive.pool import Pool
from convcast.operations import stages
from convcast.settings import OperationsSettings
from convcast.workers import SAFE_PATH

TIMEOUT = (5, 10)
"""Seconds to connect, and without a byte of an answer."""


class Hooks:
    """Those that the settings name; each method gives the notes of what failed."""

    def __init__(self, settings: OperationsSettings) -> None:
        self._settings = settings

    def failed(self, document: dict[str, Any]) -> list[str]:
        return list(self._tell("on_failure", self._settings.on_failure, {"event": "failure"} | document))

    def published(self, document: dict[str, Any]) -> list[str]:
        return list(self._tell("on_publish", self._settings.on_publish, document, post=False))

    def find_alert(self, document: dict[str, Any]) -> list[str]:
        command = self._settings.on_threshold.command
        return list(self._tell("on_threshold", command, {"event": "threshold"} | document))

    def _tell(
        self, setting: str, command: Sequence[str], document: dict[str, Any], *, post: bool = True
    ) -> Iterator[str]:
        text = json.dumps(document, default=str)
        if command:
            yield from _run(f"operations.{setting}", command, text, self._settings.hook_seconds)
        if post and self._settings.webhook is not None:
            # In a thread that a stop leaves behind: nothing else ends the look-up of a name.
            url = self._settings.webhook.get_secret_value()
            for notes in Pool(lambda _: list(_post(url, text)), [()], 1, Event()).results():
                yield from notes


def _run(setting: str, command: Sequence[str], text: str, seconds: float) -> Iterator[str]:
    """Run the command of this setting with `text` on stdin; why that failed, if it did."""
    try:
        # A script of the user's may well import what lies beside it.
        env = {name: value for name, value in os.environ.items() if (name, value) != SAFE_PATH}
        ended = stages.run_command(command, seconds=seconds, grace=5, stdin=text, env=env)
    except OSError as error:
        yield f"{setting}: {command[0]} cannot be run ({error.strerror})"
        return
    if ended.stopped:
        yield f"{setting} took longer than {seconds:g} s and was stopped"
    elif ended.code:
        yield f"{setting} ended with {ended.code}: {ended.said}"


def _post(url: str, text: str) -> Iterator[str]:
    """Post JSON once; why that failed, if it did, without the address, whose path often is a password.

    A redirect is not followed: it would send what is said here to whomever the other side names.
    """
    where = f"operations.webhook ({urlsplit(url).hostname})"
    headers = {"Content-Type": "application/json"}
    exchange = Exchange(sum(TIMEOUT))
    try:
        address, auth = split_credentials(url)
        with Session(auth) as session, exchange:
            response = session.post(
                address, data=text.encode(), headers=headers, timeout=TIMEOUT, allow_redirects=False, stream=True
            )
            response.close()
            if exchange.ended:
                yield f"{where} does not answer"
            elif not 200 <= response.status_code < 300:
                yield f"{where} answered {response.status_code}"
    except requests.Timeout:
        yield f"{where} does not answer"
    except (requests.RequestException, OSError, ValueError) as error:
        yield f"{where} " + ("does not answer" if exchange.ended else f"cannot be reached ({type(error).__name__})")
