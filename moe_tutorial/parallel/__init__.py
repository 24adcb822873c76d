"""Many devices (chapter 14): one model's experts on many devices, each with tokens of its own.

The engine is ``torch.distributed``: what runs here over gloo runs over NCCL on GPUs.

- ``exchange``: an all-to-all that can be differentiated, and dispatch across devices.
- ``spread``: a model's experts spread over a mesh of devices.
- ``agreement``: what all devices must have in common, checked by all of them together.
- ``gradients``: summed where they must be, and cut to length together.
- ``balancing``: load and balance loss of the tokens of all devices.
- ``saving``: a checkpoint that any number of devices can go on from.
- ``training``: the training loop of chapter 10 on many devices.
- ``launching``: one settings file for a training run, which ``moe_tutorial.train`` carries out.
- ``ranks``: small processes on one machine, for lessons and tests.
- ``scaling``: what all this costs, on paper and by simulation.
"""
