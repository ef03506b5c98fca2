"""malloc keeps what a step frees."""

import ctypes
import os
import subprocess
import sys

import pytest

from tests.runs import REPOSITORY

pytestmark = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc"
)
PROGRAM = """
import ctypes, resource, sys
from electra_keras.training.memory import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p

def faults(size=100 << 20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    piece = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(size)))
    libc.memset(piece, 1, ctypes.c_size_t(size))
    libc.free(piece)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults())
"""


def page_faults(mode: str, **environment: str) -> int:
    """Returns how many pages the kernel makes for 100 MiB that were allocated and freed before."""
    command = [sys.executable, "-c", PROGRAM, mode]
    result = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=REPOSITORY
    )
    return int(result.stdout)


def test_freed_memory_is_there_for_the_next_step():
    assert page_faults("not kept") >= 50  # one per huge page, if all pages are huge
    assert page_faults("kept") < 10


def test_what_the_environment_says_of_malloc_stands():
    assert page_faults("kept", MALLOC_ARENA_MAX="2") >= 50


ARENAS = """
import ctypes, os, re, sys, tempfile
from electra_keras import console
import tensorflow as tf
from electra_keras.options import ModelOptions, TrainingOptions
from electra_keras.training import distribution

options = TrainingOptions().resolve(ModelOptions(model_size="tiny"))
distribution.make_training_strategy(options)
tensors = [tf.random.normal([300, 300]) for _ in range(8)]
tf.function(lambda: [tf.matmul(tensor, tensor) for tensor in tensors])()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
with tempfile.TemporaryFile() as file:
    stream = ctypes.c_void_p(libc.fdopen(os.dup(file.fileno()), b"w"))
    libc.malloc_info(0, stream)
    libc.fclose(stream)
    file.seek(0)
    print(len(re.findall(rb"<heap nr=", file.read())))
"""


def test_all_threads_of_a_training_run_share_one_heap():
    """What one has freed serves the next: they are started after malloc is told."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC", "GLIBC"))}
    result = subprocess.run(
        [sys.executable, "-c", ARENAS],
        check=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=REPOSITORY,
    )  # fmt: skip
    assert int(result.stdout) == 1
