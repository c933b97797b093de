"""One value made ahead of its use, in a thread: the plan of the next epoch, while the current one trains."""

from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """`make(*key)` must be a pure function of its key: a value made ahead has the bits of one made when asked for."""

    def __init__(self, make: Callable[..., T]) -> None:
        self.make = make
        self.pool = ThreadPoolExecutor(1, "ahead")  # its thread starts with the first `begin`
        self.slot: tuple[tuple[Hashable, ...], Future[T]] | None = None

    def begin(self, *key: Hashable) -> None:
        """Makes the value of `key` in the thread. What was made for another key is dropped."""
        if self.slot and self.slot[0] == key:
            return
        self.drop()
        self.slot = key, self.pool.submit(self.make, *key)

    def take(self, *key: Hashable) -> T:
        """The value of `key`, made ahead or else now. The slot is empty afterwards. Raises: what `make` raises."""
        slot, self.slot = self.slot, None
        if slot and slot[0] == key:
            return slot[1].result()
        if slot:
            slot[1].cancel()
        return self.make(*key)

    def drop(self) -> None:
        if self.slot:
            self.slot[1].cancel()
        self.slot = None

    def close(self) -> None:
        """Waits for a value that is being made."""
        self.drop()
        self.pool.shutdown(cancel_futures=True)
