"""Notifications through commands, which read JSON on stdin, and a webhook; a failed one is noted and stops nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import requests

from convcast.archive.pool import ThreadPool
from convcast.archive.web.connections import Exchange, HttpSession, split_credentials
from convcast.operations import stages
from convcast.settings import OperationsSettings
from convcast.workers import SAFE_PATH

TIMEOUT = (5, 10)
"""Timeouts of connecting, and of waiting for data, seconds."""


class Hooks:
    """The hooks of the settings; each method notifies one and returns notes of what failed."""

    def __init__(self, settings: OperationsSettings) -> None:
        self._settings = settings

    def failed(self, document: dict[str, Any]) -> list[str]:
        return list(self._notify("on_failure", self._settings.on_failure, {"event": "failure"} | document))

    def published(self, document: dict[str, Any]) -> list[str]:
        return list(self._notify("on_publish", self._settings.on_publish, document, post=False))

    def alerted(self, document: dict[str, Any]) -> list[str]:
        command = self._settings.on_threshold.command
        return list(self._notify("on_threshold", command, {"event": "threshold"} | document))

    def _notify(
        self, setting: str, command: Sequence[str], document: dict[str, Any], *, post: bool = True
    ) -> Iterator[str]:
        text = json.dumps(document, default=str)
        if command:
            yield from _run(f"operations.{setting}", command, text, self._settings.hook_seconds)
        if post and self._settings.webhook is not None:
            # A look-up of a host name cannot be interrupted, but a thread can be abandoned.
            url = self._settings.webhook.get_secret_value()
            for notes in ThreadPool(lambda _: list(_post(url, text)), [()], 1, Event()).results():
                yield from notes


def _run(setting: str, command: Sequence[str], text: str, seconds: float) -> Iterator[str]:
    """Run a setting's command with `text` on stdin, and yield a note if it fails."""
    try:
        # A user's script may import modules from its own folder.
        env = {name: value for name, value in os.environ.items() if (name, value) != SAFE_PATH}
        ended = stages.run_command(command, seconds=seconds, grace=5, stdin=text, env=env)
    except OSError as error:
        yield f"{setting}: {command[0]} cannot be run ({error.strerror})"
        return
    if ended.stopped:
        yield f"{setting} took longer than {seconds:g} s and was stopped"
    elif ended.code:
        yield f"{setting} ended with {ended.code}: {ended.stderr}"


def _post(url: str, text: str) -> Iterator[str]:
    """Post JSON once, and yield a note if it fails.

    The note omits the address, whose path is often a secret. Redirects are not followed: they would send the document
    to another host.
    """
    where = f"operations.webhook ({urlsplit(url).hostname})"
    headers = {"Content-Type": "application/json"}
    exchange = Exchange(sum(TIMEOUT))
    try:
        address, auth = split_credentials(url)
        with HttpSession(auth) as session, exchange:
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
