"""A drawing shown in the person's photograph, where no photograph shows the garment.

`composer` does it; `layout` says what lies where, `sources` what it shows, and `blending` how much of it.
"""
