"""A value made ahead: once, in another thread, before it is asked for; any other key is made at once."""

import threading

import pytest

from training.data.ahead import Ahead


@pytest.fixture
def made():
    """(Ahead, [(key, made in the thread of the test)])."""
    calls = []

    def make(key: int) -> int:
        calls.append((key, threading.current_thread() is threading.main_thread()))
        return 10 // key

    ahead = Ahead(make)
    yield ahead, calls
    ahead.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_a_value_is_made_once_in_another_thread_before_it_is_asked_for(made):
    ahead, calls = made
    ahead.begin(2)
    ahead.begin(2)
    ahead.slot[1].result(timeout=10)
    assert calls == [(2, False)]
    assert ahead.take(2) == 5
    assert calls == [(2, False)]


def test_another_key_is_made_at_once(made):
    ahead, calls = made
    ahead.begin(2)
    assert ahead.take(5) == 2
    assert [call for call in calls if call[1]] == [(5, True)]
    assert ahead.take(2) == 5  # the slot was emptied
    assert [call for call in calls if call[1]] == [(5, True), (2, True)]


def test_an_error_reaches_the_one_who_asks(made):
    ahead, _ = made
    ahead.begin(0)
    with pytest.raises(ZeroDivisionError):
        ahead.take(0)
