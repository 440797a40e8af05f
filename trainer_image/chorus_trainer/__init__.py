"""The LoRA trainer: one training pod, from the frame to a finished adapter, and its tools."""
