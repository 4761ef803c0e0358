import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from interrupts import interrupted_at_every_moment
from numba.core.compiler_lock import global_compiler_lock
from threadpoolctl import threadpool_info, threadpool_limits

from nnjit.errors import ConfigError
from nnjit.kernels import team
from nnjit.kernels._lanes import LANES
from nnjit.layers import Recurrent, Signal
from nnjit.runtime import signals, threads


@pytest.mark.parametrize("n", [1, 2, 5])
def test_every_piece_is_done_once(n, set_threads):
    set_threads(n)
    for pieces in (0, 1, 7):
        done = []
        threads.for_each(done.append, pieces)
        assert sorted(done) == list(range(pieces))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_spans_cover_the_range_once(n, set_threads):
    set_threads(n)
    for size in (0, 1, 2, 100):
        for work in (0, 2.5 * threads._WORTH_A_SPAN, 1e9):
            spans = []
            threads.for_spans(
                lambda begin, end, spans=spans: spans.append((begin, end)), size, work
            )
            seen = [i for begin, end in spans for i in range(begin, end)]
            assert sorted(seen) == list(range(size))
            assert len(spans) <= max(1, min(n, work / threads._WORTH_A_SPAN))
            if size == 100 and work == 1e9:
                assert len(spans) == n


def test_a_worker_that_fell_asleep_takes_the_next_job(set_threads, monkeypatch):
    set_threads(2)
    for looks in (0, 1000):
        monkeypatch.setattr(threads, "_max_spins", looks)
        for _ in range(3):
            done = []
            threads.for_each(lambda i, done=done: (time.sleep(0.01), done.append(i)), 2)
            assert sorted(done) == [0, 1]
            time.sleep(0.02)


