"""Lists of a trained model's own queries, keys, values and activations, by graphs and by independent references: the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeprune_export.commands.export import export
from edgeprune_runtime import Model
from tests.exports import options
from tests.references.inside_language import corematching, last_row, mustdrop, sparsevlm
from tests.references.inside_language.attention import question_attention
from tests.references.inside_language.rows import Order, best_first, by_encoder, kept

ROOT = Path(__file__).parents[2]
COUNT = 48
Given = dict[str, Any]


def fastv(given: Given, visual: list[int], last: int, asking: list[int]) -> Order:
    return last_row.fastv(given["query"][last], given["past_key_0"][0], last + 1, visual)


def flowcut(given: Given, visual: list[int], last: int, asking: list[int]) -> Order:
    value = given["past_value_0"][0]
    return last_row.flowcut(given["query"][last], given["past_key_0"][0], value[:, last], value, visual)


def gsearch(given: Given, visual: list[int], last: int, asking: list[int]) -> Order:
    weights = [1 / len(asking)] * len(asking)
    return best_first(question_attention(given["query"][asking], given["past_key_0"][0], asking, weights, visual))


def mustdrop_(given: Given, visual: list[int], last: int, asking: list[int]) -> Order:
    asked = mustdrop.asked_of(given["query"][asking], given["past_key_0"][0], asking, visual)
    keys = mustdrop.key_set({row: float(given["salience"][row]) for row in visual})
    return mustdrop.mustdrop(asked, 0.001, 0.001, keys)


def sparsevlm_(given: Given, visual: list[int], last: int, asking: list[int]) -> Order:
    raters = sparsevlm.raters(given["embeds"][visual], given["embeds"][asking])
    weights = sparsevlm.rater_weights(raters, len(asking))
    return sparsevlm.sparsevlm(given["query"][asking], given["past_key_0"][0], asking, weights, visual)


def corematching_(given: Given, visual: list[int], last: int, asking: list[int]) -> Order:
    return corematching.corematching(corematching.overlaps(given["active"], visual, last + 1))


def encoder(given: Given, visual: list[int], last: int, asking: list[int]) -> Order:
    return by_encoder({row: float(given["salience"][row]) for row in visual})


ORDERS = {
    "fastv": fastv,
    "flowcut": flowcut,
    "gsearch": gsearch,
    "mustdrop": mustdrop_,
    "sparsevlm": sparsevlm_,
    "corematching": corematching_,
    "encoder": encoder,
}


@pytest.mark.parametrize("method", ORDERS)
def test_a_trained_models_lists_are_those_of_the_reference(method: str, tmp_path: Path) -> None:
    inside = f"{method}@1:{COUNT}"
    asked = options(("1.0",), inside=[inside], parity=False, chunk=128)
    bundle = export(ROOT / "tools/reference_vlm/checkpoint", tmp_path / "bundle", asked)
    with Model.open(bundle.root, threads=1) as model, Image.open(ROOT / "docs/images/scene.png") as scene:
        for question in ("which word is in the picture?", "how many circles are there?"):
            answer = model.ask(question, image=scene.convert("RGB"), max_tokens=1)
            given, last = model.language.ranked_from(0), answer.prompt_tokens - 1
            visual = np.flatnonzero(given["visual"][: last + 1]).tolist()
            asking = list(range(visual[-1] + 1, last + 1))  # behind the last row of the picture, its newline too
            if "asking" in given:
                asking = sorted(set(given["asking"].tolist()))
            order = ORDERS[method](given, visual, last, asking)
            stay = kept(order, COUNT)
            if method == "sparsevlm":
                stay = sorted([*stay, *sparsevlm.recycle(order, COUNT, given["states"][: last + 1]).centres])
            (rows,) = model.language.rows_behind_cuts()
            assert sorted(set(rows.tolist()) & set(visual)) == stay
