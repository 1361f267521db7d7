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
from urllib.parse import parse_qsl
from urllib.request import Request, urlopen

INGEST = os.environ.get("FOOTFALL_INGEST__URL", "http://127.0.0.1:8000")
ARTICLES = "/articles/"  # What is below is counted, under its name.
PARAMETERS = "article id p page_id post t tid title topic".split()  # What of a query is part of a name.
# What the reader's browser says that decides whether a view counts.
PASSED_ON = ("User-Agent", "Sec-GPC", "Sec-Purpose", "Purpose", "X-Purpose", "X-Moz")
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


def name(path, query):
    """What a page is called: see docs/site.md. footfall.js does it alike, and one table tests both."""
    given = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        given.setdefault(key, value)
    counted = [f"{key}={given[key]}" for key in PARAMETERS if given.get(key)]
    return path + ("?" + "&".join(counted) if counted else "")


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
        view = {"article": name(path, environ.get("QUERY_STRING", "")), "id": uuid.uuid4().hex}
        if (reader := user()) is not None:
            view["user"] = str(reader)
        # What ingest would see of the reader: bots go by it, and whoever has no name.
        by = [environ[key] for key in ("HTTP_X_FORWARDED_FOR", "REMOTE_ADDR") if key in environ]
        headers = {"X-Forwarded-For": ", ".join(by)}
        headers |= {header: environ.get("HTTP_" + header.upper().replace("-", "_"), "") for header in PASSED_ON}
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
        with urlopen(view, timeout=ANSWER_S) as answer:
            if why := answer.headers.get("Footfall-Not-Counted"):
                logging.debug("a view is not counted: %s", why)
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
