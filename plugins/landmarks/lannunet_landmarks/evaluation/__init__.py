"""From predictions to tables, metrics and reports."""
