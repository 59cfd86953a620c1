"""A method by its name: what is distilled between two models, found by running them."""
