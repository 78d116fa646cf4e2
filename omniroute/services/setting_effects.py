"""Hands changed settings to those that hold what they need in another form."""

from __future__ import annotations

from omniroute import logging_setup
from omniroute.gateway.clocks import Clocks
from omniroute.gateway.inference import Inference
from omniroute.gateway.shaping import shaping_of
from omniroute.records import Snapshot
from omniroute.services.setting_definitions import Tab
from omniroute.services.settings import SettingsInForce
from omniroute.settings import Settings


class SettingEffects:
    """Follows the settings in force; to be told of new snapshots after those."""

    def __init__(self, in_force: SettingsInForce, inference: Inference, *, started_with: Settings) -> None:
        """`started_with`: the settings by which the log was set up."""
        self._in_force = in_force
        self._inference = inference
        self._log_level = started_with.app_log_level
        self.apply()

    def rebuild(self, snapshot: Snapshot) -> None:
        """Follow a new snapshot."""
        del snapshot
        self.apply()

    def apply(self) -> None:
        """Hand over what holds now; requests in flight keep what they began with."""
        settings, inference = self._in_force.current, self._inference
        inference.clocks = Clocks.of(settings)
        inference.sends_comments = settings.sse_comments
        inference.shaping = shaping_of(self._in_force.section(Tab.AI))
        if settings.app_log_level != self._log_level:
            self._log_level = settings.app_log_level
            logging_setup.set_level(self._log_level)
