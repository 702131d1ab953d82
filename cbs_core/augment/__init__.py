"""Pictures with labels restyled by class, the labels as they are. Nothing that trains on them."""
