"""From images to predictions: one model or several, whole or in patches, in one stage or two."""
