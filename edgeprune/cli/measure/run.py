"""edgeprune run: ask a bundle about a picture."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeprune.cli.console import Json, emit, err, errors_as_one_line, note, remark
from edgeprune.cli.open_bundle import BackendOption, Build, look_at, open_model
from edgeprune.cli.options import (
    BundleFolder,
    Force,
    MaxTokens,
    Seed,
    SkipEqual,
    Threads,
    budget_option,
    image_option,
    inside_option,
    method_option,
    prompt_option,
    tiles_option,
)
from edgeprune.cli.plain import printable

if TYPE_CHECKING:
    from edgeprune_runtime import Answer, Model, View


def run(
    bundle: BundleFolder,
    prompt: Annotated[list[str], prompt_option(several=True)],
    image: Annotated[list[Path] | None, image_option()] = None,
    budget: Annotated[str | None, budget_option("the bundle's first", several=False)] = None,
    method: Annotated[str | None, method_option("the bundle's own")] = None,
    tiles: Annotated[int | None, tiles_option()] = None,
    inside: Annotated[str | None, inside_option("as exported", several=None)] = None,
    skip_equal: SkipEqual = None,
    max_tokens: MaxTokens = 128,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Nucleus sampling.")] = 1.0,
    seed: Seed = 0,
    template: Annotated[bool, typer.Option(help="Wrap the question in the checkpoint's chat template.")] = True,
    show_tokens: Annotated[Path | None, typer.Option(help="Write a picture of the kept tokens (.png).")] = None,
    threads: Threads = 0,
    backend: BackendOption = "auto",
    build: Build = True,
    check: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Check every hash before the first answer.")
    ] = True,
    force: Force = False,
    json: Json = False,
) -> None:
    """Ask BUNDLE one or more questions about one or more pictures, or none.

    Several pictures are asked about one after the other, or all at once where a question says with "<image>" where each belongs:
    --prompt "First <image>, then <image>. What changed?"
    """
    with errors_as_one_line():
        from edgeprune_runtime import RequestError, Sampling
        from edgeprune_runtime.budgets import require_held
        from edgeprune_runtime.claims import claimed, require_new
        from edgeprune_runtime.pictures.load import require_picture
        from edgeprune_runtime.prompting.requests import Request
        from edgeprune_runtime.stages.counts import choice_from_text, keeps

        if show_tokens is not None and not image:
            raise RequestError("--show-tokens draws on a picture; give one with --image")
        if show_tokens is not None and show_tokens.suffix.lower() != ".png":
            raise RequestError(
                f"--show-tokens writes a PNG picture, not {show_tokens.suffix or show_tokens.name}; name it .png"
            )
        if show_tokens is not None and image:
            require_new(*(_drawn_to(show_tokens, number + 1) for number in range(len(image))), force=force)
        sampling = Sampling(temperature, top_p, seed)
        for question in prompt:
            Request(question, max_tokens=max_tokens, sampling=sampling).check()
        manifest = look_at(bundle, backend)
        leaving = None if inside is None else choice_from_text(inside)
        keeps(manifest.language, leaving)
        for path in image or []:
            require_picture(path)
        if image or budget is not None or method is not None:
            require_held(manifest, budget, method)
        answers = []
        with (
            claimed(show_tokens),
            open_model(bundle, backend, threads=threads, verify=check, build=build) as model,
        ):
            _say_backend(model, json)
            number = 0
            for shown in _together(image or [], prompt):
                views = []
                for picture in shown:
                    # For a method that looks at the question, what is drawn is what the first question keeps.
                    view = model.see(
                        picture, budget=budget, method=method, tiles=tiles, question=prompt[0], skip_equal=skip_equal
                    )
                    views.append(view)
                    number += 1
                    if show_tokens is not None:
                        _draw(model, picture, view, _drawn_to(show_tokens, number))
                spans = tuple(span for view in views for span in view.spans)
                candidates = sum(view.picture.candidates for view in views) if views else None
                for question in prompt:
                    pieces = model.stream(
                        question,
                        image=views,
                        max_tokens=max_tokens,
                        sampling=sampling,
                        template=template,
                        inside=leaving,
                    )
                    for piece in pieces:
                        if not json:
                            sys.stdout.write(printable(piece.text))
                            sys.stdout.flush()
                        if piece.answer is not None:
                            answer = replace(piece.answer, spans=spans + piece.answer.spans)
                            spans = ()
                            answers.append((shown, question, answer, candidates))
                            if not json:
                                _after(answer, candidates)
        if json:
            chosen = {"backend": model.backend, "backend_why": model.backend_why}
            found = [_as_json(*each) | chosen for each in answers]
            emit(found[0] if len(found) == 1 else {"answers": found})


def _drawn_to(asked: Path, number: int) -> Path:
    """Where picture `number`, counted from 1, is drawn."""
    return asked if number == 1 else asked.with_stem(f"{asked.stem}-{number}")


def _together(pictures: list[Path], questions: list[str]) -> list[list[Path]]:
    """Pictures of one prompt side by side: all of them where every question has a mark for each, otherwise one by one."""
    if len(pictures) > 1 and all(question.count("<image>") == len(pictures) for question in questions):
        return [pictures]
    return [[picture] for picture in pictures] or [[]]


def _say_backend(model: Model, json: bool) -> None:
    """Which backend, and why none that is preferred; only where the bundle holds engines, so that a CPU user is left alone."""
    from edgeprune_runtime.engines.sets import engine_folders

    if not json and engine_folders(model.bundle.root):
        reasons = [reason.partition(" (")[0] for reason in model.backend_why.split("; ") if ": " in reason]
        why = f" (not taken: {'; '.join(reasons)}; --json has it in full)" if reasons else ""
        note(f"backend: {model.backend}{why}")


def _draw(model: Model, picture: Path, view: View, path: Path) -> None:
    from edgeprune_runtime.files import write_whole
    from edgeprune_runtime.pictures.draw import draw_kept, kept_title
    from edgeprune_runtime.pictures.load import load_image

    kept = view.kept.tolist()
    title = kept_title(view.selection, view.picture, len(kept))
    sheet = draw_kept(
        load_image(picture), view.picture, model.bundle.manifest.picture, kept, title, view.joined.tolist()
    )
    drawn = io.BytesIO()
    sheet.save(drawn, format="PNG")
    write_whole(path, drawn.getvalue())
    err.print(f"kept tokens drawn to {path}")


def _after(answer: Answer, candidates: int | None) -> None:
    from edgeprune.cli.measure.answer_text import answer_lines

    sys.stdout.write("\n")
    for line in answer_lines(answer, candidates):
        note(line)
    for sentence in answer.notes:
        remark(sentence)


def _as_json(shown: list[Path], question: str, answer: Answer, candidates: int | None) -> dict[str, object]:
    from edgeprune.cli.measure.answer_text import timings

    return {
        "image": str(shown[0]) if len(shown) == 1 else [str(picture) for picture in shown] or None,
        "prompt": question,
        "text": answer.text,
        "token_ids": answer.token_ids,
        "finish_reason": answer.finish_reason,
        "budget": answer.budget,
        "method": answer.method,
        "visual_tokens": answer.visual_tokens,
        "inside": answer.inside,
        "candidates": candidates,
        "prompt_tokens": answer.prompt_tokens,
        "cached_tokens": answer.cached_tokens,
        "output_tokens": len(answer.token_ids),
        "kept": answer.kept,
        "pictures": [
            {
                "image": str(picture),
                "size": one.size,
                "grid": one.grid,
                "distortion": one.distortion,
                "coordinates": one.coordinates,
                "scale": None if one.coordinates is None else one.to_pixels(1, 1),
                "visual_tokens": one.visual_tokens,
            }
            for picture, one in zip(shown, answer.pictures, strict=True)
        ],
        "timings": timings(answer),
        "notes": answer.notes,
    }
