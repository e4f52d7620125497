"""Names that are imported on first use (PEP 562), so that looking at help never loads torch."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazily(
    package: str, homes: Mapping[str, str], public: Sequence[str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Give a package its ``__getattr__`` and ``__dir__``.

    Args:
        package: Its ``__name__``.
        homes: Name -> the module that defines it; a module under its own name is that module itself.
        public: All public names, for ``dir()``.
    """

    def __getattr__(name: str) -> Any:  # noqa: ANN401 - Python's own name and signature
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(homes[name])
        return module if homes[name] == f"{package}.{name}" else getattr(module, name)

    def __dir__() -> list[str]:
        return sorted(public)

    return __getattr__, __dir__
