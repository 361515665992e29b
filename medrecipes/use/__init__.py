"""A finished run put to use: chat, pages, tagging of texts."""
