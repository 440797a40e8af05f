"""Small base models for the demo and the tests: a T5 and a decoder, built from a table of requests in a minute each.
They learn to read, write, repeat and complete texts like those of the table. They never see which answer belongs to
which request: LoRA has to learn that.
"""
