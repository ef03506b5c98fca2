"""How the C library hands out the memory of a training process."""

import ctypes
import os

# Of glibc's malloc.h and of Linux's mman.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_HUGE_PAGE = 14


def keep_freed_memory() -> None:
    """Has malloc keep what is freed, in huge pages where Linux grants them, for the next step.

    A step frees all that it has allocated, up to gigabytes. glibc gives large pieces back to the
    kernel at once, so that the next step has them zeroed again, tens of thousands of pages.

    Without effect where malloc is not glibc's or where the environment sets it up
    (`MALLOC_*`, `GLIBC_TUNABLES`; mallopt(3)).
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt") or any(
        name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in os.environ
    ):
        return
    for parameter, value in ((_TRIM_THRESHOLD, -1), (_MMAP_MAX, 0), (_ARENA_MAX, 1)):
        libc.mallopt(parameter, value)
    # malloc itself asks for huge pages only if told by the environment, before the process starts. So
    # its heap is made as large as it may get, of pages that take no memory before they are written to.
    page = os.sysconf("SC_PAGE_SIZE")
    size = os.sysconf("SC_PHYS_PAGES") // 2 * page
    libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    libc.free.argtypes = [ctypes.c_void_p]
    if heap := libc.malloc(size):
        libc.madvise((heap + page - 1) // page * page, size - page, _HUGE_PAGE)
        libc.free(heap)
