"""The phase schedule: which image size, batch and learning rate at which epoch. Standard library only."""

from phases.catalog import PRESETS, load_preset
from phases.phase import DataPhase, LrPhase, PhaseError
from phases.schedule import Schedule, batch_warning

__all__ = ["PRESETS", "DataPhase", "LrPhase", "PhaseError", "Schedule", "batch_warning", "load_preset"]
