"""Processes end when they should, and what they leave is their answer."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import psutil
import pytest

from convcast.operations.stages import run_command


def python(text, *, seconds=20.0, grace=5.0, stdin=None):
    return run_command([sys.executable, "-S", "-c", text], seconds=seconds, grace=grace, stdin=stdin)


def test_the_answer_is_the_last_line_the_code_and_the_last_words():
    ended = python("import sys; print('noise'); print('{\"a\": 1}'); sys.stderr.write('it  is\\nso'); sys.exit(3)")
    assert (ended.code, ended.result, ended.stderr, ended.stopped) == (3, {"a": 1}, "it is so", False)


@pytest.mark.parametrize("text", ["", "print('no json')", "print(1)"])
def test_no_answer_is_an_empty_one(text):
    assert python(text).result == {}


def test_a_crash_is_a_negative_code():
    assert python("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)").code == -signal.SIGSEGV


def test_at_the_deadline_it_is_told_to_stop_and_may_say_something():
    text = """
import signal, sys, time
def stop(*_):
    print('{"clean": true}')
    sys.exit(130)
signal.signal(signal.SIGTERM, stop)
time.sleep(60)
"""
    ended = python(text, seconds=1.0)
    assert (ended.code, ended.result, ended.stopped) == (130, {"clean": True}, True)
    assert ended.seconds < 20


def test_one_that_does_not_listen_is_killed_with_what_it_started():
    text = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"], **silent)
print('{"child": %d}' % child.pid, flush=True)
time.sleep(60)
"""
    ended = python(text, seconds=1.0, grace=0.2)
    assert (ended.code, ended.stopped) == (-signal.SIGKILL, True)
    assert has_ended(ended.result["child"])


def has_ended(process):
    """Whether a process ends within seconds; the remains of one that was killed may stay until init reads its code."""
    for _ in range(100):
        if not psutil.pid_exists(process) or psutil.Process(process).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def test_it_reads_its_document():
    ended = python("import json, sys; print(json.dumps(json.load(sys.stdin)))", stdin=json.dumps({"code": 3}))
    assert ended.result == {"code": 3}


def test_one_that_does_not_read_it_does_no_harm():
    assert python("import sys; sys.stdin.close()", stdin="x" * 1_000_000).code == 0


def test_an_interruption_while_a_process_starts_leaves_none_behind(monkeypatch):
    started, start = [], subprocess.Popen

    def interrupted(*words, **options):
        started.append(start(*words, **options))
        signal.raise_signal(signal.SIGINT)
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    with pytest.raises(KeyboardInterrupt):
        python("import time; time.sleep(60)")
    assert started[0].poll() is not None
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
