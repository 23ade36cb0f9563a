"""Tests of `styletryon.ops`."""
