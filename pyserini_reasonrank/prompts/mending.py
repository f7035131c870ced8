"""Text that was decoded wrongly on its way into a collection, mended as ReasonRank's published code does (ftfy).

One in five MS MARCO passages has some: ``Â®``, ``â€™``, ``&amp;``, curly quotes.
"""

from __future__ import annotations

import re

_ODD = re.compile(r"[^\t\n\r -%'-~]")  # beyond printable ASCII, or the & of an HTML entity


def mended(text: str) -> str:
    """``ftfy.fix_text``, at no cost for a text that can't need it. Comes before defusing, since it decodes ``&lt;``."""
    if _ODD.search(text) is None:
        return text
    from ftfy import fix_text

    fixed: str = fix_text(text)
    return fixed
