"""YAML that anybody may have written: plain data, or a refusal that says where."""

from __future__ import annotations

from typing import Any

import yaml
from yaml.constructor import ConstructorError

MERGE = "tag:yaml.org,2002:merge"


class Loader(yaml.SafeLoader):
    """Safe also from values that Python can't hold, and from merge keys: ten lines of them make billions of fields."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        for key, _ in node.value:
            if key.tag == MERGE:
                raise ConstructorError(
                    None, None, "write the fields out; merge keys (<<) are not taken", key.start_mark
                )
        super().flatten_mapping(node)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError) as error:  # a 13th month, `!!int` of a word
            raise ConstructorError(None, None, f"a value that can't be read ({error})", node.start_mark) from None


def load(text: str) -> Any:
    """Raises yaml.YAMLError, which has the place where it is known."""
    try:
        return yaml.load(text, Loader)
    except RecursionError:
        raise yaml.YAMLError("nested too deep") from None
