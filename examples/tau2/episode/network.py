"""What the environment does to requests (certificates, proxies), and why a connection fails."""

import ipaddress
import os
import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping
from functools import cache

import aiohttp
import httpx

# httpx and litellm read the first two, requests reads the others
_CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@cache
def certificates() -> ssl.SSLContext:
    """Read the certificates that clients trust, once for all clients of the process.

    Raises:
        ValueError: an environment variable names certificates that cannot be read.
    """
    problems = list(_certificate_problems(os.environ))
    if problems:
        raise ValueError("; ".join(problems))
    return httpx.create_ssl_context()


def network_problems(environ: Mapping[str, str] = os.environ) -> Iterator[str]:
    """Yield the environment variables of certificates and proxies that no client can use."""
    yield from _certificate_problems(environ)
    yield from _proxy_problems(environ)


def proxy_of(url: str, environ: Mapping[str, str] = os.environ) -> str | None:
    """Name the proxy of the requests to `url`, without its password: `HTTP_PROXY=http://host:3128`.

    None says that the requests go to the server itself. The rules are those of httpx.
    """
    target = httpx.URL(url)
    if any(_matches(entry, target) for entry in _no_proxy(environ)):
        return None
    for scheme in (target.scheme, "all"):
        name = _spelling(f"{scheme}_proxy", environ)
        if name:
            proxy = httpx.URL(_proxy_url(environ[name]))
            remark = " (SOCKS, which is not supported)" if "socks" in proxy.scheme else ""
            return f"{name}={proxy.copy_with(username=None, password=None)}{remark}"
    return None


def exempt_from_proxies(hosts: Iterable[str]) -> None:
    """Have requests to these hosts go to no proxy, here and in processes that this one starts."""
    if any(_spelling(f"{scheme}_proxy", os.environ) for scheme in ("http", "https", "all")):
        entries = ",".join(dict.fromkeys([*_no_proxy(os.environ), *hosts]))
        # clients that find both read the first
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = entries


def connection_problem(error: BaseException) -> str | None:
    """Say why a request got no answer; None if the error and its causes do not tell.

    The type of the error alone may mislead: httpx_aiohttp turns every failed connection into
    httpx's `ConnectTimeout`.
    """
    # the innermost cause is the most exact one
    for cause in reversed(list(_causes(error))):
        problem = _problem(cause)
        if problem:
            return problem
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, its cause, the cause of that, and so on."""
    next_error: BaseException | None = error
    while next_error is not None:
        yield next_error
        hides_context = next_error.__suppress_context__
        next_error = next_error.__cause__ or (None if hides_context else next_error.__context__)


def _problem(cause: BaseException) -> str | None:
    match cause:
        case ssl.SSLCertVerificationError():
            return (
                f"its certificate is not accepted ({cause.verify_message}); "
                "SSL_CERT_FILE can name a file with the certificates to accept"
            )
        case ssl.SSLError(reason="WRONG_VERSION_NUMBER"):
            return "the server does not speak https; try http"
        case ssl.SSLError():
            return f"no TLS connection can be made ({cause.reason or cause})"
        case socket.gaierror():
            return f"the host is not found ({cause.strerror})"
        case ConnectionRefusedError():
            return "the connection is refused; nothing listens on this port"
        case ConnectionResetError() | BrokenPipeError() | aiohttp.ServerDisconnectedError():
            return "the server closed the connection without an answer"
        case aiohttp.ClientHttpProxyError():
            return f"the proxy refuses it: {cause.status} {cause.message}"
        case TimeoutError() | httpx.TimeoutException():
            return "timed out"
        case OSError(strerror=str(reason)):
            return reason
        case httpx.UnsupportedProtocol():
            return "this is no URL of a server; it begins with http:// or https://"
    return None


def _certificate_problems(environ: Mapping[str, str]) -> Iterator[str]:
    for name in _CERTIFICATE_VARIABLES:
        path = environ.get(name)
        if not path:
            continue
        try:
            _read_certificates(name, path)
        except OSError as error:
            reason = error.strerror or error
            yield f"{name}={path}: no certificates can be read ({reason}); correct or unset it"


def _read_certificates(name: str, path: str) -> None:
    """Read a file of certificates, or look for their folder, as the clients do.

    Raises:
        OSError: there is no such file or folder, or the file has no certificates.
    """
    if name == "SSL_CERT_DIR":
        # OpenSSL takes several, and passes over those that are missing
        if not any(map(os.path.isdir, path.split(os.pathsep))):
            raise NotADirectoryError(None, "there is no such folder")
    elif name == "SSL_CERT_FILE" or not os.path.isdir(path):
        ssl.create_default_context(cafile=path)


def _proxy_problems(environ: Mapping[str, str]) -> Iterator[str]:
    for scheme in ("http", "https", "all"):
        name = _spelling(f"{scheme}_proxy", environ)
        try:
            if name:
                httpx.Proxy(_proxy_url(environ[name]))
        except (ValueError, httpx.InvalidURL):
            # the value may have a password
            yield f"{name} is no URL of a proxy, such as http://proxy:3128; correct or unset it"
    for entry in _no_proxy(environ):
        try:
            httpx.URL(_entry_url(entry))
        except httpx.InvalidURL:
            name = _spelling("no_proxy", environ)
            yield (
                f"{name} has {entry!r}, which HTTP clients cannot read; it takes names and "
                "addresses, with commas between them and without brackets"
            )


def _spelling(name: str, environ: Mapping[str, str]) -> str | None:
    """Return the name of a variable as it is set: in lower case, else in upper case."""
    for spelling in (name, name.upper()):
        if spelling in environ:
            return spelling if environ[spelling] else None
    return None


def _proxy_url(value: str) -> str:
    return value if "://" in value else f"http://{value}"


def _no_proxy(environ: Mapping[str, str]) -> list[str]:
    """List the entries of NO_PROXY."""
    name = _spelling("no_proxy", environ)
    entries = environ[name].split(",") if name else []
    return [entry.strip() for entry in entries if entry.strip()]


def _entry_url(entry: str) -> str:
    """Write an entry of NO_PROXY as the pattern that httpx makes of it: `*` begins a domain."""
    if "://" in entry:
        return entry
    if entry.lower() == "localhost":
        return f"all://{entry}"
    try:
        address = ipaddress.ip_address(entry.partition("/")[0])
    except ValueError:
        return f"all://*{entry}"
    return f"all://[{entry}]" if address.version == 6 else f"all://{entry}"


def _matches(entry: str, target: httpx.URL) -> bool:
    """Whether an entry of NO_PROXY names the host of a URL: itself, or a domain that it is in."""
    if entry == "*":
        return True
    url = httpx.URL(_entry_url(entry))
    host = url.host.removeprefix("*")
    is_in_domain = url.host != host and target.host.endswith(f".{host.removeprefix('.')}")
    return (
        (target.host == host or is_in_domain)
        and url.scheme in ("all", target.scheme)
        and url.port in (None, target.port)
    )
