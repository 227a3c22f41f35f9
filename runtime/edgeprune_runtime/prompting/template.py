"""Chat templates: a stranger's program, rendered by jinja2 in its sandbox, within limits of steps, time and memory.

Compiled as transformers compiles them: trimmed blocks, loop controls, generation blocks, `raise_exception`, `strftime_now` and a `tojson`
that escapes nothing. Filters that no chat template needs, and that take more than their input, are not there.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from types import CodeType
from typing import Any

from jinja2.ext import Extension, loopcontrols
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from edgeprune_runtime.errors import PromptError
from edgeprune_runtime.prompting import template_values as values
from edgeprune_runtime.prompting.template_budget import (
    MOST_CODE,
    MOST_SOURCE,
    budgeted,
    current,
    measure,
    require_size,
    too_much,
)
from edgeprune_runtime.prompting.template_code import counted

_FILTERS = (
    *(
        "abs",
        "attr",
        "capitalize",
        "center",
        "count",
        "d",
        "default",
        "dictsort",
        "e",
        "escape",
        "first",
        "float",
        "forceescape",
    ),
    *(
        "format",
        "groupby",
        "indent",
        "int",
        "items",
        "join",
        "last",
        "length",
        "list",
        "lower",
        "map",
        "max",
        "min",
        "reject",
    ),
    *(
        "rejectattr",
        "replace",
        "reverse",
        "round",
        "safe",
        "select",
        "selectattr",
        "sort",
        "string",
        "sum",
        "title",
        "tojson",
    ),
    *("trim", "truncate", "unique", "upper", "urlencode", "wordcount"),
)
_SLOW = {"dictsort", "groupby", "sort", "title", "tojson", "unique", "urlencode", "wordcount"}
_SLOW_PER_STEP = 16  # characters that a slow filter takes in about the time of a step
_LONGEST_MESSAGE = 500
_LONGEST_DATE = 200


def render_template(source: str, most: int, variables: Mapping[str, Any]) -> str:
    """The text that a chat template makes, of at most `most` characters. Raises PromptError for whatever goes wrong in it."""
    try:
        template = compiled(source)
        parts, length = [], 0
        with budgeted():
            for part in template.generate(**variables):
                length += len(part)
                if length > most:
                    raise too_much(f"makes a prompt of more than {most} characters")
                parts.append(part)
    except PromptError:
        raise
    except Exception as error:  # a template can fail in any way; it is data from the checkpoint
        said = str(error)[:_LONGEST_MESSAGE] or type(error).__name__
        raise PromptError(f"the checkpoint's chat template failed on this prompt: {said}") from error
    return "".join(parts)


@functools.lru_cache(maxsize=4)
def compiled(source: str) -> Any:
    """The template. Raises PromptError for one that is too long, jinja2's errors for one that is broken."""
    if len(source) > MOST_SOURCE:
        raise too_much(f"has {len(source)} characters, expected at most {MOST_SOURCE}")
    with budgeted():  # constants are computed here
        return _Environment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]).from_string(
            source
        )


class _Namespace(Namespace):
    """Written out as its name: what it holds may hold it."""

    def __repr__(self) -> str:
        return "<Namespace>"


class _Generation(Extension):
    """`{% generation %} ... {% endgeneration %}` marks what the model said, for training: here it stands for its content."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Environment(ImmutableSandboxedEnvironment):
    """jinja2's sandbox, every operator, call and filter of which is held against the budget of the rendering."""

    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.filters = {name: _bounded(name, self.filters[name]) for name in _FILTERS} | {
            "tojson": _bounded("tojson", _to_json)
        }
        self.globals = {
            **{name: self.globals[name] for name in ("range", "dict", "joiner")},
            "namespace": _Namespace,
            "raise_exception": _raise_exception,
            "strftime_now": _now,
        }

    def _compile(self, source: str, filename: str) -> CodeType:
        if len(source) > MOST_CODE:
            raise too_much(f"takes {len(source)} characters of code, expected at most {MOST_CODE}")
        return counted(source, filename)

    def step(self) -> None:
        current().step()

    def touched(self, value: Any) -> Any:
        return current().touched(value)

    def made(self, value: Any) -> Any:
        return current().made(value)

    def concat(self, parts: Iterable[str]) -> str:
        taken = list(parts)
        require_size(sum(map(len, taken)))
        return "".join(taken)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        values.require_operands(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: B902, N805
        measure((args, kwargs))
        return super().call(__context, __obj, *values.checked_arguments(__obj, args, kwargs), **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None

        def bounded(*args: Any, **kwargs: Any) -> str:
            values.checked_arguments(value, args, kwargs)
            return wrapped(*args, **kwargs)

        return bounded


def _bounded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that is held against the budget before and after."""
    own = 1 if hasattr(function, "jinja_pass_arg") else 0  # a context or an environment comes before the value

    @functools.wraps(function)
    def filtered(*args: Any, **kwargs: Any) -> Any:
        budget, (value, *given) = current(), args[own:]
        elements, characters = map(sum, zip(measure(value), measure((given, kwargs)), strict=True))
        budget.step(1 + elements + (characters // _SLOW_PER_STEP if name in _SLOW else 0))
        value = _checked(name, value, given, kwargs)
        result = function(*args[:own], value, *given, **kwargs)
        return budget.each(result) if isinstance(result, Iterator) else budget.made(result)

    return filtered


def _checked(name: str, value: Any, given: list[Any], named: dict[str, Any]) -> Any:
    """The value of a filter, where its result will not be too large. Raises PromptError."""
    first = given[0] if given else None
    if name == "center":
        values.require_number("the width", named.get("width", 80 if first is None else first))
    elif name == "round":
        values.require_number("the precision", named.get("precision", 0 if first is None else first), 300)
    elif name == "sum":
        values.require_number("a sum from", named.get("start", given[1] if len(given) > 1 else 0))
    elif name == "format":
        values.require_percent(str(value), named or tuple(given))
    elif name == "replace":
        values.require_replacement(
            value, *(named.get(key, found) for key, found in zip(("old", "new"), [*given, "", ""], strict=False))
        )
    elif name == "join":
        return values.joinable(str(named.get("d", "" if first is None else first)), value)
    elif name in ("indent", "tojson"):
        width = named.get("width" if name == "indent" else "indent", first)
        size = len(width) if isinstance(width, str) else abs(width) if isinstance(width, int) else 4
        elements, _ = measure(value)
        require_size((elements * 64 if name == "tojson" else str(value).count("\n") + 1) * size)
    return value


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: Any) -> None:
    raise PromptError(f"the chat template refused the prompt: {str(message)[:_LONGEST_MESSAGE]}")


def _now(form: str) -> str:
    if len(form) > _LONGEST_DATE:
        raise too_much("writes a date of any length")
    return datetime.now().strftime(form)
