"""What a secret looks like in a text: one list for everything that keeps texts without them.

The patterns are parts of regular expressions, so that each user adds what is a secret only there.
"""

from __future__ import annotations

# API keys, admin keys, webhook secrets and session tokens; analysts' tokens and invitations, whose
# prefixes also end or begin other words.
OURS = (
    r"(?:rsk|mak|whsec|mss)_[A-Za-z0-9_-]{2,}"
    r"|(?<![A-Za-z0-9])(?:mas_[A-Za-z0-9_-]{2,}|min_[A-Za-z0-9_-]{32,})"
)
# Credentials of providers and of the places where people keep theirs.
THEIRS = (
    r"\b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,}"
    r"|\bAIza[A-Za-z0-9_-]{20,}|\bAKIA[A-Z0-9]{12,}|\bgh[pousr]_[A-Za-z0-9]{20,}"
)
