"""Counts the views of a site's articles with Footfall, from Python, with nothing but its standard library.

Around any WSGI application, for example in Django's wsgi.py:

    application = count_views.wsgi(get_wsgi_application())

Or in Django's MIDDLEWARE, behind the one that knows who has logged in:

    "count_views.django"

No page waits for it, and none fails because of it: views wait in this process, and a thread sends them, also when
ingest was away. Those beyond WAITING_MAX are not counted, nor those that wait when the process is killed.
"""

import atexit
import json
import logging
import os
import queue
import threading
import time
import uuid
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import Request, urlopen

INGEST = os.environ.get("FOOTFALL_INGEST__URL", "http://127.0.0.1:8000")
ARTICLES = "/articles/"  # What is below is counted, under its path.
WAITING_MAX = 10_000
ANSWER_S = 2
TRIES_S = 300  # Ingest knows a view that is sent twice by its id, for at least 10 minutes.

waiting = queue.Queue(WAITING_MAX)
starting = threading.Lock()
sender = None


def wsgi(application, user=lambda environ: environ.get("REMOTE_USER")):
    """The application, its views counted. `user` answers who reads, or None."""

    def counted(environ, start_response):
        def start(status, headers, exc_info=None):
            if status.startswith("200 "):
                path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
                count(environ, path.encode("latin-1").decode("utf-8", "replace"), lambda: user(environ))
            return start_response(status, headers, exc_info)

        return application(environ, start)

    return counted


def django(get_response):
    def counted(request):
        response = get_response(request)
        if response.status_code == 200:
            count(request.META, request.path, lambda: request.user.pk)
        return response

    return counted


def count(environ, path, user):
    """Lets one view wait to be sent."""
    global sender
    try:
        if environ["REQUEST_METHOD"] != "GET" or not path.startswith(ARTICLES):
            return
        view = {"article": path, "id": uuid.uuid4().hex}
        if (name := user()) is not None:
            view["user"] = str(name)
        # What ingest would see of the reader: bots go by it, and whoever has no name.
        by = [environ[key] for key in ("HTTP_X_FORWARDED_FOR", "REMOTE_ADDR") if key in environ]
        headers = {
            "User-Agent": environ.get("HTTP_USER_AGENT", ""),
            "Sec-GPC": environ.get("HTTP_SEC_GPC", ""),
            "X-Forwarded-For": ", ".join(by),
        }
        waiting.put_nowait(Request(f"{INGEST}/v1/views", json.dumps(view).encode(), headers))
        with starting:  # Only now: a server may fork when it has loaded the site, and no thread comes along.
            if not (sender and sender.is_alive()):
                sender = threading.Thread(target=send, daemon=True)
                sender.start()
    except queue.Full:
        pass
    except Exception:
        logging.exception("a view is not counted")


def send():
    while True:
        view = waiting.get()
        end = time.monotonic() + TRIES_S
        while not is_over(view, is_last=time.monotonic() > end):
            time.sleep(1)
        waiting.task_done()


def is_over(view, is_last):
    try:
        urlopen(view, timeout=ANSWER_S).close()
    except Exception as error:
        may_pass = error.code >= 500 if isinstance(error, HTTPError) else isinstance(error, (OSError, HTTPException))
        if may_pass and not is_last:
            return False
        logging.error("a view is not counted: %s", error.read() if isinstance(error, HTTPError) else error)
    return True


@atexit.register
def finish():
    end = time.monotonic() + ANSWER_S
    while waiting.unfinished_tasks and time.monotonic() < end:
        time.sleep(0.01)
