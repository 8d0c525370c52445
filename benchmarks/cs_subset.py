"""Class separability from a stratified subset instead of the whole training set: does it rank the filters alike?

    SLIMNET_DATA=DATA python benchmarks/cs_subset.py

ResNet-20 with trained weights on CIFAR-10, streams coupled. For each share of the training set: Spearman's rank correlation of
the scores with those from all 45,000 images (mean and least over the channel groups), and the overlap of the tenth that would be
selected. Expected: a mean correlation above 0.98 from a tenth of the images. About 2 minutes on one processor core. Writes
results/cs_subset.json.
"""

from __future__ import annotations

import torch
from _results import write_result
from _runs import data_dir, trained_network
from scipy.stats import spearmanr
from torch import Tensor

from slimnet.criteria import collect_class_statistics, exact_count, group_scores, lowest, statistics_modules
from slimnet.data import Batches, load_data, stratified_indices
from slimnet.graph import channel_groups, prunable

SHARES = (0.02, 0.05, 0.1, 0.2)
RATE = 0.1


def main() -> None:
    data = load_data("cifar10", data_dir=data_dir())
    model = trained_network("resnet20")
    groups = prunable(channel_groups(model, torch.randn(2, 3, 32, 32)))
    modules = list(dict.fromkeys(module for group in groups for module in statistics_modules(group)))

    def scores(share: float) -> dict[str, Tensor]:
        count = round(share * len(data.train))
        chosen = stratified_indices(data.train.labels, count, torch.Generator().manual_seed(0))
        batches = Batches(data.train.subset(chosen), 250, mean=data.mean, std=data.std).epoch(0)
        with torch.autocast("cpu", torch.bfloat16):
            found = collect_class_statistics(model, modules, batches, data.num_classes)
        return {group.name: group_scores(model, group, "cs", statistics=found) for group in groups}

    full, rows = scores(1.0), []
    for share in SHARES:
        part = scores(share)
        correlations = [float(spearmanr(part[name], full[name]).statistic) for name in full]
        counts = {name: exact_count(len(values), RATE) for name, values in full.items()}
        same = sum(len(set(lowest(part[n], k).tolist()) & set(lowest(full[n], k).tolist())) for n, k in counts.items())
        rows.append(
            {
                "share": share,
                "mean_spearman": sum(correlations) / len(correlations),
                "least_spearman": min(correlations),
                "overlap_of_selected": same / sum(counts.values()),
            }
        )
        print(rows[-1], flush=True)
    write_result("cs_subset", {"model": "resnet20", "images": len(data.train), "rate": RATE, "rows": rows})


if __name__ == "__main__":
    main()
