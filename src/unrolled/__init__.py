"""Recurrent sequence models that you write in ten lines, train with one command, and can see inside."""
