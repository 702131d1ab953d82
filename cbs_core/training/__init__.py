"""Training: one loop for every net, which can be stopped anywhere and goes on exactly.

What is trained is a `cbs_core.contract.task.Task`; `cbs_core.training.loop` runs it. All randomness
of step i comes from the seed and i alone, so that a checkpoint needs no generator's state.
"""
