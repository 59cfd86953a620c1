"""Measuring what distillation changed."""
