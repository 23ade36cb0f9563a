"""Many people, many garments: a table of try-ons, done in batches, once each, whatever happens on the way.

.. code-block:: text

    OUT/NAME.png         a try-on
    OUT/rows.jsonl       what became of each row, a line as soon as it is known
    OUT/latents/KEY.*    each photograph's projection, so that it is projected once
    OUT/settings.json    what the results were made with
"""

from __future__ import annotations

from styletryon.batch.local import try_on_table
from styletryon.batch.table import BatchRow, BatchSummary, RowOutcome, read_table

__all__ = ["BatchRow", "BatchSummary", "RowOutcome", "read_table", "try_on_table"]
