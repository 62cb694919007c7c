"""What lies in which warehouse."""

import csv
from collections import defaultdict


class Inventory:
    """Pieces by product and warehouse."""

    def __init__(self):
        self._pieces = defaultdict(lambda: defaultdict(int))

    def receive(self, sku, warehouse, pieces):
        """Put pieces on the shelf."""
        if pieces < 0:
            raise ValueError(f"cannot receive {pieces} pieces of {sku}")
        self._pieces[sku][warehouse] += pieces

    def take(self, sku, pieces):
        """Take pieces from the fullest warehouses. Returns how many from which."""
        if pieces > self.available(sku):
            raise ValueError(f"only {self.available(sku)} pieces of {sku} are left, not {pieces}")
        taken = {}
        for warehouse, there in sorted(self._pieces[sku].items(), key=lambda item: (-item[1], item[0])):
            part = min(there, pieces - sum(taken.values()))
            if part:
                taken[warehouse] = part
                self._pieces[sku][warehouse] -= part
        return taken

    def available(self, sku):
        """Pieces in all warehouses."""
        return sum(self._pieces[sku].values()) if sku in self._pieces else 0

    def warehouses(self):
        """The names of all warehouses that hold something."""
        return sorted({name for shelf in self._pieces.values() for name, pieces in shelf.items() if pieces})

    def running_low(self, below=10):
        """The products of which fewer than this many are left."""
        return sorted(sku for sku in self._pieces if self.available(sku) < below)


def read_stock(lines):
    """The rows of a stock list, with the numbers as numbers. Rows without a product are left out."""
    for number, row in enumerate(csv.DictReader(lines), start=2):
        if not row.get("sku"):
            continue
        try:
            yield {**row, "pieces": int(row["pieces"])}
        except ValueError:
            raise ValueError(f"line {number}: {row['pieces']!r} is not a number of pieces") from None
