"""The counters of vLLM's prefix cache, in the format of its /metrics."""

from __future__ import annotations

import pytest

from pyserini_reasonrank.engines.cache_counters import counted_since, read_counters
from pyserini_reasonrank.records import PrefixCache

METRICS = """
# HELP vllm:prefix_cache_queries_total Prefix cache queries, in terms of number of queried tokens.
# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total{engine="0",model_name="a} b"} 1200.0
vllm:prefix_cache_queries_total{engine="1",model_name="a} b"} 1.0e+03
# TYPE vllm:prefix_cache_queries_created gauge
vllm:prefix_cache_queries_created{engine="0",model_name="a} b"} 1.7e+09
vllm:prefix_cache_hits_total{engine="0",model_name="a} b"} 300.0
vllm:prefix_cache_hits_total{engine="1",model_name="a} b"} 0.0
vllm:external_prefix_cache_queries_total{engine="0"} 7.0
"""


def test_the_engines_of_a_server_are_summed() -> None:
    assert read_counters(METRICS) == PrefixCache(2200, 300)


@pytest.mark.parametrize("text", ["", "<html>", "vllm:num_requests_running 2", "vllm:prefix_cache_hits_total x"])
def test_other_answers_have_no_counters(text: str) -> None:
    assert read_counters(text) is None


@pytest.mark.parametrize("value", ["NaN", "+Inf"])
def test_what_is_no_count_is_not_read(value: str) -> None:
    assert read_counters(f"vllm:prefix_cache_hits_total {value}") is None


def test_servers_without_two_readings_or_started_again_are_left_out() -> None:
    first, later = PrefixCache(10, 5), PrefixCache(30, 10)
    assert counted_since([(first, later), (first, first)]) == PrefixCache(20, 5)
    assert counted_since([(first, later), (later, first), (None, later), (first, None)]) == PrefixCache(20, 5)
    assert counted_since([(later, first), (None, first)]) is None
    assert counted_since([]) is None
