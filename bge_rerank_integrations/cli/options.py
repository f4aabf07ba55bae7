"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

ModelOption = Annotated[
    str, typer.Option(help="Hub id, local folder, or a demonstration model: demo, demo-layerwise, demo-lightweight.")
]
DeviceOption = Annotated[str | None, typer.Option(help="Such as cpu or cuda:0; default: the first GPU, else the CPU.")]
EncodingOption = Annotated[str, typer.Option(help="Of the files, such as utf-8, utf-16 or gb18030.")]
