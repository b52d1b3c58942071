"""From predictions to files, figures and a page. Works on `lannunet_core.types.Prediction` alone."""
