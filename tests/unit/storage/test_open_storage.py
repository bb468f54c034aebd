"""Which storage a URL names, and how a URL that names none is refused."""

import importlib.util

import pytest
from twisted.internet import reactor

from trough import errors
from trough.storage.open import open_storage


def test_a_directory(tmp_path):
    """A file URL names a directory, one spelling for each, and creates nothing yet."""
    storage = open_storage(f"file://{tmp_path}//a/./b%20c/", reactor)
    assert storage.root == f"{tmp_path}/a/b c"
    assert storage.location("300/300001.sqlite") == f"{tmp_path}/a/b c/300/300001.sqlite"
    assert list(tmp_path.iterdir()) == []


def test_hdfs():
    """A WebHDFS URL names a path on one or more NameNodes; nothing is connected to."""
    storage = open_storage("webhdfs://n1,n2:1234,[::1]:99/trough/?user=bob", reactor)
    assert storage.root == "/trough"
    assert storage.location("300/300001.sqlite") == "/trough/300/300001.sqlite"
    web = storage._backend._web
    assert web.url == "http://n1:9870;http://n2:1234;http://[::1]:99"
    secure = open_storage("swebhdfs://n1/trough", reactor)
    assert secure._backend._web.url == "https://n1:9871"


@pytest.mark.parametrize(
    "url, what",
    [
        ("", "no scheme"),
        ("/var/lib/trough", "no scheme"),
        ("hdfs://namenode:9820/path", "hdfs scheme is not known .*webhdfs://"),
        ("s3://bucket/path", "s3 scheme"),
        ("file://host/path", "'host' stands where a host would"),
        ("file:relative", "absolute"),
        ("file:///a/../b", "goes through"),
        ("file:///a%00b", "printable"),
        ("file:///a?b=c", "nothing can follow"),
        ("webhdfs:///path", "no NameNode"),
        ("webhdfs://namenode:port/path", "no host and port"),
        ("webhdfs://namenode:99999/path", "no host and port"),
        ("webhdfs://namenode:9870", "absolute"),
        ("webhdfs://bob@namenode:9870/path", "append .user=NAME"),
        ("webhdfs://namenode:9870/a:b", "colon"),
        ("webhdfs://namenode:9870/path?usr=bob", "'usr' is not an option"),
        ("webhdfs://namenode:9870/path?user", "no list of options"),
        ("webhdfs://namenode:9870/path#x", "'#x' is not an option"),
        ("webhdfs://namenode:9870/path?auth=ntlm", "auth=ntlm is not known"),
        ("webhdfs://namenode:9870/path?auth=kerberos&user=bob", "ticket"),
    ],
)
def test_urls_that_name_no_storage(url, what):
    """Each is refused with the URL, what is wrong in it, and what to write."""
    with pytest.raises(errors.BadSettings, match=what) as refused:
        open_storage(url, reactor)
    assert repr(url) in str(refused.value)
    assert refused.value.hint


def test_threads_have_to_be_some():
    """No thread could copy nothing."""
    with pytest.raises(errors.BadSettings, match="at least one thread"):
        open_storage("file:///tmp/x", reactor, threads=0)


def test_kerberos_needs_its_extra():
    """Where the extra is not installed, a URL that asks for Kerberos says what to
    install; where it is, the URL is taken."""
    url = "webhdfs://namenode:9870/path?auth=kerberos"
    if importlib.util.find_spec("requests_kerberos") is None:
        with pytest.raises(errors.BadSettings, match=r"pip install 'trough\[kerberos\]'"):
            open_storage(url, reactor)
    else:
        assert open_storage(url, reactor).root == "/path"
