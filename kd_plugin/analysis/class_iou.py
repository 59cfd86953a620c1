"""mmseg's IoU metric, with each class in the results and not in the log alone.

Needs mmseg; import it by ``custom_imports`` where a config names the metric.
"""

from __future__ import annotations

from mmengine.registry import METRICS
from mmseg.evaluation import IoUMetric


@METRICS.register_module()
class ClassIoUMetric(IoUMetric):
    """``IoUMetric`` that also returns ``IoU/<class>`` in percent, NaN for a class not seen."""

    def compute_metrics(self, results: list) -> dict[str, float]:
        """mmseg's metrics, then one IoU a class; results are its (intersection, union, …)."""
        metrics = dict(super().compute_metrics(results))
        if not self.format_only:
            intersection, union = (sum(part) for part in list(zip(*results, strict=True))[:2])
            classes = self.dataset_meta['classes']
            for name, value in zip(classes, intersection / union, strict=True):
                metrics[f'IoU/{name}'] = round(100 * float(value), 2)
        return metrics
