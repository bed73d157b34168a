"""Makes a container in an Azure blob store: make-container.py URL ACCOUNT, with the key in AZURE_STORAGE_ACCOUNT_KEY.

URL is http://host:port/account/container. The volume's own code makes no containers, so the tests need this once a server.
"""
import base64
import email.utils
import hashlib
import hmac
import os
import sys
import urllib.request
from urllib.parse import urlparse

url, account = sys.argv[1:]
headers = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2021-12-02"}
signed = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
# Verb, eleven standard headers that are empty here, our own headers, the resource.
text = "PUT" + "\n" * 12 + signed + f"/{account}{urlparse(url).path}\nrestype:container"
key = base64.b64decode(os.environ["AZURE_STORAGE_ACCOUNT_KEY"])
signature = base64.b64encode(hmac.new(key, text.encode(), hashlib.sha256).digest()).decode()
headers |= {"Authorization": f"SharedKey {account}:{signature}", "Content-Length": "0"}
request = urllib.request.Request(url + "?restype=container", method="PUT", headers=headers)
with urllib.request.urlopen(request) as response:
    assert response.status == 201, response.status
