"""The public API of the conformance kit. See `__init__.py`."""

from .architecture import (
    check_levels as check_levels,
    is_whole_part as is_whole_part,
)
from .bench import (
    Bench as Bench,
    Goal as Goal,
    Partial as Partial,
    Source as Source,
    Tested as Tested,
)
from .drawing import (
    batch_of as batch_of,
    draw_noise as draw_noise,
    draw_points as draw_points,
    gaussians as gaussians,
)
from .labels import (
    check_finite as check_finite,
    equal_nests as equal_nests,
    labels_are_a_function_of_the_batch as labels_are_a_function_of_the_batch,
)
from .losses import (
    free_batch as free_batch,
    gradient_of as gradient_of,
)
from .outcomes import (
    Broken as Broken,
    NotClaimed as NotClaimed,
    claimed as claimed,
)
from .randomness import (
    isolated as isolated,
    untouched as untouched,
)
from .running import (
    activate as activate,
    build as build,
    describe as describe,
    labels_of as labels_of,
    make_batch as make_batch,
    maps_of as maps_of,
    outputs_of as outputs_of,
    perfect_outputs as perfect_outputs,
    shown as shown,
    tensors as tensors,
)
from .subject import (
    Kind as Kind,
    Subject as Subject,
    bench_of as bench_of,
)
from .suites import (
    ArchitectureConformance as ArchitectureConformance,
    Conformance as Conformance,
    LossConformance as LossConformance,
    Result as Result,
    SUITES as SUITES,
    SamplingConformance as SamplingConformance,
    as_test as as_test,
    plan as plan,
    run as run,
    run_one as run_one,
)
