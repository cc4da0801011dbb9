"""Give a proxy to worker processes: a RemoteHERO pickles as its name, and connects anew wherever it arrives.

The workers are plain multiprocessing; the counter, a HERO of the parent, collects their results.
"""

import multiprocessing

from heros import LocalHERO, RemoteHERO


class Counter(LocalHERO):
    total: int = 0

    def add(self, n: int) -> None:
        """One call at a time for each method is the default, so no lock is needed here."""
        self.total += n


def work(counter: RemoteHERO, numbers: range) -> None:
    for n in numbers:
        counter.add(n)


if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    with Counter("counter") as counter:
        proxy = RemoteHERO("counter")
        workers = [spawn.Process(target=work, args=(proxy, range(start, 100, 2))) for start in (0, 1)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        print("exit codes", [worker.exitcode for worker in workers])
        print("the sum of 0 to 99 is", counter.total)
