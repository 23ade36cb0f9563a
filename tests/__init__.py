"""The tests of styletryon."""
