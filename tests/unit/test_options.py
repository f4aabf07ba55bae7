"""Every option: its range, its group, and copies with some of them changed."""

from __future__ import annotations

import pytest

from bge_rerank_integrations.errors import OptionError
from bge_rerank_integrations.options import EngineSettings


@pytest.mark.parametrize(
    "setting", [{"token_budget": 0}, {"max_queued_tokens": 1.5}, {"timeout": 0}, {"timeout": "1"}, {"cache_size": -1}]
)
def test_settings_out_of_range_are_refused(setting: dict[str, object]) -> None:
    (name,) = setting
    with pytest.raises(OptionError, match=name):
        EngineSettings(**({"token_budget": 1} | setting))  # type: ignore[arg-type]
