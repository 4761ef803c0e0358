"""What a person sees of runs: tables, figures, one line for an error."""
