"""Training of the bundled network of the body, on photographs with keypoints and labels and on rendered figures.

``python -m styletryon.training.body`` is the command.
"""
