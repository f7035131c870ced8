"""``prompts``: the prompts by name, and how one of them looks with passages in it."""

from __future__ import annotations

from pyserini_reasonrank.cli.arguments import command_parser
from pyserini_reasonrank.cli.exit import SUCCESS
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.prompts import sources


def main(argv: list[str]) -> int:
    """List the prompts or show one. Returns the exit status."""
    parser = command_parser("prompts", "list", "show listwise-reasoning", "show ./my-prompt.yaml")
    parser.add_argument("action", choices=("list", "show"), nargs="?", default="list", help="what to do [list]")
    parser.add_argument("name", nargs="?", help="the prompt to show: a name, a YAML or TOML file, or rank_llm:NAME")
    options = parser.parse_args(argv)
    if options.action == "list":
        if options.name is not None:
            raise UsageError(f"prompts list shows all prompts; to show one: prompts show {options.name}")
        for name in sources.names():
            print(f"{name:<22} {_about(name)}")
        return SUCCESS
    if options.name is None:
        raise UsageError(f"prompts show needs a name: {', '.join(sources.names())}")
    print(_shown(options.name))
    return SUCCESS


def _about(name: str) -> str:
    """The judge and the description of a prompt; of one of another package that can't be used, the reason."""
    try:
        template = sources.load(name)
    except UsageError as error:
        return str(error)
    return f"{template.contract:<12} {template.spec.about}"


def _shown(source: str) -> str:
    template = sources.load(source)
    prompt = template.render("QUERY", ["PASSAGE ONE", "PASSAGE TWO"])
    parts = [f"# {template.name}: {template.spec.about}\n# sha256 {template.sha256}"]
    parts += [f"[{message.role}]\n{message.content}" for message in prompt.messages]
    if prompt.prefill:
        parts.append(f"[assistant, prefilled]\n{prompt.prefill}")
    return "\n\n".join(parts)
