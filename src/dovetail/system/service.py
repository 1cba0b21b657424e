"""What a service manager is told: systemd's notifications, a datagram each."""

import os
import socket
from contextlib import suppress

ENV_NOTIFY = "NOTIFY_SOCKET"  # https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
READY, STOPPING = "READY=1", "STOPPING=1"


def notify(state: str) -> None:
    """Tell the service manager that started this process, where one did and wants to know."""
    address = os.environ.get(ENV_NOTIFY, "")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
        sending.settimeout(1)
        sending.sendto(state.encode(), f"\0{address[1:]}" if address.startswith("@") else address)
