"""Controls: a camera's settings as they should be, applied whenever it is opened."""

from collections.abc import Mapping
from typing import TypedDict

import structlog

from mjrelay.devices import failures
from mjrelay.devices.capture import Capture, Control

log = structlog.get_logger()


class Setting(TypedDict):
    """One control with its value, as the web shows it.

    Attributes:
        value: What it is now; None where that cannot be read.
        wanted: What it should be; None where nothing is asked for.
        menu: What its values mean, where they are choices.
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
    """The desired settings of one camera. Its methods may block.

    Args:
        configured: Values by name, as v4l2-ctl writes the names.

    Attributes:
        configured: The same.
        changed: What people have set since, over HTTP; it comes first.
        said: For each control that differed: the value it should have had when that was last said.
    """

    def __init__(self, configured: Mapping[str, int]) -> None:
        self.configured = dict(configured)
        self.changed: dict[str, int] = {}
        self.said: dict[str, int] = {}

    def succeed(self, before: "Controls") -> None:
        """Keep what people had set before a reload.

        Not where the new configuration says something else of a control than the old one did.
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
        """Set all that is wanted. A value the camera refuses or changes is told once."""
        if wanted := self._wanted:
            self._set(device, wanted)

    def _set(self, device: Capture, values: Mapping[str, int]) -> None:
        """Set automatic controls first: while they are on, a camera refuses what they decide."""
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
        """Every control, its limits, its value, and the value wanted if there is one."""
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
        """Want other values from now on, and set them.

        Raises:
            ValueError: A name or value that the camera cannot have; nothing was changed.
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
        """Warn of a control, not at each opening: an automatic one has another value each time."""
        if self.said.get(name) != wanted:
            self.said[name] = wanted
            log.warning("controls.differ", reason=reason, **facts)


def _value(device: Capture, control: Control) -> int | None:
    try:
        return device.control_value(control)
    except OSError:  # some controls can only be written
        return None
