"""Smaller models made from larger ones: students to be healed by distillation, which know what they were made from."""
