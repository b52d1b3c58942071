"""`lannunet plan` for landmarks: the choices and their reasons."""
