"""Parts of TLS that need no connection: errors in words, files that change, a CA."""

from __future__ import annotations

import datetime
import os
import ssl
import stat
from pathlib import Path

import pytest
from certificates import CertificateAuthority
from cryptography.hazmat.primitives import serialization
from OpenSSL import SSL

from trough import errors
from trough.tls import TlsFiles
from trough.tls.authority import make_ca, make_certificate
from trough.tls.blocking import client_context
from trough.tls.contexts import check_own_name, others_read, server_context
from trough.tls.contexts import client_context as openssl_context
from trough.tls.reloading import Reloading
from trough.util.error_text import error_text
from trough.util.tls_problems import CertificateProblem, certificate_fault, tls_problem, wrong_name

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


# -- errors in words -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (CertificateProblem("its certificate is odd"), "its certificate is odd"),
        (SSL.Error([("SSL routines", "", "wrong version number")]), "does not speak TLS"),
        (SSL.Error([("SSL routines", "", "ssl/tls alert bad certificate")]), "this side's"),
        (SSL.Error([("SSL routines", "", "something new")]), "TLS failed: something new"),
        (SSL.Error(), "TLS failed"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] x"), "does not speak TLS"),
        (ValueError("other"), None),
        (None, None),
    ],
)
def test_an_error_in_words(error, said):
    """Each error of TLS has a sentence; others have none here."""
    problem = tls_problem(error)
    assert (problem is None) if said is None else (problem is not None and said in problem)


def test_a_fault_says_what_to_do():
    """Known faults name the setting or the cure, an unknown one its number."""
    assert "TLS_CA" in certificate_fault(20)
    assert "expired" in certificate_fault(10)
    assert "4711" in certificate_fault(4711)
    assert wrong_name("a", ["b", "c"]) == "its certificate is for b, c and not for a"
    assert "nobody" in wrong_name("a", [])


def test_an_error_inside_others_is_found():
    """What wraps an error of TLS does not hide it."""
    assert "expired" in error_text(OSError(CertificateProblem("it has expired")))


# -- files that change ---------------------------------------------------------------


