"""An S3 server in front of a real one, which fails in the way and for as long as a test wants it to."""

import contextlib
import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

BODY = "<?xml version='1.0'?><Error><Code>{}</Code><Message>not now</Message></Error>"


@contextlib.contextmanager
def refusing_s3(behind):
    """Its address, and what says how it refuses: `refuses["with"]` is a status and S3's code for it, or None.

    With `loses` it does what it is asked for and then hangs up in place of an answer, with `forgets` it overlooks
    If-None-Match, as servers do that do not know it. Where `goes_on` is cleared, requests are `held` until it is set.
    """
    goes_on = threading.Event()
    goes_on.set()
    refuses = {"with": None, "times": 0, "loses": False, "forgets": False, "goes_on": goes_on, "held": 0}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each answer waits for the client's system to acknowledge its first part

        def answer(self):
            content = self.rfile.read(int(self.headers.get("content-length", 0)))
            refuses["held"] += not goes_on.is_set()
            goes_on.wait()
            if refuses["forgets"]:
                del self.headers["if-none-match"]
            if self.command in ("PUT", "POST") and refuses["with"]:
                refuses["times"] += 1
                status, code = refuses["with"]
                self.reply(status, {"content-type": "application/xml"}, BODY.format(code).encode())
                return
            with contextlib.closing(http.client.HTTPConnection(urlsplit(behind).netloc, timeout=60)) as server:
                server.request(self.command, self.path, content, dict(self.headers))
                response = server.getresponse()
                said = response.read()
            if self.command in ("PUT", "POST") and refuses["loses"]:
                refuses["times"] += 1
                self.close_connection = True
                return
            self.reply(response.status, dict(response.getheaders()), said)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815  (as http.server asks for them)

        def reply(self, status, headers, body):
            self.send_response_only(status)
            length = headers.get("Content-Length") if self.command == "HEAD" else None
            for name, value in headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", length or str(len(body)))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", refuses
    finally:
        goes_on.set()
        server.shutdown()
        server.server_close()
        thread.join()
