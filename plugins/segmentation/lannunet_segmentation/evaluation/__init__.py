"""From label maps to figures and pages."""
