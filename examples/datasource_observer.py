"""Watch every datasource there is. Start datasource.py first, as often as you like: others may come and go.

The observer finds new datasources by itself; it does not need to know their names.
"""

import threading

from heros import DatasourceObserver

seen = 0
enough = threading.Event()


def show(name, values):
    """``values`` has one entry for each observable."""
    global seen
    if seen == 3:
        return  # the program is about to end
    for value in values:
        verdict = "normal" if value.inbound == 0 else "not normal"
        print(f"{name}.{value.id}: {value.raw_value:.3f} {value.raw_unit} = {value.value:.1f} {value.unit}, {verdict}")
    seen += 1
    if seen == 3:
        enough.set()


observer = DatasourceObserver("*")
observer.register_observable_data_callback(show)
enough.wait()
