"""Several comparisons in one report: what each p-value is worth when so many are looked at."""

from collections.abc import Sequence

from sawyer.evaluation.report import PairFigures, PartFigures
from sawyer.evaluation.stats import holm


def corrected(
    pairs: Sequence[PairFigures], parts: Sequence[PartFigures]
) -> tuple[list[PairFigures], list[PartFigures]]:
    """The same with Holm's corrections filled in.

    One family is the t-tests of every pair of stages by the reward, each of its parts, the guard and the judge; the
    Wilcoxon tests of the reward are a family of their own.
    """
    listed = [comparison for part in parts for comparison in part.comparisons]
    t_values = iter(holm([*(pair.t_p for pair in pairs), *(comparison.t_p for comparison in listed)]))
    ranks = holm([pair.wilcoxon_p for pair in pairs])
    new_pairs = [
        pair.model_copy(update={"t_p_holm": next(t_values), "wilcoxon_p_holm": rank})
        for pair, rank in zip(pairs, ranks, strict=True)
    ]
    new_parts = [
        part.model_copy(
            update={"comparisons": [each.model_copy(update={"t_p_holm": next(t_values)}) for each in part.comparisons]}
        )
        for part in parts
    ]
    return new_pairs, new_parts
