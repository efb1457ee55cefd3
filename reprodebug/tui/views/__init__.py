"""The views of the compare screen: one file each, all behind ``base.View``. ``VIEWS`` is their order and their keys."""

from reprodebug.tui.views.base import View
from reprodebug.tui.views.causes import CausesView
from reprodebug.tui.views.data import DataView
from reprodebug.tui.views.environment import EnvironmentView
from reprodebug.tui.views.layers import LayersView
from reprodebug.tui.views.random_state import RandomStateView
from reprodebug.tui.views.records import RecordsView
from reprodebug.tui.views.steps import StepsView

__all__ = ["VIEWS", "View"]

VIEWS: tuple[type[View], ...] = (LayersView, StepsView, RandomStateView, DataView, EnvironmentView, CausesView, RecordsView)
"""the first is opened with key 1"""