class Files:
    """A file, and a value that is made of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 0.0
        self.reports: list[str] = []
        path.write_text("first")
        self.value = Reloading([str(path)], self._load, lambda: self.now, self.reports.append)

    def _load(self) -> str:
        try:
            text = self.path.read_text()
        except OSError as error:
            raise errors.BadSettings(f"{self.path}: {error.strerror}") from error
        if text == "bad":
            raise errors.BadSettings(f"{self.path} is bad")
        return text

    def after(self, seconds: float) -> str:
        self.now += seconds
        return self.value.current()


def test_a_changed_file_is_read_again(tmp_path):
    """At the first look after the change, and looks are a second apart."""
    files = Files(tmp_path / "f")
    files.path.write_text("second")
    assert files.after(0.5) == "first"
    assert files.after(0.5) == "second"
    assert files.reports == [f"read again: {files.path}"]


def test_a_bad_file_changes_nothing(tmp_path):
    """The former value stays, one report tells why, and a good file counts again."""
    files = Files(tmp_path / "f")
    files.path.write_text("bad")
    assert [files.after(2), files.after(2), files.after(2)] == ["first"] * 3
    assert len(files.reports) == 1 and "is bad" in files.reports[0]
    files.path.unlink()
    assert [files.after(2), files.after(2)] == ["first"] * 2
    assert len(files.reports) == 2
    files.path.write_text("third")
    assert files.after(2) == "third"


def test_a_bad_file_at_the_start_is_refused(tmp_path):
    """Nothing can stay in use then."""

    def load() -> str:
        raise errors.BadSettings("bad")

    with pytest.raises(errors.BadSettings):
        Reloading([str(tmp_path / "none")], load, lambda: 0.0, print)


# -- certificates, keys and CAs --------------------------------------------------------


def test_files_that_cannot_be_used(tmp_path):
    """Each refusal names the setting, the file and the fault."""
    authority = CertificateAuthority(tmp_path / "ca")
    good, other = authority.issue("a"), authority.issue("b")
    (tmp_path / "text").write_text("no certificate")
    text, none = str(tmp_path / "text"), str(tmp_path / "none")
    for files, *said in [
        (TlsFiles(none, good.key), "TLS_CERT", none, "No such file"),
        (TlsFiles(text, good.key), "TLS_CERT", text, "no certificate in PEM"),
        (TlsFiles(good.certificate, none), "TLS_KEY", none, "No such file"),
        (TlsFiles(good.certificate, text), "TLS_KEY", text, "no private key in PEM"),
        (TlsFiles(good.certificate, other.key), "TLS_KEY", "not the key of the certificate"),
        (TlsFiles(good.certificate, good.key, peer_ca=text), "TLS_PEER_CA", text),
    ]:
        with pytest.raises(errors.BadSettings) as caught:
            server_context(files)
        assert all(part in str(caught.value) for part in said)
    for path in (text, none):
        for context in (client_context, lambda ca: openssl_context(TlsFiles(ca=ca), False)):
            with pytest.raises(errors.BadSettings, match="TLS_CA"):
                context(path)


def test_a_key_with_a_passphrase_is_refused(tmp_path):
    """Nobody is asked for it at a terminal."""
    files = CertificateAuthority(tmp_path / "ca").issue("a")
    key = serialization.load_pem_private_key(Path(files.key).read_bytes(), None)
    Path(files.key).write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(errors.BadSettings, match="passphrase"):
        server_context(files)


def test_a_certificate_has_to_name_the_published_host(tmp_path):
    """A process whose certificate no client would believe does not start."""
    authority = CertificateAuthority(tmp_path / "ca")
    for names, host in [(["w1.example"], "w1.example"), (["*.example.org"], "w1.example.org"),
                        (["10.0.0.7"], "10.0.0.7"), (["a", "::1"], "::1")]:  # fmt: skip
        check_own_name(authority.issue(*names, renew=True), host)
        with pytest.raises(errors.BadSettings, match=r"not for elsewhere\.test .*EXTERNAL_IP"):
            check_own_name(authority.issue(*names, renew=True), "elsewhere.test")


def test_keys_are_private(tmp_path):
    """Mode 0600, whatever the mask is; certificates may be read."""
    before = os.umask(0)
    try:
        authority = CertificateAuthority(tmp_path / "ca")
        files = authority.issue("w1")
    finally:
        os.umask(before)
    keys = [Path(files.key), tmp_path / "ca" / "ca.key"]
    assert [stat.S_IMODE(each.stat().st_mode) for each in keys] == [0o600, 0o600]
    assert not any(others_read(str(each)) for each in keys) and others_read(files.certificate)
    assert sorted(path.name for path in (tmp_path / "ca").iterdir()) == [
        *("ca.key", "ca.pem", "w1.key", "w1.pem")
    ]


def test_nothing_is_written_over(tmp_path):
    """A second CA, and a second certificate of a name unless it is renewed, are refused."""
    authority = CertificateAuthority(tmp_path)
    before = Path(authority.issue("w1").certificate).read_bytes()
    with pytest.raises(errors.BadRequest, match="there already"):
        make_ca(tmp_path, NOW)
    with pytest.raises(errors.BadRequest, match="there already"):
        authority.issue("w1")
    assert Path(authority.issue("w1", renew=True).certificate).read_bytes() != before


def test_a_certificate_needs_a_ca_and_a_name(tmp_path):
    """The refusal says how a CA is made, and which name is none."""
    with pytest.raises(errors.BadRequest, match="certificate ca"):
        make_certificate(tmp_path, ["w1"], NOW)
    make_ca(tmp_path, NOW)
    for name in ("", "a b", "a" * 70, "x/y", "../x"):
        with pytest.raises(errors.BadRequest, match="not a host name"):
            make_certificate(tmp_path, [name], NOW)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ca.key", "ca.pem"]
