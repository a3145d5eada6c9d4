"""Hashes that identify stored scores."""

from __future__ import annotations

import hashlib


def digest(*parts: object) -> str:
    """Return a hash of the printed form of these parts, which must contain everything that matters."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()
