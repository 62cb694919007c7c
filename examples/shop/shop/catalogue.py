"""What is sold, and for how much."""

from dataclasses import dataclass
from decimal import Decimal


class UnknownProduct(LookupError):
    """No product has this number."""


@dataclass(frozen=True)
class Product:
    """One article of the catalogue."""

    sku: str
    name: str
    unit_price: Decimal
    weight: Decimal = Decimal(0)
    tags: tuple[str, ...] = ()


class Catalogue:
    """All products by their number."""

    def __init__(self, products=()):
        self._products = {product.sku: product for product in products}

    def __len__(self):
        return len(self._products)

    def __contains__(self, sku):
        return sku in self._products

    def add(self, product):
        """Put a product on sale."""
        if product.sku in self._products:
            raise ValueError(f"product {product.sku} is on sale already")
        self._products[product.sku] = product

    def find(self, sku):
        """The product with this number."""
        try:
            return self._products[sku]
        except KeyError:
            raise UnknownProduct(f"no product {sku!r} among {len(self)}") from None

    def tagged(self, tag):
        """The products with a tag, by name."""
        found = [product for product in self._products.values() if tag in product.tags]
        return sorted(found, key=lambda product: product.name)

    def search(self, text):
        """The products whose name contains the text."""
        wanted = text.casefold()
        return [product for product in self._products.values() if wanted in product.name.casefold()]

    def quote(self, sku, quantity=1):
        """The line that a cart, an order and an invoice hold for a product."""
        product = self.find(sku)
        return {
            "sku": product.sku,
            "name": product.name,
            "price": product.unit_price,
            "weight": product.weight,
            "quantity": quantity,
        }