@pytest.mark.parametrize("n", [1, 2])
def test_errors_come_through(n, set_threads):
    set_threads(n)
    with pytest.raises(ZeroDivisionError):
        threads.for_each(lambda i: 1 // (i - 2), 4)
    threads.for_each(abs, 4)  # the pool lives on


def test_number_of_threads(set_threads):
    assert set_threads(3) == threads.get_threads() == 3
    assert set_threads() == threads.get_threads() == threads.available_cores()
    for wrong in (0, -1):
        with pytest.raises(ConfigError, match=f"trainer.threads={wrong} is not a number of"):
            set_threads(wrong)


@pytest.mark.parametrize("pieces", [1, 4])
def test_blas_has_one_thread_from_the_first_use_on(pieces, monkeypatch):
    monkeypatch.setattr(threads, "_n_threads", 0)
    with threadpool_limits(2, user_api="blas"):
        threads.for_each(abs, pieces)
        blas = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
        assert blas
        assert set(blas) == {1}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own(set_threads):
    set_threads(2)
    threads.for_each(abs, 4)
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # instead of waiting for ever
        try:
            threads.for_each(abs, 4)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def test_an_interrupt_waits_for_the_workers(set_threads):
    set_threads(2)
    main, ended = threading.get_ident(), []

    def work(i):
        if threading.get_ident() != main:
            os.kill(os.getpid(), signal.SIGINT)  # while the main thread waits, or works
            time.sleep(0.3)
            ended.append(i)
        else:
            time.sleep(0.05)

    for _ in range(2):
        ended.clear()
        with pytest.raises(KeyboardInterrupt):
            threads.for_each(work, 2)
        assert ended
    met = []
    threads.run_team(met.append, [0, 1], met.clear)
    assert sorted(met) == [0, 1]


@pytest.mark.parametrize("failing", [0, 1])
def test_where_one_fails_the_others_wait_no_more(failing, set_threads):
    set_threads(2)
    shares = team.work_shares(2 * LANES, 2)

    def member(share):
        if share.rank == failing:
            raise ZeroDivisionError
        for _ in range(3):
            team.barrier_between_kernels(share)  # the other one never comes
        threads.check_wanted()
        pytest.fail("its work is of no use any more")

    with pytest.raises(ZeroDivisionError):
        threads.run_team(member, shares, lambda: team.give_up(shares[0]))
    threads.for_each(abs, 4)


def test_those_who_meet_wait_for_each_other(set_threads):
    set_threads(2)
    shares, met = team.work_shares(2 * LANES, 2), []

    def member(share):
        for number in range(20):
            time.sleep(0.002 * share.rank)
            met.append(number)
            team.barrier_between_kernels(share)

    threads.run_team(member, shares, lambda: team.give_up(shares[0]))
    assert met == sorted(met)


def test_pieces_that_nobody_wants_are_not_begun(set_threads):
    set_threads(2)
    begun = []

    def work(i):
        begun.append(i)
        time.sleep(0.01)
        if i == 3:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        threads.for_each(work, 1000)
    assert len(begun) < 10


def test_a_job_whose_posting_was_broken_off_is_done(set_threads, monkeypatch):
    set_threads(2)
    threads.for_each(abs, 4)
    monkeypatch.setattr(threads, "_max_spins", 0)
    time.sleep(0.05)  # the worker sleeps

    def broken_off():
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(threads._workers[0], "_wake", broken_off)
    with pytest.raises(KeyboardInterrupt):
        threads.for_each(time.sleep, 2)
    threads.for_each(abs, 4)


def others_can_take(lock):
    def take():
        if not lock.acquire(timeout=10):
            return False
        lock.release()
        return True

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(take).result()


def test_an_interrupted_compiler_leaves_its_lock_to_nobody():
    def load():
        with ExitStack() as scope:  # as Numba does it
            scope.enter_context(global_compiler_lock)

    with signals.heard():
        pass  # its first call is of no interest
    moments = 0
    for moment in interrupted_at_every_moment(load):
        assert others_can_take(global_compiler_lock._lock), moment
        moments = moment
    assert moments > 100


@pytest.mark.parametrize("way", ["for_each", "run_team", "slow workers"])
def test_workers_interrupted_at_any_moment_go_on(way, set_threads, monkeypatch):
    set_threads(2)
    if way == "slow workers":
        monkeypatch.setattr(threads, "_max_spins", 1)

    def work():
        with signals.heard():
            if way == "for_each":
                threads.for_each(abs, 3)
            elif way == "slow workers":
                threads.run_team(lambda rank: time.sleep(3e-3 * rank), [0, 1], lambda: None)
            else:
                threads.run_team(abs, [1, 2], lambda: None)

    work()
    moments = 0
    for moment in interrupted_at_every_moment(work):
        done = []
        work()
        threads.run_team(done.append, [1, 2], lambda: None)
        assert sorted(done) == [1, 2], moment
        assert others_can_take(threads._busy), moment
        moments = moment
    assert moments > 100


def test_much_work_is_cut_into_calls(set_threads, monkeypatch):
    monkeypatch.setattr(threads, "MOST_IN_A_CALL", 10)
    for n in (1, 2):
        set_threads(n)
        spans = []
        threads.for_spans(lambda begin, end, spans=spans: spans.append((begin, end)), 100, 200)
        assert max(end - begin for begin, end in spans) <= 5
        assert sorted(i for begin, end in spans for i in range(begin, end)) == list(range(100))


@pytest.mark.parametrize("units", [15, 16, 17, 23, 24, 33, 40, 129, 512])
def test_no_member_of_a_team_has_few_units(units):
    """Fewer than 8 rows are projected in another way, whose bits are not the same."""
    for n in range(1, -(-units // LANES) + 1):
        found = [(share.begin, share.end) for share in team.work_shares(units, n)]
        assert found[0][0] == 0
        assert found[-1][1] == units
        assert all(a[1] == b[0] for a, b in pairwise(found))
        assert not any(0 < end - begin < 8 for begin, end in found)


@pytest.mark.parametrize(("cell", "units"), [("gru", 33), ("min_gru", 24), ("gru", 129)])
def test_teams_of_unequal_shares_leave_the_bits(cell, units):
    """Members that are done early must not read what the others have not written yet."""
    T, rng, runs = 1000, np.random.default_rng(0), []
    layer = Recurrent(cell, units, return_sequences=True)
    layer.build(Signal(T, 3), rng, np.dtype("float32"))
    layer.params["b"][:] = rng.normal(size=layer.params["b"].shape)
    x = rng.normal(size=(1, T, 3, LANES)).astype("float32")
    dy = rng.normal(size=(1, T, units, LANES)).astype("float32")
    plan = layer._plan(1, T)
    for n in (1, 2, 2, 2, -(-units // LANES)):
        layer._plan = lambda tiles, T, n=n: replace(plan, groups=(slice(0, 1),), team=n)
        y, residuals = layer.forward(x, training=True)
        y = y.copy()
        dx, grads = layer.backward(dy, residuals)
        runs.append({"y": y, "dx": dx, **grads})
    for other in runs[1:]:
        for name, value in runs[0].items():
            np.testing.assert_array_equal(other[name], value, err_msg=name)
