"""The parent's side of the executors: it starts processes, shares work out, and watches them."""
