"""The stages of a lineage run one after another, or several at a time, each once what it reads is made."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from threading import Event

from dovetail.values.lineage import StageRecord
from dovetail.values.order import Order

Run = Callable[[StageRecord, Event | None], float]


def run_stages(stages: Sequence[StageRecord], run: Run, workers: int, tell: Callable[[str], None]) -> dict[str, float]:
    """Run them; returns the seconds of each. With one worker it is this thread that runs them.

    Raises:
        Exception: what `run` raises for one; those that run beside it are ended.
    """
    by_name = {stage.name: stage for stage in stages}
    numbers = {name: number for number, name in enumerate(by_name, 1)}

    def begin(name: str) -> StageRecord:
        tell(f"running {name}, {numbers[name]} of {len(numbers)}")
        return by_name[name]

    if workers == 1:
        return {name: run(begin(name), None) for name in by_name}
    order, stop = Order(_upstream(stages)), Event()
    under_way: dict[Future[float], str] = {}
    seconds: dict[str, float] = {}
    with ThreadPoolExecutor(workers) as pool:
        try:
            while order.left:
                while len(under_way) < workers and (name := order.next()):
                    under_way[pool.submit(run, begin(name), stop)] = name
                for done in wait(under_way, return_when=FIRST_COMPLETED).done:
                    name = under_way.pop(done)
                    seconds[name] = done.result()
                    order.done(name)
        except BaseException:  # Ctrl-C is for this thread alone
            stop.set()  # the pool waits for those that run until they have ended
            raise
    return {name: seconds[name] for name in by_name}


def _upstream(stages: Sequence[StageRecord]) -> dict[str, list[str]]:
    """For each stage, in their order, those that make what it reads."""
    return {
        stage.name: [
            other.name for other in stages if other is not stage and any(other.makes(dep.path) for dep in stage.deps)
        ]
        for stage in stages
    }
