"""`once`: a property that is worked out when it is first asked for, and kept.

Before Python 3.12 `functools.cached_property` has one lock for all objects of a class: who asks waits for all
others, and a process that is forked while another thread holds it waits for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

if TYPE_CHECKING:
    from typing_extensions import Self

Value = TypeVar("Value")


class once(Generic[Value]):
    """Keeps what a method returns where attributes are. Threads that ask at the same time may work it out twice."""

    def __init__(self, work: Callable[[Any], Value]) -> None:
        self._work = work
        self.__doc__ = work.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type) -> Value: ...

    def __get__(self, instance: object | None, owner: type) -> Self | Value:
        if instance is None:
            return self
        value = vars(instance)[self._name] = self._work(instance)  # found there before this, from now on
        return value
