"""The task's part of the conformance kit: the small runs in which plugins are tested, and the checks that
only this task has.

A task's `bench()` returns an object of a class derived from `Bench`. Methods without an override are not
tested. Shapes: B batch, C channels, S spatial sizes ([z,] y, x).
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
    """The plugin under test, as a bench sees it; see `Subject`."""

    decoding_error: float

    @property
    def supports_weights(self) -> bool | None: ...

    def chosen(self) -> Mapping[str, Any]: ...

    def answers(self, *hooks: str) -> bool: ...

    def has_own_outputs(self, task: str) -> bool: ...


@dataclass(frozen=True)
class Goal:
    """The condition under which a tiny problem counts as learned.

    Attributes:
        figure: Name of the metric.
        unit: Unit with a leading space; may be empty.
        value: Value to be reached.
        rises: Whether higher is better.
    """

    figure: str
    unit: str
    value: float
    rises: bool = False


@dataclass(frozen=True)
class Partial:
    """A batch of which parts should have no gradient: its second sample, and others.

    Attributes:
        what: Description of these parts: "a pixel without annotation".
        batch: The batch.
        silent: Function from the gradient of a network's output, (B, …), to that of the other parts; None:
            there is none.
        labels: Labels that replace those of the batch.
    """

    what: str
    batch: dict[str, Any]
    silent: Callable[[Tensor], Tensor | None]
    labels: Mapping[str, Any]


@dataclass(frozen=True)
class Source:
    """The image that a sample is cut from.

    Attributes:
        what: Description: "an image with two points".
        size: (x, y[, z]).
        complete: Whether it has everything that the task needs; incomplete images have to be sampled too.
        offered: Arguments of `centre` that depend on the source alone, `sample` and those of the task.
    """

    what: str
    size: tuple[int, ...]
    complete: bool
    offered: Mapping[str, Any]


class Bench(ABC):
    """Creates the small runs of one task. One object is used for every run.

    Attributes:
        label_hooks: Hooks that make labels. If a plugin implements one, or `loss`, only the plugin knows the
            meaning of its outputs.
        goal: Condition for a tiny problem to count as learned; None: not tested.
    """

    label_hooks: ClassVar[tuple[str, ...]] = ()
    goal: ClassVar[Goal | None] = None

    # Runs

    @abstractmethod
    def config(self, size: tuple[int, ...]) -> dict[str, Any]:
        """The required YAML of this task, without task, architecture and folder.

        Args:
            size: Size of the images (x, y[, z]).
        """

    def configuration(self, size: tuple[int, ...], keys: Mapping[str, Any]) -> dict[str, Any]:
        """As `config`, with additional dotted keys."""
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
        """Names of the network's outputs for `count` objects."""

    @abstractmethod
    def make_batch(self, session: Session, count: int, seed: int) -> dict[str, Any]:
        """A collated batch of `count` samples in which everything is labelled, and can be learned.

        Args:
            session: Session of the run.
            count: B.
            seed: Seed of the samples.
        """

    def prepare(self, session: Session) -> None:  # noqa: B027
        """Do the work of a run between the start of its session and its first step."""

    # Outputs

    def maps(self, session: Session, batch: Mapping[str, Any]) -> Any:
        """The maps of a batch, before they are decoded. The module is in evaluation mode."""
        return session.learner.maps(batch)

    def check_outputs(self, session: Session, outputs: Any, batch: Any, where: str) -> None:  # noqa: B027
        """Check that the task's own labels and losses accept the network's outputs.

        Args:
            session: Session of the run.
            outputs: Outputs of the network.
            batch: The batch.
            where: Start of a message.

        Raises:
            Broken: They are not.
        """

    def check_maps(self, tested: Tested, session: Session, maps: Any, batch: Any, where: str) -> None:  # noqa: B027
        """Check that the task can decode the maps of a batch's images.

        Raises:
            Broken: It cannot.
        """

    def check_perfect_maps(self, tested: Tested, session: Session, maps: Any, batch: Any, where: str) -> None:  # noqa: B027
        """Check that the activated maps of perfect outputs have the right values: 0 is background, 1 is
        certain.

        Raises:
            Broken: They do not.
        """

    def check_found(self, tested: Tested, session: Session, maps: Any, batch: Any, where: str) -> None:  # noqa: B027
        """Check that the activated maps of perfect outputs are decoded to the labels of the batch.

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
