"""From predictions to tables, figures and pages."""
