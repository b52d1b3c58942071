"""The public API, by subject. See `__init__.py`."""

from .page import (
    BLUE as BLUE,
    GREEN as GREEN,
    ORANGE as ORANGE,
    POINTS_AS_PIXELS as POINTS_AS_PIXELS,
    Chart as Chart,
    best_middle_worst as best_middle_worst,
    box_height as box_height,
    draw_boxes as draw_boxes,
    jpeg_url as jpeg_url,
    kept_epoch as kept_epoch,
    log_axis as log_axis,
    make_chart as make_chart,
    monitor_of as monitor_of,
    plugin_charts as plugin_charts,
    training_charts as training_charts,
    write_page as write_page,
)
from .viewer import (
    FOR_PICTURES as FOR_PICTURES,
    CaseView as CaseView,
    Plane as Plane,
    case_views as case_views,
    chosen_slices as chosen_slices,
    heat_colours as heat_colours,
    letters_of as letters_of,
    picture_size as picture_size,
    plane_name as plane_name,
    planes_of as planes_of,
    points_up as points_up,
    stacked_url as stacked_url,
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
from .terminal import print_table as print_table
from .comparing.results import (
    Figure as Figure,
    ResultFormat as ResultFormat,
    Results as Results,
)
from .cells import (
    from_spreadsheet as from_spreadsheet,
    spreadsheet_text as spreadsheet_text,
)
from .evaluating import (
    EvaluationRequest as EvaluationRequest,
    PredictionFormat as PredictionFormat,
)
