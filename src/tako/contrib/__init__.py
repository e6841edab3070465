"""Seams to web frameworks, one file or package each, imported only by those who use them."""
