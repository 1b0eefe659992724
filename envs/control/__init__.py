"""The control tasks with verifiable outcomes, their dense twins and their batched forms."""
