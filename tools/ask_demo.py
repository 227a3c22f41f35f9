"""Ask the demo bundle a few real questions about a real picture, under both budgets, and draw what the budget kept.

Used by `make demo`; run it again with: python tools/ask_demo.py DEMO_FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path

from edgeprune.evaluate import load_questions
from edgeprune_runtime import Model
from edgeprune_runtime.pictures.draw import draw_kept, kept_title
from edgeprune_runtime.pictures.load import load_image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with reference.bundle and pictures/")
    folder: Path = parser.parse_args().folder
    questions = load_questions(folder / "pictures" / "questions.jsonl")
    picture = questions[0].image
    with Model.open(folder / "reference.bundle") as model:
        views = {budget: model.see(picture, budget=budget) for budget in model.budgets}
        print(f"{picture.name}:")
        for question in (q for q in questions if q.image == picture):
            answers = {budget: model.ask(question.question, image=view).text for budget, view in views.items()}
            shown = "  ".join(f"budget {budget}: {text!r}" for budget, text in answers.items())
            print(f"  {question.question}  expected {question.answers[0]!r}  {shown}")
        view = views[model.budgets[0]]
        kept = view.kept.tolist()
        title = kept_title(view.selection, view.picture, len(kept))
        sheet = draw_kept(
            load_image(picture), view.picture, model.bundle.manifest.picture, kept, title, view.joined.tolist()
        )
        sheet.save(folder / "kept.png")


if __name__ == "__main__":
    main()
