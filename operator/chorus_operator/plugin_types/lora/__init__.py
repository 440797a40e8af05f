"""LoRA fine-tuning in the trainer image, of a base model that is mounted, or fetched first."""
