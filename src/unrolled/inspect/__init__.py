"""Looking inside: today the installation; models and gradients in later versions."""

from unrolled.inspect.doctor import doctor

__all__ = ["doctor"]
