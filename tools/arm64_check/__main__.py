"""Command line of the check; an interrupted one goes on where it stopped."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import tools.arm64_check as package
from tools.arm64_check.check import check
from tools.arm64_check.guest import Refused, say
from tools.arm64_check.page import page


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.arm64_check",
        description=package.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for everything that is made (1.5 GB); it stays"
    )
    parser.add_argument("--page", type=Path, help="also write the findings to this Markdown file")
    options = parser.parse_args()
    try:
        found = check(options.work.resolve())
    except Refused as refused:
        say(f"arm64_check: {refused}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; the same command goes on")
        return 130
    text = page(found)
    if options.page:
        options.page.write_text(text, encoding="utf-8")
    print(text)
    for sentence in found.wrong:
        say(f"not the same: {sentence}")
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
