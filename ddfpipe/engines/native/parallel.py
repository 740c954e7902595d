"""Run independent pieces of work in threads, in order, stopping where asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor


def in_threads(
    function: Callable, items: Iterable, *, threads: int, monitor=None, what: str = ""
) -> Iterator:
    """Yield `function(item)` for every item, in the order of the items.

    At most `threads + 1` results exist at a time, so that memory stays bounded.  The monitor learns
    of every finished piece; when it raises (a stop was asked for), pieces not begun are dropped and
    the running ones are waited for.

    Parameters
    ----------
    function : called with one item; must release the GIL where it works hard
    threads : number of worker threads
    monitor : engines.base.Monitor or None
    what : name of the loop for the progress bar
    """
    items = list(items)
    with ThreadPoolExecutor(max(1, threads)) as pool:
        pending, begun = [], 0
        try:
            for done in range(len(items)):
                while begun < len(items) and len(pending) <= threads:
                    pending.append(pool.submit(function, items[begun]))
                    begun += 1
                result = pending.pop(0).result()
                if monitor is not None:
                    monitor.progress(what, done + 1, len(items))
                    monitor.check()
                yield result
        except BaseException:
            for future in pending:
                future.cancel()
            raise
