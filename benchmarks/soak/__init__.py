"""A soak: thousands of messages with readers and tools, while everything that can fail is made to fail.

    python -m benchmarks.soak --messages 10000 --seed 7

`plan` says what is asked for and who reads it, `load` does it, `faults` hurts the processes meanwhile, `verdict` compares
what readers received, rows, ledger and documents, `run` tells the story. The seed repeats what people and faults do; how
the processes answer one another is theirs.
"""
