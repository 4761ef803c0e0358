"""Output for users: tables, figures, and one line for an error."""
