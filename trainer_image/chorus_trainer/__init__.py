"""The LoRA trainer."""
