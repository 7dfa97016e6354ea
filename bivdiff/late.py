"""One lock for what is imported late, because it is heavy and the first page does without it.

Two threads that import the model libraries, or OpenCV, at once find each other's halves and fail.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager

_LOCK = threading.RLock()


def importing() -> AbstractContextManager[object]:
    """Let no other thread import late meanwhile; what is imported already costs nothing."""
    return _LOCK
