"""The public API, by subject. See `__init__.py`."""

from .page import (
    BLUE as BLUE,
    ORANGE as ORANGE,
    POINTS_AS_PIXELS as POINTS_AS_PIXELS,
    Chart as Chart,
    best_middle_worst as best_middle_worst,
    draw_boxes as draw_boxes,
    jpeg_url as jpeg_url,
    make_chart as make_chart,
    plugin_charts as plugin_charts,
    training_charts as training_charts,
    write_page as write_page,
)
from .bootstrap import (
    bootstrap_statistics as bootstrap_statistics,
    bootstrap_weights as bootstrap_weights,
    finite as finite,
    interval as interval,
)
from .display import (
    display_limits as display_limits,
    to_display as to_display,
)
from .cells import (
    from_spreadsheet as from_spreadsheet,
    spreadsheet_text as spreadsheet_text,
)
from .evaluating import (
    EvaluationRequest as EvaluationRequest,
    PredictionFormat as PredictionFormat,
)
