"""The base install and a bundle's answers on Debian arm64, run for real on an x86-64 machine: `python -m tools.arm64_check --help`.

A Debian 12 for arm64 is made from Debian's own packages in a folder, and its programs run under QEMU's user-mode emulation. edgeprune is
installed there from aarch64 wheels: the base install, and what the requirement files of the boards come to. The reference bundle, exported
on the host, has to give the same token ids and kept tokens there as here; and engines are built there, to see that it needs no torch.

What it shows: that all packages exist for aarch64 and work together, and that the ARM code in their wheels computes the same answers. What it
cannot show: anything about a GPU, TensorRT or a sensor of a board, and no time (emulation is a hundred times slower than a processor).

Source: QEMU user mode with a binfmt_misc handler that lives in a user namespace of its own (Linux 6.7 or later), so that nothing of the host
changes. Nothing is written outside the work folder but the page that was asked for.
"""
