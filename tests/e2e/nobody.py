"""Run a module of nnjit as a user that the system does not know, and who has no HOME."""

import os
import pwd
import runpy
import sys


def unknown(key):
    raise KeyError(f"getpwuid(): uid not found: {key}")


for name in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME"):
    os.environ.pop(name, None)
pwd.getpwuid = pwd.getpwnam = unknown
sys.argv[:] = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
