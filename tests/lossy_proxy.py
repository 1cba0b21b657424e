"""A proxy before a real server that loses answers: what was asked is done, and whoever asked learns nothing of it."""

import contextlib
import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "date", "server"}


@contextlib.contextmanager
def lossy_proxy(uri, lost=(), how="502"):
    """The address of a proxy to `uri`; of each path that ends in one of `lost` the first answer does not arrive.

    Without `lost`, of each path that something is written to. `how`: "502", as a proxy says it whose server died, or
    "closed". Yields the address and the set of what was lost.
    """
    host = urlsplit(uri).netloc
    gone = set()
    guard = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self):
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            asking = http.client.HTTPConnection(host, timeout=60)
            asking.request(self.command, self.path, body, dict(self.headers))
            answer = asking.getresponse()
            content = answer.read()
            asking.close()
            with guard:
                path = next((one for one in lost or [self.path] if self.path.endswith(one)), None)
                is_lost = self.command != "GET" and path is not None and path not in gone
                if is_lost:
                    gone.add(path)
            if is_lost and how == "closed":
                self.close_connection = True
                return
            status, said = (502, b"bad gateway") if is_lost else (answer.status, content)
            self.send_response(status)
            for name, value in () if is_lost else answer.getheaders():
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = pass_on  # noqa: N815  (http.server's names)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", gone
        finally:
            server.shutdown()
            thread.join()
