"""Scorers over HTTP: an engine that runs elsewhere, with the methods of `protocol.ScorerProtocol`.

url + dialect (`dialects`) -> requests within the server's limits (`split`) -> sent, several at a time, with retries
and a deadline (`transport`) -> scores checked and put back in order (`scorer`). Nothing here knows a model or torch.
"""
