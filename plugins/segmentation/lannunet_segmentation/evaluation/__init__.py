"""From label maps to metrics and reports."""
