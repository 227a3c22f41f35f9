"""An importance of your own: how much a unit can write into the residual stream, by its weights alone.

    from edgeprune.structure.importance import IMPORTANCES
    IMPORTANCES.add(WRITES.name, WRITES)

or an entry point in the group `edgeprune.importances`. One that looks at calibration names what it `needs` of `SiteStatistics`.
"""

from edgeprune.structure.importance import Importance


def score(site, statistics, seed):
    columns = site.out.weight.detach().double().square().sum(dim=0)  # [units * width]
    return columns.reshape(site.units, -1).sum(dim=1).sqrt()


WRITES = Importance("writes", "length of its output weights", "docs/examples/importance.py", "reconstruction", score)
