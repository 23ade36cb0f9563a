"""A try-on shown in its photograph.

`composer` does it; `layout` says what lies where, `correspondence` which pixel of the garment's photograph belongs to
which of the drawing, `sources` what each of them shows, and `blending` how much of it.
"""
