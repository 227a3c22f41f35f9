"""A tokenised prompt and the views that it shows, in packed order, held against what the bundle has room for."""

from __future__ import annotations

from collections.abc import Sequence

from edgeprune_runtime.errors import PromptError, RequestError
from edgeprune_runtime.prompting.pack import KeptPicture, Packed, PromptTokens, pack
from edgeprune_runtime.results import View
from edgeprune_runtime.spec import Manifest, TokenPlan


def packed_prompt(tokens: PromptTokens, views: Sequence[View], manifest: Manifest, plan: TokenPlan) -> Packed:
    """Raises PromptError for a prompt that is longer than the tables, RequestError for a View of another model."""
    language = manifest.language
    for view in views:
        if view.visual.shape[1] != language.row_width:
            raise RequestError(
                f"this View was made by another model ({view.visual.shape[1]} channels, expected {language.row_width}); see the picture again"
            )
    pictures = [KeptPicture(view.picture, view.kept, plan.separators_for(view.selection)) for view in views]
    positions = plan.positions_for(*(view.selection for view in views))
    packed = pack(tokens, pictures, positions, manifest.picture.sequence)
    if packed.next_position > language.positions:
        raise PromptError(
            f"the unpruned prompt would reach position {packed.next_position}, the bundle's tables reach {language.positions}; show fewer "
            "pictures, or export with --max-images N"
        )
    return packed
