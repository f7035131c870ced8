"""``models``: the checkpoints of conf/models.yaml against the memory of this machine."""

from __future__ import annotations

from pyserini_reasonrank.cli.arguments import command_parser
from pyserini_reasonrank.cli.exit import SUCCESS
from pyserini_reasonrank.ir.tables import table
from pyserini_reasonrank.models.catalogue import known_models
from pyserini_reasonrank.models.devices import CPU, accelerators, device_of
from pyserini_reasonrank.models.memory import ON_A_CPU, Verdict, gb, spread


def main(argv: list[str]) -> int:
    """Print the table of models. Returns the exit status."""
    command_parser("models", "").parse_args(argv)
    print(models_table())
    return SUCCESS


def models_table() -> str:
    """Each checkpoint with its size, its context, and whether it fits an accelerator, or the memory, of this machine."""
    device, found = device_of({}), accelerators()
    rows = []
    for name, known in known_models().items():
        need = known.needs(arguments=ON_A_CPU if device.kind == CPU else None)
        answer = "yes" if Verdict(need, device.free).fits else f"on {n}" if (n := spread(need)) else "no"
        context = f"{known.context:,}" if known.context else "?"
        rows.append((name, f"{known.parameters:g}B", context, gb(need.weights + need.cache), answer, known.about))
    header = ("model", "parameters", "context", "memory", "fits here", "what it is")
    here = f"{device.name}, {gb(device.free)} free" + (f"; {len(found)} of them" if len(found) > 1 else "")
    return f"{table(header, rows, left=(0, 5))}\n\nhere: {here}"
