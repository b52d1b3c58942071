"""Start runs on several devices, side by side, and as jobs of a cluster: see `docs/scaling.md`."""
