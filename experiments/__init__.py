"""Scripts that write what ``moe_tutorial/results`` keeps; each can be run again, and resumed."""
