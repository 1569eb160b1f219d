"""Samplers: each draws one scalar given its conditional; `run` walks through the dimensions."""
