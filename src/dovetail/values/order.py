"""Which step of a plan may begin: bookkeeping over names, without DVC and without workers."""

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence


class Order:
    """The steps of a plan, each after those that it waits for; of several the one that the plan names first."""

    def __init__(self, upstream: Mapping[str, Sequence[str]]) -> None:
        """`upstream` names, for each step in the order of the plan, what it waits for; what is no step is there."""
        self._place = {name: number for number, name in enumerate(upstream)}
        self._waits = {name: {other for other in others if other in upstream} for name, others in upstream.items()}
        self._downstream: dict[str, list[str]] = defaultdict(list)
        for name, others in self._waits.items():
            for other in others:
                self._downstream[other].append(name)
        self._ready = [(self._place[name], name) for name, others in self._waits.items() if not others]
        heapq.heapify(self._ready)
        self.left = set(upstream)

    def next(self) -> str | None:
        """A step that may begin, taken out; None while all that are left wait."""
        return heapq.heappop(self._ready)[1] if self._ready else None

    def done(self, name: str) -> None:
        """Let those begin that waited for this step alone."""
        self.left.discard(name)
        for other in self._downstream[name]:
            self._waits[other].discard(name)
            if not self._waits[other]:
                heapq.heappush(self._ready, (self._place[other], other))

    def failed(self, name: str) -> list[str]:
        """The steps that can never begin now, in the order of the plan; they are left out."""
        self.left.discard(name)
        lost, found = [name], set()
        while lost:
            for other in self._downstream[lost.pop()]:
                if other not in found:
                    found.add(other)
                    lost.append(other)
        self.left -= found
        return sorted(found, key=self._place.__getitem__)
