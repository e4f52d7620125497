"""Looking inside: today the installation and its speed; models and gradients in later versions."""

from unrolled.inspect.bench import bench
from unrolled.inspect.doctor import doctor

__all__ = ["bench", "doctor"]
