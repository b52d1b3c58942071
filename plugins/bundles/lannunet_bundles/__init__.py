"""Trained models as one file: see `docs/bundles.md`."""
