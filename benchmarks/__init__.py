"""Benchmarks: scripts that time the package beside what people use today."""

import os

# Before torch comes in: its profiler would print two lines for every measurement of memory.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")
