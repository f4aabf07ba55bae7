"""Why the hub did not deliver, in one line that names its address and what to do."""

from __future__ import annotations

import re
import urllib.request
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from bge_rerank_integrations.errors import HubError

STATUSES = {
    401: ("wants a token, or another one", "Check token=, HF_TOKEN or `hf auth login`"),
    403: ("refuses it", "Check whether the token may read it, and whether a firewall is on the way"),
    404: ("does not know such an address", "Check HF_ENDPOINT, or whether this mirror has the model"),
    407: ("cannot be reached: the proxy wants a password", "Check HTTP_PROXY, HTTPS_PROXY and NO_PROXY"),
    429: ("has had too many requests", "Wait some minutes, or give token=: an account may ask more often"),
}
"""What a status without a hub's own error code means, and what to do."""


class Stalled(Exception):
    """Nothing arrived for too long."""


def address_of(endpoint: str) -> str:
    """The endpoint as messages show it, without credentials, and the proxy on the way to it."""
    try:
        parts = urlsplit(endpoint)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not close, a port that is too large
        known = False
    if not known:
        given = re.sub(r"[^/\s@]+@", "", endpoint)
        raise HubError(
            f"HF_ENDPOINT={given!r} is not an address: write one like https://hf-mirror.com, with its scheme"
        )
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy is None or urllib.request.proxy_bypass(parts.hostname or ""):
        return shown
    return f"{shown} (through the proxy {proxy.rpartition('@')[2].rpartition('//')[2]})"


def reason_of(error: BaseException, revision: str | None) -> str:
    """What went wrong, to stand after the address."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__  # what the library fell back from
    # The library's HTTP client has had two names, with the same errors.
    kinds = {kind.__name__ for kind in type(error).__mro__}
    text = one_line(error)
    if isinstance(error, GatedRepoError):
        return f"refuses it ({text}). It is gated: accept its terms on its page, and give the token of that account"
    if isinstance(error, RevisionNotFoundError):
        return f"has no revision {revision!r} of it. Check the revision"
    if isinstance(error, RepositoryNotFoundError):
        return f"has no such model, or a private one ({text}). Check the name, and give token= if it is private"
    if isinstance(error, HfHubHTTPError):
        return _reason_of_status(error)
    if isinstance(error, Stalled):
        return f"{text}. Try again, or raise HF_HUB_ETAG_TIMEOUT and HF_HUB_DOWNLOAD_TIMEOUT"
    if "TimeoutException" in kinds:
        return "does not answer. Check the connection and its proxies, or raise HF_HUB_ETAG_TIMEOUT"
    if "ProxyError" in kinds:
        return f"cannot be reached: the proxy refuses ({text}). Check HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
    if "TooManyRedirects" in kinds:
        return "redirects in a circle. Check HF_ENDPOINT, or whether a portal wants you to log in"
    if "TransportError" in kinds:
        return f"cannot be reached ({text}). Check the connection, HF_ENDPOINT and the proxies"
    if isinstance(error, ImportError):
        return f"cannot be asked ({text})"
    if isinstance(error, LocalEntryNotFoundError):
        return f"was lost on the way ({text}). Check the connection, then try again"
    if isinstance(error, OSError) and "FileMetadataError" not in kinds:
        return f"delivered, but it could not be kept ({text}). Check the disk and the connection, then try again"
    what = f"{type(error).__name__}: {text}"
    return f"answers, but not as a hub does ({what}). Check HF_ENDPOINT, or whether a portal wants you to log in"


def _reason_of_status(error: Any) -> str:
    """What an answer means that has a status and no error code of a hub's."""
    status = int(error.response.status_code)
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "a status of its own"
    said = f": {one_line(error.server_message)}" if error.server_message else ""
    meaning, remedy = STATUSES.get(
        status, ("fails", "Try again later") if status >= 500 else ("refuses it", "Check HF_ENDPOINT")
    )
    return f"{meaning} ({status} {phrase}{said}). {remedy}"


def one_line(error: object) -> str:
    """An error's text on one line, without credentials."""
    text = " ".join(str(error).split()) or type(error).__name__
    return re.sub(r"//[^/\s@]+@", "//", re.sub(r"Bearer [^\s'\"]+", "Bearer ***", text))
