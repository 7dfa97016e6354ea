"""A stand-in for Hugging Face's package `spaces`, as far as the studio needs it: `GPU` around a generator function."""

from __future__ import annotations

import multiprocessing
import pickle
import threading

import gradio as gr

asked = []
refusal = None

_fork = multiprocessing.get_context("fork")


def GPU(task=None, *, duration=60):  # noqa: N802 - its name
    if task is None:
        return lambda given: GPU(given, duration=duration)

    def lent(*args):
        asked.append(duration(*args) if callable(duration) else duration)
        if refusal is not None:
            raise refusal
        answers, stopping = _fork.SimpleQueue(), _fork.Event()
        process = _fork.Process(target=_serve, args=(task, pickle.dumps(args), answers, stopping), daemon=True)
        process.start()
        try:
            while True:
                kind, answer = pickle.loads(answers.get())  # noqa: S301 - from our own fork
                if kind == "end":
                    return
                if kind == "error":
                    raise gr.Error(answer, title="ZeroGPU worker error", print_exception=False)
                yield answer
        finally:
            stopping.set()
            process.join()

    return lent


def _serve(task, args, answers, stopping):
    worker = threading.Thread(target=_iterate, args=(task, pickle.loads(args), answers, stopping))  # noqa: S301
    worker.start()
    worker.join()


def _iterate(task, args, answers, stopping):
    events = task(*args)
    try:
        for event in events:
            if stopping.is_set():
                events.close()
                return
            answers.put(pickle.dumps(("answer", event)))
    except Exception as error:  # noqa: BLE001 - it goes on as its name
        answers.put(pickle.dumps(("error", type(error).__name__)))
    else:
        answers.put(pickle.dumps(("end", None)))
