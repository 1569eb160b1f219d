"""The model: context networks, the conditional score network, and what joins them."""
