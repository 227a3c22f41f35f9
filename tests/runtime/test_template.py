"""Chat templates are strangers' programs: real ones render as transformers renders them, and none takes more than its share."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from edgeprune_runtime.errors import PromptError
from edgeprune_runtime.prompting.prompt import LEAST_PROMPT, MOST_PROMPT, Prompter, longest_prompt
from edgeprune_runtime.prompting.template import render_template
from edgeprune_runtime.prompting.template_budget import MOST_MADE, MOST_STEPS, MOST_VALUE, budgeted

MESSAGES = [
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": ' what is <b>"this"</b>?\n\nÄ '}]},
]
GIVEN: dict[str, Any] = {"messages": MESSAGES, "add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>"}

#: As models are published with them, or the parts of them that are hardest to get right.
PUBLISHED = {
    "llava": (
        "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}"
        "{# Render all images first #}{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}"
        "{{ '<image>\n' }}{% endfor %}{# Render all text next #}{% if message['role'] != 'assistant' %}"
        "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' '}}{% endfor %}"
        "{% else %}{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{% generation %}"
        "{{ content['text'] + ' '}}{% endgeneration %}{% endfor %}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
    ),
    "smolvlm": (
        "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}{% if message['content'][0]['type'] == 'image' %}"
        "{{':'}}{% else %}{{': '}}{% endif %}{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
        "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
        "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
    ),
    "qwen": (
        "{% set image_count = namespace(value=0) %}{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
        "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}{% for content in message['content'] %}"
        "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
        "{% set image_count.value = image_count.value + 1 %}{% if add_vision_id %}Picture {{ image_count.value }}: {% endif %}"
        "<|vision_start|><|image_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}"
        "<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "macros and slices": (
        "{%- macro render(content, first=false) -%}{%- for item in content -%}{{- item.text.strip() if item.text is defined else '<image>' -}}"
        "{%- endfor -%}{{ varargs | length }}{%- endmacro -%}\n{%- set system = messages[0].content[0:1] -%}\n"
        "{%- for message in messages[0:] -%}\n    {{- render(message.content, true) | replace('<b>', '[') ~ '|' ~ loop.index0 * 2 -}}\n"
        "{%- set parts = message.content[-1].text.split('<b>') -%}{{ parts[-1].rstrip('\\n').lstrip() }}{{ message | tojson }}"
        "{{ (message.content | map(attribute='type') | list) | join(', ') }}{{ '%s-%03d' | format('a', 7) }}{{ '{:>4}'.format(3) }}"
        "{%- if not loop.last %}{% continue %}{% endif -%}{%- endfor -%}{{ message.content[1].text[::-1] if false else '' }}"
    ),
    "blocks": (
        "{% set text %}{% for m in messages %}{{ m.role | title }}{% endfor %}{% endset %}{{ text | indent(2, true) }}"
        "{% filter upper %}{{ bos_token }}{% endfilter %}{% call(x) m() %}{{ x }}{% endcall %}{% macro m() %}{{ caller('y') }}{% endmacro %}"
    ),
    "numbers": (
        "{{ 7 // 2 }} {{ 7 % 4 }} {{ 2 ** 10 }} {{ 1.5 | round }} {{ [3, 1, 2] | sort | sum }} {{ '5' | int + 1 }} "
        "{{ {'b': 1, 'a': 2} | dictsort }}"
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_template_renders_as_transformers_renders_it(name: str) -> None:
    utils = pytest.importorskip("transformers.utils.chat_template_utils")
    try:
        theirs = utils._compile_jinja_template(PUBLISHED[name]).render(**GIVEN)
    except Exception as error:  # noqa: BLE001  both fail, or neither
        with pytest.raises(PromptError):
            render_template(PUBLISHED[name], MOST_PROMPT, GIVEN)
        assert name == "blocks", error
    else:
        assert render_template(PUBLISHED[name], MOST_PROMPT, GIVEN) == theirs


def nested(kind: str) -> str:
    """A value that is 40 small lists and, written out, 2**40 texts."""
    return "{% set x = ['a'] %}" + f"{{% set x = {kind} %}}" * 40


BOMBS = {
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a long range": "{% for a in range(10**9) %}{% endfor %}",
    "a text times": "{{ 'a' * 10**10 }}",
    "times a text": "{{ 9999999999 * 'a' }}",
    "a list times": "{{ ([1] * 10**9) | length }}",
    "doubling by ~": "{% set n = namespace(x='a') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "doubling by +": "{% set n = namespace(x=[1]) %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "doubling by set": (
        "{% set n = namespace(x='a') %}{% for i in range(99) %}{% set y %}{{ n.x }}{{ n.x }}{% endset %}{% set n.x = y %}{% endfor %}"
    ),
    "a text that grows": (
        "{% set n = namespace(x='') %}{% for i in range(99999) %}{% set n.x = n.x ~ 'aaaaaaaaaaaaaaaaaaaaaaaaaa' %}{% endfor %}"
    ),
    "powers": "{{ 2 ** 99999999 }}",
    "squares": "{% set n = namespace(x=3) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}",
    "the filter center": "{{ 'a' | center(10**10) }}",
    "a constant centred": "{{ 'a' | center(9999999999) }}",
    "the method center": "{{ 'a'.center(10**10) }}",
    "zfill": "{{ 'a'.zfill(99999999999) }}",
    "indent": "{{ 'a\nb' | indent(10**9) }}",
    "indent by a text": "{% set t = '\n' * 100000 %}{{ t | indent('x' * 100000) }}",
    "a percent width": "{{ '%1000000000d' % 1 }}",
    "a percent width as value": "{{ '%*d' % (1000000000, 1) }}",
    "the filter format": "{{ '%1000000000d' | format(1) }}",
    "format": "{{ '{:1000000000}'.format(1) }}",
    "format within format": "{{ '{:{w}}'.format(1, w=1000000000) }}",
    "format_map": "{{ '{a:>1000000000}'.format_map({'a': 1}) }}",
    "many fields": "{% set f = '{0}' * 100000 %}{{ f.format('a' * 100000) }}",
    "a mapped filter": "{{ ['a'] | map('center', 10**9) | list }}",
    "the filter replace": "{% set x = 'a' * 1000000 %}{{ x | replace('a', x) }}",
    "the method replace": "{% set x = 'a' * 1000000 %}{{ x.replace('', x) }}",
    "the filter join": "{% set x = 'a' * 1000000 %}{{ range(99999) | join(x) }}",
    "the method join": "{% set x = 'a' * 1000000 %}{{ x.join(['a'] * 99999) }}",
    "expandtabs": "{{ ('\t' * 100000).expandtabs(100000) }}",
    "translate": "{{ 'a'.translate({97: 'b' * 1000000}) }}",
    "lists of lists": nested("[x, x]") + "{{ x }}",
    "tuples as keys": nested("(x, x)") + "{{ {x: 1} }}",
    "objects of objects": nested("{'a': x, 'b': x}") + "{{ x | tojson }}",
    "views of views": nested("{'a': x, 'b': x}.items()") + "{{ x }}",
    "calls": nested("dict(a=x, b=x)") + "{{ x }}",
    "arguments": "{% macro f() %}{{ f(varargs, varargs) }}{% endmacro %}{{ f('a' * 1000) }}",
    "a macro without end": "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
    "two macros to the sixtieth": "{% macro f(n) %}{% if n > 0 %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "a loop in itself": "{% for x in [1] recursive %}{{ loop([1, 1]) }}{% endfor %}",
    "a block in itself": "{% block a %}{{ self.a() }}{{ self.a() }}{% endblock %}",
    "a long answer": "{% set x = 'a' * 100000 %}{% for i in range(99999) %}{{ x }}{% endfor %}",
    "many names": "".join(f"{{% set a{i} = 'a' * 4000000 %}}" for i in range(2000)),
    "many comparisons": (
        "{% set a = 'a' * 2000000 %}{% set b = 'a' * 2000000 %}{% for i in range(9999) %}"
        + "{% if a == b %}{% endif %}" * 100
        + "{% endfor %}"
    ),
    "slices": "{% set a = [1] * 100000 %}{% for i in range(9999) %}{% set b = a[::-1] %}{% endfor %}",
    "sums of lists": "{{ ([[1]] * 100000) | sum(start=[]) }}",
    "round": "{{ 1.5 | round(10**9, 'ceil') }}",
    "tojson": "{{ (range(10000) | list) | tojson(indent=100000) }}",
    "depth": "{% set n = namespace(x=[]) %}{% for i in range(9999) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x }}",
    "bytes": "{{ (1).to_bytes(10**10, 'big') }}",
    "numbers from bytes": "{{ (1).from_bytes(('a' * 100000).encode(), 'big') * 3 }}",
    "a date": "{{ strftime_now('%Y' * 100000) }}",
    "a long template": "{{ 1 }}" * 100_000,
    "a template of names": "{{a}}" * 20_000,
    "signs": "{{ " + "-" * 100_000 + "1 }}",
    "brackets": "{{ " + "[" * 100_000 + " }}",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_template_is_stopped_before_it_fills_time_or_memory(name: str) -> None:
    with pytest.raises(PromptError) as caught:
        render_template(BOMBS[name], LEAST_PROMPT, GIVEN)
    assert len(str(caught.value)) < 800


def test_a_refusal_cannot_be_caught_or_undone_inside_a_template() -> None:
    with budgeted() as budget:
        for _ in range(3):
            with pytest.raises(PromptError, match="steps"):
                budget.step(MOST_STEPS + 1)
        with pytest.raises(PromptError, match="characters"):
            budget.reserve(MOST_MADE + 1)
    shadowing = "{% set environment = 0 %}{% set concat = 0 %}{% set step = 0 %}{% for a in range(99999) %}{% for b in range(99999) %}"
    with pytest.raises(PromptError, match="steps"):
        render_template(shadowing + "{% endfor %}{% endfor %}", LEAST_PROMPT, GIVEN)


def test_every_rendering_has_a_budget_of_its_own_also_in_a_thread() -> None:
    heavy = "{% for a in range(60000) %}{% set b = a %}{% endfor %}ok"
    said: list[str] = []

    def render() -> None:
        said.extend(render_template(heavy, LEAST_PROMPT, GIVEN) for _ in range(3))

    threads = [threading.Thread(target=render) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == ["ok"] * 6


def test_a_namespace_writes_out_as_a_name() -> None:
    assert render_template("{% set n = namespace(a=1) %}{% set n.a = [n, n] %}{{ n }}", 100, {}) == "<Namespace>"


def test_a_value_may_be_large_but_not_larger(words: Path) -> None:
    assert render_template(f"{{{{ ('a' * {MOST_VALUE}) | length }}}}", 100, {}) == str(MOST_VALUE)
    with pytest.raises(PromptError, match="a value of more than"):
        render_template(f"{{{{ ('a' * {MOST_VALUE + 1}) | length }}}}", 100, {})


@pytest.fixture(scope="module")
def words() -> Path:
    from tests.checkpoints import tiny_checkpoint

    return tiny_checkpoint()


# --------------------------------------------------------------------------------------------------- length of a prompt


@pytest.mark.parametrize(
    ("capacity", "most"), [(None, MOST_PROMPT), (1, LEAST_PROMPT), (4096, 1 << 18), (10**9, MOST_PROMPT)]
)
def test_how_long_a_prompt_may_be_follows_from_the_positions(capacity: int | None, most: int) -> None:
    assert longest_prompt(capacity) == most


class Untouchable:
    """A tokenizer that nobody may ask."""

    def encode(self, *_: object, **__: object) -> None:
        raise AssertionError("tokenised")


def test_a_prompt_that_cannot_fit_is_refused_before_it_is_tokenised(
    words: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Prompter(words / "tokenizer.json", None, {}, 4, capacity=64)
    monkeypatch.setattr(reader, "_tokenizer", Untouchable())
    for ask in (lambda text: reader.render(text, images=0), lambda text: reader.content_ids(text)):
        with pytest.raises(PromptError, match=f"has 100000000 characters, expected at most {LEAST_PROMPT}"):
            ask("a" * 100_000_000)


def test_a_panic_of_the_tokenizer_is_a_typed_error(words: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeprune_runtime.errors import BundleError

    class PanicException(BaseException):
        """As pyo3 raises it."""

    class Panics:
        def encode(self, *_: object, **__: object) -> None:
            raise PanicException("index out of bounds")

    reader = Prompter(words / "tokenizer.json", None, {}, 4)
    asked = reader.render("red", images=0)
    monkeypatch.setattr(reader, "_tokenizer", Panics())
    with pytest.raises(BundleError, match="index out of bounds"):
        reader.tokens(asked)


def test_a_token_that_the_model_does_not_have_is_a_typed_error(tiny_bundle: Path) -> None:
    from edgeprune_runtime import Model
    from edgeprune_runtime.errors import BundleError

    with Model.open(tiny_bundle, threads=1) as model, pytest.raises(BundleError, match="gives the token 1000000"):
        model.language.embed([1, 1_000_000])


# ------------------------------------------------------------------------------------------- templates of texts alone

PARTS = "{% for m in messages %}{% for p in m.content %}{{ '<image>' if p.type == 'image' else p.text }}{% endfor %}{% endfor %}"
ONE_TEXT = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{% endfor %}"
JOINED = "{% for m in messages %}{{ '[' + m['role'] + '] ' + m['content'] | trim }}{% endfor %}"
BLIND = "{% for m in messages %}{% for p in m.content if p.type == 'text' %}{{ p.text }}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "with_picture", "without"),
    [
        (PARTS, "<image>red", "red"),
        (ONE_TEXT, "[user] <image>\nred", "[user] red"),
        (JOINED, "[user] <image>\nred", "[user] red"),
    ],
)
def test_a_template_that_takes_one_text_gets_one_with_the_placeholder(
    words: Path, template: str, with_picture: str, without: str
) -> None:
    reader = Prompter(words / "tokenizer.json", template, {}, 4)
    assert reader.why_no_pictures() is None
    assert reader.render("red", images=1).text == with_picture
    assert reader.render("red", images=0).text == without


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (BLIND, "exactly one picture"),
        ("<image>" + PARTS, "exactly one picture"),
        ("{% for", "failed"),
        ("{{ 'a' * 10**10 }}", "stopped"),
    ],
)
def test_a_template_that_takes_no_picture_says_why(words: Path, template: str, why: str) -> None:
    found = Prompter(words / "tokenizer.json", template, {}, 4).why_no_pictures()
    assert found is not None and why in found


def test_without_a_template_there_is_nothing_against_pictures(words: Path) -> None:
    assert Prompter(words / "tokenizer.json", None, {}, 4).why_no_pictures() is None
