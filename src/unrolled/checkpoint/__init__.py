"""The model directory: files that are whole or absent, commits, and loading a trained model.

Importing this package imports none of its modules: they need torch, and the command line does not.
"""
