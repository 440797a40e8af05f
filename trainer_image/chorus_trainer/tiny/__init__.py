"""Small base models for the demo and the tests: a T5 and a decoder, made from a table of requests in a minute each.

They have learned to read and write texts like the table's, and to repeat and complete them; which answer belongs to
which request they have never seen. That is left to LoRA.
"""
