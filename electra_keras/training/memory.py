"""How the C library hands out the memory of a training process."""

import ctypes
import os

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> None:
    """Has malloc keep what is freed for the next step, in one place for all threads.

    A step frees all that it has allocated, up to gigabytes. glibc gives large pieces back to the
    kernel at once, so that the next step has them zeroed again, hundreds of thousands of pages. And it
    has threads allocate from arenas of their own: the heaps of those are given back all the same, and
    what one thread has freed is of no use to the next, so that memory is taken twice.

    A thread stays with its arena: so this must come before TensorFlow starts its threads. Without
    effect where malloc is not glibc's or where the environment sets it up (`MALLOC_*`,
    `GLIBC_TUNABLES`; mallopt(3)).
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt") or any(
        name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in os.environ
    ):
        return
    for parameter, value in ((_TRIM_THRESHOLD, -1), (_MMAP_MAX, 0), (_ARENA_MAX, 1)):
        libc.mallopt(parameter, value)


def release_freed_memory() -> None:
    """Gives back to the kernel what is free now: after the first step, what compilers have used."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(ctypes.c_size_t(0))
