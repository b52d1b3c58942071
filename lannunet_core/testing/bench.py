"""What a task provides to the conformance kit: the small runs in which plugins are tried, and what it asks of
them beside what holds in every task.

A task's `bench()` returns an object of a class derived from `Bench`. What it does not provide is not tested.
Shapes: B batch, C channels, S spatial sizes ([z,] y, x).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor

from lannunet_core.hookspecs import Sampling
from lannunet_core.run.session import Session


class Tested(Protocol):
    """What a bench knows of the plugin under test; see `Subject`."""

    decoding_error: float

    @property
    def supports_weights(self) -> bool | None: ...

    def chosen(self) -> Mapping[str, Any]: ...

    def answers(self, *hooks: str) -> bool: ...

    def has_own_outputs(self, task: str) -> bool: ...


@dataclass(frozen=True)
class Goal:
    """When a tiny problem counts as learned.

    Attributes:
        figure: Which figure says so.
        unit: Behind it, with its space; may be empty.
        value: What it has to reach.
        rises: Whether it is better when it is higher.
    """

    figure: str
    unit: str
    value: float
    rises: bool = False


@dataclass(frozen=True)
class Partial:
    """A batch of which parts should have no gradient: its second sample, and others.

    Attributes:
        what: What these parts are, in words: "a pixel without annotation".
        batch: The batch.
        silent: Part of a gradient by one of the network's outputs, (B, …), that of the other parts; None:
            it has none.
        labels: What is applied on top of the labels of the batch.
    """

    what: str
    batch: dict[str, Any]
    silent: Callable[[Tensor], Tensor | None]
    labels: Mapping[str, Any]


@dataclass(frozen=True)
class Source:
    """What a sample is cut from.

    Attributes:
        what: In words: "an image with two points".
        size: (x, y[, z]).
        complete: Whether there is everything on it that the task looks for; others have to be sampled too.
        offered: The arguments of `centre` that depend on the source alone, `sample` and those of the task.
    """

    what: str
    size: tuple[int, ...]
    complete: bool
    offered: Mapping[str, Any]


class Bench(ABC):
    """Makes the small runs of one task. One object serves every run.

    Attributes:
        label_hooks: The hooks that make labels. Where a plugin answers one, or `loss`, only it knows what its
            outputs mean.
        goal: When a tiny problem counts as learned; None: not tested.
    """

    label_hooks: ClassVar[tuple[str, ...]] = ()
    goal: ClassVar[Goal | None] = None

    # Runs

    @abstractmethod
    def config(self, size: tuple[int, ...]) -> dict[str, Any]:
        """What a YAML has to say in this task, beside task, architecture and folder.

        Args:
            size: Size of the images (x, y[, z]).
        """

    def configuration(self, size: tuple[int, ...], keys: Mapping[str, Any]) -> dict[str, Any]:
        """The same with additional keys, dotted."""
        found = self.config(size)
        for key, value in keys.items():
            *path, last = key.split(".")
            section = found
            for part in path:
                section = section.setdefault(part, {})
            section[last] = value
        return found

    @abstractmethod
    def outputs(self, count: int) -> tuple[str, ...]:
        """Names of the network's outputs where `count` things are to be found."""

    @abstractmethod
    def make_batch(self, session: Session, count: int, seed: int) -> dict[str, Any]:
        """A collated batch of `count` samples in which everything is labelled, and can be learned.

        Args:
            session: Session of the run.
            count: B.
            seed: Other numbers, other samples.
        """

    def prepare(self, session: Session) -> None:  # noqa: B027
        """Do what a run does between the start of its session and its first step."""

    # What comes of an image

    def maps(self, session: Session, batch: Mapping[str, Any]) -> Any:
        """What prediction makes of a batch, before it is read. The module is in evaluation mode."""
        return session.learner.maps(batch)

    def check_outputs(self, session: Session, outputs: Any, batch: Any, where: str) -> None:  # noqa: B027
        """That the network's outputs are what the task's own labels and losses take.

        Args:
            session: Session of the run.
            outputs: Outputs of the network.
            batch: The batch.
            where: Begins a message.

        Raises:
            Broken: They are not.
        """

    def check_maps(self, tested: Tested, session: Session, maps: Any, batch: Any, where: str) -> None:  # noqa: B027
        """That what prediction makes of a batch's images can be read as the task reads it.

        Raises:
            Broken: It cannot.
        """

    def check_perfect_maps(self, tested: Tested, session: Session, maps: Any, batch: Any, where: str) -> None:  # noqa: B027
        """That activated maps of perfect outputs lie where they should: 0 is background, 1 is certain.

        Raises:
            Broken: They do not.
        """

    def check_found(self, tested: Tested, session: Session, maps: Any, batch: Any, where: str) -> None:  # noqa: B027
        """That activated maps of perfect outputs, when they are read, give what the batch is labelled with.

        Raises:
            Broken: They do not.
        """

    def hidden(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The batch with some of its labels hidden, where `check_found` can do without them."""
        return dict(batch)

    def figure(self, session: Session, batch: Mapping[str, Any]) -> float:
        """How well a batch is predicted now: the figure of `goal`. A bench that has a goal overrides it."""
        raise NotImplementedError

    # What is missing

    def unlabelled(self, session: Session) -> Sequence[Partial]:
        """Batches of which a part is not labelled."""
        return ()

    def weightless(self, session: Session) -> Sequence[Partial]:
        """Batches of which a part has the weight 0."""
        return ()

    def empty(self, tested: Tested, session: Session) -> Mapping[str, dict[str, Any]]:
        """Batches in which nothing is labelled, of any weight, or to be found, by what they are in words."""
        return {}

    def equal(self, session: Session) -> Sequence[tuple[str, dict[str, Any], dict[str, Any]]]:
        """Pairs of batches that differ only in what stands where nothing is labelled, and what that is."""
        return ()

    # Samples

    @contextmanager
    def sources(self, dimensions: int, sampling: Sampling) -> Iterator[Sequence[Source]]:
        """What samples are cut from, for as long as it is there; the first is complete."""
        yield ()

    # Suites

    def suites(self) -> Mapping[str, type[Any]]:
        """Test classes of the task's own, derived from `Conformance`, each by the hook that it is for."""
        return {}

    def formats(self) -> Mapping[str, type[Any]]:
        """Test classes of file formats that the task finds by entry point, each by its group without
        `lannunet.`; its attribute `format` is the name of a format."""
        return {}
