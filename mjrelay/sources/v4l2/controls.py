"""Controls: the settings that a camera should have, applied whenever it is opened."""

from collections.abc import Mapping
from typing import TypedDict

import structlog

from mjrelay.devices import failures
from mjrelay.devices.capture import Capture, Control

log = structlog.get_logger()


class Setting(TypedDict):
    """One control with its value, as the web shows it.

    Attributes:
        value: Its value now; None if it cannot be read.
        wanted: The value that the configuration or a person asks for; None if neither does.
        type: integer, boolean, menu, integer_menu or bitmask.
        menu: The meaning of each value, if the values are choices; else None.
        inactive: Another control, usually an automatic one, decides its value.
    """

    value: int | None
    wanted: int | None
    default: int
    minimum: int
    maximum: int
    step: int
    type: str
    menu: dict[str, str] | None
    inactive: bool


class Controls:
    """The settings that one camera should have. Methods that take a device may block.

    Args:
        configured: The configuration's values, by the names that v4l2-ctl shows.

    Attributes:
        configured: The configuration's values by name.
        changed: The values that people have set since, over HTTP. They come before `configured`.
        said: For each control about which the log was warned, the value that it should have had.
    """

    def __init__(self, configured: Mapping[str, int]) -> None:
        self.configured = dict(configured)
        self.changed: dict[str, int] = {}
        self.said: dict[str, int] = {}

    def inherit_from(self, before: "Controls") -> None:
        """After a reload, keep what people have set before.

        But where the configuration of a control has changed, the new configuration holds.
        """
        self.changed = {
            name: value
            for name, value in before.changed.items()
            if self.configured.get(name) == before.configured.get(name)
        }
        self.said = before.said

    @property
    def _wanted(self) -> dict[str, int]:
        return self.configured | self.changed

    def apply(self, device: Capture) -> None:
        """Set all wanted values. Values that the camera refuses or changes are logged once."""
        if wanted := self._wanted:
            self._set(device, wanted)

    def _set(self, device: Capture, values: Mapping[str, int]) -> None:
        """Set values, those of automatic controls first.

        While an automatic control is on, a camera refuses values for the controls that it decides.
        """
        known = {control.name: control for control in device.controls()}
        for name, wanted in sorted(values.items(), key=lambda item: "auto" not in item[0]):
            if name not in known:
                reason = f"the camera has no control {name}"
                self._say_once(name, wanted, reason, has=", ".join(known))
                continue
            try:
                device.set_control(known[name], wanted)
                got = device.control_value(known[name])
            except OSError as error:
                if error.errno in failures.GONE:
                    raise
                reason = f"{name} cannot be set to {wanted}: {error.strerror}"
                advice = "an automatic control may decide it: turn that off in controls, too"
                self._say_once(name, wanted, reason, hint=advice)
            else:
                if got != wanted:
                    self._say_once(name, wanted, f"{name} was set to {wanted} and is {got}")

    def read(self, device: Capture) -> dict[str, Setting]:
        """Read every control that the camera has."""
        wanted = self._wanted
        return {
            control.name: {
                "value": _value(device, control),
                "wanted": wanted.get(control.name),
                "default": control.default,
                "minimum": control.minimum,
                "maximum": control.maximum,
                "step": control.step,
                "type": control.kind,
                "menu": {str(value): text for value, text in control.menu.items()} or None,
                "inactive": control.inactive,
            }
            for control in device.controls()
        }

    def change(self, device: Capture, values: Mapping[str, int]) -> None:
        """Set values, now and whenever the camera is opened.

        Raises:
            ValueError: There is no such control, or it cannot have this value; nothing was changed.
        """
        known = {control.name: control for control in device.controls()}
        for name, value in values.items():
            if name not in known:
                raise ValueError(f"there is no control {name}; there are: {', '.join(known)}")
            least, most = known[name].minimum, known[name].maximum
            if not least <= value <= most:
                raise ValueError(f"{name} goes from {least} to {most}, not to {value}")
        self._set(device, values)
        self.changed.update(values)

    def _say_once(self, name: str, wanted: int, reason: str, **facts: str) -> None:
        """Warn of a control, but not again at each opening."""
        if self.said.get(name) != wanted:
            self.said[name] = wanted
            log.warning("controls.differ", reason=reason, **facts)


def _value(device: Capture, control: Control) -> int | None:
    try:
        return device.control_value(control)
    except OSError:  # some controls can only be written
        return None
