"""Measures what episodes and training steps cost, and how long the page of a report takes."""

# it must be imported before tau2 and litellm, which read the environment when they are imported
import examples.tau2  # noqa: F401
