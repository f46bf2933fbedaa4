from __future__ import annotations


class RequestLog:
    pass
