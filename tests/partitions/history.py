"""The history of a run: every event with its time, in memory and in a file, whole."""
import json
import threading
import time


class History:
    """One list of events; each has `t` (seconds since 1970) and `kind`. The file is the same, a line each."""

    def __init__(self, path=None):
        self.events, self.lock = [], threading.Lock()
        self.file = open(path, "w", encoding="utf-8", buffering=1) if path else None

    def take(self, event):
        with self.lock:
            self.events.append(event)
            if self.file:
                self.file.write(json.dumps(event) + "\n")
        return event

    def add(self, kind, **what):
        return self.take({"t": time.time(), "kind": kind, **what})

    def copy(self):
        with self.lock:
            return sorted(self.events, key=lambda event: event["t"])

    def since(self, start):
        """What was taken since event number `start`, and the number of the next."""
        with self.lock:
            return self.events[start:], len(self.events)


def load(path):
    with open(path, encoding="utf-8") as file:
        return sorted(map(json.loads, file), key=lambda event: event["t"])
