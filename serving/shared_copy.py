"""Objects whose copies share everything with the original, because they hold what cannot be copied: a runtime."""

from typing import Any, Self


class SharedCopy:
    """Makes copy.copy and copy.deepcopy return a new object with the same attributes."""

    def __copy__(self) -> Self:
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def __deepcopy__(self, _: dict[int, Any]) -> Self:
        return self.__copy__()
