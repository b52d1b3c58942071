"""What `lannunet plan` chooses for landmarks, and why."""
