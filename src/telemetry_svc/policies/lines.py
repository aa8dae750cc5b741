"""Where in a policy file a value stands, so that a fault can be named by line.

PyYAML builds values and forgets where they were; its node tree remembers. Keys given twice, which YAML readers
accept in silence, are faults here.
"""

from collections.abc import Iterator
from typing import Any

import yaml

Path = tuple[str | int, ...]


_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C is ten times as fast, where there is one


class Lines:
    """One YAML document, read once; `faults`: duplicate keys and aliases as (line, reason)."""

    def __init__(self, text: str) -> None:
        self._loader = _LOADER(text)
        self._root = self._loader.get_single_node()
        self.faults = list(_faults(self._root)) if self._root is not None else []

    def value(self) -> object:
        """The document as plain Python values; to be asked for only where there are no `faults`."""
        return None if self._root is None else self._loader.construct_document(self._root)

    def at(self, path: Path) -> int:
        """The line (from 1) of the value at `path`, or of the innermost mapping or list that should hold it."""
        node, line = self._root, 1
        for part in path:
            child = _child(node, part)
            if child is None:
                break
            line, node = child
        return line


def _child(node: yaml.Node | None, part: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == part:
                return key.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part].start_mark.line + 1, node.value[part]
    return None


def _faults(node: yaml.Node) -> Iterator[tuple[int, str]]:
    children, visited = [node], set[int]()
    while children:
        one = children.pop()
        if id(one) in visited:  # an alias is its anchor's own node
            yield one.start_mark.line + 1, "an alias (*) stands for this value: write it out"
            continue
        visited.add(id(one))
        if isinstance(one, yaml.SequenceNode):
            children.extend(one.value)
        if isinstance(one, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in one.value:
                name = str(key.value)
                if name in seen:
                    yield key.start_mark.line + 1, f"the key {name} stands twice"
                seen.add(name)
                children.append(value)
