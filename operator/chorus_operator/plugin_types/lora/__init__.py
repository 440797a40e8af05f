"""LoRA fine-tuning in the trainer image. The base model is mounted, or fetched first."""
