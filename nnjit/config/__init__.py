"""From a composed configuration to objects, and what it may build."""
