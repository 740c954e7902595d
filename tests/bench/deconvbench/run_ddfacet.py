"""DDFacet with the CPU time of its deconvolution counted, run by the Python that has it.

    python run_ddfacet.py COST.json [options of DDF.py]

What is counted are Init, Update and Deconvolve of its deconvolution machines, in all processes:
neither gridding nor prediction, nor start-up.  COST.json: CPU s of each of the three, call by call,
and when the calls began and ended (s since the epoch).
"""

import functools
import importlib
import json
import sys
import time

import psutil

MACHINES = ("DDFacet.Imager.SSD2.ClassImageDeconvMachineSSD",
            "DDFacet.Imager.MSMF.ClassImageDeconvMachineMSMF")
CALLS = ("Init", "Update", "Deconvolve")

calls, depth = [], [0]


def family():
    """CPU s so far of this process, those it started, and those that have ended."""
    total, me = 0.0, psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        try:
            total += sum(process.cpu_times()[:4])
        except psutil.Error:
            pass
    return total


def counted(name, method):
    @functools.wraps(method)
    def wrapper(*args, **kwargs):
        if depth[0]:
            return method(*args, **kwargs)
        depth[0] += 1
        before, since = family(), time.time()
        try:
            return method(*args, **kwargs)
        finally:
            depth[0] -= 1
            calls.append({"call": name, "cpu": family() - before, "from": since,
                          "to": time.time()})

    return wrapper


def main():
    cost = sys.argv.pop(1)
    from DDFacet import DDF

    for name in MACHINES:
        machine = importlib.import_module(name).ClassImageDeconvMachine
        for call in CALLS:
            setattr(machine, call, counted(call, getattr(machine, call)))
    try:
        DDF.driver()
    finally:
        with open(cost, "w") as file:
            json.dump(calls, file)


if __name__ == "__main__":
    main()
