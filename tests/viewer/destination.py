"""A destination of forwarding: refuses each instance the first time, for good, and takes it the next time. Prints its port."""

from collections import Counter

from pynetdicom import AE, AllStoragePresentationContexts, evt

ASKED = Counter()


def take(event) -> int:
    uid = str(event.request.AffectedSOPInstanceUID)
    ASKED[uid] += 1
    return 0x0000 if ASKED[uid] > 1 else 0xA900


archive = AE("ARCHIVE")
archive.supported_contexts = AllStoragePresentationContexts
listener = archive.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, take)])
print(listener.socket.getsockname()[1], flush=True)
# Until the test ends this process.
input()
