"""SAWYER: a chatbot trained in three stages, served side by side, learning from the people who talk to it."""

__version__ = "0.1.0"
