"""Controls: a camera's settings as they should be, applied whenever it is opened."""

from collections.abc import Mapping
from typing import Any

import structlog

from mjrelay.devices import failures
from mjrelay.devices.capture import Capture, Control

log = structlog.get_logger()


class Controls:
    """The desired settings of one camera. Its methods may block.

    Args:
        wanted: Values by name, as v4l2-ctl writes the names.
    """

    def __init__(self, wanted: Mapping[str, int]) -> None:
        self._wanted = dict(wanted)
        self._told: set[str] = set()

    def apply(self, device: Capture) -> None:
        """Set what is wanted. What the camera refuses or changes is told once, and goes on."""
        if self._wanted:
            self._set(device, self._wanted)

    def _set(self, device: Capture, values: Mapping[str, int]) -> None:
        """Set automatic controls first: while they are on, a camera refuses what they decide."""
        known = {control.name: control for control in device.controls()}
        for name, wanted in sorted(values.items(), key=lambda item: "auto" not in item[0]):
            if name not in known:
                self._tell(f"the camera has no control {name}", has=", ".join(known))
                continue
            try:
                device.set_control(known[name], wanted)
                got = device.control_value(known[name])
            except OSError as error:
                if error.errno in failures.GONE:
                    raise
                advice = "an automatic control may decide it: turn that off in controls, too"
                self._tell(f"{name} cannot be set to {wanted}: {error.strerror}", hint=advice)
            else:
                if got != wanted:
                    self._tell(f"{name} was set to {wanted} and is {got}")

    def read(self, device: Capture) -> dict[str, dict[str, Any]]:
        """Every control, its limits, its value, and the value wanted if there is one."""
        return {
            control.name: {
                "value": _value(device, control),
                "wanted": self._wanted.get(control.name),
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
        self._wanted.update(values)

    def _tell(self, event: str, **facts: str) -> None:
        """Say it once, not at each opening."""
        if event not in self._told:
            self._told.add(event)
            log.warning("controls.differ", reason=event, **facts)


def _value(device: Capture, control: Control) -> int | None:
    try:
        return device.control_value(control)
    except OSError:  # some controls can only be written
        return None
