"""Whether a framework is new enough."""

from __future__ import annotations


def require(name: str, version: str, least: tuple[int, int]) -> None:
    """Raise an error for a framework that is too old.

    Args:
        name: of the package.
        version: its `__version__`.
        least: the first two numbers that will do.

    Raises:
        ImportError: if the version is older.
    """
    numbers = tuple(int(part) for part in version.split(".")[:2])
    if numbers < least:
        raise ImportError(f"{name} {version} is too old: {needs(name, least)}")


def needs(name: str, least: tuple[int, int]) -> str:
    """What to install."""
    wanted = ".".join(map(str, least))
    return f"convergd needs {wanted} or newer: pip install '{name}>={wanted}'"
