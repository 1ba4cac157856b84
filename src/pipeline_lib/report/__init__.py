"""Figures and tables of a run, and the page that holds them."""
