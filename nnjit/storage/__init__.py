"""Files: models and other plain values, records of jobs, atomic writing."""
