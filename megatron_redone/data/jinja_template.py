"""Compiling chat templates in a sandbox, and the template for tokenizers that bring none."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.meta
import jinja2.nodes
import jinja2.parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from megatron_redone.common.errors import InputError

CHATML = (
    "{% set no_thinking = enable_thinking is defined and not enable_thinking %}"
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\n' }}"
    "{% if loop.last and message.role == 'assistant' and no_thinking %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ message.content + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% if no_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{% endif %}"
)
"""For tokenizers without a template. With thinking off the prompt holds an empty thought, as Qwen3's does."""


class _Generation(jinja2.ext.Extension):
    """`{% generation %}...{% endgeneration %}`, by which some templates frame answers, as a plain block."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def compile_template(template: str, enable_thinking: bool | None) -> jinja2.Template:
    """Compiles a template with the functions and filters that transformers offers.

    `strftime_now` is left out: templates that know it have a fixed date for its absence, and ids that change
    with the day could not be repeated.

    Raises:
        InputError: no valid Jinja, or `enable_thinking` is set and the template never looks at it.
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, _Generation]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    try:
        known = jinja2.meta.find_undeclared_variables(environment.parse(template))
        compiled = environment.from_string(template)
    except jinja2.TemplateError as error:
        raise InputError(f"the chat template is not valid Jinja: {error}; mend it or give another one") from error
    if enable_thinking is not None and "enable_thinking" not in known:
        raise InputError(
            f"enable_thinking is {enable_thinking}, but the chat template does not know it; leave it unset, "
            "or give a template with a thinking switch"
        )
    return compiled


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
