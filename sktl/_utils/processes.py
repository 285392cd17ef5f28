"""Other processes of this machine."""

from __future__ import annotations

import ctypes
import os


def is_running(pid: int) -> bool:
    """Return True if a process on this machine is running, as far as this can be determined."""
    if os.name == "nt":
        # On Windows, os.kill would end the process.
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]
        handle = kernel.OpenProcess(0x1000, False, pid)
        if handle:
            code = ctypes.c_ulong()
            known = kernel.GetExitCodeProcess(handle, ctypes.byref(code))
            kernel.CloseHandle(handle)
            return not known or code.value == 259  # still active
        return bool(ctypes.get_last_error() == 5)  # type: ignore[attr-defined]  # access denied
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
