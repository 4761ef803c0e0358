"""The process: threads, memory, signals, folders, text streams, versions."""
