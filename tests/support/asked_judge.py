"""One call of a judge's endpoint, with a journal of its own."""

from __future__ import annotations

import tempfile
from pathlib import Path

from routellm_fast.augmentation.budget import Budget
from routellm_fast.augmentation.clock import Stop
from routellm_fast.augmentation.endpoint import ChatEndpoint
from routellm_fast.augmentation.endpoint_settings import EndpointSettings
from routellm_fast.augmentation.journal import Journal
from routellm_fast.augmentation.ledger import call_record


async def asked_judge(settings: EndpointSettings, *, api_key: str | None = None) -> str:
    """The text of the answer to a question."""
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "journal", {"mode": "pairwise"}) as journal:
        endpoint = ChatEndpoint(settings, budget=Budget(journal), stop=Stop(), api_key=api_key)
        try:
            answer = await endpoint.complete(
                [{"role": "user", "content": "text"}],
                lambda completion: call_record("response", "key", settings.model, completion, 0.0),
            )
        finally:
            await endpoint.aclose()
    return answer.text
