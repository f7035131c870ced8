"""Seeded sampling per request, in one batch with greedy requests.

transformers' continuous batching decodes all requests greedily or samples all of them from one random generator. Adding
Gumbel noise to the logits turns its greedy choice into a random one. Here the noise is a function of the request's seed and
the token's position, so a request's text can be repeated and does not depend on other requests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

_BITS = 0xFFFFFFFF


class SeededSampler:
    """Replaces transformers' ContinuousBatchingLogitsProcessorList.

    A sampled request carries ``temperature``, ``top_p``, ``top_k``, ``min_p`` and ``seed``, a greedy request none of them.
    """

    do_processing = True
    tensors_required = 5

    def check_kwargs(self, kwargs: Mapping[str, Any]) -> None:
        """Do nothing: only the engine makes requests."""

    def fill_defaults(self, storage: Tensor) -> None:
        storage.zero_()

    def prepare_tensor_args(self, requests_in_batch: Sequence[Any], arg_storage: Tensor) -> Tensor:
        """Fill a column for each request that gets a token: four numbers (float bits in int32) and the noise key, 0 if greedy."""
        wanted = [r.state for r in requests_in_batch if r.has_new_token]
        numbers, keys = [], []
        for state in wanted:
            s = state.logit_processor_kwargs
            numbers.append((s["temperature"], s["top_p"], float(s["top_k"]), s["min_p"]) if s else (1.0, 1.0, 0.0, 0.0))
            keys.append(_key(s["seed"], state.position_offset) if s else 0)
        floats = torch.tensor(numbers, dtype=torch.float32).reshape(-1, 4).T.contiguous()
        arg_storage[:4, : len(wanted)] = floats.view(torch.int32).to(arg_storage.device)
        arg_storage[4, : len(wanted)] = torch.tensor(keys, dtype=torch.int32, device=arg_storage.device)
        return arg_storage

    def __call__(self, input_ids: Tensor, scores: Tensor, arguments: Tensor) -> Tensor:
        """Return scores (requests, vocabulary) whose maximum is the token to choose."""
        arguments = arguments[:, : scores.shape[0]]
        if scores.device.type != "cpu":  # a captured graph can't branch
            return torch.where(arguments[4].unsqueeze(1) != 0, sampled(scores, arguments), scores)
        rows = arguments[4].nonzero().squeeze(1)
        return scores.index_copy(0, rows, sampled(scores[rows], arguments[:, rows])) if len(rows) else scores


def sampled(scores: Tensor, arguments: Tensor) -> Tensor:
    """Restrict logits (requests, vocabulary) to the tokens that may be drawn, and add the noise of the requests' keys."""
    temperature, top_p, top_k, min_p = arguments[:4].contiguous().view(torch.float32).unsqueeze(-1)
    scores = scores / temperature
    falling = scores.sort(dim=-1, descending=True).values
    place = torch.arange(falling.shape[-1], device=scores.device)
    allowed = (falling >= falling[:, :1] + min_p.log()) & ((top_k == 0) | (place < top_k))
    probability = falling.masked_fill(~allowed, -torch.inf).softmax(dim=-1)
    allowed &= probability.cumsum(dim=-1) - probability < top_p
    allowed[:, 0] = True
    least = falling.gather(1, allowed.sum(dim=-1, keepdim=True) - 1)
    return scores.masked_fill(scores < least, -torch.inf) + _gumbel(arguments[4], scores.shape[-1])


def _gumbel(keys: Tensor, size: int) -> Tensor:
    """Noise (requests, size) from an integer hash (MurmurHash3's finalizer) of key and token."""
    x = (torch.arange(size, device=keys.device) * 0x9E3779B1 + keys.long().unsqueeze(1)) & _BITS
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & _BITS
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & _BITS
    uniform = (((x ^ (x >> 16)) >> 9).float() + 0.5) / (1 << 23)  # 23 bits and a half: exact in float32, never 0 or 1
    return -(-uniform.log()).log()


def _key(seed: int, position: int) -> int:
    """A positive 31-bit number for the token at ``position``."""
    digest = hashlib.blake2b(f"{seed} {position}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) >> 1 or 1
