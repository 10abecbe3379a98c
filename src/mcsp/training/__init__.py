"""Data loading, pre-training, fine-tuning."""

import os

# Huge pages for torch's buffers on the CPU: a step's large ones are new each time, and page faults cost more than the
# arithmetic on them. Torch reads this when it first allocates.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
# Threads that wait for each other sleep: where others compute on the same cores, spinning made a step many times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
