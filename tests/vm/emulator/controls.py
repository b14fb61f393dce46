"""A camera's controls, as USB Video Class 1.0 has them: entity, selector, and what is asked."""

from dataclasses import dataclass, field

SET_CUR = 0x01
GET_CUR, GET_MIN, GET_MAX, GET_RES, GET_LEN, GET_INFO, GET_DEF = range(0x81, 0x88)

CAMERA_TERMINAL = 1
PROCESSING_UNIT = 2

_READABLE_AND_WRITABLE = b"\x03"


class Refused(Exception):
    """The camera does not do this: it answers with STALL."""


@dataclass
class Control:
    """One control; it forgets its value when the camera loses power.

    Attributes:
        size: In bytes.
        only_when: A control and the value it must have before this one may be set: the manual
            setting of something that is automatic is refused, as real cameras do.
    """

    name: str
    entity: int
    selector: int
    size: int
    minimum: int
    maximum: int
    resolution: int
    default: int
    only_when: "tuple[Control, int] | None" = None
    value: int = field(init=False)

    def __post_init__(self) -> None:
        self.power_on()

    def power_on(self) -> None:
        """Take the default again."""
        self.value = self.default

    def set(self, data: bytes) -> None:
        """Take a value. Raises Refused for one that is not allowed, at all or just now."""
        value = int.from_bytes(data[: self.size], "little", signed=self.minimum < 0)
        if not self.minimum <= value <= self.maximum:
            raise Refused
        if self.only_when and self.only_when[0].value != self.only_when[1]:
            raise Refused
        self.value = value

    def get(self, request: int) -> bytes:
        """Answer any of the GET requests."""
        if request == GET_INFO:
            return _READABLE_AND_WRITABLE
        if request == GET_LEN:
            return self.size.to_bytes(2, "little")
        values = {
            GET_CUR: self.value,
            GET_MIN: self.minimum,
            GET_MAX: self.maximum,
            GET_RES: self.resolution,
            GET_DEF: self.default,
        }
        if request not in values:
            raise Refused
        return values[request].to_bytes(self.size, "little", signed=self.minimum < 0)


MANUAL_EXPOSURE, APERTURE_PRIORITY = 1, 8


class Controls:
    """All of a camera's controls."""

    def __init__(self) -> None:
        # The resolution of this one is the set of its modes.
        exposure = Control(
            "auto_exposure", CAMERA_TERMINAL, 2, 1, 0, 0xFF,
            MANUAL_EXPOSURE | APERTURE_PRIORITY, APERTURE_PRIORITY,
        )  # fmt: skip
        white_balance = Control(
            "white_balance_automatic", PROCESSING_UNIT, 0x0B, 1, 0, 1, 1, default=1
        )
        self._controls = [
            exposure,
            Control(
                "exposure_time_absolute", CAMERA_TERMINAL, 4, 4, 1, 5000, 1, 156,
                only_when=(exposure, MANUAL_EXPOSURE),
            ),
            Control("brightness", PROCESSING_UNIT, 2, 2, 0, 255, 1, 128),
            white_balance,
            Control(
                "white_balance_temperature", PROCESSING_UNIT, 0x0A, 2, 2800, 6500, 10, 4600,
                only_when=(white_balance, 0),
            ),
        ]  # fmt: skip

    def find(self, entity: int, selector: int) -> Control:
        """The control at an address. Raises Refused if there is none."""
        for control in self._controls:
            if (control.entity, control.selector) == (entity, selector):
                return control
        raise Refused

    def values(self) -> dict[str, int]:
        """Every control's name and value, as the camera has them."""
        return {control.name: control.value for control in self._controls}

    def power_on(self) -> None:
        """Forget everything."""
        for control in self._controls:
            control.power_on()
