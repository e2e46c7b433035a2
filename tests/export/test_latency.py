"""Latency of single calls."""

import time

from blend_pl.export.latency import N_WARMUP_CALLS, measure_latency


def test_warmup_calls_are_not_timed() -> None:
    seen = []

    def call(number: int) -> None:
        seen.append(number)
        if number < N_WARMUP_CALLS:
            return
        time.sleep(0.02 if number == N_WARMUP_CALLS + 3 else 0.001)

    measured = measure_latency(call, 20)
    assert seen == [*range(N_WARMUP_CALLS + 20)]
    assert measured.steps == 20
    assert 1 <= measured.median < 20 <= measured.max
    assert measured.median <= measured.p99 <= measured.max
    assert measured.processor_p99 < 20
