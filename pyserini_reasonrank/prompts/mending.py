"""Repair of wrongly decoded text with ftfy, as in ReasonRank's published code.

One in five MS MARCO passages has some: ``Â®``, ``â€™``, ``&amp;``, curly quotes.
"""

from __future__ import annotations

import re

_ODD = re.compile(r"[^\t\n -%'-~]")  # beyond printable ASCII, or the & of an HTML entity


def mended(text: str, *, entities: bool = True) -> str:
    """Return ``ftfy.fix_text(text)``, or ``text`` if it can't need it. Call before defusing, because it decodes ``&lt;``.

    Without ``entities``, HTML entities are not decoded.
    """
    if _ODD.search(text) is None:
        return text
    from ftfy import fix_text

    fixed: str = fix_text(text, unescape_html="auto" if entities else False)
    return fixed
