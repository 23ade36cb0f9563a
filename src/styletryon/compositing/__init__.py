"""The picture that is shown, made from what a generator drew: correspondence, layout, sources, blending."""
