"""
The control tasks with verifiable outcomes, their dense twins and their batched forms.

- which tasks there are: ``catalog``
- a module for each: ``cartpole``, ``mountain_car``, ``pendulum``, ``hopper``, ``lunar_lander`` with its ``lunar_lander_worker``
- what they share: ``outcome`` (one copy, judged at its end), ``batch`` (many copies)
"""
