"""The commands: each parses its line, builds, hands over and prints."""
